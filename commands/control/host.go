package control

import (
	"daosbox/commands/fabric"
	"daosbox/storage"
)

// StorageScanReq asks a host for its storage; Health adds the device statistics.
type StorageScanReq struct {
	Health bool `json:"health,omitempty"`
	Usage  bool `json:"usage,omitempty"`
}

// StorageScanResp is the storage of one host.
type StorageScanResp struct {
	Storage storage.HostStorage `json:"storage"`
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
	// Failed counts the devices that could not be formatted.
	Failed int `json:"failed"`
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
