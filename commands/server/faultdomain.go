package server

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"daosbox/cluster/fault"
	"daosbox/commands/config"
)

// callbackTime bounds the administrator's fault_cb script.
const callbackTime = 10 * time.Second

// faultDomain is the host's place in the failure hierarchy: fault_path, else what
// fault_cb prints, else the host's name (config.md §10.9).
func faultDomain(ctx context.Context, cfg *config.Server, hostname string) (string, error) {
	domain := cfg.FaultPath
	if cfg.FaultCB != "" {
		out, err := runCallback(ctx, cfg.FaultCB)
		if err != nil {
			return "", err
		}
		domain = out
	}
	if domain == "" {
		domain = "/" + shortName(hostname)
	}
	domain = strings.ToLower(strings.Trim(strings.TrimSpace(domain), `"'`))
	if !strings.HasPrefix(domain, "/") {
		return "", fault.New(fault.Config, "cannot use fault domain %q: it must start with /", domain).
			WithHint("write fault_path as /rack/host")
	}
	return domain, nil
}

func shortName(hostname string) string {
	name, _, _ := strings.Cut(hostname, ".")
	return name
}

func runCallback(ctx context.Context, path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", fault.Wrap(fault.Config, err, "cannot run fault_cb")
	}
	if reason := unsafeScript(path, info); reason != "" {
		return "", fault.New(fault.Config, "cannot run fault_cb %s: %s", path, reason).
			WithHint("make it a plain file, not writable for group and others, without set-user-id")
	}
	ctx, cancel := context.WithTimeout(ctx, callbackTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, path).Output()
	if err != nil {
		return "", fault.Wrap(fault.Config, err, "cannot run fault_cb %s", path)
	}
	text := strings.TrimSpace(string(out))
	if text == "" || strings.Contains(text, "\n") {
		return "", fault.New(fault.Config, "cannot use the output of fault_cb %s: want one line like /rack/host", path)
	}
	return text, nil
}

func unsafeScript(path string, info fs.FileInfo) string {
	mode := info.Mode()
	switch {
	case !filepath.IsAbs(path):
		return "its path is not absolute"
	case mode&fs.ModeSymlink != 0:
		return "it is a symbolic link"
	case !mode.IsRegular():
		return "it is not a file"
	case mode&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		return "it has set-user-id or set-group-id"
	case mode.Perm()&0o022 != 0:
		return "group or others may write it"
	}
	return ""
}
