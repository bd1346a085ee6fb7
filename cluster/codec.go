package cluster

import "github.com/fxamacker/cbor/v2"

// One canonical encoding for the log, the snapshots and the hash: sorted keys,
// shortest numbers, no indefinite lengths. Modes are immutable.
var (
	encoding = must(func() (cbor.EncMode, error) {
		o := cbor.CoreDetEncOptions()
		o.Time = cbor.TimeRFC3339Nano
		return o.EncMode()
	}())
	decoding = must(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  16,
		MaxArrayElements: 1 << 20,
		MaxMapPairs:      1 << 20,
	}.DecMode())
)

func must[T any](mode T, err error) T {
	if err != nil {
		panic("cluster: encoding options: " + err.Error())
	}
	return mode
}

// marshal encodes one of this package's own types, which cannot fail.
func marshal(v any) []byte {
	data, err := encoding.Marshal(v)
	if err != nil {
		panic("cluster: cannot encode own type: " + err.Error())
	}
	return data
}

func unmarshal(data []byte, v any) error { return decoding.Unmarshal(data, v) }
