package emulator

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// maxStateFile bounds what is read back from the SCM mount.
const maxStateFile = 16 << 20

// writeState writes v as JSON aside, syncs and renames it, so that a reader sees
// the old or the new content after a kill at any moment.
func writeState(path string, v any) error {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Chmod(0o660), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(path))
}

func readState(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxStateFile+1))
	if err != nil {
		return err
	}
	if len(data) > maxStateFile {
		return errors.New(path + " is larger than any state file")
	}
	return json.Unmarshal(data, v)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// makeSparse creates a file of the given size that takes no space.
func makeSparse(path string, size uint64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o660)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(int64(size)), f.Sync(), f.Close())
}
