package helper

import (
	"encoding/binary"
	"errors"
	"io"

	"daosbox/cluster/fault"

	"github.com/fxamacker/cbor/v2"
)

// A message is four bytes with its length, the highest first, and a CBOR map (RFC
// 8949). A connection carries one request and its reply.
const messageLimit = 64 << 10

// The methods there are.
const (
	methodPing    = "ping"        // version and engines; no root needed
	methodFormat  = "scm.format"  // an empty RAM disk in place of what is there
	methodMount   = "scm.mount"   // a RAM disk if there is none
	methodUnmount = "scm.unmount" // takes a RAM disk away that the engine rebuilds
)

// request is what a caller may say.
type request struct {
	Method string `cbor:"method"`
	// Engine is the index of an engine in the helper's configuration.
	Engine  int            `cbor:"engine"`
	Options requestOptions `cbor:"options"`
}

type requestOptions struct {
	// Force gives up the data on the RAM disk.
	Force bool `cbor:"force"`
}

// reply is what the helper says: an error, or what it knows.
type reply struct {
	Error *fault.Error `cbor:"error"`
	Info  Info         `cbor:"result"`
}

// Info is what a helper says of itself.
type Info struct {
	// Version of its executable.
	Version string `cbor:"version"`
	// Engines whose RAM disks it manages, by index.
	Engines []Engine `cbor:"engines"`
}

// Engine is an engine of the helper's configuration.
type Engine struct {
	Index int `cbor:"index"`
	// Mount is where its RAM disk goes; SizeGiB is how large that is.
	Mount   string `cbor:"mount"`
	SizeGiB uint64 `cbor:"size_gib"`
}

// decoding is the strict form of CBOR that both ends take.
func decoding() (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   4,
		MaxArrayElements:  1024,
		MaxMapPairs:       64,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
}

// decodeRequest takes a request apart; unknown keys, trailing bytes and anything
// else that no client of ours sends are errors.
func decodeRequest(data []byte) (request, error) {
	var r request
	return r, decode(data, &r)
}

func decode(data []byte, into any) error {
	mode, err := decoding()
	if err == nil {
		err = mode.Unmarshal(data, into)
	}
	if err != nil {
		return fault.Wrap(fault.Protocol, err, "cannot understand the message")
	}
	return nil
}

// readMessage reads one message. Nothing is allocated for one above the limit.
func readMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size == 0 || size > messageLimit {
		return nil, fault.New(fault.TooLarge, "cannot take a message of %d bytes: it must have 1 to %d", size, messageLimit)
	}
	data := make([]byte, size)
	_, err := io.ReadFull(r, data)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return data, err
}

// encodeMessage makes one message.
func encodeMessage(v any) ([]byte, error) {
	data, err := cbor.Marshal(v)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "cannot make a message")
	}
	if len(data) > messageLimit {
		return nil, fault.New(fault.TooLarge, "cannot send a message of %d bytes: the limit is %d", len(data), messageLimit)
	}
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(data)), uint32(len(data))), data...), nil
}
