package dmg

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"daosbox/cluster/fault"
	"daosbox/cluster/hostlist"
	"daosbox/cluster/wire"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/storage"

	"github.com/spf13/cobra"
)

type storageFormatOptions struct {
	verbose bool
	force   bool
	replace bool
	hosts   string
}

func storageFormatCommand(a *app) *cobra.Command {
	o := &storageFormatOptions{}
	cmd := &cobra.Command{
		Use:   "format",
		Short: "make the configured storage of the servers ready for their engines; what it holds is lost",
		Long: `Make the storage that the servers have configured ready for their engines, which then
start and join. All that this storage holds is lost; what is formatted already is left
alone and told, unless --force is given.

While the management service is up, name the hosts with -l: those that hold a replica
of it are refused. Formatting gives an engine a new identity, and the system refuses it
at the place of a rank that it knows; --replace lets it take that rank, when the storage
of the rank was lost and replaced.`,
		Example: examples("dmg storage format", "# hosts that join a running system", "dmg storage format -l node[9-12] --verbose",
			"# a host whose storage was lost", "dmg storage format --replace -l node3"),
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runStorageFormat(cmd.Context(), a, o) },
	}
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "show the result of each device")
	cmd.Flags().BoolVar(&o.force, "force", false, "format what is formatted already, stopping its engines")
	cmd.Flags().BoolVar(&o.replace, "replace", false, "let the engine of one host take its former rank again after its metadata was lost")
	hostsFlag(a, cmd, &o.hosts)
	return cmd
}

func (o *storageFormatOptions) check(hosts int) error {
	if !o.replace {
		return nil
	}
	if o.force {
		return fault.New(fault.Usage, "cannot use --replace and --force together").WithHint("leave one of them out")
	}
	if hosts != 1 {
		return fault.New(fault.Usage, "cannot use --replace without naming exactly one host").WithHint("add -l HOST")
	}
	return nil
}

func runStorageFormat(ctx context.Context, a *app, o *storageFormatOptions) error {
	listed := o.hosts
	if listed == "" {
		listed = a.hostList
	}
	set, err := hostlist.Parse(listed)
	if err != nil {
		return err
	}
	if err := o.check(set.Len()); err != nil {
		return err
	}
	client, err := a.client(listed)
	if err != nil {
		return err
	}
	if err := refuseRunning(ctx, client, listed != ""); err != nil {
		return err
	}
	got := askHosts(ctx, a, client, "storage format", client.Servers, control.StorageFormat, control.StorageFormatReq{Force: o.force, Replace: o.replace})
	answers := make([]answer[storage.HostStorage], len(got.answers))
	for i, one := range got.answers {
		one.value.Storage.Normalize()
		answers[i] = answer[storage.HostStorage]{one.host, one.value.Storage}
		some := slices.ContainsFunc(one.value.Storage.SCMMountPoints, func(m storage.MountPoint) bool { return m.Info == success })
		got.failPartly(one.host, formatFaults(one.value), some)
	}
	body := printFormatSummary
	if o.verbose {
		body = each(printFormat)
	}
	return got.showStorage(a, answers, sameStorage, body)
}

// success is the result of a device that was formatted.
const success = "CTL_SUCCESS"

// formatFaults is what went wrong on a host. Servers that send no faults tell it
// with each device.
func formatFaults(r control.StorageFormatResp) []*fault.Error {
	if r.Failed == 0 || len(r.Faults) > 0 {
		return r.Faults
	}
	var texts []string
	add := func(info string) {
		if info != success && info != "" && !slices.Contains(texts, info) {
			texts = append(texts, info)
		}
	}
	for _, m := range r.Storage.SCMMountPoints {
		add(m.Info)
	}
	for _, c := range r.Storage.NVMeDevices {
		add(c.Info)
	}
	if len(texts) == 0 {
		texts = []string{fmt.Sprintf("%d engine(s) could not be formatted", r.Failed)}
	}
	return []*fault.Error{fault.New(fault.Unknown, "%s", strings.Join(texts, "; "))}
}

// msAnswer is how long a server may take to say whether it has a replica.
const msAnswer = 5 * time.Second

// refuseRunning refuses a format that would pull the storage from under the
// management service: with listed hosts, when one of them has a running replica;
// otherwise when any replica runs, be it on a host that is not configured here.
func refuseRunning(ctx context.Context, client *control.Client, listed bool) error {
	running, more := replicasAmong(ctx, client, client.Servers)
	if !listed && running.Len() == 0 && more.Len() > 0 {
		running, _ = replicasAmong(ctx, client, more.Hosts())
	}
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Canceled, err, "cannot format storage")
	}
	if running.Len() == 0 {
		return nil
	}
	refused := fault.New(fault.Refused, "cannot format storage: the management service is up on %s", running)
	if listed {
		return refused.WithHint("its replicas hold the system's data; leave these hosts out of -l, or stop daos_server there and remove that data")
	}
	return refused.WithHint("to format hosts that join a running system name them with -l")
}

// replicasAmong asks servers for the leader; those that can tell run a replica.
// The others may name replicas that were not asked.
func replicasAmong(ctx context.Context, client *control.Client, servers []string) (running, more *hostlist.Set) {
	running, more = hostlist.Of(), hostlist.Of()
	call := func(ctx context.Context, host string) (control.LeaderQueryResp, error) {
		return control.Call(ctx, client, host, control.LeaderQuery, &control.LeaderQueryReq{}, nil)
	}
	wire.FanOut(ctx, servers, wire.FanOutOptions{HostTimeout: msAnswer}, call, func(got wire.Result[control.LeaderQueryResp]) {
		if got.Err == nil {
			running.Add(got.Host)
			return
		}
		if e, ok := fault.As(got.Err); ok {
			more.Add(strings.Split(e.Data["replicas"], ",")...)
		}
	})
	more.Remove(servers...)
	return running, more
}

func printFormatSummary(w io.Writer, groups []group[storage.HostStorage]) {
	rows := make([][]string, len(groups))
	for i, g := range groups {
		scm, nvme := 0, 0
		for _, m := range g.value.SCMMountPoints {
			if m.Info == success {
				scm++
			}
		}
		for _, c := range g.value.NVMeDevices {
			if c.Info == success {
				nvme++
			}
		}
		rows[i] = []string{g.title(), strconv.Itoa(scm), strconv.Itoa(nvme)}
	}
	fmt.Fprintln(w, "Format Summary:")
	cli.Table(w, "  ", []string{"Hosts", "SCM Devices", "NVMe Devices"}, rows)
}

func printFormat(w io.Writer, s storage.HostStorage) {
	s = inOrder(s)
	mounts := make([][]string, len(s.SCMMountPoints))
	for i, m := range s.SCMMountPoints {
		mounts[i] = []string{m.Path, m.Info}
	}
	cli.Table(w, "", []string{"SCM Mount", "Format Result"}, mounts)
	fmt.Fprintln(w)
	devices := make([][]string, len(s.NVMeDevices))
	for i, c := range s.NVMeDevices {
		devices[i] = []string{c.PCIAddr, c.Info, rolesOf(c)}
	}
	cli.Table(w, "", []string{"NVMe PCI", "Format Result", "Role(s)"}, devices)
	fmt.Fprintln(w)
}
