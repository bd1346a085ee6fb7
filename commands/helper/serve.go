package helper

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"daosbox/cluster/fault"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Bounds of what callers can make the helper do.
const (
	maxConnections = 16
	requestTime    = 5 * time.Second // to say what is wanted
	workTime       = 2 * time.Minute // to do it, waiting for others included
	replyTime      = 5 * time.Second // to take the reply
	acceptPause    = 100 * time.Millisecond
)

// listen takes the socket that systemd passes, else makes one at path that only
// root and the group gid can connect to.
func listen(path string, gid uint32) (*net.UnixListener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot take the sockets of systemd")
	}
	if len(passed) > 0 {
		ln, ok := passed[0].(*net.UnixListener)
		if !ok || len(passed) > 1 {
			for _, other := range passed {
				if other != nil {
					_ = other.Close()
				}
			}
			return nil, fault.New(fault.Config, "cannot take the sockets of systemd: want exactly one, a Unix stream socket").
				WithHint("give the socket unit one ListenStream= with a path")
		}
		return ln, nil
	}
	return listenAt(path, gid)
}

func listenAt(path string, gid uint32) (*net.UnixListener, error) {
	dir := filepath.Dir(path)
	if err := trustPath(path, true); err != nil {
		return nil, fault.Wrap(fault.Permission, err, "cannot listen on %s", path).
			WithHint("name a socket in a directory that only root can write with --socket")
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fault.Wrap(fault.Config, err, "cannot make the directory of the socket").WithHint("make %s, as root", filepath.Dir(dir))
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	// Nobody but root can connect before the mode is set: under the helper's umask
	// others have no write permission, which connecting takes.
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot listen on %s", path)
	}
	if err := errors.Join(os.Lchown(path, 0, int(gid)), os.Chmod(path, 0o660)); err != nil {
		_ = ln.Close()
		return nil, fault.Wrap(fault.Permission, err, "cannot give %s to group %d", path, gid)
	}
	return ln, nil
}

// clearStale removes the socket of a helper that is gone.
func clearStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Config, err, "cannot look at %s", path)
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fault.New(fault.Exists, "cannot listen on %s: it is no socket", path).WithHint("move that file away")
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		_ = conn.Close()
		return fault.New(fault.SocketInUse, "cannot listen on %s: another daos_server_helper does", path).
			WithHint("stop it first, or name another socket with --socket")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fault.Wrap(fault.Config, err, "cannot look at %s", path)
	}
	return os.Remove(path)
}

// tellSystemd reports that the socket is open, where somebody wants to know.
func tellSystemd(log *slog.Logger) {
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Debug("cannot notify systemd", "error", err)
	}
}

// service answers requests on a listener: it knows who may ask and how to talk,
// not what is done.
type service struct {
	admit func(caller) error
	do    func(context.Context, caller, request) (Info, error)
	log   *slog.Logger
	// wait bounds the time for a request to arrive; requestTime when 0.
	wait time.Duration
}

// serve answers until ctx ends; what is being done then is finished or given up
// between two of its steps.
func (s *service) serve(ctx context.Context, ln *net.UnixListener) error {
	var connections sync.WaitGroup
	defer connections.Wait()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	slots := make(chan struct{}, maxConnections)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := ln.AcceptUnix()
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return nil
			}
			if !passes(err) {
				return fault.Wrap(fault.Internal, err, "cannot accept connections")
			}
			s.log.Error("cannot accept a connection, trying on", "error", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(acceptPause):
			}
			continue
		}
		connections.Go(func() {
			defer func() { <-slots }()
			s.handle(ctx, conn)
		})
	}
}

// passes reports whether an error of accept is one of the moment.
func passes(err error) bool {
	for _, one := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// handle answers the one request of a connection and logs it.
func (s *service) handle(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	c, err := peerOf(conn)
	if err != nil {
		s.log.Error("cannot tell who is calling", "error", err)
		return
	}
	log := s.log.With("pid", c.pid, "uid", c.uid, "gid", c.gid)
	if err := s.admit(c); err != nil {
		log.Error("refused a caller", "error", err)
		s.answer(log, conn, reply{Error: faultOf(err)})
		return
	}
	req, err := s.receive(ctx, conn)
	if err != nil {
		log.Error("refused a message", "error", err)
		s.answer(log, conn, reply{Error: faultOf(err)})
		return
	}
	log = log.With("method", req.Method, "engine", req.Engine, "force", req.Options.Force)
	started := time.Now()
	work, cancel := context.WithTimeout(ctx, workTime)
	defer cancel()
	info, err := s.do(work, c, req)
	took := time.Since(started).Round(time.Microsecond)
	if err != nil {
		log.Error("request failed", "error", err, "code", int(fault.Of(err)), "took", took)
	} else {
		log.Info("request done", "result", info.Engines, "took", took)
	}
	s.answer(log, conn, reply{Error: faultOf(err), Info: info})
}

func (s *service) receive(ctx context.Context, conn *net.UnixConn) (request, error) {
	limit := s.wait
	if limit == 0 {
		limit = requestTime
	}
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return request{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	data, err := readMessage(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return request{}, fault.New(fault.Timeout, "cannot wait longer for a request: it did not come within %s", limit)
	}
	if err != nil {
		return request{}, fault.Wrap(codeOr(err, fault.Protocol), err, "cannot read the request")
	}
	return decodeRequest(data)
}

func (s *service) answer(log *slog.Logger, conn *net.UnixConn, r reply) {
	data, err := encodeMessage(r)
	if err != nil {
		data, err = encodeMessage(reply{Error: faultOf(err)})
	}
	if err == nil {
		if err = conn.SetWriteDeadline(time.Now().Add(replyTime)); err == nil {
			_, err = conn.Write(data)
		}
	}
	if err != nil {
		log.Error("cannot answer", "error", err)
	}
}

// peerOf asks the kernel who made the connection.
func peerOf(conn *net.UnixConn) (caller, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return caller{}, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return caller{}, err
	}
	return caller{pid: cred.Pid, uid: cred.Uid, gid: cred.Gid}, nil
}

// faultOf makes a fault of any error, to travel; nil stays nil. A text that would
// not fit into a message is cut.
func faultOf(err error) *fault.Error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if len(text) > textLimit {
		text = strings.ToValidUTF8(text[:textLimit], "") + " ..."
	}
	return &fault.Error{Code: fault.Of(err), What: text, Hint: fault.HintOf(err), Status: fault.StatusOf(err)}
}

// textLimit leaves room in a message for what comes beside a long text.
const textLimit = messageLimit / 2

// codeOr is the code of err, or other when nobody classified it.
func codeOr(err error, other fault.Code) fault.Code {
	if code := fault.Of(err); code != fault.Unknown {
		return code
	}
	return other
}
