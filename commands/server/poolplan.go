package server

import (
	"slices"
	"strings"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/control"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"

	"github.com/dustin/go-humanize"
)

// createCall turns the request into what the engines get: ranks chosen, sizes per
// rank, the tree of the ranks' fault domains.
func (s *server) createCall(view *cluster.View, req *control.PoolCreateReq) (*pb.PoolCreateReq, error) {
	members, err := poolRanks(view, req)
	if err != nil {
		return nil, err
	}
	if req.NumSvcReps > uint32(min(len(members), maxReplicas)) {
		return nil, fault.New(fault.Usage, "cannot create pool %q with %d service replicas: at most %d", req.Label, req.NumSvcReps, min(len(members), maxReplicas))
	}
	tiers, err := s.tierBytes(req, len(members))
	if err != nil {
		return nil, err
	}
	tree, err := faultTree(view, members)
	if err != nil {
		return nil, err
	}
	call := &pb.PoolCreateReq{
		Uuid: req.UUID, Sys: s.cfg.Name, User: req.User, UserGroup: req.Group, Acl: req.ACL, FaultDomains: tree,
		NumSvcReps: req.NumSvcReps, TierBytes: tiers, MemRatio: float32(req.MemRatio),
	}
	for _, m := range members {
		call.Ranks = append(call.Ranks, uint32(m.Rank))
	}
	call.Properties = s.createProperties(view, req)
	return call, nil
}

// createProperties puts the label first and the system's scrub settings last,
// unless the request has its own.
func (s *server) createProperties(view *cluster.View, req *control.PoolCreateReq) []*pb.PoolProperty {
	properties := []*pb.PoolProperty{{Number: drpc.PropLabel, Value: &pb.PoolProperty_Strval{Strval: req.Label}}}
	given := make(map[uint32]bool)
	for _, p := range req.Properties {
		if p.Number == drpc.PropLabel {
			continue
		}
		given[p.Number] = true
		properties = append(properties, propertyMessage(p))
	}
	for _, system := range []struct {
		number uint32
		key    string
	}{{drpc.PropScrub, "pool_scrub_mode"}, {drpc.PropScrubThresh, "pool_scrub_thresh"}} {
		row, ok := drpc.PoolPropByNumber(system.number)
		if !ok || given[system.number] {
			continue
		}
		i := slices.IndexFunc(s.systemProperties(view), func(p control.SystemProperty) bool { return p.Key == system.key })
		if message, err := row.Parse(s.systemProperties(view)[i].Value); err == nil {
			properties = append(properties, message)
		}
	}
	return properties
}

func poolRanks(view *cluster.View, req *control.PoolCreateReq) ([]*cluster.Member, error) {
	available := view.Members(cluster.StatesAvailable)
	if len(available) == 0 {
		return nil, fault.New(fault.NotReady, "cannot create pool %q: no rank has joined", req.Label).
			WithHint("see the ranks with `dmg system query`")
	}
	if req.Ranks != nil && req.Ranks.Len() > 0 {
		var chosen []*cluster.Member
		missing := hostlist.Ranks()
		for _, rank := range req.Ranks.Slice() {
			m := view.Member(rank)
			if m == nil || m.State&cluster.StatesAvailable == 0 {
				missing.Add(rank)
				continue
			}
			chosen = append(chosen, m)
		}
		if missing.Len() > 0 {
			return nil, fault.New(fault.NotFound, "cannot create pool %q on ranks %s: they are not joined", req.Label, missing).
				WithHint("see the ranks with `dmg system query`")
		}
		return chosen, nil
	}
	if n := int(req.NumRanks); n > 0 {
		if n > len(available) {
			return nil, fault.New(fault.Usage, "cannot create pool %q on %d ranks: %d are joined", req.Label, n, len(available))
		}
		available = available[:n]
	}
	return available, nil
}

// tierBytes are the bytes per rank of both tiers.
func (s *server) tierBytes(req *control.PoolCreateReq, ranks int) ([]uint64, error) {
	tiers := slices.Clone(req.TierBytes)
	if req.TotalBytes > 0 {
		if len(tiers) > 0 {
			return nil, fault.New(fault.Usage, "cannot create pool %q with a total size and tier sizes at once", req.Label)
		}
		ratio := req.TierRatio
		if len(ratio) == 0 {
			ratio = []float64{0.06, 0.94}
		}
		for _, part := range ratio {
			if part < 0 || part > 1 {
				return nil, fault.New(fault.Usage, "cannot create pool %q: tier ratio %v is outside 0 to 1", req.Label, part)
			}
			tiers = append(tiers, uint64(float64(req.TotalBytes)*part)/uint64(ranks))
		}
	}
	if len(tiers) == 0 || len(tiers) > 2 {
		return nil, fault.New(fault.Usage, "cannot create pool %q: want a total size, or the sizes of one or two tiers", req.Label)
	}
	if len(tiers) == 1 {
		tiers = append(tiers, 0)
	}
	targets := uint64(s.cfg.Engines[0].Targets)
	for i, least := range []uint64{minSCMTarget, minNVMeTarget} {
		if i == 1 && tiers[i] == 0 {
			continue
		}
		if tiers[i] < least*targets {
			return nil, fault.New(fault.Usage, "cannot create pool %q with %s of %s on each rank: the least is %s, %s for each of %d targets",
				req.Label, humanize.IBytes(tiers[i]), tierNames[i], humanize.IBytes(least*targets), humanize.IBytes(least), targets).
				WithHint("ask for a larger size or fewer ranks")
		}
	}
	return tiers, nil
}

// tierNames are what people call the tiers.
var tierNames = [...]string{"SCM (metadata)", "NVMe (data)"}

// faultTree is the compressed tree of the fault domains of the members.
func faultTree(view *cluster.View, members []*cluster.Member) ([]uint32, error) {
	root := &drpc.FaultDomain{ID: 1}
	next := uint32(1)
	depth := 0
	for _, m := range view.Members(cluster.StatesAll) {
		depth = max(depth, strings.Count(strings.Trim(m.FaultDomain, "/"), "/")+2)
	}
	nodes := map[string]*drpc.FaultDomain{"": root}
	sorted := slices.SortedFunc(slices.Values(members), func(a, b *cluster.Member) int {
		if c := strings.Compare(a.FaultDomain, b.FaultDomain); c != 0 {
			return c
		}
		return int(a.Rank) - int(b.Rank)
	})
	for _, m := range sorted {
		node, path := root, ""
		for _, layer := range strings.Split(strings.Trim(m.FaultDomain, "/"), "/") {
			path += "/" + layer
			child := nodes[path]
			if child == nil {
				next++
				child = &drpc.FaultDomain{ID: next}
				nodes[path] = child
				node.Children = append(node.Children, child)
			}
			node = child
		}
		node.Ranks = append(node.Ranks, uint32(m.Rank))
	}
	var flags uint32
	if depth > 2 {
		flags = drpc.TreePerfLevel
	}
	return root.Words(flags)
}
