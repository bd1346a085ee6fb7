package config

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
)

// ServerOverrides are the flags of daos_server start that replace values of the
// file. A zero value leaves the file's value; pointers are for numbers that may
// be zero.
type ServerOverrides struct {
	Insecure     bool   // -i
	Port         int    // -p
	ScmMount     string // -s, of engine 0 only
	Modules      string // -m
	Targets      *int   // -t, and -c of 0.x; for every engine
	Helpers      *int   // -x, for every engine
	FirstCore    *int   // -f, for every engine
	Name         string // -g
	SocketDir    string // -d
	Debug        bool   // -b
	JSONLog      bool   // -J
	EngineBinary string // ours, for every engine
}

// AgentOverrides are the flags of daos_agent.
type AgentOverrides struct {
	Insecure   bool   // -i
	RuntimeDir string // -s
	LogFile    string // -l
	Debug      bool   // -d; logs everything
	JSONLog    bool   // -J
}

// ControlOverrides are the flags of dmg.
type ControlOverrides struct {
	Insecure bool   // -i
	HostList string // -l; replaces hostlist, ranges allowed
}

// normalize puts decoded lists in their canonical form.
func (s *Server) normalize() {
	for _, e := range s.Engines {
		for _, t := range e.Storage {
			t.BdevList = sortedAddresses(t.BdevList)
			slices.Sort(t.BdevRoles)
			t.BdevRoles = slices.DeleteFunc(slices.Compact(t.BdevRoles), func(r Role) bool { return r == roleNone })
		}
	}
}

// Resolve applies the overrides, then the defaults that depend on other keys and
// the propagation from the top level to the engines. The hints tell of keys that
// lose against others.
func (s *Server) Resolve(o ServerOverrides) ([]Hint, error) {
	p := &problems{file: s.source.file}
	s.resolve(p, o)
	return p.hints, p.err()
}

func (s *Server) resolve(p *problems, o ServerOverrides) {
	s.override(p, o)
	if s.MgmtSvcReplicas == nil { // an empty list that is written down is told by validate
		s.MgmtSvcReplicas = []string{"localhost"}
	}
	for i, replica := range s.MgmtSvcReplicas {
		s.MgmtSvcReplicas[i] = withPort(replica, s.Port)
	}
	for _, e := range s.Engines {
		s.propagate(e)
		if e.Acceleration.Engine == "" || e.Acceleration.Engine == AccelNone {
			e.Acceleration.Options = nil
		} else if len(e.Acceleration.Options) == 0 {
			e.Acceleration.Options = []AccelOption{AccelMove, AccelCRC}
		}
	}
	s.resolveAffinity(p)
}

func (s *Server) override(p *problems, o ServerOverrides) {
	s.Transport.AllowInsecure = s.Transport.AllowInsecure || o.Insecure
	s.Port = cmp.Or(o.Port, s.Port)
	s.Name = cmp.Or(o.Name, s.Name)
	s.SocketDir = cmp.Or(o.SocketDir, s.SocketDir)
	s.EngineBinary = cmp.Or(o.EngineBinary, s.EngineBinary)
	s.ControlLogJSON = s.ControlLogJSON || o.JSONLog
	if o.Debug {
		s.ControlLogMask = LevelDebug
	}
	for _, e := range s.Engines {
		e.Modules = cmp.Or(o.Modules, e.Modules)
		e.EngineBinary = cmp.Or(o.EngineBinary, e.EngineBinary)
		if o.Targets != nil {
			e.Targets = *o.Targets
		}
		if o.Helpers != nil {
			e.NrXSHelpers = *o.Helpers
		}
		if o.FirstCore != nil {
			core := *o.FirstCore
			e.FirstCore = &core
		}
	}
	if o.ScmMount == "" {
		return
	}
	if len(s.Engines) == 0 || len(s.Engines[0].Storage) == 0 || !s.Engines[0].Storage[0].Class.IsSCM() {
		p.addFlag(fault.New(fault.Usage, "cannot use --storage %s: the first engine has no SCM tier in front", o.ScmMount).
			WithHint("write scm_mount into the file instead"))
		return
	}
	s.Engines[0].Storage[0].ScmMount = o.ScmMount
}

// propagate fills what an engine leaves unset with the values of the top level.
func (s *Server) propagate(e *Engine) {
	e.Provider = cmp.Or(e.Provider, s.Provider)
	e.FabricIface = cmp.Or(e.FabricIface, s.FabricIface)
	e.FabricIfacePort = cmp.Or(e.FabricIfacePort, s.FabricIfacePort)
	e.CrtTimeout = cmp.Or(e.CrtTimeout, s.CrtTimeout)
	e.DisableSRX = e.DisableSRX || s.DisableSRX
	e.FabricAuthKey = cmp.Or(e.FabricAuthKey, s.FabricAuthKey)
	e.EngineBinary = cmp.Or(e.EngineBinary, s.EngineBinary)
	if len(e.SecondaryProviderEndpoints) == 0 {
		e.SecondaryProviderEndpoints = slices.Clone(s.SecondaryProviderEndpoints)
	}
}

// resolveAffinity settles between first_core and pinned_numa_node: one engine
// with first_core takes all engines off their pins, except that first_core 0
// beside a pin counts as unset.
func (s *Server) resolveAffinity(p *problems) {
	legacy := slices.ContainsFunc(s.Engines, func(e *Engine) bool {
		return e.FirstCore != nil && (*e.FirstCore != 0 || e.PinnedNUMANode == nil)
	})
	for i, e := range s.Engines {
		switch key := item("engines", i); {
		case legacy && e.PinnedNUMANode != nil:
			key = join(key, "pinned_numa_node")
			p.hint(s.source.position(key), key, "pinned_numa_node has no effect because first_core is set: keep one of the two")
			e.PinnedNUMANode = nil
		case !legacy && e.FirstCore != nil:
			e.FirstCore = nil
		}
	}
}

// Resolve applies the overrides and the defaults that depend on other keys.
func (a *Agent) Resolve(o AgentOverrides) error {
	p := &problems{file: a.source.file}
	a.resolve(p, o)
	return p.err()
}

func (a *Agent) resolve(p *problems, o AgentOverrides) {
	a.Transport.AllowInsecure = a.Transport.AllowInsecure || o.Insecure
	a.RuntimeDir = cmp.Or(o.RuntimeDir, a.RuntimeDir)
	a.LogFile = cmp.Or(o.LogFile, a.LogFile)
	a.ControlLogJSON = o.JSONLog
	if o.Debug {
		a.ControlLogMask = LevelTrace
	}
	if a.AccessPoints == nil {
		a.AccessPoints = []string{"localhost"}
	}
	a.AccessPoints = expandHosts(p, a.source, "access_points", a.AccessPoints, a.Port)
	slices.Sort(a.ExcludeFabricIfaces)
	slices.Sort(a.IncludeFabricIfaces)
	a.ExcludeFabricIfaces = slices.Compact(a.ExcludeFabricIfaces)
	a.IncludeFabricIfaces = slices.Compact(a.IncludeFabricIfaces)
}

// Resolve applies the overrides and the defaults that depend on other keys.
func (c *Control) Resolve(o ControlOverrides) error {
	p := &problems{file: c.source.file}
	c.resolve(p, o)
	return p.err()
}

func (c *Control) resolve(p *problems, o ControlOverrides) {
	c.Transport.AllowInsecure = c.Transport.AllowInsecure || o.Insecure
	if o.HostList != "" {
		set, err := hostlist.Parse(o.HostList)
		if err != nil {
			p.addFlag(err)
			return
		}
		c.HostList = set.Hosts()
	}
	if c.HostList == nil {
		c.HostList = []string{"localhost"}
	}
	c.HostList = expandHosts(p, c.source, "hostlist", c.HostList, c.Port)
}

// expandHosts opens the ranges of a list of hosts, appends the port where none is
// given, and drops repetitions.
func expandHosts(p *problems, at source, key string, lists []string, port int) []string {
	var hosts []string
	seen := map[string]bool{}
	for i, text := range lists {
		k := item(key, i)
		set, err := hostlist.Parse(text)
		if err != nil {
			p.add(at.position(k), codeBadConfig, k, "write names or addresses, as in node[1-3]:10001", "%v", err)
			hosts = append(hosts, text)
			continue
		}
		if len(seen)+set.Len() > maxHosts {
			p.add(at.position(k), codeBadConfig, k, "name fewer hosts", "the list names more than %d hosts", maxHosts)
			return append(hosts, text)
		}
		for _, host := range set.Hosts() {
			if host = hostlist.WithPort(host, port); !seen[host] {
				seen[host] = true
				hosts = append(hosts, host)
			}
		}
	}
	return hosts
}

// maxHosts is more than any system has.
const maxHosts = 1 << 17

// withPort appends the port to a host that has none; what is no address stays as
// it is, for Validate.
func withPort(host string, port int) string {
	host = strings.TrimSpace(host)
	if host == "" {
		return host
	}
	if ip := net.ParseIP(host); ip != nil || !strings.Contains(host, ":") {
		return net.JoinHostPort(host, strconv.Itoa(port))
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return fmt.Sprintf("%s:%d", host, port)
	}
	return host
}

func lookupEnv(list []string, name string) (string, bool) {
	for _, pair := range list {
		if k, v, ok := strings.Cut(pair, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}
