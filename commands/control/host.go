package control

import (
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/fabric"
	"daosbox/storage"
)

// StorageScanReq asks a host for its storage; Health adds the device statistics.
type StorageScanReq struct {
	Health bool `json:"health,omitempty"`
	// Usage adds the devices of the running engines and what is free on them.
	Usage bool `json:"usage,omitempty"`
	// MemRatio is the share of metadata that is held in memory, above 0 and at most
	// 1; 0 means all. It decides what is usable where metadata lives on SSDs.
	MemRatio float64 `json:"mem_ratio,omitempty"`
}

// DataRank is the detail of a fault that names the rank concerned.
const DataRank = "rank"

// StorageScanResp is the storage of one host.
type StorageScanResp struct {
	Storage storage.HostStorage `json:"storage"`
	// Faults are why some engines could not tell their usage.
	Faults []*fault.Error `json:"faults,omitempty"`
}

// SmdQueryReq asks a host what its running engines say of their block devices and
// of the pools on them.
type SmdQueryReq struct {
	OmitDevices bool `json:"omit_devices,omitempty"`
	OmitPools   bool `json:"omit_pools,omitempty"`
	// Health adds the statistics of each device.
	Health bool `json:"include_bio_health,omitempty"`
	// UUID is the only device or pool wanted, empty for all.
	UUID string `json:"uuid,omitempty"`
	// Rank is the only rank wanted, nil for all.
	Rank *hostlist.Rank `json:"rank,omitempty"`
}

// SmdQueryResp is the devices and pools of one host.
type SmdQueryResp struct {
	Info storage.SMDInfo `json:"smd_info"`
	// Faults are why some engines or devices could not tell theirs.
	Faults []*fault.Error `json:"faults,omitempty"`
}

// StorageFormatReq asks a host to format what its configuration names.
type StorageFormatReq struct {
	Target
	// Force formats what is formatted already.
	Force bool `json:"force,omitempty"`
	// Replace lets the engine reclaim its former rank after it lost its metadata.
	Replace bool `json:"replace,omitempty"`
}

// StorageFormatResp has the outcome per device.
type StorageFormatResp struct {
	Storage storage.HostStorage `json:"storage"`
	// Failed counts the engines that could not be formatted.
	Failed int `json:"failed"`
	// Faults are why, one for each of them.
	Faults []*fault.Error `json:"faults,omitempty"`
}

// NetworkScanReq asks for fabric interfaces; Provider empty is the configured one,
// "all" every one.
type NetworkScanReq struct {
	Provider string `json:"provider,omitempty"`
}

// NetworkScanResp is the fabric of one host.
type NetworkScanResp struct {
	Fabric fabric.Host `json:"fabric"`
}

// SetLogMasksReq changes the log masks of all running engines of a host until
// they end; an absent part goes back to the configuration.
type SetLogMasksReq struct {
	Masks      *string `json:"masks,omitempty"`
	Streams    *string `json:"streams,omitempty"`
	Subsystems *string `json:"subsystems,omitempty"`
}
