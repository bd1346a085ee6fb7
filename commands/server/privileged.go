package server

import (
	"context"
	"path/filepath"
	"slices"

	"daosbox/cluster/fault"
	"daosbox/commands/helper"
	"daosbox/storage"
)

// helperSocketEnv names the socket of daos_server_helper when it is not at
// helper.DefaultSocket.
const helperSocketEnv = "DAOS_HELPER_SOCKET"

// privileged does what a start and a format need root for: in this process when it
// is root's, else through daos_server_helper where there is one. Without either it
// does what an ordinary user may.
type privileged struct {
	host storage.Host
	// euid is the user that decides what a start may do: 0 with a helper.
	euid   int
	helper *helper.Client // nil when this process does all itself
}

// privileged finds out what this server may do to the storage l. A helper comes
// and goes with its unit, so that it is asked each time.
func (s *server) privileged(ctx context.Context, l storage.Layout) privileged {
	p := privileged{host: s.host, euid: s.tool.EUID}
	if p.euid == 0 || l.SCM.Class != storage.RAM {
		return p
	}
	client, err := helper.Dial(s.tool.Getenv(helperSocketEnv))
	if fault.Of(err) == fault.NotFound {
		return p
	}
	var info helper.Info
	if err == nil {
		info, err = client.Ping(ctx)
	}
	want := helper.Engine{Index: l.Engine, Mount: filepath.Clean(l.SCM.Mount), SizeGiB: l.SCM.SizeGiB}
	if err == nil && !slices.Contains(info.Engines, want) {
		err = fault.New(fault.Config, "its configuration has no RAM disk of %d GiB on %s for engine %d", want.SizeGiB, want.Mount, want.Index).
			WithHint("let daos_server and daos_server_helper use the same configuration")
	}
	if err != nil {
		s.log.Error("cannot use daos_server_helper, going on without", "engine", l.Engine, "error", err, "hint", fault.HintOf(err))
		return p
	}
	p.euid, p.helper = 0, client
	return p
}

// mount is storage.Host.Mount.
func (p privileged) mount(ctx context.Context, l storage.Layout) error {
	if p.helper == nil {
		return p.host.Mount(ctx, l)
	}
	return p.helper.Mount(ctx, l.Engine)
}

// format is storage.Host.Format. With a helper the plan is the same: it is the
// helper that does the steps which change mounts, and they come between the others.
func (p privileged) format(ctx context.Context, l storage.Layout, o storage.FormatOptions, progress func(storage.Step)) (storage.FormatResult, error) {
	if p.helper == nil || o.Adopt {
		return p.host.Format(ctx, l, o, progress)
	}
	condition, err := p.host.Check(ctx, l)
	if err != nil {
		return p.notMounted(ctx, l, err)
	}
	condition.CanMount = true
	plan, err := storage.PlanFormat(l, condition, o)
	if err != nil {
		return p.notMounted(ctx, l, err)
	}
	mount := slices.IndexFunc(plan.Steps, func(s storage.Step) bool { return s.Op == storage.OpMount })
	first := slices.IndexFunc(plan.Steps, func(s storage.Step) bool { return s.Op != storage.OpRemove })
	before, after := plan, plan
	before.Steps, after.Steps = plan.Steps[:first], plan.Steps[mount+1:]
	if result, err := p.host.Execute(ctx, before, progress); err != nil {
		return result, err
	}
	if progress != nil {
		progress(plan.Steps[mount])
	}
	if err := p.helper.Format(ctx, l.Engine, o.Force); err != nil {
		return p.notMounted(ctx, l, err)
	}
	return p.host.Execute(ctx, after, progress)
}

// notMounted is the result of a format that did not get as far as a RAM disk.
func (p privileged) notMounted(ctx context.Context, l storage.Layout, err error) (storage.FormatResult, error) {
	// A plan without steps changes nothing and has the records of all parts.
	result, _ := p.host.Execute(ctx, storage.Plan{Layout: l}, nil)
	result.SCM.Info = fault.OneLine(err.Error())
	if hint := fault.HintOf(err); hint != "" {
		result.SCM.Info += "; " + hint
	}
	for i := range result.Bdevs {
		result.Bdevs[i].Info = "skipped: the SCM of the engine was not formatted"
	}
	return result, err
}
