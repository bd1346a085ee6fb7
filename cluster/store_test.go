package cluster

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

// filled returns the configuration of a stopped replica with some entries.
func filled(t *testing.T) Config {
	all := newReplicas(t, 1, nil)
	startAll(all)
	for n := range 20 {
		apply(t, all, fmt.Sprint(n), SetAttributes{map[string]string{"k": fmt.Sprint(n)}})
	}
	all[0].kill()
	return all[0].cfg
}

func digest(t *testing.T, dir string) string {
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(sum, "%s %x\n", path, sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

func only(t *testing.T, dir, pattern string) string {
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(paths) != 1 {
		t.Fatalf("files %s: %v %v", pattern, paths, err)
	}
	return paths[0]
}

// Damage ends in one fault that names a file and the next step, and nothing is
// deleted or written over.
func TestDamagedStores(t *testing.T) {
	write := func(path string, data []byte) error { return os.WriteFile(path, data, 0o660) }
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string) error
		names  string
	}{
		{"list of segments emptied", func(t *testing.T, dir string) error { return write(filepath.Join(dir, "wal-meta.db"), nil) }, "wal-meta.db"},
		{"list of segments overwritten", func(t *testing.T, dir string) error {
			return write(filepath.Join(dir, "wal-meta.db"), []byte(strings.Repeat("garbage!", 4096)))
		}, "wal-meta.db"},
		{"list of segments cut", func(t *testing.T, dir string) error {
			return os.Truncate(filepath.Join(dir, "wal-meta.db"), 8192)
		}, "wal-meta.db"},
		{"list of segments gone", func(t *testing.T, dir string) error { return os.Remove(filepath.Join(dir, "wal-meta.db")) }, "wal-meta.db"},
		{"segment header", func(t *testing.T, dir string) error { flip(t, only(t, dir, "*.wal"), 1); return nil }, ".wal"},
		{"first entry", func(t *testing.T, dir string) error { flip(t, only(t, dir, "*.wal"), 60); return nil }, ".wal"},
		{"entry in the middle", func(t *testing.T, dir string) error { flip(t, only(t, dir, "*.wal"), 1200); return nil }, ".wal"},
		{"segment gone", func(t *testing.T, dir string) error { return os.Remove(only(t, dir, "*.wal")) }, RaftDir},
		{"segment cut within its header", func(t *testing.T, dir string) error { return os.Truncate(only(t, dir, "*.wal"), 20) }, ".wal"},
		{"a file in place of the directory", func(t *testing.T, dir string) error {
			if err := os.Rename(dir, dir+".old"); err != nil {
				return err
			}
			return write(dir, []byte("x"))
		}, RaftDir},
		{"unreadable", func(t *testing.T, dir string) error {
			if os.Geteuid() == 0 {
				t.Skip("root may read everything")
			}
			return os.Chmod(filepath.Join(dir, "wal-meta.db"), 0)
		}, "wal-meta.db"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			is := is.New(t)
			cfg := filled(t)
			is.NoErr(tt.damage(t, cfg.Dir))
			unreadable := tt.name == "unreadable"
			before := ""
			if !unreadable {
				before = digest(t, filepath.Dir(cfg.Dir))
			}
			_, err := Open(cfg)
			is.Equal(fault.Of(err), fault.Corrupt)
			is.True(strings.Contains(err.Error(), tt.names))
			is.True(fault.HintOf(err) != "")
			if !unreadable && tt.name != "segment gone" {
				is.Equal(digest(t, filepath.Dir(cfg.Dir)), before)
			}
		})
	}
}

func TestSecondProcess(t *testing.T) {
	is := is.New(t)
	all := newReplicas(t, 1, nil)
	startAll(all)
	leaderOf(t, all)
	_, err := Open(all[0].cfg)
	is.Equal(fault.Of(err), fault.Busy)
}

// A replica that crashed while it made its first entry begins again.
func TestInterruptedBootstrap(t *testing.T) {
	is := is.New(t)
	all := newReplicas(t, 1, nil)
	s, err := openStores(all[0].cfg.Dir, raftLogger(discard()))
	is.NoErr(err)
	is.NoErr(markFresh(s.Stable))
	is.NoErr(s.Stable.SetUint64(termKey, bootstrapTerm))
	is.NoErr(s.close())
	startAll(all)
	leaderOf(t, all)
}

// A torn last write is what a crash leaves: it is cut off and the rest is there.
func TestTornTail(t *testing.T) {
	is := is.New(t)
	cfg := filled(t)
	path := only(t, cfg.Dir, "*.wal")
	data, err := os.ReadFile(path)
	is.NoErr(err)
	used := len(data)
	for data[used-1] == 0 {
		used--
	}
	data[used-20] ^= 0xff
	is.NoErr(os.WriteFile(path, data, 0o660))
	s, err := Open(cfg)
	is.NoErr(err)
	is.NoErr(s.Close())
}
