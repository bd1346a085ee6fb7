package dmg

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strconv"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/engine/drpc"

	"github.com/dustin/go-humanize"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// poolCreateOptions are the flags of pool create as they were given.
type poolCreateOptions struct {
	target      control.Target
	label       string
	user, group string
	properties  []string
	aclFile     string

	size, tierRatio    string // a total, or a share of what is free
	scmSize, nvmeSize  string // bytes per engine of each tier
	metaSize, dataSize string // the same where metadata lives on SSDs
	memRatio           string

	ranks  string
	nranks uint32
	nsvc   uint32
}

func poolCreateCommand(a *app) *cobra.Command {
	var o poolCreateOptions
	cmd := &cobra.Command{Use: "create LABEL", Short: "create a pool", Args: cobra.ArbitraryArgs}
	cmd.Long = `Create a pool on all joined ranks, or on those of --ranks. Its size is given in one of
four ways:

  --size 10TB                       in total, divided among the ranks and tiers
  --size 50%                        of what every rank has free (dmg storage query usage)
  --scm-size 6GB --nvme-size 94GB   of each tier on each engine
  --meta-size 6GB --data-size 94GB  the same where metadata lives on SSDs (--mem-ratio)

Sizes are numbers with units, of powers of 1000 (GB) or 1024 (GiB). A target gets at
least 16 MiB of SCM and, unless none is asked for, 1 GiB of NVMe.`
	cmd.Example = examples("dmg pool create blue --size 10TB", "dmg pool create blue --size 50% --ranks 0-3",
		"dmg pool create blue --size 10TB --tier-ratio 10 --nranks 4 --user zoe --group lab",
		"dmg pool create blue --scm-size 6GB --nvme-size 94GB --properties rd_fac:2,scrub:timed",
		"dmg pool create blue --meta-size 6GB --data-size 94GB --mem-ratio 50%")
	fs := cmd.Flags()
	fs.StringVarP(&o.user, "user", "u", "", "owner, a `name` (default: you)")
	fs.StringVarP(&o.group, "group", "g", "", "owner group, a `name` (default: yours)")
	fs.StringArrayVarP(&o.properties, "properties", "P", nil, "`properties` KEY:VALUE[,KEY:VALUE...]")
	fs.StringVarP(&o.aclFile, "acl-file", "a", "", "`file` with access control entries, one on each line")
	fs.StringVarP(&o.size, "size", "z", "", "`size` of the whole pool, or a share of what is free such as 50%")
	fs.StringVarP(&o.tierRatio, "tier-ratio", "t", "", "with --size: `percentages` of the tiers (default 6,94)")
	fs.Uint32VarP(&o.nranks, "nranks", "k", 0, "with --size: `number` of ranks to use (default: all)")
	fs.Uint32VarP(&o.nsvc, "nsvc", "v", 0, "`number` of replicas of the pool's service")
	fs.StringVarP(&o.scmSize, "scm-size", "s", "", "`size` of SCM on each engine")
	fs.StringVarP(&o.nvmeSize, "nvme-size", "n", "", "with --scm-size: `size` of NVMe on each engine")
	fs.StringVar(&o.metaSize, "meta-size", "", "`size` of metadata on each engine, where metadata lives on SSDs")
	fs.StringVar(&o.dataSize, "data-size", "", "with --meta-size: `size` of data on each engine")
	fs.StringVar(&o.memRatio, "mem-ratio", "", "`share` of metadata that is held in memory, where metadata lives on SSDs (default 100)")
	fs.StringVarP(&o.ranks, "ranks", "r", "", "`ranks` to use (default: all)")
	sysFlag(cmd, &o.target)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return cli.ExactArgs("LABEL")(cmd, args)
		}
		if len(args) == 1 { // planLabel says when it may be missing
			o.label = args[0]
		}
		return runPoolCreate(cmd.Context(), a, o)
	}
	return cmd
}

// poolPlan is a request that may still lack its sizes, and what is said of it.
type poolPlan struct {
	req     *control.PoolCreateReq
	share   uint64 // percent of what is free, 0: the request has its sizes
	mode    string
	notices []string
}

// plan checks the options against each other and makes the request of them.
func (o *poolCreateOptions) plan(a *app) (*poolPlan, error) {
	plan := &poolPlan{req: &control.PoolCreateReq{Target: o.target, UUID: uuid.NewString(), NumRanks: o.nranks, NumSvcReps: o.nsvc}}
	for _, step := range []func(*app, *poolPlan) error{o.planProperties, o.planOwner, o.planRanks, o.planSizes, o.planLabel} {
		if err := step(a, plan); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

func (o *poolCreateOptions) planProperties(a *app, plan *poolPlan) (err error) {
	req := plan.req
	if req.Properties, err = parseProps(o.properties, true); err != nil {
		return err
	}
	req.Label = o.label
	labelled := func(p control.PoolProperty) bool { return p.Number == drpc.PropLabel }
	if i := slices.IndexFunc(req.Properties, labelled); i >= 0 {
		if o.label != "" {
			return fault.New(fault.Usage, "cannot create pool %q: property label gives it a label too", brief(o.label)).WithHint("leave the property out")
		}
		req.Label = *req.Properties[i].Text
		req.Properties = slices.DeleteFunc(req.Properties, labelled)
	}
	replicated := func(p control.PoolProperty) bool { return p.Number == drpc.PropSvcRF }
	if req.NumSvcReps > 0 && slices.ContainsFunc(req.Properties, replicated) {
		plan.notices = append(plan.notices, "property svc_rf decides the number of service replicas, not --nsvc")
		req.NumSvcReps = 0
	}
	if o.aclFile != "" {
		req.ACL, err = readACL(a.Path(o.aclFile))
	}
	return err
}

func (o *poolCreateOptions) planOwner(a *app, plan *poolPlan) (err error) {
	if plan.req.User, err = ownerOr(o.user, "--user", func() (string, error) {
		u, err := user.LookupId(strconv.Itoa(a.EUID))
		if err != nil {
			return "", err
		}
		return u.Username, nil
	}); err != nil {
		return err
	}
	plan.req.Group, err = ownerOr(o.group, "--group", func() (string, error) {
		g, err := user.LookupGroupId(strconv.Itoa(os.Getegid()))
		if err != nil {
			return "", err
		}
		return g.Name, nil
	})
	return err
}

// ownerOr is the given owner, or the caller.
func ownerOr(given, flag string, caller func() (string, error)) (string, error) {
	if given != "" {
		return parseOwner(given)
	}
	name, err := caller()
	if err != nil {
		return "", fault.Wrap(fault.Usage, err, "cannot tell who owns the pool").WithHint("name the owner with %s", flag)
	}
	return parseOwner(name)
}

func (o *poolCreateOptions) planRanks(_ *app, plan *poolPlan) error {
	if o.ranks == "" {
		return nil
	}
	if o.nranks > 0 {
		return exclusive("--ranks", "--nranks")
	}
	ranks, err := hostlist.ParseRanks(o.ranks)
	if err != nil {
		return err
	}
	if ranks.Len() == 0 {
		return fault.New(fault.Usage, "cannot create a pool on no ranks").WithHint("leave --ranks out to use all")
	}
	plan.req.Ranks = ranks
	return nil
}

func exclusive(one, other string) error {
	return fault.New(fault.Usage, "cannot create a pool with both %s and %s", one, other).WithHint("see `dmg pool create --help`")
}

// planLabel checks the label. Pools had none before 1.1.3, so that a command line
// in the form of that time, which scripts have, is given one.
func (o *poolCreateOptions) planLabel(_ *app, plan *poolPlan) error {
	req := plan.req
	if req.Label == "" && o.scmSize != "" {
		req.Label = "pool-" + req.UUID[:8]
		plan.notices = append(plan.notices, fmt.Sprintf("pools have labels now: this one gets %q; choose one with `dmg pool create LABEL`", req.Label))
	}
	if req.Label == "" {
		return fault.New(fault.Usage, "missing argument: LABEL").WithHint("usage: dmg pool create LABEL --size SIZE")
	}
	return checkLabel(req.Label)
}

// creating names the command in its errors.
const creating = "pool create"

func runPoolCreate(ctx context.Context, a *app, o poolCreateOptions) error {
	plan, err := o.plan(a)
	if err != nil {
		return err
	}
	for _, notice := range plan.notices {
		a.Notice("%s", notice)
	}
	a.say("Creating pool %s: %s", plan.req.Label, plan.mode)
	if plan.share > 0 {
		if err := plan.resolve(ctx, a); err != nil {
			return err
		}
	}
	resp, err := ask(ctx, a, creating, control.PoolCreate, plan.req)
	if err != nil {
		return err
	}
	if o.metaSize != "" && !resp.MDonSSDActive {
		a.Notice("metadata does not live on SSDs in this system: the sizes became those of SCM and NVMe")
	}
	a.Show(resp, func(w io.Writer) { printCreated(w, &resp) })
	return nil
}

func printCreated(w io.Writer, resp *control.PoolCreateResp) {
	ranks := uint64(len(resp.TargetRanks))
	var all uint64
	for _, bytes := range resp.TierBytes {
		all += bytes * ranks
	}
	rows := []cli.Row{
		{Key: "UUID", Value: resp.UUID},
		{Key: "Service Leader", Value: fmt.Sprint(resp.SvcLeader)},
		{Key: "Service Ranks", Value: rankText(resp.SvcReps)},
		{Key: "Storage Ranks", Value: rankText(resp.TargetRanks)},
		{Key: "Total Size", Value: humanize.Bytes(all)},
	}
	titles := []string{"Storage tier 0 (SCM)", "Storage tier 1 (NVMe)"}
	if resp.MDonSSDActive {
		titles = []string{"Metadata Storage", "Data Storage"}
	}
	for i, bytes := range resp.TierBytes {
		title := fmt.Sprintf("Storage tier %d", i)
		if i < len(titles) {
			title = titles[i]
		}
		rows = append(rows, cli.Row{Key: title, Value: perRank(bytes, ranks)})
	}
	if resp.MDonSSDActive {
		rows = append(rows, cli.Row{Key: "Memory File Size", Value: perRank(resp.MemFileBytes, ranks)})
	}
	cli.Entity(w, fmt.Sprintf("Pool created with %s storage tier ratio", ratioOf(resp.TierBytes)), rows)
}

func perRank(bytes, ranks uint64) string {
	return fmt.Sprintf("%s (%s / rank)", humanize.Bytes(bytes*ranks), humanize.Bytes(bytes))
}
