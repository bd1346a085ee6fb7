package server

import (
	"context"

	"daosbox/cluster"
	"daosbox/cluster/fault"
	"daosbox/commands/control"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"

	"google.golang.org/protobuf/proto"
)

// aclCall is one of the methods on a pool's access control list: all answer with
// the list as it is then.
func (s *server) aclCall(ctx context.Context, id string, m drpc.Method, build func(pool *cluster.PoolRecord) proto.Message) (control.ACL, error) {
	_, pool, err := s.poolOf(ctx, id)
	if err != nil {
		return control.ACL{}, err
	}
	answer := new(pb.ACLResp)
	err = s.callEngine(ctx, m, build(pool), answer)
	if err == nil {
		err = drpc.StatusError(answer.GetStatus())
	}
	if err != nil {
		return control.ACL{}, fault.Wrap(fault.Engine, err, "cannot read or change the access control list of pool %q", pool.Label)
	}
	acl := control.ACL{Entries: answer.GetAcl().GetEntries(), Owner: answer.GetAcl().GetOwnerUser(), Group: answer.GetAcl().GetOwnerGroup()}
	if acl.Entries == nil {
		acl.Entries = []string{}
	}
	return acl, nil
}

func (s *server) poolGetACL(ctx context.Context, _ control.Caller, req *control.PoolACLReq, _ control.Report) (control.ACL, error) {
	return s.aclCall(ctx, req.ID, drpc.MethodPoolGetACL, func(pool *cluster.PoolRecord) proto.Message {
		return &pb.GetACLReq{Sys: s.cfg.Name, Id: pool.UUID, SvcRanks: numbersOf(pool.Replicas)}
	})
}

func (s *server) modifyACL(ctx context.Context, req *control.PoolACLReq, m drpc.Method) (control.ACL, error) {
	if len(req.Entries) == 0 {
		return control.ACL{}, fault.New(fault.Usage, "cannot change an access control list without entries")
	}
	return s.aclCall(ctx, req.ID, m, func(pool *cluster.PoolRecord) proto.Message {
		return &pb.ModifyACLReq{Sys: s.cfg.Name, Id: pool.UUID, Entries: req.Entries, SvcRanks: numbersOf(pool.Replicas)}
	})
}

func (s *server) poolUpdateACL(ctx context.Context, _ control.Caller, req *control.PoolACLReq, _ control.Report) (control.ACL, error) {
	return s.modifyACL(ctx, req, drpc.MethodPoolUpdateACL)
}

func (s *server) poolReplaceACL(ctx context.Context, _ control.Caller, req *control.PoolACLReq, _ control.Report) (control.ACL, error) {
	return s.modifyACL(ctx, req, drpc.MethodPoolOverwriteACL)
}

func (s *server) poolDeleteACL(ctx context.Context, _ control.Caller, req *control.PoolACLReq, _ control.Report) (control.ACL, error) {
	return s.aclCall(ctx, req.ID, drpc.MethodPoolDeleteACL, func(pool *cluster.PoolRecord) proto.Message {
		return &pb.DeleteACLReq{Sys: s.cfg.Name, Id: pool.UUID, Principal: req.Principal, SvcRanks: numbersOf(pool.Replicas)}
	})
}

// poolEvict drops handles; agents use it for processes that died.
func (s *server) poolEvict(ctx context.Context, _ control.Caller, req *control.PoolEvictReq, _ control.Report) (control.PoolEvictResp, error) {
	_, pool, err := s.poolOf(ctx, req.ID)
	if err != nil {
		return control.PoolEvictResp{}, err
	}
	answer := new(pb.PoolEvictResp)
	err = s.callEngine(ctx, drpc.MethodPoolEvict, &pb.PoolEvictReq{
		Sys: s.cfg.Name, Id: pool.UUID, SvcRanks: numbersOf(pool.Replicas), Handles: req.Handles, Machine: req.Machine,
	}, answer)
	if err == nil {
		err = drpc.StatusError(answer.GetStatus())
	}
	if err != nil {
		return control.PoolEvictResp{}, fault.Wrap(fault.Engine, err, "cannot evict handles of pool %q", pool.Label)
	}
	return control.PoolEvictResp{Count: answer.GetCount()}, nil
}
