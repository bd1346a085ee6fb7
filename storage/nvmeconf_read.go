package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
)

// Bdev is a block device as daos_nvme.conf names it.
type Bdev struct {
	Class Class
	// Name that the engine gives it, and the roles at the end of that name.
	Name  string
	Roles Roles
	// Device is the PCI address or path, empty for malloc.
	Device string
	// Blocks of BlockSize bytes; 0 when the device itself says.
	Blocks, BlockSize uint64
}

const (
	nvmeConfLimit   = 1 << 20
	nvmeConfEntries = 4096
)

// CheckNVMeConf reads the daos_nvme.conf at path back as strictly as 2.8 does
// before a start and returns its devices. A file that another release wrote, or
// that is damaged, gives fault 804: regenerate it. One that cannot be read gives
// the operating system's reason; a missing one is fs.ErrNotExist.
func CheckNVMeConf(path string) ([]Bdev, error) {
	data, err := readLimited(osDisk{}, path, nvmeConfLimit)
	if fault.Of(err) == fault.TooLarge || fault.Of(err) == fault.Corrupt {
		return nil, badConf(path, err)
	}
	if err != nil {
		err = explain(err, path, "read "+path)
		if f, ok := fault.As(err); ok && errors.Is(err, fs.ErrNotExist) {
			f.Hint = "format the storage, which writes it"
		}
		return nil, err
	}
	devices, err := parseNVMeConf(data)
	if err != nil {
		return nil, badConf(path, err)
	}
	return devices, nil
}

func badConf(path string, err error) error {
	return fault.New(codeBadConf, "cannot use %s: %v", path, err).
		WithHint("it is written anew from the configuration at the next start; keep a copy if it was edited by hand")
}

// parseNVMeConf takes the JSON form apart and refuses every key, method and type
// that it does not know: SPDK would fail on them, late and without a reason.
func parseNVMeConf(data []byte) ([]Bdev, error) {
	type rawEntry struct {
		Params json.RawMessage `json:"params"`
		Method string          `json:"method"`
	}
	var conf struct {
		Data struct {
			Config []rawEntry `json:"config"`
		} `json:"daos_data"`
		Subsystems []struct {
			Name   string     `json:"subsystem"`
			Config []rawEntry `json:"config"`
		} `json:"subsystems"`
	}
	if err := strict(data, &conf); err != nil {
		return nil, err
	}
	total := len(conf.Data.Config)
	for _, entry := range conf.Data.Config {
		if _, err := decodeEntry("daos_data", entry.Method, entry.Params); err != nil {
			return nil, err
		}
	}
	var devices []Bdev
	for _, subsystem := range conf.Subsystems {
		total += len(subsystem.Config)
		if total > nvmeConfEntries {
			return nil, fmt.Errorf("more than %d entries", nvmeConfEntries)
		}
		for _, entry := range subsystem.Config {
			params, err := decodeEntry(subsystem.Name, entry.Method, entry.Params)
			if err != nil {
				return nil, err
			}
			if device, ok := bdevOf(params); ok {
				devices = append(devices, device)
			}
		}
	}
	return devices, nil
}

// strict decodes one JSON value of known keys with nothing behind it.
func strict(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return errors.New(strings.TrimPrefix(fault.OneLine(err.Error()), "json: "))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the end of the JSON value")
	}
	return nil
}

func decodeEntry(subsystem, method string, raw json.RawMessage) (any, error) {
	params, ok := paramsOf(subsystem, method)
	if !ok {
		return nil, fmt.Errorf("unknown method %.40q in %.40q", method, subsystem)
	}
	if len(raw) == 0 {
		return nil, fmt.Errorf("%s has no params", method)
	}
	if err := strict(raw, params); err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	return params, nil
}

// paramsOf returns a pointer to the parameters of a method of a subsystem.
func paramsOf(subsystem, method string) (any, bool) {
	switch subsystem + "/" + method {
	case "daos_data/" + methodHotplugRange:
		return new(hotplugRange), true
	case "daos_data/" + methodAccel:
		return new(accelProps), true
	case "daos_data/" + methodRPCServer:
		return new(rpcServer), true
	case "daos_data/" + methodAutoFaulty:
		return new(autoFaulty), true
	case "bdev/" + methodSetOptions:
		return new(setOptions), true
	case "bdev/" + methodNVMeSetOptions:
		return new(nvmeSetOptions), true
	case "bdev/" + methodAttach:
		return new(attach), true
	case "bdev/" + methodAIOCreate:
		return new(aioCreate), true
	case "bdev/" + methodMallocCreate:
		return new(mallocCreate), true
	case "bdev/" + methodSetHotplug:
		return new(setHotplug), true
	case "vmd/" + methodVMDEnable:
		return new(vmdEnable), true
	case "iobuf/" + methodIOBuf:
		return new(ioBuf), true
	}
	return nil, false
}

func bdevOf(params any) (Bdev, bool) {
	var b Bdev
	switch p := params.(type) {
	case *attach:
		b = Bdev{Class: NVMe, Name: p.Name, Device: p.Address}
	case *aioCreate:
		b = Bdev{Class: File, Name: p.Name, Device: p.Filename, BlockSize: p.BlockSize}
		if p.BlockSize == 0 {
			b.Class = Kdev
		}
	case *mallocCreate:
		b = Bdev{Class: Malloc, Name: p.Name, Blocks: p.NumBlocks, BlockSize: p.BlockSize}
	default:
		return Bdev{}, false
	}
	b.Roles = rolesOf(b.Name)
	return b, true
}

// rolesOf reads the number after the last underscore, as the engine does; the
// host name before it may have underscores, too. Names of 2.0 and 2.2 lack the
// number, but their files were refused before (retry_count).
func rolesOf(name string) Roles {
	n, err := strconv.ParseUint(name[strings.LastIndexByte(name, '_')+1:], 10, 8)
	if err != nil || Roles(n) > RoleData|RoleMeta|RoleWAL {
		return 0
	}
	return Roles(n)
}
