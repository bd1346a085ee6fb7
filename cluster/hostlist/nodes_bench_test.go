package hostlist_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"daosbox/cluster/hostlist"
)

// lists are a million names each, as a tool would print them, one a line.
func lists(shuffled bool) map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	all := map[string][]string{}
	for i := range 1_000_000 {
		all["plain"] = append(all["plain"], fmt.Sprintf("node%d", i))
		all["rack"] = append(all["rack"], fmt.Sprintf("rack%dnode%02d", i/50+1, i%50+1))
	}
	for i := 0; len(all["holes"]) < 1_000_000; i++ {
		if r.IntN(2) == 0 {
			all["holes"] = append(all["holes"], fmt.Sprintf("node%d", i))
		}
	}
	texts := map[string][]byte{}
	for kind, names := range all {
		if shuffled {
			r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		}
		var b bytes.Buffer
		for _, name := range names {
			b.WriteString(name + "\n")
		}
		texts[kind] = b.Bytes()
	}
	return texts
}

var kinds = []string{"plain", "rack", "holes"}

// BenchmarkNodesFold reads a million names and writes them folded.
func BenchmarkNodesFold(b *testing.B) {
	for _, order := range []string{"sorted", "shuffled"} {
		texts := lists(order == "shuffled")
		for _, kind := range kinds {
			b.Run(kind+"/"+order, func(b *testing.B) {
				b.SetBytes(int64(len(texts[kind])))
				b.ReportAllocs()
				for b.Loop() {
					n, err := hostlist.ReadNodes(context.Background(), bytes.NewReader(texts[kind]), nil)
					if err != nil || n.Len() != 1_000_000 {
						b.Fatal(n.Len(), err)
					}
					_ = n.String()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/name")
			})
		}
	}
}

// BenchmarkNodesExpand spells a million names out.
func BenchmarkNodesExpand(b *testing.B) {
	for _, text := range []string{"node[0-999999]", "rack[1-20000]node[01-50]"} {
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := eval(b, text).WriteNames(io.Discard, " "); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/name")
		})
	}
}

// BenchmarkNodesMemory reports what a set of a million names keeps.
func BenchmarkNodesMemory(b *testing.B) {
	texts := lists(true)
	for _, kind := range kinds {
		b.Run(kind, func(b *testing.B) {
			var before, after runtime.MemStats
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				n, err := hostlist.ReadNodes(context.Background(), bytes.NewReader(texts[kind]), nil)
				if err != nil {
					b.Fatal(err)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				runtime.KeepAlive(n)
			}
			b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/1e6, "B/name")
		})
	}
}
