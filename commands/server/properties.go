package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

// serveProperties sets the handlers of attributes and properties of the system.
func (s *server) serveProperties() {
	control.Handle(s.mux, control.SystemSetAttr, s.systemSetAttr)
	control.Handle(s.mux, control.SystemGetAttr, s.systemGetAttr)
	control.Handle(s.mux, control.SystemSetProp, s.systemSetProp)
	control.Handle(s.mux, control.SystemSelfHealEval, s.systemSelfHealEval)
}

func (s *server) systemSetAttr(ctx context.Context, _ control.Caller, req *control.SystemSetAttrReq, _ control.Report) (control.Empty, error) {
	service, err := s.leader()
	if err != nil {
		return control.Empty{}, err
	}
	if len(req.Attributes) == 0 {
		return control.Empty{}, fault.New(fault.Usage, "cannot set attributes: none is named")
	}
	body, err := cluster.UserAttributes(req.Attributes)
	if err != nil {
		return control.Empty{}, err
	}
	_, err = service.Apply(ctx, req.OpID, body)
	return control.Empty{}, err
}

func (s *server) systemGetAttr(ctx context.Context, _ control.Caller, req *control.SystemGetAttrReq, _ control.Report) (control.SystemGetAttrResp, error) {
	resp := control.SystemGetAttrResp{Attributes: make(map[string]string)}
	service, err := s.leader()
	if err != nil {
		return resp, err
	}
	view, err := service.Read(ctx)
	if err != nil {
		return resp, err
	}
	all := view.Attributes("")
	if len(req.Keys) == 0 {
		resp.Attributes = all
		return resp, nil
	}
	for _, key := range req.Keys {
		value, ok := all[key]
		if !ok {
			return resp, fault.New(fault.NotFound, "cannot get system attribute %q: there is none", key).
				WithHint("`dmg system get-attr` lists all")
		}
		resp.Attributes[key] = value
	}
	return resp, nil
}

// systemSetProp records properties, then tells the pools there are; new pools get
// them when they are created.
func (s *server) systemSetProp(ctx context.Context, _ control.Caller, req *control.SystemSetPropReq, _ control.Report) (control.Empty, error) {
	service, err := s.leader()
	if err != nil {
		return control.Empty{}, err
	}
	if len(req.Properties) == 0 {
		return control.Empty{}, fault.New(fault.Usage, "cannot set system properties: none is named")
	}
	values, attributes := make(map[string]string), make(map[string]string)
	for key, value := range req.Properties {
		key, value, err := control.CheckSystemProperty(key, value)
		if err != nil {
			return control.Empty{}, err
		}
		if _, twice := values[key]; twice {
			return control.Empty{}, fault.New(fault.Usage, "cannot set system property %s twice", key)
		}
		values[key], attributes[cluster.PropPrefix+key] = value, value
	}
	if _, err := service.Apply(ctx, req.OpID, cluster.SetAttributes{Attributes: attributes}); err != nil {
		return control.Empty{}, err
	}
	s.log.Info("set system properties", "properties", values)
	return control.Empty{}, s.pushProperties(ctx, service, values)
}

// pushProperties tells every pool of changed system properties. What a pool could
// not be told is an error, while the properties are set.
func (s *server) pushProperties(ctx context.Context, service *cluster.Service, values map[string]string) error {
	scrub, err := scrubProperties(values)
	if err != nil {
		return err
	}
	policy, heal := values[control.PropSelfHeal]
	failed := eachPool(service.Local(), func(pool *cluster.PoolRecord) (error, bool) {
		err := s.pushToPool(ctx, pool, scrub, policy, heal)
		return err, err != nil
	})
	return s.poolsFailed(failed, "set in the system, but not in")
}

// poolsFailed sums up what went wrong with pools.
func (s *server) poolsFailed(failed []error, what string) error {
	if len(failed) == 0 {
		return nil
	}
	for _, err := range failed {
		s.log.Error("cannot tell a pool", "error", err)
	}
	return fault.Wrap(fault.Partial, failed[0], "%s %d pool(s)", what, len(failed)).
		WithHint("repeat the command when all ranks are up")
}

func (s *server) pushToPool(ctx context.Context, pool *cluster.PoolRecord, scrub []*pb.PoolProperty, policy string, heal bool) error {
	if len(scrub) > 0 {
		req := &pb.PoolSetPropReq{Sys: s.cfg.Name, Id: pool.UUID, SvcRanks: numbersOf(pool.Replicas), Properties: scrub}
		if err := s.askPool(ctx, drpc.MethodPoolSetProp, req, new(pb.PoolSetPropResp)); err != nil {
			return fault.Wrap(fault.Engine, err, "cannot set properties of pool %q", poolID(pool))
		}
	}
	if heal {
		return s.evalPool(ctx, pool, policy)
	}
	return nil
}

// scrubProperties are the pool properties that system properties stand for.
func scrubProperties(values map[string]string) ([]*pb.PoolProperty, error) {
	var properties []*pb.PoolProperty
	for _, key := range slices.Sorted(maps.Keys(values)) {
		var number uint32
		switch key {
		case control.PropScrubMode:
			number = drpc.PropScrub
		case control.PropScrubThresh:
			number = drpc.PropScrubThresh
		default:
			continue
		}
		row, ok := drpc.PoolPropByNumber(number)
		if !ok {
			return nil, fault.New(fault.Internal, "cannot set %s in pools: there is no property %d", key, number)
		}
		m, err := row.Parse(values[key])
		if err != nil {
			return nil, err
		}
		properties = append(properties, m)
	}
	return properties, nil
}

// evalPool has a pool apply the system's self-heal policy.
func (s *server) evalPool(ctx context.Context, pool *cluster.PoolRecord, policy string) error {
	req := &pb.PoolSelfHealEvalReq{Sys: s.cfg.Name, Id: pool.UUID, SysPropVal: policy, SvcRanks: numbersOf(pool.Replicas)}
	if err := s.askPool(ctx, drpc.MethodPoolSelfHealEval, req, new(pb.DaosResp)); err != nil {
		return fault.Wrap(fault.Engine, err, "cannot apply the self-heal policy to pool %q", poolID(pool))
	}
	return nil
}

// systemSelfHealEval applies the policy to what it was not applied to while it was
// another: ranks that died since are excluded if it says so, then the pools look at
// their ranks again.
func (s *server) systemSelfHealEval(ctx context.Context, _ control.Caller, _ *control.SystemSelfHealEvalReq, _ control.Report) (control.Empty, error) {
	service, err := s.leader()
	if err != nil {
		return control.Empty{}, err
	}
	view, err := service.Read(ctx)
	if err != nil {
		return control.Empty{}, err
	}
	policy := selfHeal(view)
	if cluster.SelfHealExclude(policy) {
		if err := s.excludeDead(ctx, service); err != nil {
			return control.Empty{}, err
		}
	}
	failed := eachPool(view, func(pool *cluster.PoolRecord) (error, bool) {
		err := s.evalPool(ctx, pool, policy)
		return err, err != nil
	})
	return control.Empty{}, s.poolsFailed(failed, "self-heal policy was not applied to")
}

// excludeDead excludes the ranks that the engines find dead now. They do not say
// which life they mean; it is the one that they know from the group map.
func (s *server) excludeDead(ctx context.Context, service *cluster.Service) error {
	answer := new(pb.GetGroupStatusResp)
	if err := s.askPool(ctx, drpc.MethodGetGroupStatus, new(pb.GetGroupStatusReq), answer); err != nil {
		return fault.Wrap(fault.Engine, err, "cannot learn which ranks are dead")
	}
	var lines []string
	for _, number := range answer.GetDeadRanks() {
		row, err := service.HandleRankDead(ctx, hostlist.Rank(number), 0)
		if err != nil {
			return err
		}
		if row.Changed {
			lines = append(lines, fmt.Sprint(number))
		}
	}
	if len(lines) > 0 {
		s.log.Info("excluded ranks that died under another self-heal policy", "ranks", strings.Join(lines, ","))
	}
	return nil
}
