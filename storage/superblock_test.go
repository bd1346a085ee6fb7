package storage

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"

	"daosbox/cluster/fault"
)

// captured returns the files of real systems whose names begin with prefix.
func captured(t testing.TB, prefix string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "testdata", "ondisk", prefix+"*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files of real systems: %v", err)
	}
	files := make(map[string][]byte)
	for _, path := range paths {
		if files[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestSuperblocksOfRealSystems(t *testing.T) {
	files := captured(t, "superblock")
	for name, want := range files {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			path := filepath.Join(t.TempDir(), "superblock")
			is.NoErr(os.WriteFile(path, want, 0o600))
			sb, err := ReadSuperblock(path)
			is.NoErr(err)
			is.Equal(sb.System, "daos_server")
			is.Equal(sb.Rank != nil, strings.Contains(name, "joined"))
			is.Equal(sb.ValidRank, sb.Rank != nil)
			is.NoErr(WriteSuperblock(path, sb))
			got, err := os.ReadFile(path)
			is.NoErr(err)
			is.Equal(string(got), string(want)) // byte for byte
			info, err := os.Stat(path)
			is.NoErr(err)
			is.Equal(info.Mode().Perm(), superblockMode)
		})
	}
}

const testUUID = "4ff4a627-aa94-4c5b-b1a9-eed03bc94af6"

func TestSuperblockOfOldReleases(t *testing.T) {
	is := is.New(t)
	sb, err := parseSuperblock([]byte("uuid: " + testUUID + "\nsystem: daos_io_server\nrank: 3\ncreatems: true\nbootstrapms: false\nms: true\nvalidrank: true\n"))
	is.NoErr(err)
	is.Equal(*sb.Rank, uint32(3))
	is.Equal(sb.System, "daos_io_server")
	is.True(sb.ValidRank)
}

func TestReadSuperblockRefusesDamage(t *testing.T) {
	for name, c := range map[string]struct{ text, why string }{
		"empty":         {"", "EOF"},
		"zeros":         {strings.Repeat("\x00", 150), "control characters"},
		"cut":           {"version: 1\nuui", "line"},
		"no uuid":       {"version: 1\nsystem: x\n", "line 2: the key uuid is missing"},
		"bad uuid":      {"version: 1\nuuid: 4ff4\n", "line 2: uuid \"4ff4\" is no UUID"},
		"twice":         {"uuid: " + testUUID + "\nuuid: " + testUUID + "\n", "line 2: key \"uuid\" is there twice"},
		"wrong type":    {"uuid: " + testUUID + "\nrank: many\n", "line 2: rank has the wrong type"},
		"rank too much": {"uuid: " + testUUID + "\nrank: 4294967296\n", "line 2: rank has the wrong type"},
		"map":           {"uuid: " + testUUID + "\nuri: {a: 1}\n", "line 2: uri is no plain value"},
		"list":          {"- a\n", "line 1: not a map"},
		"large":         {"uuid: " + testUUID + "\n" + strings.Repeat("# padding\n", 10000), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			path := filepath.Join(t.TempDir(), "superblock")
			is.NoErr(os.WriteFile(path, []byte(c.text), 0o600))
			_, err := ReadSuperblock(path)
			is.Equal(fault.Of(err), fault.Corrupt)
			is.True(strings.Contains(err.Error(), path)) // names the file
			if !strings.Contains(err.Error(), c.why) {
				t.Errorf("error %q does not say %q", err, c.why)
			}
			is.True(fault.HintOf(err) != "") // says what next
			after, err := os.ReadFile(path)
			is.NoErr(err)
			is.Equal(string(after), c.text) // the file is left as it is
		})
	}
}

func TestReadSuperblockThatIsNotThere(t *testing.T) {
	is := is.New(t)
	dir := t.TempDir()
	_, err := ReadSuperblock(filepath.Join(dir, "superblock"))
	is.True(errors.Is(err, fs.ErrNotExist))
	is.NoErr(os.Mkdir(filepath.Join(dir, "superblock"), 0o755))
	_, err = ReadSuperblock(filepath.Join(dir, "superblock"))
	is.Equal(fault.Of(err), fault.Corrupt) // a directory under this name
}

func TestWriteSuperblockKeepsTheFormer(t *testing.T) {
	is := is.New(t)
	path := filepath.Join(t.TempDir(), "superblock")
	is.NoErr(WriteSuperblock(path, Superblock{UUID: testUUID, System: "old"}))
	is.NoErr(os.WriteFile(path+stagingSuffix, []byte("stale"), 0o400)) // of a crash
	full := &breaker{disk: osDisk{}, at: 2, err: errNoSpace}
	err := writeSuperblock(full, path, Superblock{UUID: testUUID, System: "new"}, nil)
	is.Equal(fault.Of(err), fault.NoSpace)
	is.True(strings.Contains(fault.HintOf(err), "free space"))
	sb, err := ReadSuperblock(path)
	is.NoErr(err)
	is.Equal(sb.System, "old")
	is.NoErr(WriteSuperblock(path, Superblock{UUID: testUUID, System: "new"}))
	_, err = os.Stat(path + stagingSuffix)
	is.True(errors.Is(err, fs.ErrNotExist))
	is.True(WriteSuperblock(path, Superblock{}) != nil) // no identity
}

func TestWriteSuperblockSaysWhatToDo(t *testing.T) {
	is := is.New(t)
	err := WriteSuperblock(filepath.Join(t.TempDir(), "absent", "superblock"), Superblock{UUID: testUUID})
	is.Equal(fault.Of(err), fault.NotFound)
	is.True(strings.HasPrefix(fault.HintOf(err), "create the directory"))
	if os.Geteuid() == 0 {
		t.Skip("root may write anywhere")
	}
	dir := t.TempDir()
	is.NoErr(os.Chmod(dir, 0o500))
	err = WriteSuperblock(filepath.Join(dir, "superblock"), Superblock{UUID: testUUID})
	is.Equal(fault.Of(err), fault.Permission)
}

func FuzzParseSuperblock(f *testing.F) {
	for _, data := range captured(f, "superblock") {
		f.Add(data)
	}
	f.Add([]byte("uuid: " + testUUID + "\nrank: ~\nsystem: &a x\nuri: *a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > superblockLimit {
			return
		}
		sb, err := parseSuperblock(data)
		if err != nil {
			return
		}
		first, err := encodeSuperblock(sb)
		if err != nil {
			t.Fatalf("cannot encode what was read: %v", err)
		}
		again, err := parseSuperblock(first)
		if err != nil {
			t.Fatalf("cannot read what was written: %v\n%s", err, first)
		}
		second, err := encodeSuperblock(again)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("not stable: %v\n%s\n%s", err, first, second)
		}
	})
}
