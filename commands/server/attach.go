package server

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/commands/fabric"
)

// arphrdEthernet is the class of an interface that the scan does not know.
const arphrdEthernet = 1

// attachInfo tells what a client needs to reach the engines; any replica answers.
func (s *server) attachInfo(_ context.Context, _ control.Caller, req *control.AttachInfoReq, _ control.Report) (control.AttachInfoResp, error) {
	service, err := s.leader()
	if err != nil {
		return control.AttachInfoResp{}, err
	}
	view := service.Local()
	if req.KnownVersion != 0 && req.KnownVersion == view.Version() {
		return control.AttachInfoResp{Unchanged: true, System: s.cfg.Name, DataVersion: req.KnownVersion}, nil
	}
	attach, err := view.Attach(s.replicas, req.AllRanks)
	if err != nil {
		return control.AttachInfoResp{}, err
	}
	resp := control.AttachInfoResp{
		System: s.cfg.Name, DataVersion: attach.DataVersion, MSRanks: attach.MSRanks, NetHint: s.netHint(), Build: build(),
		RankURIs: make([]control.RankURI, len(attach.RankURIs)),
	}
	for i, uri := range attach.RankURIs {
		resp.RankURIs[i] = control.RankURI{Rank: uri.Rank, URI: uri.URI, Contexts: uri.Contexts}
	}
	return resp, nil
}

// netHint is how clients should set up their fabric, from the first engine.
func (s *server) netHint() control.NetHint {
	hint := control.NetHint{Provider: s.cfg.Provider, CRTTimeout: s.cfg.CrtTimeout, NetDevClass: arphrdEthernet, SrvSRXSet: -1, EnvVars: s.cfg.ClientEnvVars}
	if hint.EnvVars == nil {
		hint.EnvVars = []string{}
	}
	if len(s.cfg.Engines) == 0 {
		return hint
	}
	first := s.cfg.Engines[0]
	hint.Provider, hint.CRTTimeout = first.Provider, first.CrtTimeout
	hint.SrvSRXSet = 1
	if first.DisableSRX {
		hint.SrvSRXSet = 0
	}
	if value, ok := first.Env("FI_OFI_RXM_USE_SRX"); ok {
		if n, err := strconv.Atoi(value); err == nil {
			hint.SrvSRXSet = int32(n)
		}
	}
	if i := slices.IndexFunc(s.fabric.Interfaces, func(f fabric.Interface) bool { return f.Device == first.FabricIface }); i >= 0 {
		hint.NetDevClass = s.fabric.Interfaces[i].NetDevClass
	}
	return hint
}

// build is the release whose interfaces this server speaks.
func build() control.Build {
	var parts [3]uint32
	for i, text := range strings.SplitN(cli.DAOSVersion, ".", 3) {
		n, _ := strconv.ParseUint(text, 10, 32)
		parts[i] = uint32(n)
	}
	return control.Build{Major: parts[0], Minor: parts[1], Patch: parts[2], Tag: "daosbox-" + cli.Version}
}
