package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"time"

	"daosbox/commands/config"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

// account is how a client is named to the servers.
type account struct {
	user, group string
	groups      []string
}

// lookupTime bounds the questions to the account database for one client: behind
// it may be a directory service that does not answer.
const lookupTime = 10 * time.Second

// maxCached bounds the kept credentials.
const maxCached = 4096

// issuer makes the credentials of clients.
type issuer struct {
	machine string
	names   map[string]*config.ClientUser
	sign    func([]byte) ([]byte, error) // nil on an insecure system
	keep    time.Duration                // 0 keeps none
	look    func(uid, gid uint32) (account, error)
	log     *slog.Logger

	mu      sync.Mutex
	kept    map[who]issued
	pending map[who]*lookup
}

// who is all that a credential depends on.
type who struct {
	uid, gid uint32
	label    string
}

type issued struct {
	cred  *pb.Credential
	until time.Time
}

// lookup is a question to the account database in progress.
type lookup struct {
	done    chan struct{}
	account account
	err     error
}

func newIssuer(hostname string, cfg config.CredentialConfig, sign func([]byte) ([]byte, error), log *slog.Logger) *issuer {
	machine, _, _ := strings.Cut(hostname, ".")
	return &issuer{machine: machine, names: cfg.ClientUserMap, sign: sign, keep: cfg.CacheExpiration, look: hostAccount, log: log,
		kept: make(map[who]issued), pending: make(map[who]*lookup)}
}

// issue answers a client. The status is StatusMisc for a client without a name and
// StatusBadCert when the key cannot be used.
func (i *issuer) issue(ctx context.Context, peer drpc.Cred) *pb.GetCredResp {
	key := who{peer.UID, peer.GID, peer.SecLabel}
	if cred := i.cached(key); cred != nil {
		return &pb.GetCredResp{Cred: cred}
	}
	found, err := i.find(ctx, key)
	if err != nil {
		i.log.Warn("cannot make a credential", "uid", peer.UID, "gid", peer.GID, "pid", peer.PID, "error", err,
			"hint", "name the user in the account database, or in credential_config.client_user_map")
		return &pb.GetCredResp{Status: int32(drpc.StatusMisc)}
	}
	sys := &pb.Sys{Machinename: i.machine, User: drpc.Principal(found.user), Group: drpc.Principal(found.group), Secctx: peer.SecLabel}
	for _, group := range found.groups {
		sys.Groups = append(sys.Groups, drpc.Principal(group))
	}
	cred, err := drpc.NewCredential(sys, i.sign)
	if err != nil {
		i.log.Error("cannot sign a credential", "uid", peer.UID, "error", err)
		return &pb.GetCredResp{Status: int32(drpc.StatusBadCert)}
	}
	i.remember(key, cred)
	return &pb.GetCredResp{Cred: cred}
}

func (i *issuer) cached(key who) *pb.Credential {
	i.mu.Lock()
	defer i.mu.Unlock()
	if one, ok := i.kept[key]; ok && time.Now().Before(one.until) {
		return one.cred
	}
	return nil
}

func (i *issuer) remember(key who, cred *pb.Credential) {
	if i.keep <= 0 {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.kept) >= maxCached {
		clear(i.kept)
	}
	i.kept[key] = issued{cred, time.Now().Add(i.keep)}
}

// forget drops the kept credentials, as after a change of the certificate.
func (i *issuer) forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.kept)
}

// find names a client. Clients that are the same wait for one lookup, so that a
// database that hangs holds one goroutine for each user and not for each client.
func (i *issuer) find(ctx context.Context, key who) (account, error) {
	i.mu.Lock()
	l := i.pending[key]
	if l == nil {
		l = &lookup{done: make(chan struct{})}
		i.pending[key] = l
		go func() {
			l.account, l.err = i.name(key.uid, key.gid)
			i.mu.Lock()
			delete(i.pending, key)
			i.mu.Unlock()
			close(l.done)
		}()
	}
	i.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	select {
	case <-l.done:
		return l.account, l.err
	case <-ctx.Done():
		return account{}, fmt.Errorf("the account database does not answer: %w", ctx.Err())
	}
}

// name looks a client up, in the user map when the host does not know the user.
func (i *issuer) name(uid, gid uint32) (account, error) {
	found, err := i.look(uid, gid)
	var unknown user.UnknownUserIdError
	if !errors.As(err, &unknown) {
		return found, err
	}
	mapped := i.names[strconv.FormatUint(uint64(uid), 10)]
	if mapped == nil {
		mapped = i.names["default"]
	}
	if mapped == nil {
		return account{}, err
	}
	if mapped.User == "" || mapped.Group == "" {
		return account{}, fmt.Errorf("%w, and its entry in client_user_map lacks user or group", err)
	}
	return account{mapped.User, mapped.Group, mapped.Groups}, nil
}

// hostAccount asks the host's account database: the name of the user, that of the
// group the client runs with, and those of all groups listed for the user,
// whatever groups the process has. A group without a name fails the client: an
// access list could not judge it.
func hostAccount(uid, gid uint32) (account, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return account{}, err
	}
	group, err := user.LookupGroupId(strconv.FormatUint(uint64(gid), 10))
	if err != nil {
		return account{}, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return account{}, err
	}
	a := account{user: u.Username, group: group.Name}
	for _, id := range ids {
		g, err := user.LookupGroupId(id)
		if err != nil {
			return account{}, err
		}
		a.groups = append(a.groups, g.Name)
	}
	return a, nil
}
