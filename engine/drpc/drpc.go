// Package drpc speaks with engines and client libraries over local sockets.
//
// A message is an envelope (module, method, sequence) around a protobuf body of
// package pb. A [Server] listens on a path and hands calls to a handler; [Invoke]
// makes one call on a connection of its own. Peers of releases up to 2.6 and since
// 2.8 frame and number differently: the [Framing] of a session is seen from its
// first datagram, and the [Family] that follows from it picks the numbers of
// events, the methods and the layout of bodies.
//
// Some requests make a real engine abort: sequence 0, a property request without
// properties, a second SetUp. The first two cannot be sent with this package; it
// never repeats a call, so that the third stays in the hand of the caller.
package drpc
