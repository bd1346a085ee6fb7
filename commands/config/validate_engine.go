package config

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"daosbox/cluster/fault"
)

// engine checks one engine by itself.
func (v validator) engine(key string, s *Server, e *Engine) {
	v.threads(key, e)
	v.fabric(key, s, e)
	if err := checkLogMask(e.LogMask); err != nil {
		v.bad(codeBadConfig, join(key, "log_mask"), err.hint, "%s", err.why)
	}
	v.environment(join(key, "env_vars"), e.EnvVars)
	for _, env := range []struct {
		name    string
		setting LogSetting
	}{{"DD_MASK", LogStreams}, {"DD_SUBSYS", LogSubsystems}} {
		value, _ := e.Env(env.name)
		if err := env.setting.check(value); err != nil {
			v.bad(codeBadConfig, join(key, "env_vars"), err.hint, "%s: %s", env.name, err.why)
		}
	}
	for i, name := range e.EnvPassThrough {
		if name == "" || strings.ContainsAny(name, "= \t") {
			v.bad(codeBadConfig, item(join(key, "env_pass_through"), i), "write names only, the values come from the server's environment", "%q is no name of a variable", name)
		}
	}
	v.storage(key, s, e)
}

func (v validator) threads(key string, e *Engine) {
	switch {
	case e.Targets < 0:
		v.bad(codeBadConfig, join(key, "targets"), "give the number of targets, 1 or more", "%d is negative", e.Targets)
	case e.Targets == 0:
		v.bad(codeBadConfig, join(key, "targets"), "give the number of targets, 1 or more", "the engine has no targets")
	}
	if e.NrXSHelpers < 0 {
		v.bad(codeBadConfig, join(key, "nr_xs_helpers"), "give 0 or more helper threads", "%d is negative", e.NrXSHelpers)
	}
	if e.FirstCore == nil {
		return
	}
	if *e.FirstCore < 0 {
		v.bad(codeBadConfig, join(key, "first_core"), "count cores from 0", "%d is negative", *e.FirstCore)
	}
	if *e.FirstCore != 0 && e.PinnedNUMANode != nil {
		v.bad(codeBadConfig, join(key, "pinned_numa_node"), "keep one of the two", "pinned_numa_node and first_core are both set")
	}
}

func (v validator) fabric(key string, s *Server, e *Engine) {
	if strings.Contains(e.Provider, ",") && e.Provider != s.Provider {
		v.bad(codeBadConfig, join(key, "provider"), "name one provider", "%q names more than one provider", e.Provider)
	}
	switch n := len(splitList(e.FabricIface)); {
	case n == 0:
		v.bad(codeBadConfig, join(key, "fabric_iface"), "name the interface; \"daos_server network scan\" lists them", "the engine has no fabric interface")
	case n > 1: // one per provider, of which there is one
		v.bad(codeBadConfig, join(key, "fabric_iface"), "name one interface", "%q are %d interfaces", e.FabricIface, n)
	}
	switch port := e.FabricIfacePort; {
	case port == 0:
		v.bad(codeBadConfig, join(key, "fabric_iface_port"), "give a port; usual are 31416 and up", "the engine has no fabric port")
	case port < 0 || port > 65535:
		v.bad(codeBadConfig, join(key, "fabric_iface_port"), "use a port from 1 to 65535", "%d is no port", port)
	case port == s.Port && sharesAddress(s, e):
		at := join(key, "fabric_iface_port")
		v.hint(v.source.position(at), at, "%d is the control port, too: daos_server and the engine would both want it on %s; usual are 31416 and up", port, e.FabricIface)
	}
	if n := len(e.SecondaryProviderEndpoints); n > 0 {
		v.bad(codeBadConfig, join(key, "secondary_provider_endpoints"), "remove the key",
			"%d secondary endpoints are given, but there is only one provider", n)
	}
}

// sharesAddress reports whether the fabric of an engine is on an address that the
// control API listens on. It looks at the host only where the configuration names
// an address; what it cannot find out shares nothing.
func sharesAddress(s *Server, e *Engine) bool {
	if s.ControlAddr == "" {
		return s.ControlIface == "" || s.ControlIface == e.FabricIface
	}
	iface, err := net.InterfaceByName(e.FabricIface)
	if err != nil {
		return false
	}
	addrs, err := iface.Addrs()
	return err == nil && slices.ContainsFunc(addrs, func(a net.Addr) bool {
		prefix, ok := a.(*net.IPNet)
		return ok && prefix.IP.String() == s.ControlAddr
	})
}

func splitList(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// acrossEngines checks what must differ, and what must not, between engines.
func (v validator) acrossEngines(s *Server) {
	u := unique{validator: v, seen: map[string]string{}}
	for i, e := range s.Engines {
		key := item("engines", i)
		if e.FabricIface != "" && e.FabricIfacePort != 0 {
			u.claim(fault.DuplicateFabricEndpoint, key, "fabric_iface_port",
				strings.TrimSpace(fmt.Sprintf("%s %s port %d", e.Provider, e.FabricIface, e.FabricIfacePort)), "give each engine its own port", "the fabric endpoint")
		}
		u.claim(codeDuplicateLogFile, key, "log_file", e.LogFile, "give each engine its own log file", "the log file")
		for j, t := range e.Storage {
			tier := item(join(key, "storage"), j)
			u.claim(codeDuplicateScmMount, tier, "scm_mount", t.ScmMount, "give each engine its own mount point", "the mount point")
			for n, device := range t.ScmList {
				u.claim(codeDuplicateScmList, tier, item("scm_list", n), device, "give each engine its own device", "the device")
			}
		}
	}
	v.bdevOverlap(s)
	for i, e := range s.Engines[1:] {
		v.sameAsFirst(item("engines", i+1), s.Engines[0], e)
	}
	v.sharedReceive(s)
}

// unique finds values that two engines claim.
type unique struct {
	validator
	seen map[string]string
}

func (u unique) claim(code fault.Code, path, key, value, hint, what string) {
	if value == "" {
		return
	}
	id, at := fmt.Sprintf("%d %s", code, value), join(path, key)
	if first, ok := u.seen[id]; ok {
		u.bad(code, at, hint, "%s %s is used by %s already", what, value, first)
		return
	}
	u.seen[id] = engineOf(path)
}

// engineOf is the first step of a key path: engines[1].storage[0] -> engines[1].
func engineOf(path string) string {
	engine, _, _ := strings.Cut(path, ".")
	return engine
}

func (v validator) bdevOverlap(s *Server) {
	owner := map[string]int{}
	for i, e := range s.Engines {
		for j, t := range e.Storage {
			key := join(item(join(item("engines", i), "storage"), j), "bdev_list")
			for _, device := range t.BdevList {
				if first, ok := owner[device]; ok && first != i {
					v.bad(codeOverlappingBdevs, key, "give each engine its own devices", "%s is used by engines[%d] already", device, first)
				} else if ok {
					v.bad(codeBadConfig, key, "list each device once", "%s is in the engine's lists twice", device)
				}
				owner[device] = i
			}
		}
	}
}

// sameAsFirst checks what all engines of a host must have in common.
func (v validator) sameAsFirst(key string, first, e *Engine) {
	if e.Targets != first.Targets && e.Targets > 0 && first.Targets > 0 {
		v.bad(codeTargetMismatch, join(key, "targets"), "give all engines the same number of targets",
			"%d targets, but engines[0] has %d", e.Targets, first.Targets)
	}
	if e.NrXSHelpers != first.NrXSHelpers {
		v.bad(codeHelperMismatch, join(key, "nr_xs_helpers"), "give all engines the same number of helpers",
			"%d helpers, but engines[0] has %d", e.NrXSHelpers, first.NrXSHelpers)
	}
	a, b := first.SCM(), e.SCM()
	if a == nil || b == nil {
		return
	}
	tier := item(join(key, "storage"), slices.Index(e.Storage, b))
	if a.Class != b.Class {
		v.bad(codeScmClassMismatch, join(tier, "class"), "give the first tier of all engines the same class",
			"class %s, but engines[0] has %s", b.Class, a.Class)
	}
	x, y := a.ScmHugepagesDisabled, b.ScmHugepagesDisabled
	if (x == nil) != (y == nil) || x != nil && *x != *y {
		v.bad(codeScmHugepageMismatch, join(tier, "scm_hugepages_disabled"), "write the same scm_hugepages_disabled into all engines, or into none",
			"the value, or its absence, differs from engines[0]")
	}
}

// sharedReceive checks the variable that disable_srx sets for all engines.
func (v validator) sharedReceive(s *Server) {
	const name = "FI_OFI_RXM_USE_SRX"
	first, _ := s.Engines[0].Env(name)
	for i, e := range s.Engines {
		key := item("engines", i)
		for n, passed := range e.EnvPassThrough {
			if passed == name {
				v.bad(codeBadConfig, item(join(key, "env_pass_through"), n), "set disable_srx instead", "%s cannot be passed through", name)
			}
		}
		if value, _ := e.Env(name); value != first {
			v.bad(codeBadConfig, join(key, "env_vars"), "set it to the same value in all engines, or use disable_srx", "%s differs from engines[0]", name)
		}
	}
}
