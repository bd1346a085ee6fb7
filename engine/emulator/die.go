package emulator

import (
	"syscall"
	"unsafe"
)

// dieBy ends this process by sig with the kernel's default action, so that the
// parent sees the signal. The Go runtime's own handler would print a dump and
// turn it into an exit status; therefore it is taken away first.
func dieBy(sig syscall.Signal) {
	// An all-zero struct sigaction means SIG_DFL on every Linux architecture; its
	// size there is at most 40 bytes, the signal set within it has 8.
	var deflt [5]uint64
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&deflt)), 0, 8, 0, 0)
	for {
		// The signal may be delivered to another thread first: go on until gone.
		_ = syscall.Kill(syscall.Getpid(), sig)
	}
}
