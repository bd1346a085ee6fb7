package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"

	"github.com/google/uuid"
)

// The erasure of a system, by the leader or whoever goes on in its place:
//
//  1. the database gets a mark, after which nobody joins;
//  2. every replica notes on its disk which erasure it takes part in;
//  3. every host is asked whether its engines are down;
//  4. every host takes the identity of its engines away;
//  5. every replica halts: it closes its database and, since it notes that first,
//     does not open it again after a restart;
//  6. every replica removes its database.
//
// Each step is done on all before the next is begun on any, and each may be
// repeated. Up to 3 nothing is lost and a failure takes the mark back. From 4 on
// there is only forward: `system erase` is given again, and goes on. In 5 the
// majority may be gone, so that there is no leader; then a halted replica
// coordinates, which knows from its note that 4 is done everywhere. No new database
// is begun before a format, none of the old is served after 5, and so replicas of
// the two never meet.

// erasingAttr holds the id of the erasure that is under way.
const erasingAttr = cluster.MgmtPrefix + "erasing"

func (s *server) serveErase() {
	control.Handle(s.mux, control.SystemErase, s.systemErase)
	control.Handle(s.mux, control.ResetFormat, s.resetFormat)
	control.Handle(s.mux, control.ReplicaErase, s.replicaErase)
}

// notErasing refuses what brings ranks into a system that is being erased.
func notErasing(service *cluster.Service) error {
	if service.Local().Attribute(erasingAttr) == "" {
		return nil
	}
	return fault.New(fault.NotReady, "cannot do this: the system is being erased").
		WithHint("finish that by repeating `dmg system erase`")
}

// halted is what a replica answers that has given its database up.
func halted() error {
	return fault.New(fault.NotReady, "cannot serve the management service: the system is being erased").
		WithHint("finish that by repeating `dmg system erase`, then format the storage with `dmg storage format`")
}

func (s *server) systemErase(ctx context.Context, _ control.Caller, _ *control.SystemEraseReq, report control.Report) (control.Empty, error) {
	if !s.erase.TryLock() {
		return control.Empty{}, fault.New(fault.Busy, "cannot erase the system: that is being done")
	}
	defer s.erase.Unlock()
	service := s.replica()
	if service == nil {
		mark, err := s.eraseMark()
		if err == nil && !mark.Halted {
			_, err = s.leader()
		}
		if err != nil {
			return control.Empty{}, err
		}
		return control.Empty{}, s.giveUpReplicas(ctx, mark.ID, report)
	}
	hosts, id, err := s.prepareErase(ctx, service, report)
	if err != nil {
		return control.Empty{}, err
	}
	report(control.Progress{Text: "taking the engines' identity", Done: 1, Total: eraseSteps})
	s.log.Warn("erasing the system", "id", id, "hosts", hosts)
	if err := s.onAll(hosts, func(host string) error { return s.resetHost(ctx, host, false) }); err != nil {
		return control.Empty{}, unfinished(err)
	}
	return control.Empty{}, s.giveUpReplicas(ctx, id, report)
}

const eraseSteps = 4

func unfinished(err error) error {
	return fault.Wrap(fault.Partial, err, "the system is erased in part").
		WithHint("repeat `dmg system erase` when all its servers are up; nothing joins until then")
}

// prepareErase does the steps that lose nothing and returns the hosts concerned and
// the erasure's id.
func (s *server) prepareErase(ctx context.Context, service *cluster.Service, report control.Report) (hosts []string, id string, err error) {
	view, err := service.Read(ctx)
	if err != nil {
		return nil, "", err
	}
	if err := allDown(view); err != nil {
		return nil, "", err
	}
	hosts = slices.Clone(service.Replicas())
	for _, m := range view.Members(cluster.StatesAll) {
		hosts = append(hosts, m.Addr)
	}
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	report(control.Progress{Text: "asking all servers", Total: eraseSteps})
	id = view.Attribute(erasingAttr)
	begun := id != "" // by an earlier request, which may have come further
	if !begun {
		id = uuid.NewString()
		if _, err := service.Apply(ctx, "", cluster.SetAttributes{Attributes: map[string]string{erasingAttr: id}}); err != nil {
			return nil, "", err
		}
	}
	// Read again: what joined before the mark is there now.
	if view, err = service.Read(ctx); err != nil {
		return nil, "", err
	}
	err = allDown(view)
	if err == nil {
		err = s.onAll(service.Replicas(), func(host string) error { return s.eraseStep(ctx, host, id, control.ErasePrepare) })
	}
	if err == nil {
		err = s.onAll(hosts, func(host string) error { return s.resetHost(ctx, host, true) })
	}
	switch {
	case err == nil:
		return hosts, id, nil
	case begun:
		return nil, "", unfinished(err)
	}
	if _, e := service.Apply(context.WithoutCancel(ctx), "", cluster.SetAttributes{Attributes: map[string]string{erasingAttr: ""}}); e != nil {
		return nil, "", unfinished(errors.Join(err, e))
	}
	return nil, "", fault.Wrap(fault.Refused, err, "nothing was erased").WithHint("%s", fault.HintOf(err))
}

// allDown refuses while a rank takes part in the system.
func allDown(view *cluster.View) error {
	up := hostlist.Ranks()
	for _, m := range view.Members(cluster.StatesAvailable | cluster.StateCheckerStarted) {
		up.Add(m.Rank)
	}
	if up.Len() == 0 {
		return nil
	}
	return fault.New(fault.Refused, "cannot erase the system: ranks %s are up", up).
		WithHint("stop them with `dmg system stop`, then repeat")
}

// giveUpReplicas does the last steps, on this replica last: as long as it has not
// done one it can be asked to repeat it.
func (s *server) giveUpReplicas(ctx context.Context, id string, report control.Report) error {
	others := slices.DeleteFunc(slices.Clone(s.replicas), func(addr string) bool { return addr == s.self })
	for i, phase := range []control.ErasePhase{control.EraseHalt, control.EraseRemove} {
		report(control.Progress{Text: "giving the management service's database up", Done: i + 2, Total: eraseSteps})
		err := s.onAll(others, func(host string) error { return s.eraseStep(ctx, host, id, phase) })
		if err == nil {
			err = s.eraseReplica(ctx, id, phase)
		}
		if err != nil {
			return unfinished(err)
		}
	}
	s.log.Warn("the system is erased; its engines wait for a format", "id", id)
	return nil
}

func (s *server) resetHost(ctx context.Context, host string, check bool) error {
	_, err := control.Call(ctx, s.client, host, control.ResetFormat, &control.ResetFormatReq{Check: check}, nil)
	return err
}

func (s *server) eraseStep(ctx context.Context, host, id string, phase control.ErasePhase) error {
	_, err := control.Call(ctx, s.client, host, control.ReplicaErase, &control.ReplicaEraseReq{ID: id, Phase: phase}, nil)
	return err
}

// Bounds of onAll: how many hosts are asked at once, and how many are named when
// they fail.
const (
	hostCalls  = 64
	hostsNamed = 5
)

// onAll asks hosts, some at a time; its error names those that failed. Its code is
// not theirs: that one of them cannot be reached does not mean that this one cannot.
func (s *server) onAll(hosts []string, call func(host string) error) error {
	errs := make([]error, len(hosts))
	slots := make(chan struct{}, hostCalls)
	var wait sync.WaitGroup
	for i, host := range hosts {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			errs[i] = call(host)
		})
	}
	wait.Wait()
	var first error
	failed := hostlist.Of()
	var reasons []string
	for i, err := range errs {
		if err == nil {
			continue
		}
		failed.Add(hosts[i])
		if first == nil {
			first = err
		}
		if len(reasons) < hostsNamed {
			reasons = append(reasons, hosts[i]+": "+fault.OneLine(err.Error()))
		}
	}
	if first == nil {
		return nil
	}
	return fault.New(fault.Partial, "cannot erase the system because of %s: %s", failed, strings.Join(reasons, "; ")).
		WithHint("%s", fault.HintOf(first))
}
