package wire

import "time"

// What the protocol promises before prefaces are exchanged, and its bounds.
const (
	minFrame    = 16 << 10 // every side takes frames up to this
	maxFrame    = 1 << 20  // the largest that a preface may announce
	minWindow   = 64 << 10 // every stream starts with at least this
	maxWindow   = 1 << 30
	minStreams  = 32 // every server takes this many streams
	maxStreamID = 1<<31 - 1
	maxMethod   = 255
	maxGoAway   = 256

	// maxControl is how many answers that cost the peer nothing (pong, refusal,
	// window) may wait for a peer that does not read them.
	maxControl = 1024
	// outLimit is how many bytes may wait to be written before senders block.
	outLimit = 128 << 10
	// minPart keeps a sender from cutting a message into crumbs.
	minPart = 1 << 10
	// pingEvery keeps a client's connection alive; servers allow 75 s of silence.
	pingEvery = 20 * time.Second
	// lingerTime is how long a refused peer gets to read the reason.
	lingerTime = time.Second
)

// Limits bounds what peers can cost a server, and a server a client. Zero fields
// take the default.
type Limits struct {
	// Conns is how many connections are served at a time (default 8192).
	Conns int
	// Pending is how many connections may be in their handshake at a time
	// (default 1024). Beyond it the oldest makes room once it is 250 ms old, and
	// until then new ones wait in the listener's backlog.
	Pending int
	// Streams is how many streams of a connection may be open, or their handlers
	// running, at a time (default 128, at least 32).
	Streams int
	// Frame is the largest payload of a frame in bytes (default 64 KiB).
	Frame int
	// Body is the largest request of an authenticated peer, or of any peer of an
	// insecure server, in bytes (default 16 MiB).
	Body int
	// OpenBody is the largest request of a peer without a certificate on a TLS
	// server, in bytes (default 64 KiB).
	OpenBody int
	// ConnMemory bounds the bytes of all requests that one connection has in
	// progress (default 32 MiB), Memory those of all connections (default 256 MiB).
	ConnMemory, Memory int64
	// Window is how many bytes a peer may send on a stream before they are
	// consumed (default 256 KiB, at least 64 KiB).
	Window int
	// Nuisances is how many pings, cancels and refused calls a connection may cause
	// in 10 s before it is ended (default 4096).
	Nuisances int
	// Queue is how many connections of a service wait to be accepted (default 64).
	Queue int
	// Handshake bounds the time from accept to the end of the preface (default
	// 10 s), Idle the silence between frames (75 s), FrameTime the time that a
	// frame takes from its first byte to its last (20 s), BodyTime that of a whole
	// request (60 s), Write that of one write to a peer that does not read (20 s).
	Handshake, Idle, FrameTime, BodyTime, Write time.Duration
}

func (l Limits) withDefaults() Limits {
	number := func(v *int, standard, least, most int) {
		if *v <= 0 {
			*v = standard
		}
		*v = max(least, min(*v, most))
	}
	const many = 1 << 30
	number(&l.Conns, 8192, 1, many)
	number(&l.Pending, 1024, 1, many)
	number(&l.Streams, 128, minStreams, 1<<16-1)
	number(&l.Frame, 64<<10, minFrame, maxFrame)
	number(&l.Body, 16<<20, 1, many)
	number(&l.OpenBody, 64<<10, 1, many)
	number(&l.Window, 256<<10, minWindow, maxWindow)
	number(&l.Queue, 64, 1, many)
	number(&l.Nuisances, 4096, 64, many)
	if l.ConnMemory <= 0 {
		l.ConnMemory = 32 << 20
	}
	if l.Memory <= 0 {
		l.Memory = 256 << 20
	}
	duration := func(v *time.Duration, standard time.Duration) {
		if *v <= 0 {
			*v = standard
		}
	}
	duration(&l.Handshake, 10*time.Second)
	duration(&l.Idle, 75*time.Second)
	duration(&l.FrameTime, 20*time.Second)
	duration(&l.BodyTime, 60*time.Second)
	duration(&l.Write, 20*time.Second)
	return l
}
