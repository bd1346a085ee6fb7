package control

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"daosbox/cluster/pki"
	"daosbox/cluster/wire"
)

// benchClient in the environment makes this program a client of a benchmark: the
// directory of its certificates. Its arguments are the mode, the number of hosts
// and their port.
const benchClient = "TEST_RELAY_CLIENT"

// benchResult is what one run of a client cost.
type benchResult struct {
	Wall   time.Duration
	CPU    time.Duration // user and system, of the whole process
	RSS    int64         // KiB
	Failed int
	Via    int
}

// runBenchClient asks once, as dmg does, and prints what it cost.
func runBenchClient(certs string, args []string) error {
	var hosts, port int
	if _, err := fmt.Sscan(args[1], &hosts); err != nil {
		return err
	}
	if _, err := fmt.Sscan(args[2], &port); err != nil {
		return err
	}
	id, err := pki.Load(pki.Files{CA: certs + "/daosCA.crt", Cert: certs + "/admin.crt", Key: certs + "/admin.key"}, pki.Admin)
	if err != nil {
		return err
	}
	c := &Client{Dialer: &wire.Dialer{TLS: id.ClientTLS()}, System: "test"}
	all := make([]string, hosts)
	for i := range all {
		all[i] = fleetAddr(i+1, port).String()
	}
	var r benchResult
	begin := time.Now()
	if args[0] != "start" {
		FanOut(context.Background(), c, all, NetworkScan, &NetworkScanReq{Provider: "ofi+tcp"}, FanOutOptions{Relay: RelayMode(args[0]), Identity: id}, func(got HostResult[NetworkScanResp]) {
			if got.Err != nil {
				r.Failed++
			}
			if len(got.Via) > 0 {
				r.Via++
			}
		})
	}
	r.Wall = time.Since(begin)
	rss, err := peakRSS()
	if err != nil {
		return err
	}
	r.RSS = rss
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return err
	}
	r.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	return json.NewEncoder(os.Stdout).Encode(r)
}

// peakRSS is of this program alone; what getrusage tells began with the parent's.
func peakRSS() (kib int64, err error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	_, err = fmt.Sscan(after, &kib)
	return kib, err
}

// runClient runs a client in a process of its own, so that only its CPU counts.
func runClient(tb testing.TB, f *fleet, mode string) benchResult {
	tb.Helper()
	cmd := exec.Command(os.Args[0], mode, fmt.Sprint(len(f.hosts)), fmt.Sprint(f.port))
	cmd.Env = append(os.Environ(), benchClient+"="+f.certs)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatal(err)
	}
	var r benchResult
	if err := json.Unmarshal(out, &r); err != nil {
		tb.Fatal(err)
	}
	return r
}

func benchModes() []string { return []string{"start", "never", "always"} }

// BenchmarkRelay holds a fan-out through relays against the direct one, in turns.
// The servers share this machine, so wall is what all of them need together.
func BenchmarkRelay(b *testing.B) {
	for _, n := range []int{64, 1024, 4096} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := newFleet(b, n, true, func(_ int, h *fleetHost) { h.quiet = true })
			cold := runClient(b, f, "always") // the servers connect to each other
			var runs [3][]benchResult
			for b.Loop() {
				for i, mode := range benchModes() {
					runtime.GC() // of the servers; it is nobody's turn
					r := runClient(b, f, mode)
					if r.Failed > 0 {
						b.Fatalf("%d hosts failed", r.Failed)
					}
					runs[i] = append(runs[i], r)
				}
			}
			median := func(i int, of func(benchResult) float64) float64 {
				var all []float64
				for _, r := range runs[i] {
					all = append(all, of(r))
				}
				slices.Sort(all)
				return all[len(all)/2]
			}
			cpu := func(r benchResult) float64 { return float64(r.CPU) / 1e6 }
			wall := func(r benchResult) float64 { return float64(r.Wall) / 1e6 }
			rss := func(r benchResult) float64 { return float64(r.RSS) / 1024 }
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(0, cpu), "start-cpu-ms")
			b.ReportMetric(median(1, cpu), "direct-cpu-ms")
			b.ReportMetric(median(2, cpu), "relay-cpu-ms")
			b.ReportMetric(median(1, wall), "direct-wall-ms")
			b.ReportMetric(median(2, wall), "relay-wall-ms")
			b.ReportMetric(wall(cold), "cold-wall-ms")
			b.ReportMetric(float64(cold.Via), "cold-via")
			b.ReportMetric(cpu(cold), "cold-cpu-ms")
			b.ReportMetric(float64(runs[2][0].Via), "via")
			b.ReportMetric(median(1, rss), "direct-rss-MiB")
			b.ReportMetric(median(2, rss), "relay-rss-MiB")
			b.ReportMetric(median(1, cpu)/median(2, cpu), "cpu-ratio")
			b.ReportMetric((median(1, cpu)-median(0, cpu))/max(median(2, cpu)-median(0, cpu), 0.1), "net-cpu-ratio")
			b.ReportMetric(median(1, wall)/median(2, wall), "wall-ratio")
		})
	}
}
