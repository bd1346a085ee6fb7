package drpc

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc/pb"
)

// Errors that a [Handler] returns to give the status of the envelope that they
// name. Any other error travels as FAILURE, without its text.
var (
	ErrBadPayload    = errors.New("body cannot be decoded")
	ErrUnknownMethod = errors.New("unknown method")
	ErrUnknownModule = errors.New("unknown module")
)

// errMarshal is a reply that cannot be encoded or is too large for the framing.
var errMarshal = errors.New("reply cannot be encoded")

// badCallSequence is the sequence of the reply to a call that cannot be decoded.
const badCallSequence = -1

// Unmarshal decodes the body of a call or reply. Its error is [ErrBadPayload].
func Unmarshal(body []byte, into proto.Message) error {
	if err := proto.Unmarshal(body, into); err != nil {
		return ErrBadPayload
	}
	return nil
}

func decodeCall(message []byte) (*pb.Call, error) {
	call := new(pb.Call)
	if err := proto.Unmarshal(message, call); err != nil {
		return nil, fault.New(fault.Protocol, "cannot decode dRPC call: %v", err)
	}
	return call, nil
}

// statusOf returns the envelope status of what a handler returned.
func statusOf(err error) pb.Status {
	switch {
	case err == nil:
		return pb.Status_SUCCESS
	case errors.Is(err, ErrBadPayload):
		return pb.Status_FAILED_UNMARSHAL_PAYLOAD
	case errors.Is(err, ErrUnknownMethod):
		return pb.Status_UNKNOWN_METHOD
	case errors.Is(err, ErrUnknownModule):
		return pb.Status_UNKNOWN_MODULE
	case errors.Is(err, errMarshal):
		return pb.Status_FAILED_MARSHAL
	}
	return pb.Status_FAILURE
}

// envelopeError makes the status of a response a fault.
func envelopeError(m Method, s pb.Status) error {
	why := map[pb.Status]string{
		pb.Status_FAILURE:                  "the callee failed, its log says why",
		pb.Status_UNKNOWN_MODULE:           "the callee has no such module",
		pb.Status_UNKNOWN_METHOD:           "the callee has no such method",
		pb.Status_FAILED_UNMARSHAL_CALL:    "the callee cannot decode the call",
		pb.Status_FAILED_UNMARSHAL_PAYLOAD: "the callee cannot decode the request",
		pb.Status_FAILED_MARSHAL:           "the callee cannot encode its reply",
	}[s]
	if why == "" {
		why = "the callee answered with status " + s.String()
	}
	e := fault.New(fault.Engine, "cannot call %s: %s", m, why).WithData("envelope", s.String())
	if s == pb.Status_UNKNOWN_MODULE || s == pb.Status_UNKNOWN_METHOD {
		e.Code = fault.Unimplemented
	}
	return e
}
