package server

import (
	"context"
	"slices"
	"strings"
	"sync"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

// listQueries bounds how many pools a list asks of at once.
const listQueries = 8

// poolList lists all pools, each with what its service says unless NoQuery.
func (s *server) poolList(ctx context.Context, _ control.Caller, req *control.PoolListReq, _ control.Report) (control.PoolListResp, error) {
	resp := control.PoolListResp{Pools: []control.PoolInfo{}}
	service, err := s.leader()
	if err != nil {
		return resp, err
	}
	view, err := service.Read(ctx)
	if err != nil {
		return resp, err
	}
	pools := view.Pools()
	resp.Pools = make([]control.PoolInfo, len(pools))
	slots := make(chan struct{}, listQueries)
	var wait sync.WaitGroup
	for i, pool := range pools {
		resp.Pools[i] = recorded(pool)
		if req.NoQuery || pool.State != cluster.PoolReady {
			continue
		}
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			info, err := s.queryPool(ctx, view, pool, drpc.QueryDefault)
			if err != nil {
				resp.Pools[i].QueryError = err.Error()
				return
			}
			resp.Pools[i] = info
		})
	}
	wait.Wait()
	return resp, nil
}

// recorded is what the management service knows by itself.
func recorded(pool *cluster.PoolRecord) control.PoolInfo {
	return control.PoolInfo{
		UUID: pool.UUID, Label: pool.Label, State: pool.State.String(), SvcReps: slices.Clone(pool.Replicas), TierStats: []control.TierStats{},
	}
}

func (s *server) poolQuery(ctx context.Context, _ control.Caller, req *control.PoolQueryReq, _ control.Report) (control.PoolInfo, error) {
	mask, err := parseMask(req.Mask)
	if err != nil {
		return control.PoolInfo{}, err
	}
	service, pool, err := s.poolOf(ctx, req.ID)
	if err != nil {
		return control.PoolInfo{}, err
	}
	return s.queryPool(ctx, service.Local(), pool, mask)
}

// maskNames are the words of a query mask, sorted.
var maskNames = []struct {
	name string
	bit  drpc.QueryMask
}{
	{"dead_engines", drpc.QueryDeadEngines},
	{"disabled_engines", drpc.QueryDisabledEngines},
	{"enabled_engines", drpc.QueryEnabledEngines},
	{"rebuild", drpc.QueryRebuild},
	{"self_heal_policy", drpc.QuerySelfHeal},
	{"space", drpc.QuerySpace},
}

func parseMask(text string) (drpc.QueryMask, error) {
	if text == "" {
		return drpc.QueryDefault, nil
	}
	var mask drpc.QueryMask
	for _, word := range strings.Split(text, ",") {
		i := slices.IndexFunc(maskNames, func(m struct {
			name string
			bit  drpc.QueryMask
		}) bool {
			return m.name == word
		})
		if i < 0 {
			return 0, fault.New(fault.Usage, "cannot query a pool for %q: no such option", word)
		}
		mask |= maskNames[i].bit
	}
	return mask, nil
}

func maskText(mask drpc.QueryMask) string {
	var names []string
	for _, m := range maskNames {
		if mask.Has(m.bit) {
			names = append(names, m.name)
		}
	}
	return strings.Join(names, ",")
}

func (s *server) queryEngines(ctx context.Context, pool *cluster.PoolRecord, mask drpc.QueryMask) (*pb.PoolQueryResp, error) {
	answer := new(pb.PoolQueryResp)
	err := s.callEngine(ctx, drpc.MethodPoolQuery, &pb.PoolQueryReq{
		Sys: s.cfg.Name, Id: pool.UUID, SvcRanks: numbersOf(pool.Replicas), QueryMask: uint64(mask),
	}, answer)
	if err == nil {
		err = drpc.StatusError(answer.GetStatus())
	}
	if err != nil {
		return nil, fault.Wrap(fault.Engine, err, "cannot query pool %q", pool.Label)
	}
	return answer, nil
}

// queryPool asks the pool's service and puts what scripts know into one record.
func (s *server) queryPool(ctx context.Context, view *cluster.View, pool *cluster.PoolRecord, mask drpc.QueryMask) (control.PoolInfo, error) {
	answer, err := s.queryEngines(ctx, pool, mask)
	if err != nil {
		return control.PoolInfo{}, err
	}
	info := recorded(pool)
	info.QueryMask = maskText(mask)
	info.TotalTargets, info.ActiveTargets, info.DisabledTargets = answer.GetTotalTargets(), answer.GetActiveTargets(), answer.GetDisabledTargets()
	info.TotalEngines, info.Version, info.SvcLeader = answer.GetTotalEngines(), answer.GetVersion(), answer.GetSvcLdr()
	info.PoolLayoutVer, info.UpgradeLayoutVer = answer.GetPoolLayoutVer(), answer.GetUpgradeLayoutVer()
	info.MemFileBytes, info.MDonSSDActive = answer.GetMemFileBytes(), answer.GetMdOnSsdActive()
	info.Rebuild = rebuildOf(answer.GetRebuild())
	for _, tier := range answer.GetTierStats() {
		info.TierStats = append(info.TierStats, control.TierStats{
			Total: tier.GetTotal(), Free: tier.GetFree(), Min: tier.GetMin(), Max: tier.GetMax(), Mean: tier.GetMean(),
			MediaType: strings.ToLower(tier.GetMediaType().String()),
		})
	}
	if mask.Has(drpc.QuerySpace) {
		info.Usage = usageOf(info)
	}
	for _, set := range []struct {
		bit  drpc.QueryMask
		text string
		into **hostlist.RankSet
	}{
		{drpc.QueryEnabledEngines, answer.GetEnabledRanks(), &info.EnabledRanks},
		{drpc.QueryDisabledEngines, answer.GetDisabledRanks(), &info.DisabledRanks},
		{drpc.QueryDeadEngines, answer.GetDeadRanks(), &info.DeadRanks},
	} {
		if !mask.Has(set.bit) {
			continue
		}
		if *set.into, err = hostlist.ParseRanks(strings.Trim(set.text, "[]")); err != nil {
			return control.PoolInfo{}, fault.Wrap(fault.Protocol, err, "cannot read the answer of pool %q", pool.Label)
		}
	}
	if info.DisabledTargets > 0 {
		info.State = "TargetsExcluded"
	}
	if mask.Has(drpc.QuerySelfHeal) {
		info.SelfHealPolicy, err = s.poolSelfHeal(ctx, pool)
	}
	return info, err
}

// poolSelfHeal is the pool's own policy as text.
func (s *server) poolSelfHeal(ctx context.Context, pool *cluster.PoolRecord) (string, error) {
	properties, err := s.getProperties(ctx, pool, []uint32{drpc.PropSelfHeal})
	if err != nil || len(properties) == 0 {
		return "", err
	}
	row, _ := drpc.PoolPropByNumber(drpc.PropSelfHeal)
	return row.Text(properties[0]), nil
}

func rebuildOf(r *pb.PoolRebuildStatus) *control.Rebuild {
	if r == nil {
		return nil
	}
	state := strings.ToLower(r.GetState().String())
	return &control.Rebuild{
		Status: r.GetStatus(), State: state, DerivedState: derivedState(r.GetStatus(), state),
		Objects: r.GetObjects(), Records: r.GetRecords(), Degraded: r.GetDegraded(),
	}
}

// derivedState names what a rebuild that did not go well is doing (cli.md §4.5).
func derivedState(status int32, state string) string {
	stopped := status == int32(drpc.StatusOpCanceled)
	switch {
	case status == 0:
		return state
	case state == "busy" && stopped:
		return "stopping"
	case state == "busy":
		return "failing"
	case state == "idle" && stopped:
		return "stopped"
	}
	return "failed"
}

// usageOf sums the tiers up; the imbalance is the spread of free space over the
// space of a target, in percent.
func usageOf(info control.PoolInfo) []control.TierUsage {
	usage := []control.TierUsage{}
	for _, tier := range info.TierStats {
		u := control.TierUsage{TierName: strings.ToUpper(tier.MediaType), Size: tier.Total, Free: tier.Free}
		if tier.Total > 0 && info.ActiveTargets > 0 {
			u.Imbalance = uint32(float64(tier.Max-tier.Min) / (float64(tier.Total) / float64(info.ActiveTargets)) * 100)
		}
		usage = append(usage, u)
	}
	return usage
}

// propertyMessage is a property as engines read it.
func propertyMessage(p control.PoolProperty) *pb.PoolProperty {
	m := &pb.PoolProperty{Number: p.Number}
	switch {
	case p.Text != nil:
		m.Value = &pb.PoolProperty_Strval{Strval: *p.Text}
	case p.Value != nil:
		m.Value = &pb.PoolProperty_Numval{Numval: *p.Value}
	}
	return m
}

func propertyOf(m *pb.PoolProperty) (control.PoolProperty, error) {
	p := control.PoolProperty{Number: m.GetNumber()}
	row, ok := drpc.PoolPropByNumber(m.GetNumber())
	if ok {
		p.Name = row.Name
	}
	switch value := m.GetValue().(type) {
	case *pb.PoolProperty_Strval:
		if ok && row.Kind == drpc.PropRanks {
			ranks, err := hostlist.ParseRanks(strings.Trim(value.Strval, "[]"))
			if err != nil {
				return p, fault.Wrap(fault.Protocol, err, "cannot read property %s", p.Name)
			}
			p.Ranks = ranks.Slice()
			return p, nil
		}
		p.Text = &value.Strval
	case *pb.PoolProperty_Numval:
		p.Value = &value.Numval
	}
	return p, nil
}

// readable are the properties that a get without names asks for.
func readable() []uint32 {
	var numbers []uint32
	for _, row := range drpc.PoolProps() {
		if row.Kind != drpc.PropNone && row.Number != drpc.PropObjVersion && row.Number != drpc.PropOwner && row.Number != drpc.PropOwnerGroup {
			numbers = append(numbers, row.Number)
		}
	}
	return numbers
}

func (s *server) getProperties(ctx context.Context, pool *cluster.PoolRecord, numbers []uint32) ([]*pb.PoolProperty, error) {
	req := &pb.PoolGetPropReq{Sys: s.cfg.Name, Id: pool.UUID, SvcRanks: numbersOf(pool.Replicas)}
	for _, number := range numbers {
		req.Properties = append(req.Properties, &pb.PoolProperty{Number: number})
	}
	answer := new(pb.PoolGetPropResp)
	err := s.callEngine(ctx, drpc.MethodPoolGetProp, req, answer)
	if err == nil {
		err = drpc.StatusError(answer.GetStatus())
	}
	if err != nil {
		return nil, fault.Wrap(fault.Engine, err, "cannot get the properties of pool %q", pool.Label)
	}
	return answer.GetProperties(), nil
}

func (s *server) poolGetProp(ctx context.Context, _ control.Caller, req *control.PoolGetPropReq, _ control.Report) (control.PoolPropResp, error) {
	resp := control.PoolPropResp{Properties: []control.PoolProperty{}}
	_, pool, err := s.poolOf(ctx, req.ID)
	if err != nil {
		return resp, err
	}
	numbers := req.Numbers
	if len(numbers) == 0 {
		numbers = readable()
	}
	found, err := s.getProperties(ctx, pool, numbers)
	if err != nil {
		return resp, err
	}
	for _, m := range found {
		p, err := propertyOf(m)
		if err != nil {
			return resp, err
		}
		resp.Properties = append(resp.Properties, p)
	}
	slices.SortFunc(resp.Properties, func(a, b control.PoolProperty) int { return int(a.Number) - int(b.Number) })
	return resp, nil
}

// poolSetProp changes properties. A new label must be free in the system, and the
// database learns of it when the pool has it.
func (s *server) poolSetProp(ctx context.Context, _ control.Caller, req *control.PoolSetPropReq, _ control.Report) (control.Empty, error) {
	service, pool, err := s.poolOf(ctx, req.ID)
	if err != nil {
		return control.Empty{}, err
	}
	ctx, unlock, err := service.LockPool(ctx, pool.UUID, "set properties of")
	if err != nil {
		return control.Empty{}, err
	}
	defer unlock()
	label := ""
	call := &pb.PoolSetPropReq{Sys: s.cfg.Name, Id: pool.UUID, SvcRanks: numbersOf(pool.Replicas)}
	for _, p := range req.Properties {
		row, ok := drpc.PoolPropByNumber(p.Number)
		if !ok {
			return control.Empty{}, fault.New(fault.Usage, "cannot set pool property %d: there is none", p.Number)
		}
		message := propertyMessage(p)
		if err := row.Check(message); err != nil {
			return control.Empty{}, err
		}
		if p.Number == drpc.PropLabel {
			label = message.GetStrval()
			if err := freeLabel(service.Local(), label, pool.UUID); err != nil {
				return control.Empty{}, err
			}
		}
		call.Properties = append(call.Properties, message)
	}
	answer := new(pb.PoolSetPropResp)
	err = s.callEngine(ctx, drpc.MethodPoolSetProp, call, answer)
	if err == nil {
		err = drpc.StatusError(answer.GetStatus())
	}
	if err != nil {
		return control.Empty{}, fault.Wrap(fault.Engine, err, "cannot set properties of pool %q", pool.Label)
	}
	if label != "" && label != pool.Label {
		_, err = service.Apply(ctx, "", cluster.UpdatePool{UUID: pool.UUID, Label: &label})
	}
	return control.Empty{}, err
}

func freeLabel(view *cluster.View, label, uuid string) error {
	if err := checkLabel(label); err != nil {
		return err
	}
	if other, err := view.Pool(label); err == nil && other.UUID != uuid {
		return fault.New(fault.DuplicateLabel, "cannot use label %q: pool %s has it", label, other.UUID)
	}
	return nil
}
