package agent

import (
	"context"
	"time"

	"daosbox/cluster/fault"
	"daosbox/engine/drpc"
	"daosbox/engine/drpc/pb"

	"google.golang.org/protobuf/proto"
)

// callTime bounds the answer to a client: it waits for nothing longer.
const callTime = 90 * time.Second

// serve answers what clients ask. A client that hangs up does
// not end the call.
func (d *daemon) serve(ctx context.Context, call *drpc.Call) (proto.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	switch call.Method {
	case drpc.MethodRequestCredentials:
		return d.issuer.issue(ctx, call.Peer), nil
	case drpc.MethodGetAttachInfo:
		return d.attachInfo(ctx, call)
	case drpc.MethodNotifyPoolConnect:
		return nil, d.poolConnect(call)
	case drpc.MethodNotifyPoolDisconnect:
		return nil, d.poolDisconnect(call)
	case drpc.MethodNotifyExit:
		d.book.exit(call.Peer.PID)
		return nil, nil
	case drpc.MethodSetupClientTelemetry:
		return d.clientTelemetry(call)
	}
	return nil, drpc.ErrUnknownMethod
}

func (d *daemon) attachInfo(ctx context.Context, call *drpc.Call) (proto.Message, error) {
	req := new(pb.GetAttachInfoReq)
	if err := drpc.Unmarshal(call.Body, req); err != nil {
		return nil, err
	}
	wish := device{req.GetInterface(), req.GetDomain()}
	if sys := req.GetSys(); sys != "" && sys != d.cfg.Name {
		d.log.Warn("a client asks for another system", "pid", call.Peer.PID, "asked", sys, "served", d.cfg.Name)
		return &pb.GetAttachInfoResp{Status: int32(drpc.StatusInval)}, nil
	}
	if len(wish.name) > maxDeviceName || len(wish.domain) > maxDeviceName {
		return &pb.GetAttachInfoResp{Status: int32(drpc.StatusInval)}, nil
	}
	found, err := d.cache.get(ctx)
	if err != nil {
		if status := attachStatus(err); status != drpc.StatusOK {
			return &pb.GetAttachInfoResp{Status: int32(status)}, nil
		}
		return nil, err
	}
	devices, err := d.chooser.devices(ctx, found.info.NetHint)
	if err != nil {
		return nil, err
	}
	chosen, err := devices.pick(d.numa.node(call.Peer.PID), wish)
	if err != nil {
		return nil, err
	}
	return found.reply(devices, chosen)
}

// attachStatus is the status by which libdaos knows an error, StatusOK for one
// that it does not know.
func attachStatus(err error) drpc.Status {
	switch fault.Of(err) {
	case fault.WrongSystem, fault.IncompatibleVersion:
		return drpc.StatusControlIncompat
	case fault.Certificate, fault.CertificateMissing, fault.CertificateUnreadable, fault.CertificateInvalid:
		return drpc.StatusBadCert
	case fault.Unreachable, fault.Timeout:
		return drpc.StatusUnreach
	}
	return drpc.StatusOK
}

func (d *daemon) poolConnect(call *drpc.Call) error {
	req := new(pb.PoolMonitorReq)
	if err := drpc.Unmarshal(call.Body, req); err != nil {
		return err
	}
	if req.GetPoolHandleUUID() == "" {
		return nil // nothing to watch
	}
	return d.book.connect(call.Peer.PID, req.GetPoolUUID(), req.GetPoolHandleUUID())
}

func (d *daemon) poolDisconnect(call *drpc.Call) error {
	req := new(pb.PoolMonitorReq)
	if err := drpc.Unmarshal(call.Body, req); err != nil {
		return err
	}
	d.book.disconnect(call.Peer.PID, req.GetPoolUUID(), req.GetPoolHandleUUID())
	return nil
}

// clientTelemetry turns clients away: this agent collects no telemetry, and they
// take that for an answer.
func (d *daemon) clientTelemetry(call *drpc.Call) (proto.Message, error) {
	req := new(pb.ClientTelemetryReq)
	if err := drpc.Unmarshal(call.Body, req); err != nil {
		return nil, err
	}
	if req.GetJobid() == "" || req.GetShmKey() == 0 {
		return nil, fault.New(fault.Usage, "cannot set up client telemetry without a job id and a memory key")
	}
	return &pb.ClientTelemetryResp{Status: int32(drpc.StatusUninit)}, nil
}
