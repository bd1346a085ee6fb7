package drpc

import (
	"errors"

	"google.golang.org/protobuf/proto"
)

// Encoded is a reply whose bytes were made before: a handler that gives many
// callers the same answer encodes it once and shares it. It stands for the message
// that it was made of.
type Encoded struct {
	proto.Message
	body []byte
}

// Encode makes the bytes of m, followed by shared: the encoding of more fields of
// the same message, that other replies have in common. protobuf lets the fields of
// a message come in pieces. Neither m nor shared may be changed afterwards. It is
// for replies that mean the same in every family.
func Encode(m proto.Message, shared []byte) (*Encoded, error) {
	size := proto.Size(m)
	body, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(make([]byte, 0, size+len(shared)), m)
	if err != nil {
		return nil, errors.Join(errMarshal, err)
	}
	return &Encoded{Message: m, body: append(body, shared...)}, nil
}
