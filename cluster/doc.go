// Package cluster is the management service: the replicated database of a system's
// ranks, pools and attributes, and the owner that keeps it alike on every replica.
//
// DB is the thinking part: commands in, results out, no clock, no goroutine, no
// file. Service owns a raft replica round it: it joins ranks in batches, answers
// fresh reads from an immutable View, tells the engines of group map changes, and
// says who leads when it does not. DESIGN.md argues the choices.
package cluster
