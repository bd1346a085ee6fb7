package emulator

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
)

// Limits of daos_nvme.conf: far above what a server writes.
const (
	maxNVMeConf = 1 << 20
	maxDevices  = 1024
)

// Roles of a block device when metadata lives on SSDs.
const (
	roleData = 1
	roleMeta = 2
	roleWAL  = 4
)

// bdev is one block device of daos_nvme.conf.
type bdev struct {
	name string // name in the file, ends in the role bits since 2.4
	path string // backing file, empty for memory
	size uint64 // bytes
}

// roles returns the role bits, the number after the last underscore. Names of
// before 2.4 end in the tier number, which is 1 for the only block tier they
// knew: with three parts after the host it is a role, with two it is not.
func (b bdev) roles() int {
	parts := strings.Split(b.name, "_")
	if len(parts) < 5 {
		return 0
	}
	n, err := strconv.Atoi(parts[len(parts)-1])
	if err != nil || n < 0 || n > 7 {
		return 0
	}
	return n
}

// nvmeConf is the part of daos_nvme.conf that an emulator reads.
type nvmeConf struct {
	Subsystems []struct {
		Subsystem string `json:"subsystem"`
		Config    []struct {
			Method string          `json:"method"`
			Params json.RawMessage `json:"params"`
		} `json:"config"`
	} `json:"subsystems"`
}

// readBdevs reads the devices of the daos_nvme.conf at path; size finds the size
// of a backing file.
func readBdevs(path string) ([]bdev, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot read the NVMe configuration")
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxNVMeConf+1))
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot read the NVMe configuration")
	}
	devices, err := parseBdevs(data, fileSize)
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "cannot use the NVMe configuration %s", path).
			WithHint("let daos_server write the file again by formatting the storage")
	}
	return devices, nil
}

func parseBdevs(data []byte, size func(path string) (uint64, error)) ([]bdev, error) {
	if len(data) > maxNVMeConf {
		return nil, errors.New("it is larger than 1 MiB")
	}
	var conf nvmeConf
	if err := json.Unmarshal(data, &conf); err != nil {
		return nil, err
	}
	var devices []bdev
	for _, subsystem := range conf.Subsystems {
		if subsystem.Subsystem != "bdev" {
			continue
		}
		for _, entry := range subsystem.Config {
			device, ok, err := parseBdev(entry.Method, entry.Params, size)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			if len(devices) == maxDevices {
				return nil, errors.New("it has more than " + strconv.Itoa(maxDevices) + " devices")
			}
			devices = append(devices, device)
		}
	}
	return devices, nil
}

// parseBdev reads one entry; ok is false for entries that make no device.
func parseBdev(method string, params []byte, size func(string) (uint64, error)) (d bdev, ok bool, err error) {
	var p struct {
		Name      string `json:"name"`
		Filename  string `json:"filename"`
		NumBlocks uint64 `json:"num_blocks"`
		BlockSize uint64 `json:"block_size"`
		Traddr    string `json:"traddr"`
	}
	switch method {
	case "bdev_aio_create", "bdev_malloc_create", "bdev_nvme_attach_controller":
	default:
		return bdev{}, false, nil
	}
	if err := json.Unmarshal(params, &p); err != nil {
		return bdev{}, false, fault.Wrap(fault.Config, err, "entry %s", method)
	}
	d = bdev{name: p.Name, path: p.Filename}
	switch method {
	case "bdev_aio_create":
		if d.size, err = size(p.Filename); err != nil {
			return bdev{}, false, err
		}
	case "bdev_malloc_create":
		if p.BlockSize != 0 && p.NumBlocks > (1<<62)/p.BlockSize {
			return bdev{}, false, fault.New(fault.Config, "device %s has an impossible size", p.Name)
		}
		d.path, d.size = "", p.NumBlocks*p.BlockSize
	default:
		return bdev{}, false, fault.New(fault.Config, "controller %s cannot be driven: an emulator uses files and memory only", p.Traddr)
	}
	return d, true, nil
}

// fileSize is the size of a regular file or block device.
func fileSize(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	return uint64(end), nil
}
