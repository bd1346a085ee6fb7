package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// pciAddress is domain, bus, device and function of a PCI device.
type pciAddress [4]uint64

// parsePCI reads DDDD:BB:DD.F. A domain of 6 digits is that of a device behind a
// VMD.
func parsePCI(text string) (pciAddress, bool) {
	var a pciAddress
	part := strings.Split(text, ":")
	if len(part) != 3 || len(part[0]) != 4 && len(part[0]) != 6 || len(part[1]) != 2 {
		return a, false
	}
	device, function, ok := strings.Cut(part[2], ".")
	if !ok || len(device) != 2 {
		return a, false
	}
	for i, digits := range []string{part[0], part[1], device, function} {
		n, err := strconv.ParseUint(digits, 16, 32)
		if err != nil {
			return a, false
		}
		a[i] = n
	}
	return a, true
}

// isPCI reports whether an entry of bdev_list is meant as a PCI address.
func isPCI(text string) bool {
	part := strings.Split(text, ":")
	return len(part) == 3 && (len(part[0]) == 4 || len(part[0]) == 6) && len(part[1]) == 2 && len(part[2]) >= 2
}

// sortedAddresses sorts PCI addresses by number and everything else by text.
func sortedAddresses(list []string) []string {
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b string) int {
		x, xOK := parsePCI(a)
		y, yOK := parsePCI(b)
		if xOK && yOK {
			return slices.Compare(x[:], y[:])
		}
		return cmp.Compare(a, b)
	})
	return sorted
}
