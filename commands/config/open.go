package config

import (
	"fmt"
	"path/filepath"
)

// OpenServer reads the file at path, applies the overrides and defaults, and
// checks the rules: every problem of the file is in the one error. The
// configuration is nil when there is an error; the hints are for stderr.
func OpenServer(path string, o ServerOverrides) (*Server, []Hint, error) {
	data, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	return CheckServer(path, data, o)
}

// CheckServer is OpenServer for a text that is in memory.
func CheckServer(name string, data []byte, o ServerOverrides) (*Server, []Hint, error) {
	s, p := parseServer(name, data)
	s.resolve(p, o)
	s.validate(p)
	if err := p.err(); err != nil {
		return nil, p.hints, err
	}
	return s, p.hints, nil
}

// OpenAgent is OpenServer for daos_agent.yml.
func OpenAgent(path string, o AgentOverrides) (*Agent, []Hint, error) {
	data, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	return CheckAgent(path, data, o)
}

// CheckAgent is OpenAgent for a text that is in memory.
func CheckAgent(name string, data []byte, o AgentOverrides) (*Agent, []Hint, error) {
	a, p := parseAgent(name, data)
	a.resolve(p, o)
	a.validate(p)
	if err := p.err(); err != nil {
		return nil, p.hints, err
	}
	return a, p.hints, nil
}

// OpenControl is OpenServer for daos_control.yml; an empty path means the
// built-in values.
func OpenControl(path string, o ControlOverrides) (*Control, []Hint, error) {
	if path == "" {
		c, p := NewControl(), &problems{}
		c.resolve(p, o)
		c.validate(p)
		return c, nil, p.err()
	}
	data, err := read(path)
	if err != nil {
		return nil, nil, err
	}
	c, hints, err := CheckControl(path, data, o)
	if filepath.Base(path) == oldControlFile {
		hints = append(hints, Hint{File: path, Text: fmt.Sprintf("%s (0.4-1.0) is now called %s", oldControlFile, controlFile)})
	}
	return c, hints, err
}

// CheckControl is OpenControl for a text that is in memory.
func CheckControl(name string, data []byte, o ControlOverrides) (*Control, []Hint, error) {
	c, p := parseControl(name, data)
	c.resolve(p, o)
	c.validate(p)
	if err := p.err(); err != nil {
		return nil, p.hints, err
	}
	return c, p.hints, nil
}

// Validate checks the rules between keys of a resolved configuration.
func (s *Server) Validate() error {
	p := &problems{file: s.source.file}
	s.validate(p)
	return p.err()
}

// Validate checks the rules between keys of a resolved configuration.
func (a *Agent) Validate() error {
	p := &problems{file: a.source.file}
	a.validate(p)
	return p.err()
}

// Validate checks the rules between keys of a resolved configuration.
func (c *Control) Validate() error {
	p := &problems{file: c.source.file}
	c.validate(p)
	return p.err()
}
