package agent

import (
	"context"
	"errors"
	"os/user"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"daosbox/commands/config"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"

	"github.com/matryer/is"
)

// accounts is a database with one user, 1501, and a group that has no name.
func accounts(uid, gid uint32) (account, error) {
	switch {
	case uid == 1600:
		return account{}, errors.New("the directory is down")
	case uid != 1501:
		return account{}, user.UnknownUserIdError(int(uid))
	case gid == 9:
		return account{}, user.UnknownGroupIdError("9")
	}
	return account{"alice", "alice", []string{"alice", "hpc", "physics"}}, nil
}

func newTestIssuer(cfg config.CredentialConfig) *issuer {
	i := newIssuer("demo-1.example.org", cfg, nil, quiet())
	i.look = accounts
	return i
}

func issuedTo(t *testing.T, i *issuer, peer drpc.Cred) (*pb.Sys, *pb.GetCredResp) {
	t.Helper()
	resp := i.issue(t.Context(), peer)
	sys := new(pb.Sys)
	is.New(t).NoErr(drpc.Unmarshal(resp.GetCred().GetToken().GetData(), sys))
	return sys, resp
}

func TestCredential(t *testing.T) {
	is := is.New(t)
	sys, resp := issuedTo(t, newTestIssuer(config.CredentialConfig{}), drpc.Cred{UID: 1501, GID: 1501, SecLabel: "user_u"})
	is.Equal(resp.GetStatus(), int32(0))
	is.Equal(drpc.VerifyCredential(resp.GetCred(), nil), drpc.StatusOK)
	is.Equal(sys.GetMachinename(), "demo-1")
	is.Equal(sys.GetUser(), "alice@")
	is.Equal(sys.GetGroup(), "alice@")
	is.Equal(sys.GetGroups(), []string{"alice@", "hpc@", "physics@"})
	is.Equal(sys.GetSecctx(), "user_u")
	is.Equal(sys.GetStamp(), uint64(0))
}

func TestCredentialByUserMap(t *testing.T) {
	mapped := map[string]*config.ClientUser{
		"1502":    {User: "bob", Group: "staff", Groups: []string{"hpc"}},
		"1503":    {User: "nogroup"},
		"default": {User: "guest", Group: "guests"},
	}
	tests := []struct {
		name     string
		users    map[string]*config.ClientUser
		uid, gid uint32
		user     string
		status   drpc.Status
	}{
		{"known users are not mapped", mapped, 1501, 1, "alice@", 0},
		{"by number", mapped, 1502, 1, "bob@", 0},
		{"by default", mapped, 7, 1, "guest@", 0},
		{"an incomplete entry", mapped, 1503, 1, "", drpc.StatusMisc},
		{"no map", nil, 7, 1, "", drpc.StatusMisc},
		{"a group without a name", mapped, 1501, 9, "", drpc.StatusMisc},
		{"a database that fails", mapped, 1600, 1, "", drpc.StatusMisc},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			is := is.New(t)
			sys, resp := issuedTo(t, newTestIssuer(config.CredentialConfig{ClientUserMap: test.users}), drpc.Cred{UID: test.uid, GID: test.gid})
			is.Equal(resp.GetStatus(), int32(test.status))
			is.Equal(sys.GetUser(), test.user)
		})
	}
}

func TestKeyThatCannotBeUsed(t *testing.T) {
	is := is.New(t)
	i := newTestIssuer(config.CredentialConfig{})
	i.sign = func([]byte) ([]byte, error) { return nil, errors.New("no key") }
	_, resp := issuedTo(t, i, drpc.Cred{UID: 1501})
	is.Equal(resp.GetStatus(), int32(drpc.StatusBadCert))
	is.True(resp.GetCred() == nil)
}

func TestCredentialsAreKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		i := newTestIssuer(config.CredentialConfig{CacheExpiration: time.Minute})
		looked := 0
		i.look = func(uid, gid uint32) (account, error) { looked++; return accounts(uid, gid) }
		alice := drpc.Cred{UID: 1501, GID: 1501}
		for range 3 {
			is.Equal(i.issue(t.Context(), alice).GetStatus(), int32(0))
		}
		is.Equal(looked, 1)
		labelled := alice
		labelled.SecLabel = "x"
		i.issue(t.Context(), labelled)
		is.Equal(looked, 2) // another client
		time.Sleep(time.Minute)
		i.issue(t.Context(), alice)
		is.Equal(looked, 3)
		i.forget()
		i.issue(t.Context(), alice)
		is.Equal(looked, 4)
	})
}

func TestDirectoryThatHangsHoldsOneLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		i := newTestIssuer(config.CredentialConfig{})
		var looked atomic.Int32
		answer := make(chan struct{})
		i.look = func(uint32, uint32) (account, error) {
			looked.Add(1)
			<-answer
			return account{user: "alice", group: "alice"}, nil
		}
		replies := make(chan *pb.GetCredResp, 100)
		started := time.Now()
		for range cap(replies) {
			go func() { replies <- i.issue(context.Background(), drpc.Cred{UID: 1501}) }()
		}
		for range cap(replies) {
			is.Equal((<-replies).GetStatus(), int32(drpc.StatusMisc))
		}
		is.Equal(time.Since(started), lookupTime)
		is.Equal(looked.Load(), int32(1))
		close(answer)
	})
}
