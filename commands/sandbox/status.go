package sandbox

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"

	"github.com/spf13/cobra"
)

// state sums a sandbox up.
type state string

const (
	stateUp     state = "up"
	statePartly state = "partly up"
	stateDown   state = "down"
)

// status is the answer of status and up.
type status struct {
	Dir      string           `json:"dir"`
	System   string           `json:"system"`
	Secure   bool             `json:"secure"`
	State    state            `json:"state"`
	Hosts    []hostStatus     `json:"hosts"`
	Members  []cluster.Member `json:"members"`
	Leader   string           `json:"leader"`
	Replicas []string         `json:"replicas"`
	Agent    agentStatus      `json:"agent"`
	// Problems say what keeps the state from being up.
	Problems []string `json:"problems"`
	// Seconds is how long up took.
	Seconds float64 `json:"seconds,omitempty"`

	anything bool // runs at all
}

// hostStatus is one host; PID is 0 when its server does not run.
type hostStatus struct {
	Name    string         `json:"name"`
	Addr    string         `json:"addr"`
	PID     int            `json:"pid"`
	Replica bool           `json:"replica"`
	Engines []engineStatus `json:"engines"`
}

// engineStatus is one engine; Rank is nil before it first joined.
type engineStatus struct {
	Index int            `json:"index"`
	PID   int            `json:"pid"`
	Rank  *hostlist.Rank `json:"rank"`
}

type agentStatus struct {
	PID    int    `json:"pid"`
	Socket string `json:"socket"`
	// Wanted is set when the last up started one.
	Wanted bool `json:"wanted"`
}

func newStatus(t *cli.Tool) *cobra.Command {
	dir := ""
	cmd := &cobra.Command{
		Use:   "status --dir DIR",
		Short: "show processes, ranks, leader and agent",
		Long: `Show the processes of the sandbox, the ranks with their states, who leads the
management service, and the agent. The exit status is 0 when all is well, 3 when
only a part runs, 4 when nothing does.`,
		Args: cli.NoArgs,
	}
	dirFlag(t, cmd, &dir)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runStatus(cmd.Context(), t, dir) }
	return cmd
}

func runStatus(ctx context.Context, t *cli.Tool, dir string) error {
	l, err := resolve(t, dir)
	if err != nil {
		return err
	}
	b, err := openBox(t, l)
	if err != nil {
		return err
	}
	s := b.status(ctx)
	t.Show(s, s.print)
	return s.verdict()
}

func (s *status) verdict() error {
	switch s.State {
	case stateUp:
		return nil
	case stateDown:
		return fault.New(fault.Unreachable, "nothing of the sandbox %s runs", s.Dir).WithHint("start it with `daosbox sandbox up --dir %s`", s.Dir)
	}
	return fault.New(fault.Partial, "the sandbox %s is only partly up: %s", s.Dir, strings.Join(s.Problems, "; ")).
		WithHint("`daosbox sandbox up --dir %s` starts what does not run", s.Dir)
}

// askTime bounds each question that status asks the system.
const askTime = 5 * time.Second

// status looks at everything; what cannot be learned is a problem, no error.
func (b *box) status(ctx context.Context) *status {
	s := &status{Dir: b.dir, System: b.System, Secure: !b.Insecure, Replicas: b.replicas(), Problems: []string{}, Members: []cluster.Member{}}
	s.Agent = agentStatus{Socket: b.agentSocket(), Wanted: b.Agent}
	running, err := find(b.layout)
	if err != nil {
		s.problem("%v", err)
	}
	s.anything = len(running) > 0
	for host := 1; host <= b.Hosts; host++ {
		s.addHost(b, host, running)
	}
	if agents := only(running, agentProcess, 0); len(agents) > 0 {
		s.Agent.PID = agents[0].pid
	}
	if !s.anything {
		s.State = stateDown
		return s
	}
	s.ask(ctx, b)
	s.State = stateUp
	if len(s.Problems) > 0 {
		s.State = statePartly
	}
	return s
}

func (s *status) problem(format string, args ...any) {
	s.Problems = append(s.Problems, fmt.Sprintf(format, args...))
}

func (s *status) addHost(b *box, host int, running []process) {
	h := hostStatus{Name: hostName(host), Addr: b.control(host), Replica: slices.Contains(s.Replicas, b.control(host))}
	if servers := only(running, serverProcess, host); len(servers) > 0 {
		h.PID = servers[0].pid
	} else {
		s.problem("%s does not run", h.Name)
	}
	for engine := range b.RanksPerHost {
		e := engineStatus{Index: engine}
		if rank, ok := b.rankOf(host, engine); ok {
			e.Rank = &rank
		}
		for _, p := range only(running, engineProcess, host) {
			if p.engine == engine {
				e.PID = p.pid
			}
		}
		if e.PID == 0 && h.PID != 0 {
			s.problem("%s does not run", processName(host, engine))
		}
		h.Engines = append(h.Engines, e)
	}
	s.Hosts = append(s.Hosts, h)
}

// ask adds what the system and the agent say.
func (s *status) ask(ctx context.Context, b *box) {
	if err := b.connect(); err != nil {
		s.problem("%v", err)
		return
	}
	silent := make([]error, len(s.Hosts))
	var group sync.WaitGroup
	for i, h := range s.Hosts {
		if h.PID != 0 {
			group.Go(func() { silent[i] = b.answers(ctx, i+1) })
		}
	}
	var members []cluster.Member
	var membersErr, leaderErr, agentErr error
	group.Go(func() { members, membersErr = b.members(ctx, askTime) })
	group.Go(func() { s.Leader, leaderErr = b.leader(ctx, askTime) })
	if s.Agent.PID != 0 {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askTime)
			defer cancel()
			_, agentErr = askAgent(ctx, b.layout, b.System)
		})
	}
	group.Wait()
	for i, err := range silent {
		if err != nil {
			s.problem("%s does not answer: %v", s.Hosts[i].Name, err)
		}
	}
	switch {
	case membersErr != nil:
		s.problem("%v", membersErr)
	case leaderErr != nil:
		s.problem("%v", leaderErr)
	case s.Leader == "":
		s.problem("nobody leads the management service")
	}
	if members != nil {
		s.Members = members
	}
	if membersErr == nil {
		s.judge(b.ranks())
	}
	switch {
	case s.Agent.PID == 0 && s.Agent.Wanted:
		s.problem("the agent does not run")
	case agentErr != nil:
		s.problem("%v", agentErr)
	}
}

func (s *status) judge(ranks int) {
	for _, m := range s.Members {
		if !(lives)(nil).settled(m) {
			s.problem("rank %d is %s", m.Rank, m.State)
		}
	}
	if len(s.Members) < ranks {
		s.problem("%d of %d ranks have ever joined", len(s.Members), ranks)
	}
}

// print is the answer for people.
func (s *status) print(w io.Writer) {
	secure := "with certificates"
	if !s.Secure {
		secure = "without certificates"
	}
	fmt.Fprintf(w, "sandbox %s: system %s is %s, %s\n\n", s.Dir, s.System, s.State, secure)
	rows := make([][]string, 0, len(s.Hosts))
	for _, h := range s.Hosts {
		var engines, ranks []string
		for _, e := range h.Engines {
			engines = append(engines, processText(e.PID))
			if e.Rank != nil {
				ranks = append(ranks, strconv.FormatUint(uint64(*e.Rank), 10))
			}
		}
		rows = append(rows, []string{h.Name, h.Addr, processText(h.PID), s.roleOf(h), strings.Join(engines, ","), strings.Join(ranks, ",")})
	}
	cli.Table(w, "", []string{"Host", "Control Address", "Server", "Management Service", "Engines", "Ranks"}, rows)
	if len(s.Members) > 0 {
		fmt.Fprintln(w)
		rows = rows[:0]
		for _, m := range s.Members {
			rows = append(rows, []string{strconv.FormatUint(uint64(m.Rank), 10), m.State.String(), m.FaultDomain, m.Addr, m.Info})
		}
		cli.Table(w, "", []string{"Rank", "State", "Fault Domain", "Control Address", "Reason"}, rows)
	}
	if s.Agent.Wanted || s.Agent.PID != 0 {
		fmt.Fprintf(w, "\nagent: %s on %s\n", processText(s.Agent.PID), s.Agent.Socket)
	}
	for _, problem := range s.Problems {
		fmt.Fprintf(w, "problem: %s\n", problem)
	}
}

func processText(pid int) string {
	if pid == 0 {
		return "down"
	}
	return strconv.Itoa(pid)
}

func (s *status) roleOf(h hostStatus) string {
	switch {
	case h.Addr == s.Leader:
		return "leader"
	case h.Replica:
		return "replica"
	}
	return "-"
}

// agentFraming is what clients of this release speak.
const agentFraming = drpc.Chunked

// askAgent asks the agent for what a client needs to attach, as a client does.
func askAgent(ctx context.Context, l layout, system string) (*pb.GetAttachInfoResp, error) {
	resp := new(pb.GetAttachInfoResp)
	err := drpc.Invoke(ctx, l.agentSocket(), agentFraming, drpc.MethodGetAttachInfo, &pb.GetAttachInfoReq{Sys: system}, resp)
	if err == nil {
		err = drpc.StatusError(resp.GetStatus())
	}
	if err != nil {
		return nil, fault.Wrap(fault.Of(err), err, "cannot ask the agent at %s", l.agentSocket())
	}
	return resp, nil
}
