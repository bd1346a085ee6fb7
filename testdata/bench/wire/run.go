package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"daosbox/testdata/bench/wire/peer"
)

func (b *bench) build() error {
	for _, s := range b.stacks {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.exe(s), "./peer/"+s)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("cannot build %s: %w", s, err)
		}
	}
	return nil
}

func (b *bench) exe(stack string) string { return filepath.Join(b.dir, stack) }

// args are the options of a mode for a stack.
func (b *bench) args(stack, mode string) []string {
	switch mode {
	case "mtls":
		return []string{"-certs", filepath.Join(b.dir, "p256")}
	case "again", "rsa":
		args := []string{"-certs", filepath.Join(b.dir, map[string]string{"again": "p256", "rsa": "rsa"}[mode])}
		if stack == "ours" {
			args = append(args, "-tickets", filepath.Join(b.dir, "tickets"))
		}
		return args
	}
	return nil
}

// server is a running server of a stack.
type server struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	port string
}

func (b *bench) serve(stack, mode string) (*server, error) {
	s := &server{cmd: exec.Command(b.exe(stack), append([]string{"serve"}, b.args(stack, mode)...)...)}
	s.cmd.Stderr = os.Stderr
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.out = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := s.out.ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("server of %s: %w", stack, err), s.stop())
	}
	_, s.port, err = net.SplitHostPort(strings.TrimSpace(line))
	return s, err
}

func (s *server) usage() (u peer.Usage, err error) {
	if _, err = io.WriteString(s.in, "\n"); err != nil {
		return u, err
	}
	line, err := s.out.ReadBytes('\n')
	if err != nil {
		return u, err
	}
	return u, json.Unmarshal(line, &u)
}

func (s *server) stop() error {
	_ = s.in.Close()
	return s.cmd.Wait()
}

// client runs a client to its end.
func (b *bench) client(stack, mode, kind, port string, hosts, calls int) (r peer.Report, start func() error, wait func() (peer.Report, error), err error) {
	args := append([]string{kind}, b.args(stack, mode)...)
	args = append(args, "-port", port, "-hosts", strconv.Itoa(hosts), "-calls", strconv.Itoa(calls), "-parallel", strconv.Itoa(b.parallel), "-depth", strconv.Itoa(b.depth))
	cmd := exec.Command(b.exe(stack), args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return r, nil, nil, err
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return r, nil, nil, err
	}
	out := bufio.NewReader(pipe)
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return r, nil, nil, err
	}
	if kind == "warm" {
		if _, err := out.ReadString('\n'); err != nil {
			return r, nil, nil, errors.Join(fmt.Errorf("client of %s: %w", stack, err), cmd.Wait())
		}
	}
	start = func() error { _, err := io.WriteString(in, "\n"); return err }
	wait = func() (peer.Report, error) {
		line, readErr := out.ReadBytes('\n')
		if err := cmd.Wait(); err != nil || readErr != nil {
			return r, errors.Join(fmt.Errorf("client of %s", stack), err, readErr)
		}
		took := time.Since(begin)
		if err := json.Unmarshal(line, &r); err != nil {
			return r, err
		}
		if kind == "cold" { // a command is its whole process
			u := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			r.Wall, r.CPU = took, time.Duration(u.Utime.Nano()+u.Stime.Nano())
		}
		if r.Failed > 0 {
			return r, fmt.Errorf("client of %s: %d of %d calls failed: %s", stack, r.Failed, r.Calls, r.Error)
		}
		return r, nil
	}
	return r, start, wait, nil
}

// sample is one turn of a stack, per call where that makes sense.
type sample struct {
	wall, cpu, serverCPU float64 // µs
	allocs, serverAllocs float64
	rss, serverRSS       float64 // MiB
}

func (b *bench) turn(s *server, stack, mode, kind string, hosts int) (sample, error) {
	calls := 1
	if kind == "warm" {
		calls = max(b.calls, hosts)
	}
	_, start, wait, err := b.client(stack, mode, kind, s.port, hosts, calls)
	if err != nil {
		return sample{}, err
	}
	before, err := s.usage()
	if err != nil {
		return sample{}, err
	}
	if kind == "warm" {
		if err := start(); err != nil {
			return sample{}, err
		}
	}
	r, err := wait()
	if err != nil {
		return sample{}, err
	}
	after, err := s.usage()
	n := float64(r.Calls)
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / n }
	return sample{micros(r.Wall), micros(r.CPU), micros(after.CPU - before.CPU), float64(r.Allocs) / n,
		float64(after.Allocs-before.Allocs) / n, float64(r.RSS) / (1 << 20), float64(after.RSS) / (1 << 20)}, err
}

// compare runs all stacks by turns and prints medians and ratios.
func (b *bench) compare(mode, kind string, hosts int) error {
	got := make(map[string][]sample)
	servers := make(map[string]*server)
	defer func() {
		for _, s := range servers {
			_ = s.stop()
		}
	}()
	for _, stack := range b.stacks {
		s, err := b.serve(stack, mode)
		if err != nil {
			return err
		}
		servers[stack] = s
		// The first command warms the server up, and leaves tickets.
		if _, err := b.turn(s, stack, mode, kind, hosts); err != nil {
			return err
		}
	}
	rounds := b.rounds
	if kind == "cold" && hosts < 64 {
		rounds *= 4
	}
	for range rounds {
		for _, stack := range b.stacks {
			one, err := b.turn(servers[stack], stack, mode, kind, hosts)
			if err != nil {
				return err
			}
			got[stack] = append(got[stack], one)
		}
	}
	fmt.Fprintf(b.out, "\n%s, %s, %d hosts", kind, mode, hosts)
	if kind == "warm" {
		fmt.Fprintf(b.out, ", %d calls at a time on each connection", b.depth)
	}
	fmt.Fprintln(b.out, ", per call:")
	b.table(got)
	return nil
}

func (b *bench) table(got map[string][]sample) {
	w := tabwriter.NewWriter(b.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "stack\twall µs\tclient CPU µs\tserver CPU µs\tclient allocs\tserver allocs\tclient RSS MiB\tserver RSS MiB\tratio: wall\tclient CPU\tserver CPU\tallocs\tRSS\t")
	fields := []func(sample) float64{
		func(s sample) float64 { return s.wall }, func(s sample) float64 { return s.cpu }, func(s sample) float64 { return s.serverCPU },
		func(s sample) float64 { return s.allocs }, func(s sample) float64 { return s.serverAllocs },
		func(s sample) float64 { return s.rss }, func(s sample) float64 { return s.serverRSS },
	}
	ours := make([]float64, len(fields))
	for _, stack := range b.stacks {
		row := []string{stack}
		m := make([]float64, len(fields))
		for i, field := range fields {
			m[i] = median(got[stack], field)
			row = append(row, fmt.Sprintf("%.1f", m[i]))
		}
		if stack == "ours" {
			ours = m
		}
		for _, pair := range [][2]float64{{m[0], ours[0]}, {m[1], ours[1]}, {m[2], ours[2]}, {m[3] + m[4], ours[3] + ours[4]}, {m[5], ours[5]}} {
			row = append(row, ratio(pair[0], pair[1]))
		}
		fmt.Fprintln(w, strings.Join(row, "\t")+"\t")
	}
	_ = w.Flush()
}

func ratio(theirs, ours float64) string {
	if ours <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f×", theirs/ours)
}

func median(all []sample, of func(sample) float64) float64 {
	values := make([]float64, len(all))
	for i, s := range all {
		values[i] = of(s)
	}
	slices.Sort(values)
	if len(values) == 0 {
		return 0
	}
	return values[len(values)/2]
}

// sizes compares executables and the start of a client that connects to nobody.
func (b *bench) sizes() error {
	fmt.Fprintln(b.out, "executables, and the start of a client process:")
	cpu, wall := make(map[string][]sample), make(map[string]int64)
	for range 20 {
		for _, stack := range b.stacks {
			begin := time.Now()
			cmd := exec.Command(b.exe(stack), append([]string{"noop"}, b.args(stack, "mtls")...)...)
			if err := cmd.Run(); err != nil {
				return err
			}
			took := time.Since(begin)
			u := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			cpu[stack] = append(cpu[stack], sample{wall: float64(took.Microseconds()), cpu: float64(u.Utime.Nano()+u.Stime.Nano()) / 1000})
		}
	}
	w := tabwriter.NewWriter(b.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "stack\tsize MiB\tstart ms\tCPU ms\t")
	for _, stack := range b.stacks {
		info, err := os.Stat(b.exe(stack))
		if err != nil {
			return err
		}
		wall[stack] = info.Size()
		fmt.Fprintf(w, "%s\t%.1f\t%.2f\t%.2f\t\n", stack, float64(info.Size())/(1<<20),
			median(cpu[stack], func(s sample) float64 { return s.wall })/1000, median(cpu[stack], func(s sample) float64 { return s.cpu })/1000)
	}
	return w.Flush()
}

// bytes counts what a cold call moves, through a proxy that knows no protocol.
func (b *bench) bytes(mode string) error {
	const calls = 20
	fmt.Fprintf(b.out, "\n%s, bytes of a cold call:\n", mode)
	w := tabwriter.NewWriter(b.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "stack\tsent\treceived\tratio\t")
	ours := 0.0
	for _, stack := range b.stacks {
		up, down, err := b.count(stack, mode, calls)
		if err != nil {
			return err
		}
		if stack == "ours" {
			ours = up + down
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%s\t\n", stack, up/calls, down/calls, ratio(up+down, ours))
	}
	return w.Flush()
}

func (b *bench) count(stack, mode string, calls int) (up, down float64, err error) {
	s, err := b.serve(stack, mode)
	if err != nil {
		return 0, 0, err
	}
	defer s.stop()
	ln, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		return 0, 0, err
	}
	var sent, received atomic.Int64
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { forward(c, "127.0.0.1:"+s.port, &sent, &received) })
		}
	})
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return 0, 0, err
	}
	for _, counted := range []bool{false, true} { // the first leaves tickets
		sent.Store(0)
		received.Store(0)
		_, _, wait, err := b.client(stack, mode, "cold", port, 1, calls)
		if err != nil {
			return 0, 0, err
		}
		if _, err := wait(); err != nil {
			return 0, 0, err
		}
		_ = counted
	}
	_ = ln.Close()
	all.Wait()
	return float64(sent.Load()), float64(received.Load()), nil
}

func forward(c net.Conn, to string, sent, received *atomic.Int64) {
	defer c.Close()
	far, err := net.Dial("tcp4", to)
	if err != nil {
		return
	}
	defer far.Close()
	var both sync.WaitGroup
	pipe := func(dst, src net.Conn, n *atomic.Int64) {
		buf := make([]byte, 32<<10)
		for {
			k, err := src.Read(buf)
			n.Add(int64(k))
			if k > 0 {
				if _, err := dst.Write(buf[:k]); err != nil {
					break
				}
			}
			if err != nil {
				break
			}
		}
		_ = dst.(*net.TCPConn).CloseWrite()
	}
	both.Go(func() { pipe(far, c, sent) })
	both.Go(func() { pipe(c, far, received) })
	both.Wait()
}
