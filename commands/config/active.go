package config

import (
	"bytes"
	"os"
	"path/filepath"

	"gopkg.in/yaml.v3"

	"daosbox/cluster/fault"
)

const activeMode = 0o644

// Marshal returns the configuration as YAML, keys in the order and under the
// omission rules of the active configuration.
func (s *Server) Marshal() ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(s); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cannot encode the configuration")
	}
	if err := e.Close(); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cannot encode the configuration")
	}
	return b.Bytes(), nil
}

// WriteActive writes the resolved configuration to ActiveName in dir, in one
// step. The server goes on without it: the caller logs the error.
func WriteActive(dir string, s *Server) error {
	data, err := s.Marshal()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, ActiveName)
	if err := writeFile(path, data); err != nil {
		return fault.Wrap(fault.Config, err, "cannot write the active configuration %s", path)
	}
	return nil
}

// writeFile writes aside, syncs and renames.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	if _, err = f.Write(data); err == nil {
		err = f.Chmod(activeMode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
