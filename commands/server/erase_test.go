package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/pki"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/matryer/is"
)

// eraseSystem asks for the erasure, for some seconds.
func (s *testSystem) eraseSystem() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := control.Ask(ctx, s.client(pki.Admin), control.SystemErase, &control.SystemEraseReq{}, nil)
	return err
}

func (s *testSystem) stopRanks() {
	s.t.Helper()
	resp, err := control.Ask(context.Background(), s.client(pki.Admin), control.SystemStop, &control.SystemStopReq{Force: true}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range resp.Results {
		if r.Errored {
			s.t.Fatalf("rank %d: %s", r.Rank, r.Msg)
		}
	}
}

// left reports which parts of the old system a host still has.
func (s *testSystem) left(i int) (found []string) {
	for _, name := range []string{"superblock", "control_raft", "control_raft.erased"} {
		if _, err := os.Lstat(filepath.Join(s.hosts[i].dir, "scm", name)); err == nil {
			found = append(found, name)
		}
	}
	return found
}

// anew formats all hosts without force and checks that nothing of the old system is
// in the new one.
func (s *testSystem) anew(is *is.I, before []cluster.Member) {
	s.t.Helper()
	for i := range s.hosts {
		s.format(i)
	}
	members := s.waitJoined(len(s.hosts)).Members
	for _, m := range members {
		for _, old := range before {
			is.True(m.UUID != old.UUID)
		}
	}
	is.Equal(len(s.pools()), 0)
	attrs, err := control.Ask(context.Background(), s.client(pki.Admin), control.SystemGetAttr, &control.SystemGetAttrReq{}, nil)
	is.NoErr(err)
	is.Equal(len(attrs.Attributes), 0)
	is.True(strings.Contains(s.hosts[0].log.String(), "made a new replica"))
	eventually(s.t, "a new pool", func() error { // the engines may not know each other yet
		_, err = control.Ask(context.Background(), s.client(pki.Admin), control.PoolCreate, createReq("new", uint64(len(s.hosts))*6<<30), nil)
		return err
	})
}

func (s *testSystem) furnish(is *is.I) []cluster.Member {
	s.t.Helper()
	ctx, admin := context.Background(), s.client(pki.Admin)
	_, err := control.Ask(ctx, admin, control.PoolCreate, createReq("old", uint64(len(s.hosts))*6<<30), nil)
	is.NoErr(err)
	_, err = control.Ask(ctx, admin, control.SystemSetAttr, &control.SystemSetAttrReq{Attributes: map[string]string{"site": "north"}}, nil)
	is.NoErr(err)
	return s.waitJoined(len(s.hosts)).Members
}

// TestErase gives systems up and begins new ones in the same processes.
func TestErase(t *testing.T) {
	for _, shape := range []struct{ hosts, replicas int }{{1, 1}, {4, 3}} {
		t.Run(fmt.Sprintf("%d replicas", shape.replicas), func(t *testing.T) {
			is := is.New(t)
			sys := newTestSystem(t, shape.hosts, shape.replicas)
			sys.up()
			before := sys.furnish(is)
			err := sys.eraseSystem()
			is.Equal(fault.Of(err), fault.Refused) // ranks are up
			is.True(strings.Contains(err.Error(), "are up"))
			is.Equal(len(sys.waitJoined(shape.hosts).Members), shape.hosts)

			sys.stopRanks()
			is.NoErr(sys.eraseSystem())
			for i := range sys.hosts {
				is.Equal(len(sys.left(i)), 0)
			}
			// A server that starts in between waits for its format like the others.
			is.Equal(int(sys.stop(0)), 0)
			sys.start(0, "--auto-format")
			eventually(t, "it waits", func() error {
				if strings.Count(sys.hosts[0].log.String(), "waiting for `dmg storage format`") < 3 {
					return errors.New("not yet")
				}
				return nil
			})
			sys.anew(is, before)
		})
	}
}

// TestEraseNeedsAll does nothing while a server is away, and all after that.
func TestEraseNeedsAll(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 4, 3)
	sys.up()
	before := sys.furnish(is)
	sys.stopRanks()
	for _, away := range []int{3, 1} { // a host only, and a replica
		is.Equal(int(sys.stop(away)), 0)
		eventually(t, "the erasure is refused", func() error {
			err := sys.eraseSystem()
			if err == nil {
				t.Fatal("erased without a server of the system")
			}
			if fault.Of(err) != fault.Refused || !strings.Contains(err.Error(), sys.hosts[away].addr) {
				return err
			}
			return nil
		})
		for i := range sys.hosts {
			is.Equal(sys.left(i)[0], "superblock") // nothing is lost
		}
		sys.start(away)
		sys.waitJoined(1) // it joins again: nothing is under way
		sys.stopRanks()
	}
	is.NoErr(sys.eraseSystem())
	sys.anew(is, before)
}

// TestEraseGoesOn ends all servers in phases of an erasure, as they are found on their
// disks then; asked again, it goes on.
func TestEraseGoesOn(t *testing.T) {
	const id = "4f2ad16c-5e1b-4e51-9a02-1f4b8c2a7d10"
	note := func(halted bool) string { return fmt.Sprintf(`{"id":%q,"halted":%t}`, id, halted) }
	for _, test := range []struct {
		phase string
		notes [3]string // of the replicas; "gone" is a removed one
		reset int       // how many hosts lost their superblock
	}{
		{"some hosts are reset", [3]string{note(false), note(false), note(false)}, 2},
		{"some replicas are halted", [3]string{note(true), note(true), note(false)}, 3},
		{"some replicas are removed", [3]string{"gone", "gone", note(true)}, 3},
	} {
		t.Run(test.phase, func(t *testing.T) {
			is := is.New(t)
			sys := newTestSystem(t, 3, 3)
			sys.up()
			before := sys.furnish(is)
			sys.mark(is, id)
			for i, h := range sys.hosts {
				scm := filepath.Join(h.dir, "scm")
				if i < test.reset {
					is.NoErr(os.Rename(filepath.Join(scm, "superblock"), filepath.Join(scm, "superblock.erased")))
				}
				if test.notes[i] == "gone" {
					is.NoErr(os.RemoveAll(filepath.Join(scm, "control_raft")))
					continue
				}
				is.NoErr(os.WriteFile(filepath.Join(scm, "control_raft", "erase.json"), []byte(test.notes[i]), 0o660))
			}
			for i := range sys.hosts {
				sys.start(i)
			}
			// The last replica of the old system is not formatted before its time.
			eventually(t, "the format is refused", func() error {
				resp, err := control.Call(context.Background(), sys.client(pki.Admin), sys.hosts[2].addr, control.StorageFormat, &control.StorageFormatReq{}, nil)
				if err == nil && resp.Failed != 1 {
					t.Error("formatted in the middle of an erasure")
				}
				return err
			})
			eventually(t, "the erasure goes on", sys.eraseSystem)
			for i := range sys.hosts {
				is.Equal(len(sys.left(i)), 0)
			}
			sys.anew(is, before)
		})
	}
}

// mark puts the mark of an erasure into the database, as its first steps do, and
// ends all servers.
func (s *testSystem) mark(is *is.I, id string) {
	s.t.Helper()
	before := s.waitJoined(len(s.hosts)).Members
	s.stopAll()
	var servers []*server
	for i := range s.hosts {
		servers = append(servers, s.inside(i))
	}
	for _, m := range before {
		s.rejoined(m)
	}
	s.stopRanks()
	eventually(s.t, "the mark", func() error {
		var err error
		for _, srv := range servers {
			if service := srv.replica(); service != nil {
				_, err = service.Apply(context.Background(), "", cluster.SetAttributes{Attributes: map[string]string{erasingAttr: id}})
				if err == nil {
					return nil
				}
			}
		}
		return errors.Join(err, errors.New("no replica leads"))
	})
	for _, srv := range servers {
		eventually(s.t, "all have it", func() error {
			if srv.replica().Local().Attribute(erasingAttr) != id {
				return errors.New("not this one")
			}
			return nil
		})
	}
	s.stopAll()
}

// inside starts the server of host i and returns it.
func (s *testSystem) inside(i int) *server {
	s.t.Helper()
	h := s.hosts[i]
	tool := cli.NewTool(testEnv(s.t, h.dir, h.log), "daos_server")
	o := new(startOptions)
	cfg, err := load(tool, h.config(), o.overrides)
	if err != nil {
		s.t.Fatal(err)
	}
	identity, err := loadIdentity(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	srv, err := newServer(ctx, tool, cfg, identity, cli.DaemonLog(h.log, cli.LevelTrace, false), o)
	if err != nil {
		s.t.Fatal(err)
	}
	h.cancel, h.done = cancel, make(chan cli.Exit, 1)
	go func() { h.done <- cli.ExitOf(srv.run(ctx)) }()
	return srv
}
