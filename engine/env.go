package engine

import (
	"slices"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
)

// Stack sizes of the engine's user-level threads that its libraries need, bytes.
const (
	stackDCPM = 20480
	stackMD   = 24576 // metadata on SSD
	stackUCX  = 32768
)

// EnvSpec is what the environment of one engine is made from.
type EnvSpec struct {
	// Provider is the fabric provider of the configuration.
	Provider string
	// Interface is the fabric network interface.
	Interface string
	// Port is the fabric port, 0 when not configured.
	Port int
	// Domain is the provider's device name of Interface, from the fabric scan;
	// D_DOMAIN among EnvVars wins over it.
	Domain string
	// CRTTimeout is the RPC timeout in seconds, 0 for the library's default.
	CRTTimeout uint32
	// DisableSRX turns the shared receive queues off.
	DisableSRX bool
	// AuthKey is the fabric's authorization key.
	AuthKey string
	// LogMask and LogFile are those of the engine's own log.
	LogMask string
	LogFile string
	// BdevClass is the class of the first block tier (nvme, file, kdev, malloc),
	// empty without one.
	BdevClass string
	// SCMClass is the class of the first tier: dcpm, ram or dir.
	SCMClass string
	// MDonSSD is true when metadata lives on block devices.
	MDonSSD bool
	// EnvVars are NAME=VALUE pairs of the configuration.
	EnvVars []string
	// PassThrough are names that the engine gets from the server's environment.
	PassThrough []string
	// OldNames adds the names that engines up to 2.4 read for the fabric.
	OldNames bool
}

// pairs is an environment in order of insertion; the first value of a name stays,
// and an empty name or value is dropped.
type pairs struct {
	names  []string
	values map[string]string
}

func (p *pairs) add(name, value string) {
	if name == "" || value == "" {
		return
	}
	if _, ok := p.values[name]; ok {
		return
	}
	if p.values == nil {
		p.values = make(map[string]string)
	}
	p.names = append(p.names, name)
	p.values[name] = value
}

// set replaces the value of name or adds it.
func (p *pairs) set(name, value string) {
	if _, ok := p.values[name]; ok {
		p.values[name] = value
		return
	}
	p.add(name, value)
}

func (p *pairs) remove(name string) {
	delete(p.values, name)
	p.names = slices.DeleteFunc(p.names, func(n string) bool { return n == name })
}

func (p *pairs) list() []string {
	list := make([]string, 0, len(p.names))
	for _, name := range p.names {
		list = append(list, name+"="+p.values[name])
	}
	return list
}

// Env returns the whole environment of the engine as NAME=VALUE words. Values
// made from the configuration win over EnvVars, and these over PassThrough, whose
// values lookup gives (os.LookupEnv of the server; nil for none). Nothing else of
// the server's environment gets through. Faults are of code fault.Config.
func (e EnvSpec) Env(lookup func(string) (string, bool)) ([]string, error) {
	if slices.Contains(e.PassThrough, "FI_OFI_RXM_USE_SRX") {
		return nil, fault.New(fault.Config, "cannot use env_pass_through: FI_OFI_RXM_USE_SRX may not be inherited").
			WithHint("remove the name and set disable_srx of the engine instead")
	}
	var own pairs
	for _, word := range e.EnvVars {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil, fault.New(fault.Config, "cannot use env_vars: %q is not NAME=VALUE", word).
				WithHint("write each entry of env_vars as NAME=VALUE")
		}
		own.add(name, value)
	}
	if err := e.adjustStack(&own); err != nil {
		return nil, err
	}
	if err := e.adjustPMem(&own); err != nil {
		return nil, err
	}
	mask, err := e.logMask(&own)
	if err != nil {
		return nil, err
	}

	var env pairs
	e.addConfig(&env, mask)
	for _, name := range own.names {
		env.add(name, own.values[name])
	}
	env.add("D_DOMAIN", e.Domain)
	if e.OldNames {
		env.add("OFI_DOMAIN", e.Domain)
	}
	for _, name := range e.PassThrough {
		if lookup == nil {
			break
		}
		if value, ok := lookup(name); ok {
			env.add(name, value)
		}
	}
	return env.list(), nil
}

// addConfig adds what the keys of the configuration become.
func (e EnvSpec) addConfig(env *pairs, mask string) {
	provider, port := fabricProvider(e.Provider), ""
	if e.Port != 0 {
		port = strconv.Itoa(e.Port)
	}
	env.add("D_PROVIDER", provider)
	env.add("D_INTERFACE", e.Interface)
	env.add("D_PORT", port)
	if e.OldNames {
		env.add("CRT_PHY_ADDR_STR", provider)
		env.add("OFI_INTERFACE", e.Interface)
		env.add("OFI_PORT", port)
	}
	env.add("CRT_TIMEOUT", strconv.FormatUint(uint64(e.CRTTimeout), 10))
	srx := "1"
	if e.DisableSRX {
		srx = "0"
	}
	env.add("FI_OFI_RXM_USE_SRX", srx)
	env.add("D_PROVIDER_AUTH_KEY", e.AuthKey)
	env.add("D_LOG_MASK", mask)
	env.add("D_LOG_FILE", e.LogFile)
	env.add("VOS_BDEV_CLASS", bdevClass(e.BdevClass))
}

// bdevClass is what the engine calls a class of block tier.
func bdevClass(class string) string {
	switch class {
	case "nvme":
		return "NVME"
	case "file", "kdev":
		return "AIO"
	case "malloc":
		return "MALLOC"
	}
	return ""
}

// fabricProvider completes the verbs provider by its utility layer, in each
// element of a comma list.
func fabricProvider(provider string) string {
	list := strings.Split(provider, ",")
	for i, one := range list {
		if strings.TrimSpace(one) == "ofi+verbs" {
			list[i] = "ofi+verbs;ofi_rxm"
		}
	}
	return strings.Join(list, ",")
}

// stackSize is the least stack in bytes, 0 when any size will do.
func (e EnvSpec) stackSize() int {
	size := 0
	if e.SCMClass == "dcpm" {
		size = stackDCPM
	}
	if e.MDonSSD {
		size = max(size, stackMD)
	}
	for one := range strings.SplitSeq(e.Provider, ",") {
		if strings.HasPrefix(strings.TrimSpace(one), "ucx+") {
			size = max(size, stackUCX)
		}
	}
	return size
}

func (e EnvSpec) adjustStack(own *pairs) error {
	const name = "ABT_THREAD_STACKSIZE"
	least := e.stackSize()
	if least == 0 {
		return nil
	}
	value, ok := own.values[name]
	if !ok {
		own.add(name, strconv.Itoa(least))
		return nil
	}
	size, err := strconv.Atoi(value)
	if err != nil {
		return fault.New(fault.Config, "cannot use env_vars: %s=%s is not a number", name, value).
			WithHint("set it to %d or more, or leave it out", least)
	}
	if size < least {
		return fault.New(fault.Config, "cannot use env_vars: %s=%d is too small for this engine, which needs %d", name, size, least).
			WithHint("set it to %d or more, or leave it out", least)
	}
	return nil
}

// adjustPMem keeps PMDK from creating bad-block files where there is no
// persistent memory.
func (e EnvSpec) adjustPMem(own *pairs) error {
	const name, key = "PMEMOBJ_CONF", "sds.at_create"
	value := own.values[name]
	set, on := strings.Contains(value, key), strings.Contains(value, key+"=1")
	switch {
	case e.SCMClass == "dcpm" && set:
		return fault.New(fault.Config, "cannot use env_vars: %s may not have %s with persistent memory", name, key).
			WithHint("remove %s from %s", key, name)
	case e.SCMClass == "dcpm":
	case on:
		return fault.New(fault.Config, "cannot use env_vars: %s=%s needs persistent memory", key, "1").
			WithHint("remove %s from %s", key, name)
	case set:
	case value == "":
		own.add(name, key+"=0")
	default:
		own.set(name, value+";"+key+"=0")
	}
	return nil
}

// logMask is the mask for the engine; the subsystem filter is worked into it, so
// that one variable tells all.
func (e EnvSpec) logMask(own *pairs) (string, error) {
	mask := e.LogMask
	if mask == "" {
		mask = own.values["D_LOG_MASK"]
	}
	filter := own.values["DD_SUBSYS"]
	if mask == "" || filter == "" {
		return mask, nil
	}
	merged, err := MergeLogMask(mask, filter)
	if err != nil {
		return "", err
	}
	own.remove("DD_SUBSYS")
	return merged, nil
}
