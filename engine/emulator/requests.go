package emulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"daosbox/engine/drpc"
)

// poolRequest is what all requests to a pool service have in common.
type poolRequest interface {
	proto.Message
	GetSvcRanks() []uint32
}

// poolMethod serves a request at the leader of the pool. changed asks for s to be
// committed before the reply is sent.
type poolMethod func(ctx context.Context, e *engine, s *service, req proto.Message) (reply proto.Message, changed bool, err error)

// forwarded is a request that travels to the leader of its pool.
type forwarded struct {
	Pool   string `json:"pool"`
	Method int32  `json:"method"`
	Body   []byte `json:"body"`
}

// answered is the leader's reply.
type answered struct {
	Body []byte `json:"body"`
}

// poolIDOf is the pool of a request: field id, or pool_id where id is a
// container's.
func poolIDOf(req proto.Message) string {
	switch r := req.(type) {
	case interface{ GetPoolId() string }:
		return r.GetPoolId()
	case interface{ GetId() string }:
		return r.GetId()
	}
	return ""
}

// callPool takes a pool request that came by dRPC to the leader of the pool, where
// ever it is, and returns its reply.
func (e *engine) callPool(ctx context.Context, method drpc.Method, req poolRequest) (proto.Message, error) {
	id, err := uuid.Parse(poolIDOf(req))
	if err != nil {
		return nil, fmt.Errorf("%w: pool %q is no UUID", drpc.StatusInval, poolIDOf(req))
	}
	if _, ok := e.group.self(); !ok {
		return nil, drpc.StatusProto
	}
	body, err := proto.Marshal(req)
	if err != nil {
		return nil, err
	}
	in := forwarded{Pool: id.String(), Method: int32(method), Body: body}
	candidates := slices.Compact(slices.Sorted(slices.Values(req.GetSvcRanks())))
	for begin := time.Now(); ; {
		out, err := e.askReplicas(ctx, candidates, in)
		if err == nil || !passing(err) || time.Since(begin) > leaderTimeout {
			return decodeAnswer(method, out, err)
		}
		if !wait(ctx, leaderPause) {
			return nil, drpc.StatusCanceled
		}
	}
}

// passing reports errors that end when the pool service has found its leader.
func passing(err error) bool {
	return errors.Is(err, drpc.StatusNotLeader) || errors.Is(err, drpc.StatusNoService) || errors.Is(err, drpc.StatusStale)
}

func decodeAnswer(method drpc.Method, body []byte, err error) (proto.Message, error) {
	if err != nil {
		return nil, err
	}
	reply := newReply(method)
	if err := proto.Unmarshal(body, reply); err != nil {
		return nil, fmt.Errorf("%w: %w", drpc.StatusProto, err)
	}
	return reply, nil
}

// askReplicas asks one replica after the other until one leads.
func (e *engine) askReplicas(ctx context.Context, candidates []uint32, in forwarded) ([]byte, error) {
	self, _ := e.group.self()
	var unreached, moving error
	for _, rank := range candidates {
		var out answered
		var err error
		if rank == self {
			out, err = e.servePool(ctx, in)
		} else if m, ok := e.group.member(rank); ok && e.live(rank) {
			callCtx, cancel := context.WithTimeout(ctx, leaderTimeout+memberTimeout)
			err = e.fabric.call(callCtx, m, opPool, in, &out)
			cancel()
		} else {
			err = fmt.Errorf("%w: rank %d is dead", drpc.StatusUnreach, rank)
		}
		switch {
		case err == nil:
			return out.Body, nil
		case passing(err):
			moving = err
		case errors.Is(err, drpc.StatusUnreach), errors.Is(err, drpc.StatusTimedOut), errors.Is(err, drpc.StatusOOG):
			unreached = err
		case !errors.Is(err, drpc.StatusNotReplica):
			return nil, err
		}
	}
	switch {
	case moving != nil:
		return nil, moving
	case unreached != nil:
		return nil, unreached
	}
	return nil, drpc.StatusNotReplica
}

// opPoolRequest serves a forwarded request.
func (e *engine) opPoolRequest(ctx context.Context, body json.RawMessage) (any, error) {
	var in forwarded
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, drpc.StatusInval
	}
	return e.servePool(ctx, in)
}

// servePool serves a pool request here, if this rank leads the pool. What the
// method itself refuses becomes the status of the reply, not an error.
func (e *engine) servePool(ctx context.Context, in forwarded) (answered, error) {
	row, ok := e.methods[drpc.Method(in.Method)]
	if !ok || row.pool == nil {
		return answered{}, drpc.StatusNoSys
	}
	req := newRequest(row.method)
	if err := proto.Unmarshal(in.Body, req); err != nil {
		return answered{}, drpc.StatusProto
	}
	var reply proto.Message
	err := e.withPool(ctx, in.Pool, func(ctx context.Context, s *service) (changed bool, err error) {
		reply, changed, err = row.pool(ctx, e, s, req)
		if err != nil {
			e.log.Info("pool request refused", "pool", in.Pool, "method", row.method.String(), "err", err)
			reply, changed = withStatus(reply, row.method, err), false
		}
		return changed, nil
	})
	if err != nil {
		return answered{}, err
	}
	body, err := proto.Marshal(reply)
	return answered{body}, err
}

func newRequest(method drpc.Method) proto.Message {
	if info, ok := method.Info(); ok && info.Request != nil {
		return info.Request()
	}
	return nil
}

func newReply(method drpc.Method) proto.Message {
	if info, ok := method.Info(); ok && info.Reply != nil {
		return info.Reply()
	}
	return nil
}

// withStatus puts the status of err into a reply, an empty one when there is none.
func withStatus(reply proto.Message, method drpc.Method, err error) proto.Message {
	if reply == nil {
		reply = newReply(method)
	}
	setStatus(reply, statusOf(err))
	return reply
}

// setStatus sets the field status, which every reply of an engine has.
func setStatus(reply proto.Message, status int32) {
	m := reply.ProtoReflect()
	if field := m.Descriptor().Fields().ByName("status"); field != nil && field.Kind() == protoreflect.Int32Kind {
		m.Set(field, protoreflect.ValueOfInt32(status))
	}
}
