package dmg

import (
	"fmt"
	"io"
	"slices"

	"daosbox/cluster/hostlist"
	"daosbox/commands/cli"
	"daosbox/commands/control"
	"daosbox/storage"

	"github.com/spf13/cobra"
)

func storageCommand(a *app) *cobra.Command {
	group := cli.Group("storage", "storage of the servers: what is there, and making it ready", "sto")
	group.Long = `Look at the storage of the servers, and make it ready for their engines. Each verb
asks every host of -l at the same time.`
	group.AddCommand(storageScanCommand(a), storageFormatCommand(a), storageQueryCommand(a))
	return group
}

// hostsFlag declares -l of a verb that asks hosts.
func hostsFlag(a *app, cmd *cobra.Command, hosts *string) {
	cmd.Flags().StringVarP(hosts, hostListFlag, "l", "", "`hosts` to ask, as in node[1-8]:10001 (default: hostlist of the configuration)")
	_ = cmd.RegisterFlagCompletionFunc(hostListFlag, a.completeHosts)
}

// relayFlag declares --relay of a verb whose request servers may pass on.
func relayFlag(a *app, cmd *cobra.Command) {
	cmd.Flags().Var(&a.relay, "relay", fmt.Sprintf("let servers pass the request on to one another: never, auto (to more than %d hosts) or always", control.RelayThreshold))
}

// storageAnswer is the body of all verbs that answer with storage. The keys are
// those that scripts know.
type storageAnswer struct {
	HostErrors  hostErrors              `json:"host_errors"`
	HostStorage map[string]storageGroup `json:"HostStorage"`
	Via         ways                    `json:"via,omitempty"`
}

// storageGroup is the storage of hosts that have the same.
type storageGroup struct {
	Storage storage.HostStorage `json:"storage"`
	Hosts   *hostlist.Set       `json:"hosts"`
}

func newStorageAnswer(failed hostErrors, groups []group[storage.HostStorage], via ways) storageAnswer {
	answer := storageAnswer{failed, make(map[string]storageGroup), via}
	for _, g := range groups {
		answer.HostStorage[g.hash] = storageGroup{g.value, g.hosts}
	}
	return answer
}

// showStorage shows what hosts answered, those together that are the same, and
// returns the error of the command. body prints the groups, of which there is one at
// least.
func (r *replies[T]) showStorage(a *app, answers []answer[storage.HostStorage], same func(storage.HostStorage) any, body func(io.Writer, []group[storage.HostStorage])) error {
	groups, err := gather(answers, same)
	if err != nil {
		return err
	}
	a.Show(newStorageAnswer(r.failed, groups, r.via), func(w io.Writer) {
		r.failed.print(w)
		if len(groups) > 0 {
			body(w, groups)
		}
	})
	return r.err()
}

// each prints every group below its hosts.
func each(body func(io.Writer, storage.HostStorage)) func(io.Writer, []group[storage.HostStorage]) {
	return func(w io.Writer, groups []group[storage.HostStorage]) { printEach(w, groups, body) }
}

// sameStorage reduces storage to what hosts must agree in to be shown as one:
// order does not count, nor what differs between equal machines (serial numbers,
// ids) or from one moment to the next (free space, health).
func sameStorage(s storage.HostStorage) any {
	s.NVMeDevices = slices.Clone(s.NVMeDevices)
	for i := range s.NVMeDevices {
		c := &s.NVMeDevices[i]
		c.Serial, c.HealthStats = "", nil
		c.SMDDevices = slices.Clone(c.SMDDevices)
		for j := range c.SMDDevices {
			d := &c.SMDDevices[j]
			d.UUID, d.AvailBytes, d.UsableBytes, d.Controller = "", 0, 0, nil
		}
	}
	s.SCMModules = slices.Clone(s.SCMModules)
	for i := range s.SCMModules {
		s.SCMModules[i].UID, s.SCMModules[i].PhysicalID = "", 0
	}
	s.SCMNamespaces = slices.Clone(s.SCMNamespaces)
	for i := range s.SCMNamespaces {
		n := &s.SCMNamespaces[i]
		n.UUID = ""
		if n.Mount != nil {
			mount := sameMount(*n.Mount)
			n.Mount = &mount
		}
	}
	s.SCMMountPoints = slices.Clone(s.SCMMountPoints)
	for i := range s.SCMMountPoints {
		s.SCMMountPoints[i] = sameMount(s.SCMMountPoints[i])
	}
	if s.MemInfo != nil {
		s.MemInfo = &storage.MemInfo{HugepageSizeKiB: s.MemInfo.HugepageSizeKiB, HugepagesTotal: s.MemInfo.HugepagesTotal}
	}
	return inOrder(s)
}

func sameMount(m storage.MountPoint) storage.MountPoint {
	m.AvailBytes, m.UsableBytes = 0, 0
	return m
}

// sameInSummary is sameStorage for the summary, which tells neither ranks nor
// mount points.
func sameInSummary(s storage.HostStorage) any {
	s = sameStorage(s).(storage.HostStorage) // a copy
	for i := range s.NVMeDevices {
		for j := range s.NVMeDevices[i].SMDDevices {
			s.NVMeDevices[i].SMDDevices[j].Rank = 0
		}
	}
	for i := range s.SCMNamespaces {
		s.SCMNamespaces[i].Mount = nil
	}
	s.SCMMountPoints = nil
	return s
}

// sameInOrder wants all of the storage to agree, in any order.
func sameInOrder(s storage.HostStorage) any { return inOrder(s) }

func inOrder(s storage.HostStorage) storage.HostStorage {
	s.NVMeDevices = sortedBy(s.NVMeDevices, func(c storage.NVMeController) string { return c.PCIAddr })
	s.SCMModules = sortedBy(s.SCMModules, moduleKey)
	s.SCMNamespaces = sortedBy(s.SCMNamespaces, func(n storage.SCMNamespace) string { return n.BlockDevice })
	s.SCMMountPoints = sortedBy(s.SCMMountPoints, func(m storage.MountPoint) string { return m.Path })
	return s
}
