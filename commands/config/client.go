package config

import (
	"regexp"
	"time"
)

// Agent is daos_agent.yml.
type Agent struct {
	Name             string           `yaml:"name"`
	AccessPoints     []string         `yaml:"access_points"`
	Port             int              `yaml:"port"`
	RuntimeDir       string           `yaml:"runtime_dir"`
	LogFile          string           `yaml:"log_file,omitempty"`
	ControlLogMask   LogLevel         `yaml:"control_log_mask"`
	CredentialConfig CredentialConfig `yaml:"credential_config,omitempty"`
	Transport        Transport        `yaml:"transport_config"`
	// ControlLogJSON comes from the command line only.
	ControlLogJSON        bool           `yaml:"-"`
	DisableCaching        bool           `yaml:"disable_caching,omitempty"`
	CacheExpiration       uint           `yaml:"cache_expiration,omitempty"` // minutes; 0 is never
	DisableAutoEvict      bool           `yaml:"disable_auto_evict,omitempty"`
	EnableEvictOnStart    bool           `yaml:"enable_evict_on_start,omitempty"`
	ExcludeFabricIfaces   []string       `yaml:"exclude_fabric_ifaces,omitempty"`
	IncludeFabricIfaces   []string       `yaml:"include_fabric_ifaces,omitempty"`
	FabricIfaces          []*NUMAFabric  `yaml:"fabric_ifaces,omitempty"`
	TelemetryPort         int            `yaml:"telemetry_port,omitempty"` // 0 is off
	TelemetryEnabled      bool           `yaml:"telemetry_enabled,omitempty"`
	TelemetryRetain       time.Duration  `yaml:"telemetry_retain,omitempty"`
	TelemetryEnabledProc  *regexp.Regexp `yaml:"telemetry_enabled_procs,omitempty"`
	TelemetryDisabledProc *regexp.Regexp `yaml:"telemetry_disabled_procs,omitempty"`
	ProviderIdx           uint           `yaml:"provideridx,omitempty"`

	source source
}

// Path is the file the configuration was read from, "" when it is built in.
func (a *Agent) Path() string { return a.source.file }

// CredentialConfig says how the agent names and caches its clients.
type CredentialConfig struct {
	// CacheExpiration is how long a credential is kept; 0 keeps none.
	CacheExpiration time.Duration `yaml:"cache_expiration,omitempty"`
	// ClientUserMap names users that the host does not know, by uid or "default".
	ClientUserMap map[string]*ClientUser `yaml:"client_user_map,omitempty"`
}

// ClientUser is the name given to a client in the user map.
type ClientUser struct {
	User   string   `yaml:"user,omitempty"`
	Group  string   `yaml:"group,omitempty"`
	Groups []string `yaml:"groups,omitempty"`
}

// NUMAFabric lists the fabric interfaces of a NUMA node.
type NUMAFabric struct {
	NUMANode int             `yaml:"numa_node"`
	Devices  []*FabricDevice `yaml:"devices"`
}

// FabricDevice is a fabric interface and its domain.
type FabricDevice struct {
	Iface  string `yaml:"iface"`
	Domain string `yaml:"domain,omitempty"`
}

// Control is daos_control.yml.
type Control struct {
	Name      string    `yaml:"name"`
	Port      int       `yaml:"port"`
	HostList  []string  `yaml:"hostlist"`
	Transport Transport `yaml:"transport_config"`

	source source
}

// Path is the file the configuration was read from, "" when it is built in.
func (c *Control) Path() string { return c.source.file }

// NewAgent returns the built-in configuration of an agent.
func NewAgent() *Agent {
	return &Agent{
		Name:           DefaultSystemName,
		Port:           DefaultPort,
		RuntimeDir:     DefaultRuntimeDir,
		ControlLogMask: LevelInfo,
		Transport:      transportFor("agent", ""),
	}
}

// NewControl returns the built-in configuration of dmg.
func NewControl() *Control {
	return &Control{
		Name:      DefaultSystemName,
		Port:      DefaultPort,
		Transport: transportFor("admin", ""),
	}
}
