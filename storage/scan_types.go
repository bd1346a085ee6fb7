package storage

// HostStorage is the inventory of a host, with the JSON keys of 'storage scan'
// and 'storage format'. Lists are empty rather than null; Normalize sees to it.
type HostStorage struct {
	NVMeDevices    []NVMeController `json:"nvme_devices"`
	SCMModules     []SCMModule      `json:"scm_modules"`
	SCMNamespaces  []SCMNamespace   `json:"scm_namespaces"`
	SCMMountPoints []MountPoint     `json:"scm_mount_points"`
	SMDInfo        *SMDInfo         `json:"smd_info"`
	RebootRequired bool             `json:"reboot_required"`
	MemInfo        *MemInfo         `json:"mem_info"`
}

// Normalize makes the lists that are nil empty.
func (h *HostStorage) Normalize() {
	if h.NVMeDevices == nil {
		h.NVMeDevices = []NVMeController{}
	}
	if h.SCMModules == nil {
		h.SCMModules = []SCMModule{}
	}
	if h.SCMNamespaces == nil {
		h.SCMNamespaces = []SCMNamespace{}
	}
	if h.SCMMountPoints == nil {
		h.SCMMountPoints = []MountPoint{}
	}
	for i := range h.NVMeDevices {
		c := &h.NVMeDevices[i]
		if c.Namespaces == nil {
			c.Namespaces = []NVMeNamespace{}
		}
		if c.SMDDevices == nil {
			c.SMDDevices = []SMDDevice{}
		}
	}
}

// NVMeController is an SSD, or what stands for one: in the answer to a format,
// an image file has its path as PCIAddr.
type NVMeController struct {
	Info     string `json:"info"`
	Model    string `json:"model"`
	Serial   string `json:"serial"`
	PCIAddr  string `json:"pci_addr"`
	FWRev    string `json:"fw_rev"`
	VendorID string `json:"vendor_id"`
	PCIType  string `json:"pci_type"`
	// SocketID is the NUMA node, -1 when the platform does not say.
	SocketID int32 `json:"socket_id"`
	// HealthStats are nil unless they were read.
	HealthStats *NVMeHealth     `json:"health_stats"`
	Namespaces  []NVMeNamespace `json:"namespaces"`
	SMDDevices  []SMDDevice     `json:"smd_devices"`
	// DevState is UNKNOWN, NORMAL, NEW, EVICTED or UNPLUGGED; LEDState is NA,
	// QUICK_BLINK, ON, SLOW_BLINK or OFF.
	DevState string `json:"dev_state"`
	LEDState string `json:"led_state"`
}

// NVMeNamespace is a namespace of an SSD, size in bytes.
type NVMeNamespace struct {
	ID   uint32 `json:"id"`
	Size uint64 `json:"size"`
}

// NVMeHealth is what an SSD says about its state; temperatures in kelvin, times
// in minutes but PowerOnHours.
type NVMeHealth struct {
	Timestamp             uint64  `json:"timestamp"`
	WarnTempTime          uint32  `json:"warn_temp_time"`
	CritTempTime          uint32  `json:"crit_temp_time"`
	CtrlBusyTime          uint64  `json:"ctrl_busy_time"`
	PowerCycles           uint64  `json:"power_cycles"`
	PowerOnHours          uint64  `json:"power_on_hours"`
	UnsafeShutdowns       uint64  `json:"unsafe_shutdowns"`
	MediaErrs             uint64  `json:"media_errs"`
	ErrLogEntries         uint64  `json:"err_log_entries"`
	BioReadErrs           uint32  `json:"bio_read_errs"`
	BioWriteErrs          uint32  `json:"bio_write_errs"`
	BioUnmapErrs          uint32  `json:"bio_unmap_errs"`
	ChecksumErrs          uint32  `json:"checksum_errs"`
	Temperature           uint32  `json:"temperature"`
	TempWarn              bool    `json:"temp_warn"`
	AvailSpareWarn        bool    `json:"avail_spare_warn"`
	DevReliabilityWarn    bool    `json:"dev_reliability_warn"`
	ReadOnlyWarn          bool    `json:"read_only_warn"`
	VolatileMemWarn       bool    `json:"volatile_mem_warn"`
	ProgramFailNorm       uint8   `json:"program_fail_cnt_norm"`
	ProgramFailRaw        uint64  `json:"program_fail_cnt_raw"`
	EraseFailNorm         uint8   `json:"erase_fail_cnt_norm"`
	EraseFailRaw          uint64  `json:"erase_fail_cnt_raw"`
	WearLevelingNorm      uint8   `json:"wear_leveling_cnt_norm"`
	WearLevelingMin       uint16  `json:"wear_leveling_cnt_min"`
	WearLevelingMax       uint16  `json:"wear_leveling_cnt_max"`
	WearLevelingAvg       uint16  `json:"wear_leveling_cnt_avg"`
	EndToEndErrRaw        uint64  `json:"endtoend_err_cnt_raw"`
	CRCErrRaw             uint64  `json:"crc_err_cnt_raw"`
	MediaWearRaw          uint64  `json:"media_wear_raw"`
	HostReadsRaw          uint64  `json:"host_reads_raw"`
	WorkloadTimerRaw      uint64  `json:"workload_timer_raw"`
	ThermalThrottleStatus uint8   `json:"thermal_throttle_status"`
	ThermalThrottleEvents uint64  `json:"thermal_throttle_event_cnt"`
	RetryBufferOverflow   uint64  `json:"retry_buffer_overflow_cnt"`
	PLLLockLoss           uint64  `json:"pll_lock_loss_cnt"`
	NANDBytesWritten      uint64  `json:"nand_bytes_written"`
	HostBytesWritten      uint64  `json:"host_bytes_written"`
	ClusterSize           uint64  `json:"cluster_size"`
	MetaWALSize           uint64  `json:"meta_wal_size"`
	RDBWALSize            uint64  `json:"rdb_wal_size"`
	LinkPortID            uint32  `json:"link_port_id"`
	LinkMaxSpeed          float32 `json:"link_max_speed"`
	LinkMaxWidth          uint32  `json:"link_max_width"`
	LinkNegSpeed          float32 `json:"link_neg_speed"`
	LinkNegWidth          uint32  `json:"link_neg_width"`
}

// SMDDevice is a device as an engine uses it.
type SMDDevice struct {
	RoleBits    uint32          `json:"role_bits"`
	UUID        string          `json:"uuid"`
	TargetIDs   []int32         `json:"tgt_ids"`
	Rank        uint32          `json:"rank"`
	TotalBytes  uint64          `json:"total_bytes"`
	AvailBytes  uint64          `json:"avail_bytes"`
	UsableBytes uint64          `json:"usable_bytes"`
	ClusterSize uint64          `json:"cluster_size"`
	MetaSize    uint64          `json:"meta_size"`
	MetaWALSize uint64          `json:"meta_wal_size"`
	RDBSize     uint64          `json:"rdb_size"`
	RDBWALSize  uint64          `json:"rdb_wal_size"`
	Roles       string          `json:"roles"`
	HasSysXS    bool            `json:"has_sys_xs"`
	Controller  *NVMeController `json:"ctrlr"`
	NamespaceID uint32          `json:"ctrlr_namespace_id"`
}

// SMDInfo is what engines say about the devices and pools on their SSDs.
type SMDInfo struct {
	Devices []SMDDevice          `json:"devices"`
	Pools   map[string][]SMDPool `json:"pools"`
}

// SMDPool is the part of a pool on one engine's SSDs.
type SMDPool struct {
	UUID      string   `json:"uuid"`
	TargetIDs []int32  `json:"tgt_ids"`
	Blobs     []uint64 `json:"blobs"`
	Rank      uint32   `json:"rank"`
}

// SCMModule is a persistent memory module, capacity in bytes.
type SCMModule struct {
	ChannelID, ChannelPosition, ControllerID, SocketID, PhysicalID uint32
	Capacity                                                       uint64
	UID, PartNumber, FirmwareRevision, HealthState                 string
}

// SCMNamespace is a persistent memory block device, size in bytes.
type SCMNamespace struct {
	UUID        string `json:"uuid"`
	BlockDevice string `json:"blockdev"`
	Name        string `json:"dev"`
	NumaNode    uint32 `json:"numa_node"`
	Size        uint64 `json:"size"`
	// Mount is nil unless an engine uses it.
	Mount *MountPoint `json:"mount"`
}

// MountPoint is the SCM of an engine, sizes in bytes.
type MountPoint struct {
	Class      string   `json:"class"`
	DeviceList []string `json:"device_list"`
	Info       string   `json:"info"`
	Path       string   `json:"path"`
	// Rank is set by who knows it.
	Rank        uint32 `json:"rank"`
	TotalBytes  uint64 `json:"total_bytes"`
	AvailBytes  uint64 `json:"avail_bytes"`
	UsableBytes uint64 `json:"usable_bytes"`
}

// MemInfo is the memory of the host in KiB and huge pages, with one more record
// for each NUMA node.
type MemInfo struct {
	NUMANodeIndex     int32     `json:"numa_node_index"`
	HugepagesTotal    uint64    `json:"hugepages_total"`
	HugepagesFree     uint64    `json:"hugepages_free"`
	HugepagesReserved uint64    `json:"hugepages_reserved"`
	HugepagesSurplus  uint64    `json:"hugepages_surplus"`
	HugepageSizeKiB   uint64    `json:"hugepage_size_kb"`
	TotalKiB          uint64    `json:"mem_total_kb"`
	FreeKiB           uint64    `json:"mem_free_kb"`
	AvailableKiB      uint64    `json:"mem_available_kb"`
	UsedKiB           uint64    `json:"mem_used_kb"`
	NUMANodes         []MemInfo `json:"numa_nodes"`
}

func newMountPoint(t Tier) MountPoint {
	devices := t.Devices
	if devices == nil {
		devices = []string{}
	}
	return MountPoint{Class: string(t.Class), DeviceList: devices, Path: t.Mount}
}

// bdevRecords are the devices of a layout as the answer to a format names them.
func bdevRecords(l Layout) []NVMeController {
	records := []NVMeController{}
	add := func(t Tier, address string) {
		records = append(records, NVMeController{PCIAddr: address, Namespaces: []NVMeNamespace{},
			SMDDevices: []SMDDevice{{RoleBits: uint32(t.Roles), Roles: t.Roles.String(), TargetIDs: []int32{}}}})
	}
	for i, t := range l.Bdevs {
		entries, err := tierEntries(l.Host, i+1, t)
		if err != nil {
			continue // refused before anything was formatted
		}
		for _, entry := range entries {
			switch p := entry.Params.(type) {
			case attach:
				add(t, p.Address)
			case aioCreate:
				add(t, p.Filename)
			case mallocCreate:
				add(t, p.Name)
			}
		}
	}
	return records
}
