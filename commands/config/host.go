package config

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"daosbox/cluster/fault"
)

// More codes of the inherited table.
const (
	codeCallbackNotFound fault.Code = 718
	codeCallbackInsecure fault.Code = 719
	codeCallbackPerms    fault.Code = 720
	codeControlIface     fault.Code = 739
)

// CheckHost checks a resolved configuration against this host, as far as that is
// quick and changes nothing: directories, executables and interfaces. Storage and
// certificates are checked where they are used.
func (s *Server) CheckHost() error {
	v := validator{&problems{file: s.source.file}, s.source}
	v.directory("socket_dir", s.SocketDir, "create it, owned by the user who runs daos_server, or set socket_dir")
	v.logFile("control_log_file", s.ControlLogFile)
	v.logFile("helper_log_file", s.HelperLogFile)
	if s.ControlIface != "" {
		v.controlIface(s.ControlIface)
	}
	if s.FaultCB != "" {
		v.callback(s.FaultCB)
	}
	if s.KernelConfigPath != "" {
		if _, err := os.Stat(s.KernelConfigPath); err != nil {
			v.bad(codeBadConfig, "kernel_config_path", "correct the path, or remove the key", "%v", err)
		}
	}
	for i, e := range s.Engines {
		key := item("engines", i)
		v.logFile(join(key, "log_file"), e.LogFile)
		if e.EngineBinary != "" && e.EngineBinary != EngineEmulator {
			v.executable(join(key, "engine_binary"), e.EngineBinary)
		}
		if e.Emulated() {
			continue // binds loopback addresses of its own
		}
		if _, err := net.InterfaceByName(e.FabricIface); err != nil && e.FabricIface != "" {
			v.bad(codeBadConfig, join(key, "fabric_iface"), "\"daos_server network scan\" lists the interfaces", "interface %s: %v", e.FabricIface, err)
		}
	}
	return v.err()
}

// CheckHost checks a resolved configuration against this host.
func (a *Agent) CheckHost() error {
	v := validator{&problems{file: a.source.file}, a.source}
	v.directory("runtime_dir", a.RuntimeDir, "create it, owned by the user who runs daos_agent, or set runtime_dir")
	v.logFile("log_file", a.LogFile)
	return v.err()
}

// directory checks that entries can be made in dir.
func (v validator) directory(key, dir, hint string) {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		v.bad(codeBadConfig, key, hint, "%v", err)
	case !info.IsDir():
		v.bad(codeBadConfig, key, hint, "%s is no directory", dir)
	default:
		if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
			v.bad(codeBadConfig, key, hint, "cannot write to %s: %v", dir, err)
		}
	}
}

func (v validator) logFile(key, path string) {
	if path == "" {
		return
	}
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		if err := unix.Access(path, unix.W_OK); err != nil {
			v.bad(codeBadConfig, key, "make the file writable to the user who runs this", "cannot write to %s: %v", path, err)
		}
		return
	}
	v.directory(key, filepath.Dir(path), "create the directory, writable to the user who runs this, or choose another log file")
}

func (v validator) executable(key, path string) bool {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		v.bad(codeBadConfig, key, "correct the path", "%v", err)
	case !info.Mode().IsRegular() || unix.Access(path, unix.X_OK) != nil:
		v.bad(codeBadConfig, key, "name an executable file", "%s cannot be executed", path)
	default:
		return true
	}
	return false
}

func (v validator) controlIface(name string) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		v.bad(codeControlIface, "control_iface", "name an interface of this host, as \"ip -4 address\" shows them", "interface %s: %v", name, err)
		return
	}
	addresses, err := iface.Addrs()
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil {
			return
		}
	}
	if err != nil {
		v.bad(codeControlIface, "control_iface", "", "interface %s: %v", name, err)
		return
	}
	v.bad(codeBadConfig, "control_iface", "give the interface an IPv4 address, or name another", "interface %s has no IPv4 address", name)
}

// callback checks that the script that tells the fault domain can be trusted. The
// directory it must be in depends on the build and is checked where it is run.
func (v validator) callback(path string) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		v.bad(codeCallbackNotFound, "fault_cb", "correct the path", "%v", err)
	case info.Mode()&fs.ModeSymlink != 0 || info.Mode()&fs.ModeSetuid != 0 || info.Mode().Perm()&0o022 != 0:
		v.bad(codeCallbackInsecure, "fault_cb", "use a regular file that only its owner can write, without setuid",
			"%s is a symbolic link, runs with borrowed rights or can be written by others", path)
	case !info.Mode().IsRegular() || unix.Access(path, unix.X_OK) != nil:
		v.bad(codeCallbackPerms, "fault_cb", "chmod 0755 the script", "%s cannot be executed", path)
	}
}
