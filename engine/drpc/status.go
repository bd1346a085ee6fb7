package drpc

import (
	"fmt"
	"slices"

	"daosbox/cluster/fault"
)

// Status is a return code of the engine (DER): 0 or a negative number. Numbers
// are only ever appended, so they mean the same in every release.
type Status int32

// The codes that the control plane gives or acts on. All others have a name and a
// meaning too, see [Status.String].
const (
	StatusOK              Status = 0
	StatusNoPerm          Status = -1001
	StatusNoHdl           Status = -1002
	StatusInval           Status = -1003
	StatusExist           Status = -1004
	StatusNonexist        Status = -1005
	StatusUnreach         Status = -1006
	StatusNoSpace         Status = -1007
	StatusAlready         Status = -1008
	StatusNoMem           Status = -1009
	StatusNoSys           Status = -1010
	StatusTimedOut        Status = -1011
	StatusBusy            Status = -1012
	StatusAgain           Status = -1013
	StatusProto           Status = -1014
	StatusUninit          Status = -1015
	StatusTrunc           Status = -1016
	StatusOverflow        Status = -1017
	StatusCanceled        Status = -1018
	StatusOOG             Status = -1019
	StatusHG              Status = -1020
	StatusMisc            Status = -1025
	StatusNotDir          Status = -1027
	StatusMismatch        Status = -1031
	StatusExcluded        Status = -1032
	StatusGrpVer          Status = -1036
	StatusIO              Status = -2001
	StatusStale           Status = -2007
	StatusNotLeader       Status = -2008
	StatusShutdown        Status = -2017
	StatusInProgress      Status = -2018
	StatusNotApplicable   Status = -2019
	StatusNotReplica      Status = -2020
	StatusOpCanceled      Status = -2027
	StatusAgentIncompat   Status = -2029
	StatusAgentComm       Status = -2034
	StatusRF              Status = -2031
	StatusNotSupported    Status = -2037
	StatusControlIncompat Status = -2038
	StatusNoService       Status = -2039
	StatusNVMeIO          Status = -2042
	StatusNoCert          Status = -2043
	StatusBadCert         Status = -2044
	StatusNotResume       Status = -2049
	StatusContNonexist    Status = -2050
)

// StatusReset is the one positive code: a started checker that was reset.
const StatusReset Status = 1

// statusText is the name and meaning of a code.
type statusText struct {
	number        Status
	name, meaning string
}

// statuses has every code, from the greatest number to the smallest.
var statuses = []statusText{
	{-1001, "NO_PERM", "permission denied"},
	{-1002, "NO_HDL", "bad or stale handle"},
	{-1003, "INVAL", "bad argument"},
	{-1004, "EXIST", "already there"},
	{-1005, "NONEXIST", "not there"},
	{-1006, "UNREACH", "peer cannot be reached"},
	{-1007, "NOSPACE", "storage full"},
	{-1008, "ALREADY", "already done"},
	{-1009, "NOMEM", "no memory"},
	{-1010, "NOSYS", "not implemented"},
	{-1011, "TIMEDOUT", "timeout"},
	{-1012, "BUSY", "busy"},
	{-1013, "AGAIN", "retry later"},
	{-1014, "PROTO", "protocol mismatch"},
	{-1015, "UNINIT", "not initialised"},
	{-1016, "TRUNC", "data cut short or buffer too small"},
	{-1017, "OVERFLOW", "value too large"},
	{-1018, "CANCELED", "cancelled"},
	{-1019, "OOG", "rank not in the group"},
	{-1020, "HG", "transport (Mercury) failure"},
	{-1021, "UNREG", "RPC not registered"},
	{-1022, "ADDRSTR_GEN", "address text failure"},
	{-1023, "PMIX", "PMIx failure"},
	{-1024, "IVCB_FORWARD", "IV: forward to parent"},
	{-1025, "MISC", "unspecified"},
	{-1026, "BADPATH", "bad path"},
	{-1027, "NOTDIR", "not a directory"},
	{-1028, "CORPC_INCOMPLETE", "collective RPC incomplete"},
	{-1029, "NO_RAS_RANK", "no rank for RAS"},
	{-1030, "NOTATTACH", "group not attached"},
	{-1031, "MISMATCH", "version or content mismatch"},
	{-1032, "EXCLUDED", "rank excluded"},
	{-1033, "NOREPLY", "no reply"},
	{-1034, "DOS", "denial of service limit"},
	{-1035, "BAD_TARGET", "wrong target for RPC"},
	{-1036, "GRPVER", "group version differs"},
	{-1037, "HLC_SYNC", "clock offset too large"},
	{-1038, "NO_SHMEM", "no shared memory"},
	{-1039, "ADD_METRIC_FAILED", "metric creation failed"},
	{-1040, "DURATION_MISMATCH", "metric timer misuse"},
	{-1041, "OP_NOT_PERMITTED", "metric operation not allowed"},
	{-1042, "EXCEEDS_PATH_LEN", "metric path too long"},
	{-1043, "METRIC_NOT_FOUND", "metric missing"},
	{-1044, "SHMEM_PERMS", "shared memory permissions"},
	{-1045, "HG_FATAL", "fatal transport failure"},
	{-1046, "QUOTA_LIMIT", "RPC quota reached"},
	{-2001, "IO", "I/O error or failed upcall"},
	{-2002, "FREE_MEM", "memory release failed"},
	{-2003, "ENOENT", "entry missing"},
	{-2004, "NOTYPE", "unknown object type"},
	{-2005, "NOSCHEMA", "unknown object schema"},
	{-2006, "NOLOCAL", "object not local"},
	{-2007, "STALE", "old pool map"},
	{-2008, "NOTLEADER", "not service leader"},
	{-2009, "TGT_CREATE", "target creation failed"},
	{-2010, "EP_RO", "epoch read-only"},
	{-2011, "EP_OLD", "epoch too old"},
	{-2012, "KEY2BIG", "key too large"},
	{-2013, "REC2BIG", "record too large"},
	{-2014, "IO_INVAL", "buffers do not match extents"},
	{-2015, "EQ_BUSY", "event queue busy"},
	{-2016, "DOMAIN", "domain mismatch"},
	{-2017, "SHUTDOWN", "service stopping"},
	{-2018, "INPROGRESS", "in progress"},
	{-2019, "NOTAPPLICABLE", "not applicable"},
	{-2020, "NOTREPLICA", "not a service replica"},
	{-2021, "CSUM", "checksum error"},
	{-2022, "DF_INVAL", "bad durable format"},
	{-2023, "DF_INCOMPT", "incompatible durable format"},
	{-2024, "REC_SIZE", "record size"},
	{-2025, "TX_RESTART", "transaction must restart"},
	{-2026, "DATA_LOSS", "data lost"},
	{-2027, "OP_CANCELED", "operation cancelled"},
	{-2028, "TX_BUSY", "transaction busy"},
	{-2029, "AGENT_INCOMPAT", "agent reply unusable"},
	{-2030, "NEED_TX", "needs distributed transaction"},
	{-2031, "RF", "redundancy exceeded"},
	{-2032, "FETCH_AGAIN", "fetch again"},
	{-2033, "TX_UNCERTAIN", "transaction outcome unknown"},
	{-2034, "AGENT_COMM", "cannot talk to agent"},
	{-2035, "ID_MISMATCH", "id mismatch"},
	{-2036, "TGT_RETRY", "retry with other target"},
	{-2037, "NOTSUPPORTED", "not supported"},
	{-2038, "CONTROL_INCOMPAT", "incompatible control plane"},
	{-2039, "NO_SERVICE", "no pool service (quorum lost or not found)"},
	{-2040, "TX_ID_REUSED", "transaction id reused"},
	{-2041, "UPDATE_AGAIN", "update again"},
	{-2042, "NVME_IO", "NVMe I/O error"},
	{-2043, "NO_CERT", "certificate unavailable"},
	{-2044, "BAD_CERT", "certificate invalid"},
	{-2045, "VOS_PARTIAL_UPDATE", "partial update not allowed"},
	{-2046, "CHKPT_BUSY", "checkpoint busy"},
	{-2047, "DIV_BY_ZERO", "division by zero"},
	{-2048, "OVERLOAD_RETRY", "overloaded, retry"},
	{-2049, "NOT_RESUME", "cannot resume former instance (checker)"},
	{-2050, "CONT_NONEXIST", "container missing"},
	{-2051, "CONT_DESTROYING", "container being destroyed"},
	{-2052, "IGNORE", "ignore"},
	{-501000, "UNKNOWN", "unknown"},
}

func (s Status) text() (statusText, bool) {
	i, ok := slices.BinarySearchFunc(statuses, s, func(row statusText, s Status) int {
		return int(s) - int(row.number)
	})
	if !ok {
		return statusText{}, false
	}
	return statuses[i], true
}

// String returns the name, "DER_NOSPACE"; "DER_SUCCESS" for 0 and the number in
// brackets for an unknown code.
func (s Status) String() string {
	if s == StatusOK {
		return "DER_SUCCESS"
	}
	if row, ok := s.text(); ok {
		return "DER_" + row.name
	}
	return fmt.Sprintf("DER(%d)", int32(s))
}

// Error makes a status an error: "DER_NOSPACE(-1007): storage full".
func (s Status) Error() string {
	if s == StatusOK {
		return "DER_SUCCESS(0): no error"
	}
	row, ok := s.text()
	if !ok {
		return s.String() + ": unknown status"
	}
	return fmt.Sprintf("%s(%d): %s", s.String(), int32(s), row.meaning)
}

// Retryable reports whether a client may repeat a pool request after s: the
// member or the group is in motion.
func (s Status) Retryable() bool {
	switch s {
	case StatusUnreach, StatusTimedOut, StatusAgain, StatusOOG, StatusExcluded, StatusGrpVer:
		return true
	}
	return false
}

// StatusError makes the status of a reply an error: nil for 0, else a fault of
// code Engine that carries the number and wraps the [Status]. A positive number is
// an error too; who expects [StatusReset] looks for it first.
func StatusError(status int32) error {
	if status == 0 {
		return nil
	}
	return fault.New(fault.Engine, "%w", Status(status)).WithStatus(status)
}
