package pki

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"daosbox/cluster/fault"

	"golang.org/x/sys/unix"
)

// layout is where a directory of certificates keeps what.
type layout struct {
	caCert, caKey string
	certs         string // role certificates and keys, and clients/
}

// ours is the layout that Init makes: the directory itself can be used as
// /etc/daos/certs, and only private/ must not leave its host.
func ours(dir string) layout {
	return layout{
		caCert: filepath.Join(dir, "daosCA.crt"),
		caKey:  filepath.Join(dir, "private", "daosCA.key"),
		certs:  dir,
	}
}

// layouts lists the shapes that are understood: ours, and what the script of older
// systems makes under dir, or dir being that.
func layouts(dir string) []layout {
	old := func(root string) layout {
		return layout{
			caCert: filepath.Join(root, "certs", "daosCA.crt"),
			caKey:  filepath.Join(root, "private", "daosCA.key"),
			certs:  filepath.Join(root, "certs"),
		}
	}
	return []layout{ours(dir), old(filepath.Join(dir, "daosCA")), old(dir)}
}

// find returns the first layout whose CA certificate exists.
func find(dir string) (layout, error) {
	for _, l := range layouts(dir) {
		if _, err := os.Lstat(l.caCert); err == nil {
			return l, nil
		}
	}
	if _, err := os.ReadDir(dir); err != nil {
		return layout{}, openFault(dir, err)
	}
	return layout{}, fault.New(fault.CertificateMissing, "cannot use %s: there is no CA certificate in it", dir).
		WithHint("make a CA with `daosbox certs init --dir %s`", dir)
}

func (l layout) cert(role Role) string { return filepath.Join(l.certs, string(role)+".crt") }
func (l layout) key(role Role) string  { return filepath.Join(l.certs, string(role)+".key") }
func (l layout) client(role Role) string {
	return filepath.Join(l.certs, "clients", string(role)+".crt")
}

// lock keeps other writers out of a directory until the returned function is
// called; the lock also ends with the process.
func lock(dir string) (func(), error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, openFault(dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fault.New(fault.Busy, "cannot write certificates in %s: another process does it now", dir).
			WithHint("wait for it and repeat")
	}
	return func() { f.Close() }, nil
}

// output is a file to be written: its place, content, mode and the account that
// owns it where root writes it.
type output struct {
	path        string
	data        []byte
	mode        fs.FileMode
	user, group string
}

// stage writes the file aside, in the directory that holds the final one, and
// returns its name there.
func (o output) stage() (string, error) {
	f, err := os.CreateTemp(filepath.Dir(o.path), ".tmp-"+filepath.Base(o.path)+"-*")
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := o.fill(f); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

func (o output) fill(f *os.File) error {
	if _, err := f.Write(o.data); err != nil {
		return err
	}
	if err := f.Chmod(o.mode); err != nil {
		return err
	}
	if uid, gid, ok := account(o.user, o.group); ok {
		if err := f.Chown(uid, gid); err != nil {
			return err
		}
	}
	return f.Sync()
}

// account looks up who shall own a file. Only root gives files away, and only to
// accounts that exist: a host without them keeps its certificates for root.
func account(name, group string) (uid, gid int, ok bool) {
	if name == "" || os.Geteuid() != 0 {
		return 0, 0, false
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, false
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, 0, false
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(g.Gid)
	return uid, gid, err1 == nil && err2 == nil
}

// install writes files aside, all of them, and then renames each into place in the
// order given, so that a full disk leaves everything as it was.
func install(outputs []output) (err error) {
	staged := make([]string, 0, len(outputs))
	defer func() {
		for _, name := range staged {
			os.Remove(name) // those renamed are gone already
		}
	}()
	for _, o := range outputs {
		name, err := o.stage()
		if err != nil {
			return writeFault(o.path, err)
		}
		staged = append(staged, name)
	}
	for i, o := range outputs {
		if err := os.Rename(staged[i], o.path); err != nil {
			return writeFault(o.path, err)
		}
		if err := syncDir(filepath.Dir(o.path)); err != nil {
			return writeFault(o.path, err)
		}
	}
	return nil
}

func writeFault(path string, err error) error {
	return fault.New(fault.CertificateUnreadable, "cannot write %s: %s", path, reason(err)).
		WithHint("check space and permissions of %s", filepath.Dir(path))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// makeDir makes a directory of exactly this mode, whatever the umask; one that
// exists is left as it is.
func makeDir(dir string, mode fs.FileMode) error {
	if err := os.Mkdir(dir, mode); err != nil {
		if info, statErr := os.Stat(dir); statErr == nil && info.IsDir() {
			return nil
		}
		return writeFault(dir, err)
	}
	if err := os.Chmod(dir, mode); err != nil {
		return writeFault(dir, err)
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return writeFault(dir, fmt.Errorf("sync: %w", err))
	}
	return nil
}

// makeDirs makes a directory that every account can read, and those above it.
func makeDirs(dir string) error {
	dir = filepath.Clean(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return writeFault(dir, err)
	}
	return makeDir(dir, 0o755)
}
