// Package pb has the messages of dRPC, the protocol between daos_server, engines
// and client libraries, as they are since 2.8. The protobuf packages keep the
// names they have on the other side (drpc, srv, shared, chk, mgmt, ctl, auth);
// in Go they are one package, since their names do not collide. What older
// releases say differently is translated in package drpc.
//
// The .proto files are ours and are the source; the .pb.go files are made from
// them and are not edited.
package pb

//go:generate protoc -I ../../.. --go_out=../../.. --go_opt=module=daosbox engine/drpc/pb/acl.proto engine/drpc/pb/auth.proto engine/drpc/pb/check.proto engine/drpc/pb/chk.proto engine/drpc/pb/ctl.proto engine/drpc/pb/drpc.proto engine/drpc/pb/pool.proto engine/drpc/pb/shared.proto engine/drpc/pb/srv.proto engine/drpc/pb/svc.proto engine/drpc/pb/system.proto
