// Command wire measures package wire beside grpc-go, net/http's HTTP/2 and a bare
// ping-pong, in one run and by turns, and prints ratios. Every stack is an
// executable of its own, its server one process on all addresses of 127/8, its
// client a new process each time.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// stacks in the order of the tables; ours is what others are compared with.
var stacks = []string{"ours", "grpc", "http2", "bare"}

func main() {
	hosts := flag.String("hosts", "1,64,1024,4096", "numbers of hosts, separated by commas")
	modes := flag.String("modes", "mtls,again,plain,rsa", "connections: mtls, again (second command), plain, rsa (RSA-3072, second command)")
	kinds := flag.String("kinds", "cold,warm", "cold (connect, call, close), warm (connections stand)")
	rounds := flag.Int("rounds", 5, "turns of each stack")
	parallel := flag.Int("parallel", 256, "hosts at a time")
	calls := flag.Int("calls", 20000, "warm: calls of a turn")
	depth := flag.Int("depth", 1, "warm: calls at a time on each connection")
	only := flag.String("stacks", strings.Join(stacks, ","), "stacks to run")
	flag.Parse()
	b := &bench{rounds: *rounds, parallel: *parallel, depth: *depth, calls: *calls, stacks: strings.Split(*only, ","), out: os.Stdout}
	if err := b.main(*hosts, strings.Split(*modes, ","), strings.Split(*kinds, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "ERROR:", err)
		os.Exit(1)
	}
}

type bench struct {
	rounds, parallel, depth, calls int
	stacks                         []string
	out                            io.Writer
	dir                            string
}

func (b *bench) main(hosts string, modes, kinds []string) (err error) {
	if b.dir, err = os.MkdirTemp("", "bench-wire"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := b.build(); err != nil {
		return err
	}
	if err := b.certificates(); err != nil {
		return err
	}
	if err := b.sizes(); err != nil {
		return err
	}
	for _, mode := range modes {
		if err := b.bytes(mode); err != nil {
			return err
		}
		for _, kind := range kinds {
			if (mode == "rsa" || mode == "again") && kind == "warm" {
				continue // the key does not matter any more
			}
			for text := range strings.SplitSeq(hosts, ",") {
				n, err := strconv.Atoi(text)
				if err != nil || n < 1 || n > 60000 {
					return fmt.Errorf("cannot use %q hosts", text)
				}
				if err := b.compare(mode, kind, n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
