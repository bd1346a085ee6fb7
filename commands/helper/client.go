package helper

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"time"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
)

const (
	dialTime = 2 * time.Second
	pingTime = 5 * time.Second
	// callTime is longer than the helper takes, so that its word comes first.
	callTime = workTime + requestTime + replyTime
)

// Client asks a helper. It keeps no connection and may be used from several
// goroutines.
type Client struct {
	path string
	// root is the user that the helper must run as, 0 but for tests.
	root uint32
}

// Dial finds the helper's socket; an empty path means DefaultSocket. Without one
// the error is fault.NotFound: there is no helper on this host. Nothing is asked
// yet (see Ping).
func Dial(path string) (*Client, error) {
	if path == "" {
		path = DefaultSocket
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "cannot find daos_server_helper: no socket %s", path).
			WithHint("as root: systemctl enable --now daos_server_helper.socket")
	}
	if err != nil {
		return nil, fault.Wrap(fault.Permission, err, "cannot find daos_server_helper")
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return nil, fault.New(fault.Config, "cannot find daos_server_helper: %s is no socket", path)
	}
	return &Client{path: path}, nil
}

// Ping returns what the helper says of itself. A helper of another version is an
// error (fault.IncompatibleVersion): its steps need not be those of this one.
func (c *Client) Ping(ctx context.Context) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	info, err := c.call(ctx, request{Method: methodPing})
	if err == nil && info.Version != cli.Version {
		err = fault.New(fault.IncompatibleVersion, "cannot use daos_server_helper %s: this is version %s", info.Version, cli.Version).
			WithHint("restart daos_server_helper with the executable of daos_server")
	}
	return info, err
}

// Format puts an empty RAM disk that the caller owns in place of what is on the
// SCM mount point of an engine. A disk with something on it is replaced with force
// only. The superblock and all else is the caller's to write.
func (c *Client) Format(ctx context.Context, engine int, force bool) error {
	return c.work(ctx, request{Method: methodFormat, Engine: engine, Options: requestOptions{Force: force}})
}

// Mount makes an empty RAM disk that the caller owns unless there is one already.
func (c *Client) Mount(ctx context.Context, engine int) error {
	return c.work(ctx, request{Method: methodMount, Engine: engine})
}

// Unmount takes the RAM disk of a stopped engine away whose data is safe on SSD;
// of another engine it is refused.
func (c *Client) Unmount(ctx context.Context, engine int) error {
	return c.work(ctx, request{Method: methodUnmount, Engine: engine})
}

func (c *Client) work(ctx context.Context, r request) error {
	_, err := c.call(ctx, r)
	return err
}

// call makes a connection, says one request and hears one reply.
func (c *Client) call(ctx context.Context, r request) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	data, err := encodeMessage(r)
	if err != nil {
		return Info{}, err
	}
	conn, err := c.connect(ctx)
	if err != nil {
		return Info{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	// A helper that refuses this user answers without reading: what it says counts
	// more than that the request could not be sent.
	_, sent := conn.Write(data)
	data, err = readMessage(conn)
	if err != nil {
		if ctx.Err() != nil {
			return Info{}, fault.Wrap(endOf(ctx), ctx.Err(), "cannot wait for daos_server_helper to do %s", r.Method)
		}
		return Info{}, fault.Wrap(fault.Protocol, errors.Join(sent, err), "cannot hear daos_server_helper").
			WithHint("its log says more: journalctl -u daos_server_helper")
	}
	var answer reply
	if err := decode(data, &answer); err != nil {
		return Info{}, err
	}
	if answer.Error != nil {
		return answer.Info, answer.Error
	}
	return answer.Info, nil
}

func (c *Client) connect(ctx context.Context) (*net.UnixConn, error) {
	dialer := net.Dialer{Timeout: dialTime}
	some, err := dialer.DialContext(ctx, "unix", c.path)
	if err != nil {
		code, hint := fault.Unreachable, "as root: systemctl restart daos_server_helper.socket"
		if errors.Is(err, fs.ErrPermission) {
			code, hint = fault.Permission, "run daos_server as the user that the helper was started for (--user)"
		}
		return nil, fault.Wrap(code, err, "cannot reach daos_server_helper").WithHint("%s", hint)
	}
	conn := some.(*net.UnixConn)
	peer, err := peerOf(conn)
	if err == nil && peer.uid != c.root {
		err = fault.New(fault.Permission, "user %d listens on %s, not root", peer.uid, c.path).
			WithHint("start daos_server_helper as root")
	}
	if err != nil {
		_ = conn.Close()
		return nil, fault.Wrap(codeOr(err, fault.Protocol), err, "cannot trust daos_server_helper")
	}
	return conn, nil
}

// endOf is the code for the end of a context.
func endOf(ctx context.Context) fault.Code {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fault.Timeout
	}
	return fault.Canceled
}
