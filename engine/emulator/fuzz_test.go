package emulator

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"github.com/matryer/is"
)

func testLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func noSize(string) (uint64, error) { return 1 << 30, nil }

func FuzzBdevs(f *testing.F) {
	f.Add([]byte(`{"subsystems":[{"subsystem":"bdev","config":[{"method":"bdev_aio_create","params":{"name":"AIO_h_0_1_7","filename":"/x"}}]}]}`))
	f.Add([]byte(`{"subsystems":[{"subsystem":"bdev","config":[{"method":"bdev_malloc_create","params":{"name":"M","num_blocks":18446744073709551615,"block_size":4096}}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		devices, err := parseBdevs(data, noSize)
		if err == nil && len(devices) > maxDevices {
			t.Fatal("too many devices")
		}
		for _, d := range devices {
			if r := d.roles(); r < 0 || r > 7 {
				t.Fatal("impossible role", r)
			}
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var in request
		if readFrame(bytes.NewReader(data), &in) != nil {
			return
		}
		var again bytes.Buffer
		if err := writeFrame(&again, &in); err != nil {
			t.Fatal(err)
		}
		if err := readFrame(&again, &in); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzPacket(f *testing.F) {
	f.Add([]byte(`{"kind":"ping","sys":"s","from":1,"to":0,"seq":1,"inc":5,"map":3,"rumours":[{"rank":0,"inc":9,"dead":true}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, ok := parsePacket(data)
		if !ok {
			return
		}
		s := newSwim(0, 100)
		s.setGroup(mapOf(1, 4))
		s.hear(p.Rumours)
		s.acked(p.From, p.Seq, p.Incarnation)
		s.tick()
	})
}

func FuzzFaultDomains(f *testing.F) {
	f.Add([]byte{0, 2, 1, 1, 1, 2, 2, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		tree := make([]uint32, len(data))
		for i, b := range data {
			tree[i] = uint32(b)
		}
		_, _ = faultDomains(tree, []uint32{0, 1})
	})
}

// A length alone takes no memory.
func TestFrameLimits(t *testing.T) {
	is := is.New(t)
	head := binary.BigEndian.AppendUint32(nil, maxFabricMessage)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := readFrame(bytes.NewReader(head), new(request))
	runtime.ReadMemStats(&after)
	is.True(errors.Is(err, io.ErrUnexpectedEOF))
	is.True(after.TotalAlloc-before.TotalAlloc < 1<<20)
	err = readFrame(bytes.NewReader(binary.BigEndian.AppendUint32(nil, maxFabricMessage+1)), new(request))
	is.True(err != nil && strings.Contains(err.Error(), "larger"))
	_, err = parseBdevs(make([]byte, maxNVMeConf+1), noSize)
	is.True(err != nil)
}
