package cli

import (
	"context"
	"errors"

	"daosbox/cluster/fault"
)

// Exit is the status of a process, the same for all personalities.
type Exit int

// The exit codes. Non-zero stays non-zero for scripts that only look at that.
const (
	OK          Exit = 0
	Failed      Exit = 1
	Usage       Exit = 2
	Partial     Exit = 3
	Unreachable Exit = 4
	TimedOut    Exit = 5
	NoLeader    Exit = 6
	Permission  Exit = 7
	Refused     Exit = 8
)

// ExitTable is what the manual pages print about exit codes.
func ExitTable() []string {
	return []string{
		"0 done", "1 failed", "2 wrong usage", "3 failed for some hosts or ranks only",
		"4 a host cannot be reached", "5 timed out", "6 the management service has no leader or quorum",
		"7 not permitted", "8 refused by a safety check",
	}
}

// ExitOf is the exit status that err deserves.
func ExitOf(err error) Exit {
	switch code := fault.Of(err); {
	case err == nil:
		return OK
	case errors.Is(err, context.DeadlineExceeded):
		return TimedOut
	default:
		return exitOfCode(code)
	}
}

func exitOfCode(code fault.Code) Exit {
	switch code {
	case fault.Usage:
		return Usage
	case fault.Partial:
		return Partial
	case fault.Unreachable:
		return Unreachable
	case fault.Timeout:
		return TimedOut
	case fault.NoLeader, fault.NotLeader, fault.NotReplica:
		return NoLeader
	case fault.Permission, fault.Certificate, fault.CertificateUnreadable, fault.CertificateInvalid:
		return Permission
	case fault.Refused, fault.AlreadyFormatted:
		return Refused
	}
	return Failed // also for fault.CertificateMissing: nobody forbids what is not there
}

// derMisc is the status of an error that no engine numbered (drpc.md §10.1).
const derMisc = -1025

// statusOf is the envelope's status: the engine's code, or "miscellaneous".
func statusOf(err error) int32 {
	if err == nil {
		return 0
	}
	if status := fault.StatusOf(err); status != 0 {
		return status
	}
	return derMisc
}
