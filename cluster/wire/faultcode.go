package wire

import (
	"context"
	"errors"

	"github.com/fxamacker/cbor/v2"

	"daosbox/cluster/fault"
)

// encodeFault makes the payload of an error frame: the fault as a CBOR map keyed
// code, what, hint, status, data. It always fits a frame: details are dropped and
// text is cut before the fault itself is lost.
func encodeFault(err error) []byte {
	e := asFault(err)
	b, encErr := cbor.Marshal(e)
	if encErr == nil && len(b) <= minFrame {
		return b
	}
	short := &fault.Error{Code: e.Code, What: cut(e.What, 8<<10), Hint: cut(e.Hint, 4<<10), Status: e.Status}
	if b, encErr = cbor.Marshal(short); encErr != nil {
		return nil // decodes as an unknown fault
	}
	return b
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 { // not inside a character
		n--
	}
	return s[:n] + "…"
}

// asFault classifies what a handler returned. The outermost text is kept when it
// says more than the fault inside.
func asFault(err error) *fault.Error {
	e, ok := fault.As(err)
	switch {
	case ok && e.What == err.Error():
		return e
	case ok:
		return &fault.Error{Code: e.Code, What: err.Error(), Hint: fault.HintOf(err), Status: e.Status, Data: e.Data}
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Timeout, "%w", err)
	case errors.Is(err, context.Canceled):
		return fault.New(fault.Canceled, "%w", err)
	}
	return fault.New(fault.Unknown, "%w", err)
}

// faultMode bounds what a peer's error frame can make us build.
var faultMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{MaxArrayElements: 256, MaxMapPairs: 256, MaxNestedLevels: 4}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
}()

// decodeFault reads an error frame's payload; one that cannot be read is still an
// error.
func decodeFault(b []byte) *fault.Error {
	e := new(fault.Error)
	if err := faultMode.Unmarshal(b, e); err != nil {
		return fault.New(fault.Protocol, "cannot read the error that the peer sent: %v", err)
	}
	if e.Code == 0 {
		e.Code = fault.Unknown
	}
	return e
}
