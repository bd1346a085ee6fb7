package drpc

import (
	"fmt"
	"sort"

	"google.golang.org/protobuf/proto"

	"daosbox/engine/drpc/pb"
)

// Module is the number of a group of methods.
type Module int32

// The modules and who listens for them.
const (
	ModuleSecAgent Module = 1 // daos_agent: credentials
	ModuleMgmt     Module = 2 // engine; daos_agent serves its part of the methods too
	ModuleSrv      Module = 3 // daos_server: calls of engines
	ModuleSec      Module = 4 // daos_server: validation of credentials
)

// Method is the number of a method, unique over all modules: its hundreds digit
// is the module's number. Numbers of removed methods are never used again.
type Method int32

// The methods that are served.
const (
	MethodRequestCredentials   Method = 101
	MethodSetRank              Method = 202
	MethodGetAttachInfo        Method = 206
	MethodPoolCreate           Method = 207
	MethodPoolDestroy          Method = 208
	MethodSetUp                Method = 209
	MethodBioHealthQuery       Method = 210
	MethodSmdListDevs          Method = 211
	MethodSmdListPools         Method = 212
	MethodPoolGetACL           Method = 213
	MethodPoolOverwriteACL     Method = 215
	MethodPoolUpdateACL        Method = 216
	MethodPoolDeleteACL        Method = 217
	MethodPrepShutdown         Method = 218
	MethodDevSetFaulty         Method = 220
	MethodDevReplace           Method = 221
	MethodListContainers       Method = 222
	MethodPoolQuery            Method = 223
	MethodPoolSetProp          Method = 224
	MethodPingRank             Method = 225
	MethodPoolReint            Method = 226
	MethodContSetOwner         Method = 227
	MethodPoolExclude          Method = 228
	MethodPoolExtend           Method = 229
	MethodPoolEvict            Method = 230
	MethodPoolDrain            Method = 231
	MethodGroupUpdate          Method = 232
	MethodNotifyExit           Method = 233
	MethodNotifyPoolConnect    Method = 235
	MethodNotifyPoolDisconnect Method = 236
	MethodPoolGetProp          Method = 237
	MethodSetLogMasks          Method = 238
	MethodPoolUpgrade          Method = 239
	MethodPoolQueryTargets     Method = 240
	MethodLedManage            Method = 241
	MethodCheckStart           Method = 242
	MethodCheckStop            Method = 243
	MethodCheckQuery           Method = 244
	MethodCheckProp            Method = 245
	MethodCheckAct             Method = 246
	MethodSetupClientTelemetry Method = 247
	MethodGetGroupStatus       Method = 248
	MethodCheckSetPolicy       Method = 249
	MethodPoolRebuildStart     Method = 250
	MethodPoolRebuildStop      Method = 251
	MethodPoolSelfHealEval     Method = 252
	MethodNotifyReady          Method = 301
	MethodGetPoolSvc           Method = 303
	MethodClusterEvent         Method = 304
	MethodPoolFindByLabel      Method = 305
	MethodCheckListPool        Method = 306
	MethodCheckRegPool         Method = 307
	MethodCheckDeregPool       Method = 308
	MethodCheckReport          Method = 309
	MethodListPools            Method = 310
	MethodGetSysProps          Method = 311
	MethodValidateCredential   Method = 401
)

// MethodInfo is the row of a method.
type MethodInfo struct {
	Method Method
	Name   string
	Module Module
	// Request and Reply make an empty message; nil where the body is always
	// empty.
	Request, Reply func() proto.Message
	// Since is the first family in which the number has this meaning. The few
	// that 1.0 already had count as 1.2: older engines are not spoken to.
	Since Family
}

func of[T any, P interface {
	*T
	proto.Message
}]() proto.Message {
	return P(new(T))
}

// methods has every served method, sorted by number.
var methods = []MethodInfo{
	{MethodRequestCredentials, "RequestCredentials", ModuleSecAgent, nil, of[pb.GetCredResp], V12},
	{MethodSetRank, "SetRank", ModuleMgmt, of[pb.SetRankReq], of[pb.DaosResp], V12},
	{MethodGetAttachInfo, "GetAttachInfo", ModuleMgmt, of[pb.GetAttachInfoReq], of[pb.GetAttachInfoResp], V12},
	{MethodPoolCreate, "PoolCreate", ModuleMgmt, of[pb.PoolCreateReq], of[pb.PoolCreateResp], V12},
	{MethodPoolDestroy, "PoolDestroy", ModuleMgmt, of[pb.PoolDestroyReq], of[pb.PoolDestroyResp], V12},
	{MethodSetUp, "SetUp", ModuleMgmt, nil, of[pb.DaosResp], V12},
	{MethodBioHealthQuery, "BioHealthQuery", ModuleMgmt, of[pb.BioHealthReq], of[pb.BioHealthResp], V12},
	{MethodSmdListDevs, "SmdListDevs", ModuleMgmt, of[pb.SmdDevReq], of[pb.SmdDevResp], V12},
	{MethodSmdListPools, "SmdListPools", ModuleMgmt, of[pb.SmdPoolReq], of[pb.SmdPoolResp], V12},
	{MethodPoolGetACL, "PoolGetACL", ModuleMgmt, of[pb.GetACLReq], of[pb.ACLResp], V12},
	{MethodPoolOverwriteACL, "PoolOverwriteACL", ModuleMgmt, of[pb.ModifyACLReq], of[pb.ACLResp], V12},
	{MethodPoolUpdateACL, "PoolUpdateACL", ModuleMgmt, of[pb.ModifyACLReq], of[pb.ACLResp], V12},
	{MethodPoolDeleteACL, "PoolDeleteACL", ModuleMgmt, of[pb.DeleteACLReq], of[pb.ACLResp], V12},
	{MethodPrepShutdown, "PrepShutdown", ModuleMgmt, of[pb.PrepShutdownReq], of[pb.DaosResp], V12},
	{MethodDevSetFaulty, "DevSetFaulty", ModuleMgmt, of[pb.SetFaultyReq], of[pb.DevManageResp], V12},
	{MethodDevReplace, "DevReplace", ModuleMgmt, of[pb.DevReplaceReq], of[pb.DevManageResp], V12},
	{MethodListContainers, "ListContainers", ModuleMgmt, of[pb.ListContReq], of[pb.ListContResp], V12},
	{MethodPoolQuery, "PoolQuery", ModuleMgmt, of[pb.PoolQueryReq], of[pb.PoolQueryResp], V12},
	{MethodPoolSetProp, "PoolSetProp", ModuleMgmt, of[pb.PoolSetPropReq], of[pb.PoolSetPropResp], V12},
	{MethodPingRank, "PingRank", ModuleMgmt, of[pb.PingRankReq], of[pb.DaosResp], V12},
	{MethodPoolReint, "PoolReint", ModuleMgmt, of[pb.PoolReintReq], of[pb.PoolReintResp], V12},
	{MethodContSetOwner, "ContSetOwner", ModuleMgmt, of[pb.ContSetOwnerReq], of[pb.DaosResp], V12},
	{MethodPoolExclude, "PoolExclude", ModuleMgmt, of[pb.PoolExcludeReq], of[pb.PoolExcludeResp], V12},
	{MethodPoolExtend, "PoolExtend", ModuleMgmt, of[pb.PoolExtendReq], of[pb.PoolExtendResp], V12},
	{MethodPoolEvict, "PoolEvict", ModuleMgmt, of[pb.PoolEvictReq], of[pb.PoolEvictResp], V12},
	{MethodPoolDrain, "PoolDrain", ModuleMgmt, of[pb.PoolDrainReq], of[pb.PoolDrainResp], V12},
	{MethodGroupUpdate, "GroupUpdate", ModuleMgmt, of[pb.GroupUpdateReq], of[pb.GroupUpdateResp], V12},
	{MethodNotifyExit, "NotifyExit", ModuleMgmt, nil, nil, V12},
	{MethodNotifyPoolConnect, "NotifyPoolConnect", ModuleMgmt, of[pb.PoolMonitorReq], nil, V12},
	{MethodNotifyPoolDisconnect, "NotifyPoolDisconnect", ModuleMgmt, of[pb.PoolMonitorReq], nil, V12},
	{MethodPoolGetProp, "PoolGetProp", ModuleMgmt, of[pb.PoolGetPropReq], of[pb.PoolGetPropResp], V20},
	{MethodSetLogMasks, "SetLogMasks", ModuleMgmt, of[pb.SetLogMasksReq], of[pb.SetLogMasksResp], V20},
	{MethodPoolUpgrade, "PoolUpgrade", ModuleMgmt, of[pb.PoolUpgradeReq], of[pb.DaosResp], V22},
	{MethodPoolQueryTargets, "PoolQueryTargets", ModuleMgmt, of[pb.PoolQueryTargetReq], of[pb.PoolQueryTargetResp], V24},
	{MethodLedManage, "LedManage", ModuleMgmt, of[pb.LedManageReq], of[pb.DevManageResp], V24},
	{MethodCheckStart, "CheckStart", ModuleMgmt, of[pb.CheckStartReq], of[pb.CheckStartResp], V260},
	{MethodCheckStop, "CheckStop", ModuleMgmt, of[pb.CheckStopReq], of[pb.CheckStopResp], V260},
	{MethodCheckQuery, "CheckQuery", ModuleMgmt, of[pb.CheckQueryReq], of[pb.CheckQueryResp], V260},
	{MethodCheckProp, "CheckProp", ModuleMgmt, of[pb.CheckPropReq], of[pb.CheckPropResp], V260},
	{MethodCheckAct, "CheckAct", ModuleMgmt, of[pb.CheckActReq], of[pb.CheckActResp], V260},
	{MethodSetupClientTelemetry, "SetupClientTelemetry", ModuleMgmt, of[pb.ClientTelemetryReq], of[pb.ClientTelemetryResp], V260},
	{MethodGetGroupStatus, "GetGroupStatus", ModuleMgmt, of[pb.GetGroupStatusReq], of[pb.GetGroupStatusResp], V28},
	{MethodCheckSetPolicy, "CheckSetPolicy", ModuleMgmt, of[pb.CheckSetPolicyReq], of[pb.DaosResp], V28},
	{MethodPoolRebuildStart, "PoolRebuildStart", ModuleMgmt, of[pb.PoolRebuildStartReq], of[pb.DaosResp], V28},
	{MethodPoolRebuildStop, "PoolRebuildStop", ModuleMgmt, of[pb.PoolRebuildStopReq], of[pb.DaosResp], V28},
	{MethodPoolSelfHealEval, "PoolSelfHealEval", ModuleMgmt, of[pb.PoolSelfHealEvalReq], of[pb.DaosResp], V28},
	{MethodNotifyReady, "NotifyReady", ModuleSrv, of[pb.NotifyReadyReq], nil, V12},
	{MethodGetPoolSvc, "GetPoolSvc", ModuleSrv, of[pb.GetPoolSvcReq], of[pb.GetPoolSvcResp], V12},
	{MethodClusterEvent, "ClusterEvent", ModuleSrv, of[pb.ClusterEventReq], of[pb.ClusterEventResp], V12},
	{MethodPoolFindByLabel, "PoolFindByLabel", ModuleSrv, of[pb.PoolFindByLabelReq], of[pb.PoolFindByLabelResp], V20},
	{MethodCheckListPool, "CheckListPool", ModuleSrv, of[pb.CheckListPoolReq], of[pb.CheckListPoolResp], V260},
	{MethodCheckRegPool, "CheckRegPool", ModuleSrv, of[pb.CheckRegPoolReq], of[pb.CheckRegPoolResp], V260},
	{MethodCheckDeregPool, "CheckDeregPool", ModuleSrv, of[pb.CheckDeregPoolReq], of[pb.CheckDeregPoolResp], V260},
	{MethodCheckReport, "CheckReport", ModuleSrv, of[pb.CheckReportReq], of[pb.CheckReportResp], V260},
	{MethodListPools, "ListPools", ModuleSrv, of[pb.ListPoolsReq], of[pb.ListPoolsResp], V262},
	{MethodGetSysProps, "GetSysProps", ModuleSrv, of[pb.SystemGetPropReq], of[pb.SystemGetPropResp], V28},
	{MethodValidateCredential, "ValidateCredential", ModuleSec, of[pb.ValidateCredReq], of[pb.ValidateCredResp], V12},
}

// Methods returns the rows of all served methods, sorted by number.
func Methods() []MethodInfo { return append([]MethodInfo(nil), methods...) }

// Info returns the row of m; ok is false for numbers that nobody serves.
func (m Method) Info() (info MethodInfo, ok bool) {
	i := sort.Search(len(methods), func(i int) bool { return methods[i].Method >= m })
	if i == len(methods) || methods[i].Method != m {
		return MethodInfo{}, false
	}
	return methods[i], true
}

// Module returns the module of m by its hundreds digit, for unknown methods too.
func (m Method) Module() Module { return Module(m / 100) }

// In reports whether releases of family f serve m.
func (m Method) In(f Family) bool {
	info, ok := m.Info()
	return ok && info.Since <= f
}

// String returns the name and number, "SetRank(202)".
func (m Method) String() string {
	if info, ok := m.Info(); ok {
		return fmt.Sprintf("%s(%d)", info.Name, int32(m))
	}
	return fmt.Sprintf("method %d", int32(m))
}
