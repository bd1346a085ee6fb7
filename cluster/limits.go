package cluster

// Bounds on what one command may bring and what the state keeps. They are far
// above a system of 2,048 ranks, and keep a broken client from filling memory.
const (
	maxDomainDepth = 8
	maxText        = 4096     // a name, address, reason
	maxList        = 1 << 16  // ranks or rows in one command
	maxAttributes  = 1 << 14  // attributes of a system
	maxAttribute   = 64 << 10 // bytes of one value
	maxCommand     = 2 << 20  // bytes of one log entry
	maxSnapshot    = 1 << 30  // bytes of a snapshot's state
	maxOpID        = 128      // bytes of an operation's id
	maxOps         = 8192     // remembered operations
	maxOpsBytes    = 8 << 20  // bytes of their results
)
