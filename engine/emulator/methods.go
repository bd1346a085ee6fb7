package emulator

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"time"
	"unicode"

	"google.golang.org/protobuf/proto"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"
)

// lastReplyPause lets a last reply leave the process before the process dies.
const lastReplyPause = 100 * time.Millisecond

// row is one method of the engine: handle serves it where it arrives; pool, for
// methods of a pool service, at the leader of the pool.
type row struct {
	method drpc.Method
	handle func(ctx context.Context, e *engine, body []byte) (proto.Message, error)
	pool   poolMethod
}

// message is a pointer to a message struct.
type message[T any] interface {
	*T
	proto.Message
}

// local makes the row of a method that the engine serves itself.
func local[T any, P message[T]](m drpc.Method, serve func(*engine, context.Context, P) (proto.Message, error)) row {
	return row{method: m, handle: func(ctx context.Context, e *engine, body []byte) (proto.Message, error) {
		req := P(new(T))
		if err := drpc.Unmarshal(body, req); err != nil {
			return nil, err
		}
		return serve(e, ctx, req)
	}}
}

// pooled makes the row of a method of the pool service. check, if any, is made
// where the request arrives, before the pool is looked for.
func pooled[T any, P interface {
	message[T]
	poolRequest
}](m drpc.Method, serve func(context.Context, *engine, *service, P) (proto.Message, bool, error), check func(*engine, P) error) row {
	r := local(m, func(e *engine, ctx context.Context, req P) (proto.Message, error) {
		if check != nil {
			if err := check(e, req); err != nil {
				return nil, err
			}
		}
		return e.callPool(ctx, m, req)
	})
	r.pool = func(ctx context.Context, e *engine, s *service, req proto.Message) (proto.Message, bool, error) {
		return serve(ctx, e, s, req.(P))
	}
	return r
}

// methodTable has every method that an engine serves, by number. The methods of
// the checker are not here: they exist in check mode only, which is not emulated.
func methodTable() []row {
	return []row{
		local(drpc.MethodSetRank, (*engine).setRank),
		local(drpc.MethodPoolCreate, func(e *engine, ctx context.Context, r *pb.PoolCreateReq) (proto.Message, error) {
			return e.poolCreate(ctx, r)
		}),
		local(drpc.MethodPoolDestroy, func(e *engine, ctx context.Context, r *pb.PoolDestroyReq) (proto.Message, error) {
			return e.poolDestroy(ctx, r)
		}),
		local(drpc.MethodSetUp, (*engine).setUp),
		local(drpc.MethodBioHealthQuery, (*engine).deviceHealth),
		local(drpc.MethodSmdListDevs, (*engine).listDevices),
		local(drpc.MethodSmdListPools, (*engine).listDevicePools),
		pooled(drpc.MethodPoolGetACL, poolGetACL, nil),
		pooled(drpc.MethodPoolOverwriteACL, poolOverwriteACL, nil),
		pooled(drpc.MethodPoolUpdateACL, poolUpdateACL, nil),
		pooled(drpc.MethodPoolDeleteACL, poolDeleteACL, nil),
		local(drpc.MethodPrepShutdown, (*engine).prepShutdown),
		local(drpc.MethodDevSetFaulty, (*engine).setFaulty),
		local(drpc.MethodDevReplace, (*engine).replaceDevice),
		pooled(drpc.MethodListContainers, poolListContainers, nil),
		pooled(drpc.MethodPoolQuery, poolQuery, nil),
		pooled(drpc.MethodPoolSetProp, poolSetProp, checkSetProp),
		local(drpc.MethodPingRank, (*engine).pingRank),
		pooled(drpc.MethodPoolReint, poolReint, nil),
		pooled(drpc.MethodContSetOwner, poolContSetOwner, nil),
		pooled(drpc.MethodPoolExclude, poolExclude, nil),
		pooled(drpc.MethodPoolExtend, poolExtend, nil),
		pooled(drpc.MethodPoolEvict, poolEvict, nil),
		pooled(drpc.MethodPoolDrain, poolDrain, nil),
		local(drpc.MethodGroupUpdate, (*engine).groupUpdate),
		pooled(drpc.MethodPoolGetProp, poolGetProp, func(e *engine, r *pb.PoolGetPropReq) error {
			return e.assertProps(len(r.GetProperties()))
		}),
		local(drpc.MethodSetLogMasks, (*engine).setLogMasks),
		pooled(drpc.MethodPoolUpgrade, poolUpgrade, nil),
		pooled(drpc.MethodPoolQueryTargets, poolQueryTargets, nil),
		local(drpc.MethodLedManage, (*engine).manageLED),
		local(drpc.MethodGetGroupStatus, (*engine).groupStatus),
		pooled(drpc.MethodPoolRebuildStart, poolRebuildStart, nil),
		pooled(drpc.MethodPoolRebuildStop, poolRebuildStop, nil),
		pooled(drpc.MethodPoolSelfHealEval, poolSelfHealEval, func(_ *engine, r *pb.PoolSelfHealEvalReq) error {
			if !validSelfHeal(r.GetSysPropVal()) {
				return fmt.Errorf("%w: self_heal %q", drpc.StatusInval, r.GetSysPropVal())
			}
			return nil
		}),
	}
}

// pointName is the name of a method in DAOS_EMULATOR_FAULTS: pool_get_acl for
// PoolGetACL.
func pointName(m drpc.Method) string {
	info, _ := m.Info()
	var b strings.Builder
	runes := []rune(info.Name)
	for i, c := range runes {
		lowerNear := i > 0 && unicode.IsLower(runes[i-1]) || i > 0 && i+1 < len(runes) && unicode.IsLower(runes[i+1])
		if unicode.IsUpper(c) && lowerNear {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// knownPoint tells the fault list which names are points.
func knownPoint(point string) bool {
	switch point {
	case "start", "notify_ready", "heartbeat":
		return true
	}
	point = strings.TrimPrefix(point, methodPoint)
	for _, r := range methodTable() {
		if pointName(r.method) == point {
			return true
		}
	}
	return false
}

// handle serves one dRPC call.
func (e *engine) handle(ctx context.Context, call *drpc.Call) (proto.Message, error) {
	switch call.Method {
	case drpc.MethodCheckStart, drpc.MethodCheckStop, drpc.MethodCheckQuery, drpc.MethodCheckProp,
		drpc.MethodCheckAct, drpc.MethodCheckSetPolicy:
		return nil, drpc.ErrUnknownModule
	}
	r, ok := e.methods[call.Method]
	if !ok || !call.Method.In(e.cfg.release) {
		return nil, drpc.ErrUnknownMethod
	}
	reply, err := e.serve(ctx, r, call)
	if err != nil {
		return nil, err
	}
	// A real engine asserts that it has something to send: a call of sequence 0
	// that succeeds without a body ends it.
	if call.Sequence == 0 && proto.Size(reply) == 0 && e.cfg.framing() == drpc.Chunked {
		e.log.Error("aborting: the reply to a call of sequence 0 is empty", "method", r.method.String())
		e.cfg.die(syscall.SIGABRT)
	}
	return reply, nil
}

func (e *engine) serve(ctx context.Context, r row, call *drpc.Call) (proto.Message, error) {
	if m := e.pass(ctx, pointName(r.method)); m != nil {
		if m.action == "status" {
			return withStatus(nil, r.method, drpc.Status(m.status)), nil
		}
		return nil, fault.New(fault.Engine, "cannot serve %s: DAOS_EMULATOR_FAULTS says so", r.method)
	}
	reply, err := r.handle(ctx, e, call.Body)
	switch {
	case isBadPayload(err):
		return nil, err
	case err != nil:
		e.log.Info("request refused", "method", r.method.String(), "err", err)
		return withStatus(reply, r.method, err), nil
	}
	e.log.Debug("request served", "method", r.method.String())
	return reply, nil
}

func (e *engine) setRank(_ context.Context, req *pb.SetRankReq) (proto.Message, error) {
	if status := e.group.setRank(req.GetRank(), req.GetMapVersion()); status != drpc.StatusOK {
		return nil, status
	}
	e.log.Info("rank set", "rank", req.GetRank(), "map_version", req.GetMapVersion())
	e.beats.start(req.GetRank())
	return new(pb.DaosResp), nil
}

// setUp opens the pools. The second one is answered and then aborts, as it does in
// a real engine. The method has no request message: any message decodes its empty
// body.
func (e *engine) setUp(context.Context, *pb.DaosResp) (proto.Message, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.isSetUp {
		e.log.Error("aborting: second SetUp in one process life")
		time.AfterFunc(lastReplyPause, func() { e.cfg.die(syscall.SIGABRT) })
		return new(pb.DaosResp), nil
	}
	e.isSetUp = true
	close(e.ready)
	e.log.Info("set up")
	return new(pb.DaosResp), nil
}

func (e *engine) prepShutdown(context.Context, *pb.PrepShutdownReq) (proto.Message, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.isPrepared = true
	e.log.Info("prepared for shutdown: pools exclude no more ranks")
	return new(pb.DaosResp), nil
}

func (e *engine) pingRank(context.Context, *pb.PingRankReq) (proto.Message, error) {
	return new(pb.DaosResp), nil
}

func (e *engine) groupUpdate(_ context.Context, req *pb.GroupUpdateReq) (proto.Message, error) {
	next := groupMap{Version: req.GetMapVersion()}
	for _, m := range req.GetEngines() {
		next.Members = append(next.Members, member{Rank: m.GetRank(), URI: m.GetUri(), Incarnation: m.GetIncarnation()})
	}
	status, changed, removed := e.takeGroup(next)
	if status != drpc.StatusOK {
		return nil, status
	}
	if changed {
		e.broadcast(next, removed)
	}
	return new(pb.GroupUpdateResp), nil
}

func (e *engine) groupStatus(_ context.Context, req *pb.GetGroupStatusReq) (proto.Message, error) {
	if v := req.GetMapVersion(); v != 0 && v != e.group.current().Version {
		return nil, drpc.StatusGrpVer
	}
	return &pb.GetGroupStatusResp{DeadRanks: e.beats.dead()}, nil
}

// setLogMasks changes what is logged from here on. An engine never refuses it.
func (e *engine) setLogMasks(ctx context.Context, req *pb.SetLogMasksReq) (proto.Message, error) {
	if m, err := parseMasks(req.GetMasks()); err != nil {
		e.log.Error("log masks not changed", "err", err)
	} else if req.GetMasks() != "" {
		e.sink.masks.Store(m)
	}
	e.log.Log(ctx, levelEmit, "log masks set", slog.String("masks", req.GetMasks()), slog.String("streams", req.GetStreams()))
	return new(pb.SetLogMasksResp), nil
}

// checkSetProp refuses entries without a value, and aborts on an empty list as a
// real engine does.
func checkSetProp(e *engine, req *pb.PoolSetPropReq) error {
	if err := e.assertProps(len(req.GetProperties())); err != nil {
		return err
	}
	for _, p := range req.GetProperties() {
		if p.GetValue() == nil {
			return fmt.Errorf("%w: property %d has no value", drpc.StatusInval, p.GetNumber())
		}
	}
	return nil
}

// assertProps fails the assertion that a real engine makes on property lists.
func (e *engine) assertProps(n int) error {
	if n == 0 {
		e.log.Error("aborting: a request without properties fails an assertion of the engine")
		e.cfg.die(syscall.SIGABRT)
		return drpc.StatusInval
	}
	return nil
}
