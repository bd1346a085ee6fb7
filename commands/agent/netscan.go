package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"
	"daosbox/commands/fabric"

	"github.com/spf13/cobra"
)

// localhost is the host that a scan without servers is about.
const localhost = "localhost"

func netScanCommand(t *cli.Tool) *cobra.Command {
	provider := ""
	cmd := &cobra.Command{
		Use:   "net-scan",
		Short: "list the fabric interfaces of this host and the providers they support",
		Args:  cli.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return netScan(t, provider) },
	}
	cmd.Flags().StringVarP(&provider, "provider", "p", "", "only this provider, or all")
	return cmd
}

// hostFabric is a value of the map that a network scan answers with; its key is a
// hash of the fabric.
type hostFabric struct {
	HostFabric fabric.Host
	HostSet    string
}

// netScan shows what there is; nothing is no error.
func netScan(t *cli.Tool, provider string) error {
	host, err := fabric.Scan("", provider)
	if err != nil && !errors.Is(err, fault.Kind(fault.NotFound)) {
		return err
	}
	host = host.WithoutLoopback()
	groups := make(map[string]hostFabric)
	if len(host.Interfaces) > 0 {
		body, err := json.Marshal(host)
		if err != nil {
			return fault.Wrap(fault.Internal, err, "cannot encode the scan")
		}
		sum := fnv.New64a()
		_, _ = sum.Write(body) // never fails
		groups[strconv.FormatUint(sum.Sum64(), 10)] = hostFabric{host, localhost}
	}
	t.Show(groups, func(w io.Writer) {
		if len(groups) == 0 {
			return
		}
		dashes := strings.Repeat("-", len(localhost))
		fmt.Fprintf(w, "%s\n%s\n%s\n", dashes, localhost, dashes)
		fabric.Print(w, host)
	})
	return nil
}
