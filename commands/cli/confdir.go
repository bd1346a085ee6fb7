package cli

import (
	"os"
	"path/filepath"
	"strings"
)

// sandboxMark is the file that marks the directory of a sandbox.
const sandboxMark = "sandbox.json"

// ConfDir is the directory of the sandbox whose bin the executable was called
// through, empty when it was not. Its configuration files then stand for those in
// /etc/daos and in the home directory, so that DIR/bin/dmg just works.
func (e *Env) ConfDir() string {
	link := e.calledAs()
	if link == "" {
		return ""
	}
	dir := filepath.Dir(filepath.Dir(link))
	if filepath.Base(filepath.Dir(link)) != "bin" {
		return ""
	}
	if info, err := os.Stat(filepath.Join(dir, sandboxMark)); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return dir
}

// calledAs is the absolute path of the file that was called, before any link was
// followed. A name without a directory was found by the shell in PATH.
func (e *Env) calledAs() string {
	if len(e.Args) == 0 || e.Args[0] == "" {
		return ""
	}
	name := e.Args[0]
	if strings.ContainsRune(name, os.PathSeparator) {
		return e.ownPath(name)
	}
	for _, dir := range filepath.SplitList(e.Getenv("PATH")) {
		if path := e.ownPath(filepath.Join(dir, name)); path != "" {
			return path
		}
	}
	return ""
}

// ownPath makes path absolute if it leads to this executable.
func (e *Env) ownPath(path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(e.Dir, path)
	}
	if !sameFile(path, e.Executable) {
		return ""
	}
	return path
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
