// Package engine supervises one storage engine process: it builds the exact
// command line and environment that daos_engine expects, starts the process so
// that it can not outlive its server, follows it until it serves, notices at once
// when it ends, and stops it in bounded time.
//
// An [Instance] is the supervisor of one engine. Its thinking part is a pure
// state machine (state.go); one goroutine, [Instance.Run], owns it and performs
// its actions. What belongs to the rest of the server (storage, joining the
// system, telling the members) is given in as [Steps], so that this package knows
// processes and nothing else. DESIGN.md holds the reasons and the diagram.
package engine
