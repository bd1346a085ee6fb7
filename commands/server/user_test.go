package server

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"daosbox/cluster/pki"
	"daosbox/commands/cli"
	"daosbox/commands/control"

	"github.com/matryer/is"
)

// nobody is an ordinary user on every Linux.
const nobody = 65534

// ordinary makes a child run as an ordinary user, who can reach what the test has
// written; keys stay root's, so that these servers are insecure.
func (s *testSystem) ordinary(i int) func(*exec.Cmd) {
	s.t.Helper()
	s.edit(i, "transport_config:\n", "transport_config:\n  allow_insecure: true\n")
	program := filepath.Join(s.dir, "program")
	if err := errors.Join(os.Chmod(s.dir, 0o755), os.Chmod(s.hosts[i].config(), 0o644)); err != nil {
		s.t.Fatal(err)
	}
	return func(cmd *exec.Cmd) {
		if os.Geteuid() != 0 {
			return
		}
		if err := copyFile(cmd.Path, program); err != nil { // its own place may be closed to others
			s.t.Fatal(err)
		}
		cmd.Path = program
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// ended waits for the end of a child.
func (c *testChild) ended(t *testing.T) cli.Exit {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(30 * time.Second):
		t.Fatalf("the process does not end; its log:\n%s", c.log)
	}
	return cli.Exit(c.cmd.ProcessState.ExitCode())
}

func TestOrdinaryUser(t *testing.T) {
	for _, test := range []struct {
		name  string
		edits []string
		mode  os.FileMode // of the socket directory
		says  string
		hint  string
	}{
		{"unwritable socket directory", nil, 0o555, "cannot write socket_dir", "give it to the user"},
		{"class ram without a mount", []string{"  - class: dir\n", "  - class: ram\n"}, 0o777, "only root can mount", "mount -t tmpfs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			is := is.New(t)
			sys := newTestSystem(t, 1, 1)
			sys.edit(0, test.edits...)
			is.NoErr(os.Chmod(filepath.Join(sys.hosts[0].dir, "run"), test.mode))
			c := sys.child(0, sys.ordinary(0))
			is.Equal(c.ended(t), cli.Permission)
			told, hints := lines(c.log.String(), "ERROR: "), lines(c.log.String(), "HINT: ")
			is.Equal(len(told), 1)
			is.Equal(len(hints), 1)
			is.True(strings.Contains(told[0], test.says))
			is.True(strings.Contains(hints[0], test.hint))
		})
	}
}

// TestUnwritableStorage formats where the server may not write, then where it may.
func TestUnwritableStorage(t *testing.T) {
	is := is.New(t)
	sys := newTestSystem(t, 1, 1)
	sys.edit(0, "/scm\n", "/closed/scm\n", "/nvme.img", "/open/nvme.img", "/engine.log", "/open/engine.log")
	closed, open := filepath.Join(sys.hosts[0].dir, "closed"), filepath.Join(sys.hosts[0].dir, "open")
	is.NoErr(errors.Join(os.Mkdir(closed, 0o555), os.Mkdir(open, 0o777), os.Chmod(open, 0o777)))
	is.NoErr(os.Chmod(filepath.Join(sys.hosts[0].dir, "run"), 0o777))
	c := sys.child(0, sys.ordinary(0), "--auto-format")
	eventually(t, "the format fails", func() error {
		if log := c.log.String(); !strings.Contains(log, "engine did not start") || !strings.Contains(log, "permission denied") || !strings.Contains(log, closed) {
			return errors.New("no word about the directory")
		}
		return nil
	})
	is.NoErr(os.Chmod(closed, 0o777))
	sys.formatInsecure()
	eventually(t, "join", func() error {
		if !strings.Contains(c.log.String(), "engine is ready") {
			return errors.New("not ready")
		}
		return nil
	})
	is.NoErr(c.cmd.Process.Signal(syscall.SIGTERM))
	is.Equal(c.ended(t), cli.OK)
}

// formatInsecure formats host 0 of a system without certificates.
func (s *testSystem) formatInsecure() {
	s.t.Helper()
	s.formatWith(s.insecureClient(), 0)
}

// TestFullDisk formats on a full disk, and again when there is space.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a tmpfs to fill")
	}
	is := is.New(t)
	sys := newTestSystem(t, 1, 1)
	disk := filepath.Join(sys.dir, "disk")
	is.NoErr(os.Mkdir(disk, 0o755))
	sys.edit(0, sys.hosts[0].dir+"/scm", disk+"/scm")
	c := sys.child(0, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, "TEST_FULL_DISK="+disk)
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	})
	admin := sys.client(pki.Admin)
	format := func() (control.StorageFormatResp, error) {
		return control.Call(context.Background(), admin, sys.hosts[0].addr, control.StorageFormat, &control.StorageFormatReq{}, nil)
	}
	var resp control.StorageFormatResp
	eventually(t, "an answer to the format", func() (err error) {
		select {
		case <-c.done:
			t.Skipf("cannot fill a disk here: %s", c.log)
		default:
		}
		resp, err = format()
		return err
	})
	is.Equal(resp.Failed, 1)
	is.Equal(len(resp.Storage.SCMMountPoints), 1)
	info := resp.Storage.SCMMountPoints[0].Info
	is.True(strings.Contains(info, "no space left")) // the row says why
	is.True(strings.Contains(info, disk))
	is.NoErr(os.Remove(filepath.Join("/proc", strconv.Itoa(c.cmd.Process.Pid), "root", disk, "filler")))
	resp, err := format()
	is.NoErr(err)
	is.Equal(resp.Failed, 0) // the same again, with space
	sys.waitJoined(1)
	is.NoErr(c.cmd.Process.Signal(syscall.SIGTERM))
	is.Equal(c.ended(t), cli.OK)
}
