package config

import (
	"path/filepath"
	"slices"
	"time"
)

// Built-in values (those of 2.8 and later).
const (
	DefaultSystemName = "daos_server"
	DefaultPort       = 10001
	DefaultSocketDir  = "/var/run/daos_server"
	DefaultRuntimeDir = "/var/run/daos_agent"

	// ActiveName is the file in the socket directory that holds the resolved
	// configuration.
	ActiveName = ".daos_server.active.yml"

	// EngineEmulator as engine_binary means the emulator of this executable.
	EngineEmulator = "emulator"

	defaultCertDir           = "/etc/daos/certs"
	defaultRAMReserved       = 64   // GiB, for the whole host
	defaultDumpFilter        = 0x13 // private and shared anonymous pages, ELF headers
	defaultRestartDelay      = 300 * time.Second
	emulatorBinary           = "daos_engine_emulator"
	maxNameLength            = 15
	minRamdiskGiB       uint = 4
)

// Transport says how control-plane connections are secured (transport_config).
type Transport struct {
	AllowInsecure bool   `yaml:"allow_insecure"`
	ClientCertDir string `yaml:"client_cert_dir,omitempty"`
	CACert        string `yaml:"ca_cert,omitempty"`
	Cert          string `yaml:"cert,omitempty"`
	Key           string `yaml:"key,omitempty"`
}

// ControlMetadata is where the control plane keeps its data when the engines
// have no persistent memory (control_metadata).
type ControlMetadata struct {
	// Path is a directory, or the mount point of Device when that is set.
	Path   string `yaml:"path,omitempty"`
	Device string `yaml:"device,omitempty"`
	// AllowSPDKConfOverride keeps an existing daos_nvme.conf as it is.
	AllowSPDKConfOverride bool `yaml:"allow_spdk_conf_override"`
}

// Dir returns the control plane's directory below Path, "" without a path.
func (m ControlMetadata) Dir() string {
	if m.Path == "" {
		return ""
	}
	return filepath.Join(m.Path, "daos_control")
}

// SupportConfig configures the collection of logs.
type SupportConfig struct {
	FileTransferExec string `yaml:"file_transfer_exec,omitempty"`
}

// Server is daos_server.yml. The order of the fields is the order of the keys in
// the active configuration.
type Server struct {
	Port         int    `yaml:"port"`
	ControlIface string `yaml:"control_iface,omitempty"`
	// ControlAddr is ours: the one IPv4 address to listen on and to be known by,
	// for hosts whose interface has several. It wins over control_iface.
	ControlAddr       string        `yaml:"control_addr,omitempty"`
	Transport         Transport     `yaml:"transport_config"`
	Engines           []*Engine     `yaml:"engines"`
	BdevExclude       []string      `yaml:"bdev_exclude,omitempty"`
	DisableVFIO       bool          `yaml:"disable_vfio"`
	DisableVMD        bool          `yaml:"disable_vmd"`
	DisableHotplug    bool          `yaml:"disable_hotplug"`
	NrHugepages       int           `yaml:"nr_hugepages"`        // pages, for the whole host; 0 is automatic
	SystemRAMReserved int           `yaml:"system_ram_reserved"` // GiB, for the whole host
	DisableHugepages  bool          `yaml:"disable_hugepages"`
	AllowNUMAImbal    bool          `yaml:"allow_numa_imbalance"`
	AllowTHP          bool          `yaml:"allow_thp"`
	ControlLogMask    LogLevel      `yaml:"control_log_mask"`
	ControlLogFile    string        `yaml:"control_log_file,omitempty"`
	ControlLogJSON    bool          `yaml:"control_log_json,omitempty"`
	HelperLogFile     string        `yaml:"helper_log_file,omitempty"`
	FaultPath         string        `yaml:"fault_path,omitempty"`
	TelemetryPort     int           `yaml:"telemetry_port,omitempty"` // 0 is off
	CoreDumpFilter    uint8         `yaml:"core_dump_filter,omitempty"`
	ClientEnvVars     []string      `yaml:"client_env_vars,omitempty"`
	SupportConfig     SupportConfig `yaml:"support_config,omitempty"`
	Name              string        `yaml:"name"`
	SocketDir         string        `yaml:"socket_dir"`

	Provider                   string `yaml:"provider,omitempty"`
	FabricIface                string `yaml:"fabric_iface,omitempty"`
	FabricIfacePort            int    `yaml:"fabric_iface_port,omitempty"`
	BypassHealthCheck          *bool  `yaml:"bypass_health_chk,omitempty"`
	CrtTimeout                 uint32 `yaml:"crt_timeout,omitempty"` // seconds
	SecondaryProviderEndpoints []int  `yaml:"secondary_provider_endpoints,omitempty"`
	DisableSRX                 bool   `yaml:"disable_srx,omitempty"`
	FabricAuthKey              string `yaml:"fabric_auth_key,omitempty"`

	MgmtSvcReplicas           []string        `yaml:"mgmt_svc_replicas"`
	ControlMetadata           ControlMetadata `yaml:"control_metadata,omitempty"`
	KernelConfigPath          string          `yaml:"kernel_config_path,omitempty"`
	FaultCB                   string          `yaml:"fault_cb"`
	Hyperthreads              bool            `yaml:"hyperthreads"`
	DisableEngineAutoRestart  bool            `yaml:"disable_engine_auto_restart"`
	EngineAutoRestartMinDelay int             `yaml:"engine_auto_restart_min_delay,omitempty"` // seconds; see RestartDelay

	// EngineBinary is ours: the path of the engine executable, or EngineEmulator.
	// Empty means the daos_engine that is found.
	EngineBinary string `yaml:"engine_binary,omitempty"`

	source source
}

// RestartDelay is the least time between two automatic restarts of a rank.
func (s *Server) RestartDelay() time.Duration {
	if s.EngineAutoRestartMinDelay == 0 {
		return defaultRestartDelay
	}
	return time.Duration(s.EngineAutoRestartMinDelay) * time.Second
}

// Path is the file the configuration was read from, "" when it is built in.
func (s *Server) Path() string { return s.source.file }

// Discovery reports whether no engine is configured: the server then only
// answers scans.
func (s *Server) Discovery() bool { return len(s.Engines) == 0 }

// Engine is one entry of engines.
type Engine struct {
	Modules        string         `yaml:"modules,omitempty"`
	Targets        int            `yaml:"targets,omitempty"`
	NrXSHelpers    int            `yaml:"nr_xs_helpers"`
	FirstCore      *int           `yaml:"first_core,omitempty"`
	LogMask        string         `yaml:"log_mask,omitempty"`
	LogFile        string         `yaml:"log_file,omitempty"`
	Storage        []*Tier        `yaml:"storage"`
	Acceleration   Acceleration   `yaml:"acceleration,omitempty"`
	SPDKRPCServer  SPDKRPCServer  `yaml:"spdk_rpc_server,omitempty"`
	BdevAutoFaulty BdevAutoFaulty `yaml:"bdev_auto_faulty,omitempty"`
	SPDKIobuf      SPDKIobuf      `yaml:"spdk_iobuf,omitempty"`

	Provider                   string `yaml:"provider,omitempty"`
	FabricIface                string `yaml:"fabric_iface,omitempty"`
	FabricIfacePort            int    `yaml:"fabric_iface_port,omitempty"`
	BypassHealthCheck          *bool  `yaml:"bypass_health_chk,omitempty"`
	CrtTimeout                 uint32 `yaml:"crt_timeout,omitempty"` // seconds
	SecondaryProviderEndpoints []int  `yaml:"secondary_provider_endpoints,omitempty"`
	DisableSRX                 bool   `yaml:"disable_srx,omitempty"`
	FabricAuthKey              string `yaml:"fabric_auth_key,omitempty"`

	EnvVars        []string `yaml:"env_vars,omitempty"`
	EnvPassThrough []string `yaml:"env_pass_through,omitempty"`
	PinnedNUMANode *uint    `yaml:"pinned_numa_node,omitempty"`

	// EngineBinary is ours, see Server.EngineBinary, from which it is inherited.
	EngineBinary string `yaml:"engine_binary,omitempty"`
}

// Emulated reports whether the engine is the emulator rather than a real one.
func (e *Engine) Emulated() bool {
	return e.EngineBinary == EngineEmulator || filepath.Base(e.EngineBinary) == emulatorBinary
}

// SCM returns the storage-class-memory tier, nil when there is none.
func (e *Engine) SCM() *Tier {
	for _, t := range e.Storage {
		if t.Class.IsSCM() {
			return t
		}
	}
	return nil
}

// Bdevs returns the block-device tiers.
func (e *Engine) Bdevs() []*Tier {
	var tiers []*Tier
	for _, t := range e.Storage {
		if t.Class.IsBdev() {
			tiers = append(tiers, t)
		}
	}
	return tiers
}

// HasRole reports whether a block tier of the engine has the role.
func (e *Engine) HasRole(r Role) bool {
	return slices.ContainsFunc(e.Storage, func(t *Tier) bool { return t.HasRole(r) })
}

// Env returns the value of a variable in env_vars.
func (e *Engine) Env(name string) (string, bool) { return lookupEnv(e.EnvVars, name) }

// Tier is one entry of engines[].storage.
type Tier struct {
	Class                Class     `yaml:"class"`
	ScmMount             string    `yaml:"scm_mount,omitempty"`
	ScmSize              uint      `yaml:"scm_size,omitempty"` // GiB; 0 is automatic for class ram
	ScmHugepagesDisabled *bool     `yaml:"scm_hugepages_disabled,omitempty"`
	ScmList              []string  `yaml:"scm_list,omitempty"`
	BdevList             []string  `yaml:"bdev_list,omitempty"` // sorted
	BdevNumber           int       `yaml:"bdev_number,omitempty"`
	BdevSize             int       `yaml:"bdev_size,omitempty"` // GiB
	BdevBusRange         *BusRange `yaml:"bdev_busid_range,omitempty"`
	BdevRoles            []Role    `yaml:"bdev_roles,omitempty"` // sorted
}

// HasRole reports whether the tier has the role.
func (t *Tier) HasRole(r Role) bool { return slices.Contains(t.BdevRoles, r) }

// HugepagesDisabled reports whether a RAM disk is mounted without huge pages,
// which is the default.
func (t *Tier) HugepagesDisabled() bool {
	return t.ScmHugepagesDisabled == nil || *t.ScmHugepagesDisabled
}

// Acceleration is the acceleration framework of SPDK.
type Acceleration struct {
	Engine  AccelEngine   `yaml:"engine,omitempty"`
	Options []AccelOption `yaml:"options,omitempty"`
}

// SPDKRPCServer is the JSON-RPC server inside the engine.
type SPDKRPCServer struct {
	Enable   bool   `yaml:"enable,omitempty"`
	SockAddr string `yaml:"sock_addr,omitempty"`
}

// BdevAutoFaulty are the criteria by which an engine gives up an SSD. Only an
// enabled section reaches the engine.
type BdevAutoFaulty struct {
	Enable      bool   `yaml:"enable,omitempty"`
	MaxIOErrs   uint32 `yaml:"max_io_errs,omitempty"`
	MaxCsumErrs uint32 `yaml:"max_csum_errs,omitempty"`
}

// SPDKIobuf are the sizes of SPDK's buffer pools; 0 is SPDK's own default.
type SPDKIobuf struct {
	SmallPoolCount uint32 `yaml:"small_pool_count,omitempty"`
	LargePoolCount uint32 `yaml:"large_pool_count,omitempty"`
}

// NewServer returns the built-in configuration of a server: discovery mode.
func NewServer() *Server {
	return &Server{
		Port:              DefaultPort,
		Transport:         transportFor("server", filepath.Join(defaultCertDir, "clients")),
		SystemRAMReserved: defaultRAMReserved,
		ControlLogMask:    LevelInfo,
		CoreDumpFilter:    defaultDumpFilter,
		Name:              DefaultSystemName,
		SocketDir:         DefaultSocketDir,
	}
}

func transportFor(role, clientDir string) Transport {
	return Transport{
		ClientCertDir: clientDir,
		CACert:        filepath.Join(defaultCertDir, "daosCA.crt"),
		Cert:          filepath.Join(defaultCertDir, role+".crt"),
		Key:           filepath.Join(defaultCertDir, role+".key"),
	}
}
