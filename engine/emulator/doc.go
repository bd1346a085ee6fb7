// Package emulator is a process that behaves towards the control plane as
// daos_engine does, and serves no data. It is started with the same command line
// and environment, opens the same dRPC socket, reports ready, takes its rank, its
// set-up and the group map, answers the management methods of a 2.8 (or 2.6)
// engine, raises the same events, and ends on the same signals and conditions. It
// says that it is an emulator on its output and in its log.
//
// # State
//
// What it answers comes from state. Below the SCM mount (-s) each pool has a
// directory named by its UUID with shard.json (what this rank holds), one sparse
// vos-<target> file per target and, on the replicas of the pool service,
// rdb-pool (the pool's properties, ACL, target states). Files are written aside,
// synced and renamed; a pool under construction lives in NEWBORNS, a dying one in
// ZOMBIES, and both are cleaned at start, so the state survives any kill.
//
// Capacity is accounted across all pools of a rank: the SCM size is the free
// space of the file system of the mount, or DAOS_EMULATOR_SCM_BYTES; the NVMe
// size comes from the files and memory devices of daos_nvme.conf (-n), in whole
// clusters (DAOS_BS_CLUSTER_MB). What does not fit is refused with -1007.
//
// # Fabric
//
// Instead of the fabric, emulators talk TCP (requests) and UDP (heartbeats) on
// the address of D_INTERFACE and D_PORT. Every engine watches three successors in
// the ring of ranks; four unanswered heartbeats and a refused connection, or six
// and no answer at all, make a rank dead, which is told to the server
// (swim_rank_dead) and to the others; a rank of the map that was never heard gets
// forty. DAOS_EMULATOR_SWIM_PERIOD_MS changes the period of 500 ms. Pools exclude a
// rank that is missing from the group map for CRT_EVENT_DELAY seconds (5).
//
// A pool service is led by its lowest live replica. A leader that steps up reads
// a majority of the replicas, takes the newest copy, and writes it back under a
// new term before it serves; each change is written to a majority before it is
// answered. So a pool without a majority of its replicas is not served, as with a
// real engine.
//
// # Releases
//
// DAOS_EMULATOR_RELEASE is 2.8 (default) or 2.6: framing of the sockets, numbers
// of events, and the event before self-termination follow it.
//
// # Misbehaviour on request
//
// DAOS_EMULATOR_FAULTS is a comma list of point:action[@count]; with a count only
// the first so many passes of that point misbehave. Points are start (before the
// socket is opened), notify_ready (before reporting ready), heartbeat (before
// answering one) and the methods: set_rank, set_up, pool_create, pool_query and
// so on, as the table in methods.go names them. Actions:
//
//	hang          never goes on
//	slow=2s       goes on after that time
//	crash         ends with SIGSEGV
//	exit          ends with status 1 and a reason
//	status=-1007  answers with that status (methods only)
//	fail          answers with envelope status FAILURE (methods only)
//
// A list that cannot be read is fatal.
//
// # Where it differs from a real engine
//
// No data path: no containers, no handles, no client requests. Rebuild is
// instantaneous. A pool service keeps the replicas it was made with, also when one
// of them is excluded. The checker is not emulated: with -C its methods are still
// unknown. A NotifyReady that fails ends the process with status 1 and a reason,
// where a real engine spins for ever. NVMe controllers cannot be used, only files
// and memory devices.
package emulator
