package cluster

import (
	"cmp"
	"context"
	"slices"
	"time"

	"daosbox/cluster/fault"
)

// A batch has at most so many joins and, but for a single join, so many bytes,
// well below the limit of a log entry.
const (
	maxBatch      = 512
	maxBatchBytes = maxCommand / 4
)

// pendingJoin is a join that waits for its batch.
type pendingJoin struct {
	req    JoinRequest
	answer chan joinAnswer // room for one
}

type joinAnswer struct {
	row JoinResult
	err error
}

// Join makes an engine a rank of the system, or refreshes the rank it has. Joins
// that come together share one log entry; each is answered by itself. The error is
// the refusal.
func (s *Service) Join(ctx context.Context, req JoinRequest) (JoinResult, error) {
	l, ctx, cancel, err := s.enter(ctx)
	if err != nil {
		return JoinResult{}, err
	}
	defer cancel()
	if err := s.admit(ctx, req); err != nil {
		return JoinResult{}, err
	}
	p := &pendingJoin{req: req, answer: make(chan joinAnswer, 1)}
	select {
	case s.joins <- p:
	case <-l.ctx.Done():
		return JoinResult{}, s.notLeader()
	case <-ctx.Done():
		return JoinResult{}, ended(ctx, "join the system")
	}
	select {
	case a := <-p.answer:
		return s.joined(req, a)
	case <-ctx.Done():
		return JoinResult{}, ended(ctx, "join the system")
	}
}

func (s *Service) joined(req JoinRequest, a joinAnswer) (JoinResult, error) {
	if a.err != nil {
		return JoinResult{}, a.err
	}
	if a.row.Err != nil {
		s.cfg.Logger.Warn("refused a join", "addr", req.Addr, "uuid", req.UUID, "error", a.row.Err)
		return a.row, a.row.Err
	}
	a.row.Local = s.cfg.Local(req)
	s.cfg.Logger.Info("rank joined", "rank", a.row.Rank, "addr", req.Addr, "new", a.row.Created, "map", a.row.MapVersion)
	return a.row, nil
}

// admit refuses what only the leader can judge.
func (s *Service) admit(ctx context.Context, req JoinRequest) error {
	if req.System != s.cfg.System {
		return fault.New(fault.WrongSystem, "cannot join engine of %s: it belongs to system %q, this is %q", req.Addr, req.System, s.cfg.System).
			WithHint("set name: %s in the configuration of that server, or list the replicas of its own system", s.cfg.System)
	}
	if err := req.checkSize(); err != nil {
		return err
	}
	view := s.Local()
	if req.Rank == 0 && view.Member(0) == nil && (req.Addr != s.cfg.Replicas[0] || req.Index != 0) {
		return fault.New(fault.Refused, "cannot join engine %d of %s as rank 0: it is reserved for engine 0 of %s", req.Index, req.Addr, s.cfg.Replicas[0]).
			WithHint("list the replicas in the same order in the configuration of all servers")
	}
	if req.Replace {
		return s.admitReplace(ctx, view, req)
	}
	return nil
}

// admitReplace refuses to give the rank of lost storage to new storage while a
// pool counts on it.
func (s *Service) admitReplace(ctx context.Context, view *View, req JoinRequest) error {
	path, _, err := splitDomain(req.FaultDomain)
	if err != nil {
		return err
	}
	m := &Member{UUID: req.UUID, Addr: req.Addr, FabricURI: req.FabricURI, FaultDomain: path, SecondaryFabricURIs: req.SecondaryFabricURIs}
	at := slices.IndexFunc(view.Members(StatesAll), m.sameButUUID)
	if at < 0 {
		return nil // the database says why
	}
	rank := view.Members(StatesAll)[at].Rank
	pool, err := s.enabledIn(ctx, view, rank)
	if err != nil {
		return err
	}
	if pool != "" {
		return fault.New(ReplaceEnabledRank, "cannot replace rank %d: it is enabled in pool %q", rank, pool).
			WithHint("exclude it first: `dmg pool exclude --ranks=%d %s`", rank, pool)
	}
	return nil
}

func (s *Service) enabledIn(ctx context.Context, view *View, rank Rank) (string, error) {
	if s.cfg.RankEnabled != nil {
		pool, err := s.cfg.RankEnabled(ctx, rank)
		if err != nil {
			return "", fault.Wrap(fault.Of(err), err, "cannot replace rank %d", rank)
		}
		return pool, nil
	}
	using := view.PoolsUsing(rank)
	if len(using) == 0 {
		return "", nil
	}
	return cmp.Or(using[0].Label, using[0].UUID), nil
}

// batchJoins owns the queue while the lead lasts.
func (s *Service) batchJoins(l *lead) {
	for {
		var batch []*pendingJoin
		select {
		case p := <-s.joins:
			batch = s.collect(l, p)
		case <-l.ctx.Done():
			return
		}
		s.commitJoins(l, batch)
	}
}

// collect waits for more joins until none comes for a moment, the window is over
// or the batch is full.
func (s *Service) collect(l *lead, first *pendingJoin) []*pendingJoin {
	batch := []*pendingJoin{first}
	window := time.NewTimer(s.cfg.Timers.JoinWindow)
	defer window.Stop()
	quiet := time.NewTimer(s.cfg.Timers.JoinQuiet)
	defer quiet.Stop()
	for bytes := first.req.size(); len(batch) < maxBatch && bytes < maxBatchBytes; {
		select {
		case p := <-s.joins:
			batch = append(batch, p)
			bytes += p.req.size()
			quiet.Reset(s.cfg.Timers.JoinQuiet)
		case <-quiet.C:
			return batch
		case <-window.C:
			return batch
		case <-l.ctx.Done():
			return batch
		}
	}
	return batch
}

func (s *Service) commitJoins(l *lead, batch []*pendingJoin) {
	body := JoinBatch{Joins: make([]JoinRequest, len(batch))}
	for i, p := range batch {
		body.Joins[i] = p.req
	}
	ctx, cancel := s.bound(l.ctx)
	defer cancel()
	res, err := s.commit(ctx, l, "", body)
	if err == nil && len(res.Joins) != len(batch) {
		err = fault.New(fault.Internal, "cannot join: %d answers for %d requests", len(res.Joins), len(batch))
	}
	joined := false
	for i, p := range batch {
		a := joinAnswer{err: err}
		if err == nil {
			a.row = res.Joins[i]
			joined = joined || a.row.Err == nil
		}
		p.answer <- a
	}
	if joined {
		l.group.request(true)
	}
}
