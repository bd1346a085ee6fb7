package storage

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"

	"daosbox/cluster/fault"
)

// ConfOptions are the settings of daos_nvme.conf that are not devices.
type ConfOptions struct {
	// Hotplug of SSDs, with the range of PCI bus numbers it watches.
	Hotplug          bool
	BusBegin, BusEnd uint8
	VMD              bool
	AccelEngine      string // "spdk" or "dml"; "" and "none" write nothing
	AccelMove        bool
	AccelCRC         bool
	RPCSocket        string // of the SPDK RPC server, "" when off
	AutoFaulty       bool
	MaxIOErrs        uint32
	MaxCsumErrs      uint32
	SmallPool        uint32 // iobuf pools, 0 keeps SPDK's
	LargePool        uint32
}

const (
	nvmeConfMode fs.FileMode = 0o664
	blockSize    uint64      = 4096
)

const (
	methodHotplugRange   = "hotplug_busid_range"
	methodAccel          = "accel_props"
	methodRPCServer      = "spdk_rpc_srv"
	methodAutoFaulty     = "auto_faulty"
	methodSetOptions     = "bdev_set_options"
	methodNVMeSetOptions = "bdev_nvme_set_options"
	methodAttach         = "bdev_nvme_attach_controller"
	methodAIOCreate      = "bdev_aio_create"
	methodMallocCreate   = "bdev_malloc_create"
	methodSetHotplug     = "bdev_nvme_set_hotplug"
	methodVMDEnable      = "vmd_enable"
	methodIOBuf          = "iobuf_set_options"
)

// The parameters of each method; their order in the file is that of the fields.
type (
	hotplugRange struct {
		Begin uint8 `json:"begin"`
		End   uint8 `json:"end"`
	}
	accelProps struct {
		Engine  string `json:"accel_engine"`
		Options uint16 `json:"accel_opts"`
	}
	rpcServer struct {
		Enable bool   `json:"enable"`
		Socket string `json:"sock_addr"`
	}
	autoFaulty struct {
		Enable      bool   `json:"enable"`
		MaxIOErrs   uint32 `json:"max_io_errs"`
		MaxCsumErrs uint32 `json:"max_csum_errs"`
	}
	setOptions struct {
		PoolSize  uint32 `json:"bdev_io_pool_size"`
		CacheSize uint32 `json:"bdev_io_cache_size"`
	}
	nvmeSetOptions struct {
		RetryCount      uint32 `json:"transport_retry_count"`
		TimeoutUS       uint64 `json:"timeout_us"`
		AdminPollUS     uint32 `json:"nvme_adminq_poll_period_us"`
		ActionOnTimeout string `json:"action_on_timeout"`
		IOPollUS        uint32 `json:"nvme_ioq_poll_period_us"`
	}
	attach struct {
		Transport string `json:"trtype"`
		Name      string `json:"name"`
		Address   string `json:"traddr"`
	}
	aioCreate struct {
		BlockSize uint64 `json:"block_size"`
		Name      string `json:"name"`
		Filename  string `json:"filename"`
	}
	mallocCreate struct {
		Name      string `json:"name"`
		NumBlocks uint64 `json:"num_blocks"`
		BlockSize uint64 `json:"block_size"`
	}
	setHotplug struct {
		Enable   bool   `json:"enable"`
		PeriodUS uint64 `json:"period_us"`
	}
	vmdEnable struct{}
	ioBuf     struct {
		Small uint32 `json:"small_pool_count,omitempty"`
		Large uint32 `json:"large_pool_count,omitempty"`
	}
)

type confEntry struct {
	Params any    `json:"params"`
	Method string `json:"method"`
}

type confSubsystem struct {
	Name   string      `json:"subsystem"`
	Config []confEntry `json:"config"`
}

type confFile struct {
	Data struct {
		Config []confEntry `json:"config"`
	} `json:"daos_data"`
	Subsystems []confSubsystem `json:"subsystems"`
}

// NVMeConf makes the daos_nvme.conf of an engine in the JSON form of 2.8, nil
// when the engine has no block devices and hence no file. Devices that this build
// cannot format are written like all others.
func NVMeConf(l Layout) ([]byte, error) {
	if !l.hasBdevs() {
		return nil, nil
	}
	var conf confFile
	conf.Data.Config = dataEntries(l.Conf)
	bdev := []confEntry{
		{setOptions{PoolSize: 65536, CacheSize: 256}, methodSetOptions},
		{nvmeSetOptions{RetryCount: 4, AdminPollUS: 100000, ActionOnTimeout: "none"}, methodNVMeSetOptions},
	}
	for i, tier := range l.Bdevs {
		devices, err := tierEntries(l.Host, i+1, tier)
		if err != nil {
			return nil, err
		}
		bdev = append(bdev, devices...)
	}
	// After the devices: SPDK would otherwise probe them before they have names.
	hotplug := setHotplug{Enable: l.Conf.Hotplug}
	if hotplug.Enable {
		hotplug.PeriodUS = 5000000
	}
	bdev = append(bdev, confEntry{hotplug, methodSetHotplug})
	conf.Subsystems = []confSubsystem{{"bdev", bdev}}
	if l.Conf.VMD {
		conf.Subsystems = append(conf.Subsystems, confSubsystem{"vmd", []confEntry{{vmdEnable{}, methodVMDEnable}}})
	}
	if l.Conf.SmallPool != 0 || l.Conf.LargePool != 0 {
		pools := ioBuf{Small: l.Conf.SmallPool, Large: l.Conf.LargePool}
		conf.Subsystems = append(conf.Subsystems, confSubsystem{"iobuf", []confEntry{{pools, methodIOBuf}}})
	}
	data, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cannot make %s", nvmeConfName)
	}
	return data, nil
}

func dataEntries(o ConfOptions) []confEntry {
	entries := []confEntry{} // the list is there even when it is empty
	var mask uint16
	if o.AccelMove {
		mask |= 1
	}
	if o.AccelCRC {
		mask |= 2
	}
	if o.AccelEngine != "" && o.AccelEngine != "none" && mask != 0 {
		entries = append(entries, confEntry{accelProps{o.AccelEngine, mask}, methodAccel})
	}
	if o.RPCSocket != "" {
		entries = append(entries, confEntry{rpcServer{true, o.RPCSocket}, methodRPCServer})
	}
	if o.AutoFaulty {
		entries = append(entries, confEntry{autoFaulty{true, o.MaxIOErrs, o.MaxCsumErrs}, methodAutoFaulty})
	}
	if o.Hotplug {
		entries = append(entries, confEntry{hotplugRange{o.BusBegin, o.BusEnd}, methodHotplugRange})
	}
	return entries
}

// tierEntries are the devices of one tier; the engine reads the roles from the
// number after the last underscore of each name.
func tierEntries(host string, number int, t Tier) ([]confEntry, error) {
	var entries []confEntry
	id := func(i int) string { return fmt.Sprintf("%s_%d_%d_%d", host, i, number, t.Roles) }
	switch t.Class {
	case NVMe:
		for i, address := range t.Devices {
			entries = append(entries, confEntry{attach{"PCIe", "Nvme_" + id(i), address}, methodAttach})
		}
	case File, Kdev:
		size := blockSize
		if t.Class == Kdev {
			size = 0 // that of the device
		}
		for i, path := range t.Devices {
			entries = append(entries, confEntry{aioCreate{size, "AIO_" + id(i), path}, methodAIOCreate})
		}
	case Malloc:
		for i := range t.Number {
			entries = append(entries, confEntry{mallocCreate{"Malloc_" + id(i), uint64(gib(t.SizeGiB)) / blockSize, blockSize}, methodMallocCreate})
		}
	default:
		return nil, fault.New(codeBdevClass, "cannot make %s: tier %d has class %q, which is no block class", nvmeConfName, number, t.Class)
	}
	return entries, nil
}

// WriteNVMeConf writes the daos_nvme.conf of an engine in the JSON form, mode
// 0664, aside and renamed; nothing when there are no block devices.
func WriteNVMeConf(l Layout) error {
	data, err := NVMeConf(l)
	if err != nil || data == nil {
		return err
	}
	path := l.NVMeConfPath()
	return explain(writeAside(osDisk{}, path, data, nvmeConfMode, l.Owner), path, "write "+path)
}

// NVMeConfINI makes the daos_nvme.conf of an engine in the form that releases
// before 2.0 read; only the first block tier counts there. It is nil when there
// are no block devices.
func NVMeConfINI(l Layout) ([]byte, error) {
	if !l.hasBdevs() {
		return nil, nil
	}
	var b strings.Builder
	t := l.Bdevs[0]
	switch t.Class {
	case NVMe:
		if l.Conf.VMD {
			b.WriteString("[Vmd]\n    Enable True\n\n")
		}
		b.WriteString("[Nvme]\n")
		for i, address := range t.Devices {
			fmt.Fprintf(&b, "    TransportID \"trtype:PCIe traddr:%s\" Nvme_%s_%d\n", address, l.Host, i)
		}
		b.WriteString("    RetryCount 4\n    TimeoutUsec 0\n    ActionOnTimeout None\n    AdminPollRate 100000\n" +
			"    HotplugEnable No\n    HotplugPollRate 0\n")
	case File, Kdev:
		b.WriteString("[AIO]\n")
		for i, path := range t.Devices {
			fmt.Fprintf(&b, "    AIO %s AIO_%s_%d", path, l.Host, i)
			if t.Class == File {
				fmt.Fprintf(&b, " %d", blockSize)
			}
			b.WriteByte('\n')
		}
	case Malloc:
		fmt.Fprintf(&b, "[Malloc]\n    NumberOfLuns %d\n    LunSizeInMB %d000\n", t.Number, t.SizeGiB)
	default:
		return nil, fault.New(codeBdevClass, "cannot make %s: tier 1 has class %q, which is no block class", nvmeConfName, t.Class)
	}
	return []byte(b.String()), nil
}
