package dmg

import (
	"fmt"
	"io"
	"strconv"

	"daosbox/storage"
)

// printHealth shows each SSD with what it says about its own state.
func printHealth(w io.Writer, s storage.HostStorage) {
	if len(s.NVMeDevices) == 0 {
		fmt.Fprintf(w, "No NVMe controllers found\n\n")
		return
	}
	for _, c := range inOrder(s).NVMeDevices {
		fmt.Fprintf(w, "PCI Address:%s Model:%s Serial:%s FW Revision:%s\n", c.PCIAddr, c.Model, c.Serial, c.FWRev)
		if c.HealthStats == nil {
			fmt.Fprintf(w, "  Health Stats: not available\n\n")
			continue
		}
		printHealthStats(w, c.HealthStats)
		fmt.Fprintln(w)
	}
}

// stat is one line of a block; lines of what few vendors report are left out when
// zero.
type stat struct {
	name  string
	value string
	show  bool
}

func count[N uint8 | uint16 | uint32 | uint64](name string, n N) stat {
	return stat{name, strconv.FormatUint(uint64(n), 10), true}
}

func vendor[N uint8 | uint16 | uint32 | uint64](name string, n N) stat {
	return stat{name, strconv.FormatUint(uint64(n), 10), n != 0}
}

func minutes[N uint32 | uint64](name string, n N) stat {
	return stat{name, fmt.Sprintf("%dm", n), true}
}

func warning(name string, on bool) stat {
	if on {
		return stat{name, "WARNING", true}
	}
	return stat{name, "OK", true}
}

func printStats(w io.Writer, title string, stats []stat) {
	printed := false
	for _, s := range stats {
		if !s.show {
			continue
		}
		if !printed {
			fmt.Fprintf(w, "  %s:\n", title)
			printed = true
		}
		fmt.Fprintf(w, "    %s:%s\n", s.name, s.value)
	}
}

const zeroCelsius = 273.15

func printHealthStats(w io.Writer, h *storage.NVMeHealth) {
	printStats(w, "Health Stats", []stat{
		{"Temperature", fmt.Sprintf("%dK(%.2fC)", h.Temperature, float64(h.Temperature)-zeroCelsius), true},
		minutes("Temperature Warning Duration", h.WarnTempTime),
		minutes("Temperature Critical Duration", h.CritTempTime),
		minutes("Controller Busy Time", h.CtrlBusyTime),
		count("Power Cycles", h.PowerCycles),
		{"Power On Duration", fmt.Sprintf("%dh", h.PowerOnHours), true},
		count("Unsafe Shutdowns", h.UnsafeShutdowns),
		count("Media Errors", h.MediaErrs),
		count("Read Errors", h.BioReadErrs),
		count("Write Errors", h.BioWriteErrs),
		count("Unmap Errors", h.BioUnmapErrs),
		count("Checksum Errors", h.ChecksumErrs),
		count("Error Log Entries", h.ErrLogEntries),
	})
	printStats(w, "Critical Warnings", []stat{
		warning("Temperature", h.TempWarn),
		warning("Available Spare", h.AvailSpareWarn),
		warning("Device Reliability", h.DevReliabilityWarn),
		warning("Read Only", h.ReadOnlyWarn),
		warning("Volatile Memory Backup", h.VolatileMemWarn),
	})
	printStats(w, "Vendor SMART Attributes", []stat{
		vendor("Program Fail Count Normalized", h.ProgramFailNorm), vendor("Program Fail Count Raw", h.ProgramFailRaw),
		vendor("Erase Fail Count Normalized", h.EraseFailNorm), vendor("Erase Fail Count Raw", h.EraseFailRaw),
		vendor("Wear Leveling Count Normalized", h.WearLevelingNorm), vendor("Wear Leveling Count Min", h.WearLevelingMin),
		vendor("Wear Leveling Count Max", h.WearLevelingMax), vendor("Wear Leveling Count Avg", h.WearLevelingAvg),
		vendor("End-to-End Error Detection Count", h.EndToEndErrRaw), vendor("CRC Error Count", h.CRCErrRaw),
		vendor("Timed Workload, Media Wear", h.MediaWearRaw), vendor("Timed Workload, Host Reads", h.HostReadsRaw),
		vendor("Timed Workload, Timer", h.WorkloadTimerRaw), vendor("Thermal Throttle Status", h.ThermalThrottleStatus),
		vendor("Thermal Throttle Event Count", h.ThermalThrottleEvents), vendor("Retry Buffer Overflow Count", h.RetryBufferOverflow),
		vendor("PLL Lock Loss Count", h.PLLLockLoss), vendor("NAND Bytes Written", h.NANDBytesWritten),
		vendor("Host Bytes Written", h.HostBytesWritten),
	})
	linked := h.LinkMaxSpeed > 0
	printStats(w, "PCIe Link Info", []stat{
		{"Max Speed", transfers(h.LinkMaxSpeed), linked},
		{"Max Width", fmt.Sprintf("x%d", h.LinkMaxWidth), linked},
		{"Negotiated Speed", transfers(h.LinkNegSpeed), linked},
		{"Negotiated Width", fmt.Sprintf("x%d", h.LinkNegWidth), linked},
	})
}

// transfers is a link speed, which comes in transfers per second.
func transfers(speed float32) string { return fmt.Sprintf("%g GT/s", speed/1e9) }
