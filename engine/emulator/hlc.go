package emulator

import "time"

// hlcEpoch is the zero of the hybrid logical clock that incarnations are taken
// from: start of 2021, in units of 1/16 ns, the low 18 bits for the logical part.
var hlcEpoch = time.Date(2021, time.January, 1, 0, 0, 0, 0, time.UTC)

// hlcBits is the width of the logical part.
const hlcBits = 18

// hlc returns the clock value of t, or the next one after last when the wall
// clock has gone back.
func hlc(t time.Time, last uint64) uint64 {
	now := uint64(t.Sub(hlcEpoch)) << 4 &^ (1<<hlcBits - 1)
	if now <= last {
		return (last>>hlcBits + 1) << hlcBits
	}
	return now
}
