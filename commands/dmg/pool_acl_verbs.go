package dmg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"daosbox/cluster/fault"
	"daosbox/commands/control"
	"daosbox/engine/drpc"

	"github.com/spf13/cobra"
)

// aclAnswer is the answer of all verbs on access control lists.
type aclAnswer struct {
	ACL control.ACL `json:"ACL"`
}

func (a *app) showACL(acl control.ACL, human func(w io.Writer)) {
	if acl.Entries == nil {
		acl.Entries = []string{}
	}
	a.Show(aclAnswer{acl}, human)
}

type poolGetACLOptions struct {
	control.PoolACLReq
	outfile string
	force   bool
	verbose bool
}

func poolGetACLCommand(a *app) *cobra.Command {
	var o poolGetACLOptions
	cmd, target := poolVerb(a, "get-acl", "show the access control list of a pool")
	cmd.Long = `Show who may do what with a pool. The list is printed as a file that overwrite-acl and
update-acl take: one entry TYPE:FLAGS:PRINCIPAL:PERMISSIONS on each line.

  A::zoe@:rw       user zoe may read and write
  A:G:lab@:r       group lab may read
  A::OWNER@:rw     so may the owner (GROUP@: its group, EVERYONE@: all others)

Permissions are r (read), w (write), c (create containers), d (destroy them), t and T
(get and set properties), a and A (get and set this list), o (set the owner).`
	cmd.Example = examples("dmg pool get-acl blue --verbose", "dmg pool get-acl blue --outfile blue.acl")
	flags := cmd.Flags()
	flags.StringVarP(&o.outfile, "outfile", "O", "", "write the list to this `file` (-o before 2.8)")
	flags.BoolVarP(&o.force, "force", "f", false, "write over a file that exists")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "spell each entry out")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		o.Target = *target
		if o.ID, err = poolOf(cmd, args); err != nil {
			return err
		}
		err = runPoolGetACL(cmd.Context(), a, o)
		if err != nil && a.cfg == nil && flags.Changed("config-path") {
			return fault.Wrap(fault.Of(err), err, "pool get-acl failed").WithHint("since 2.8 -o is the configuration file; write the list to a file with -O")
		}
		return err
	}
	return cmd
}

func runPoolGetACL(ctx context.Context, a *app, o poolGetACLOptions) error {
	acl, err := ask(ctx, a, "pool get-acl", control.PoolGetACL, &o.PoolACLReq)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	printACL(&text, acl, o.verbose)
	if o.outfile != "" && !a.JSON {
		if err := writeNew(a.Path(o.outfile), text.Bytes(), o.force); err != nil {
			return err
		}
	}
	a.showACL(acl, func(w io.Writer) {
		if o.outfile != "" {
			fmt.Fprintf(w, "Wrote ACL to output file: %s\n", o.outfile)
			return
		}
		_, _ = text.WriteTo(w)
	})
	return nil
}

// writeNew writes a file aside and gives it its name when it is whole. One that
// exists stays unless replace is set.
func writeNew(path string, data []byte, replace bool) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".dmg-*")
	if err != nil {
		return fault.Wrap(fault.Unknown, reasonOf(err), "cannot write %s", path).
			WithHint("the directory %s must exist and be yours to write", filepath.Dir(path))
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil && replace {
		err = os.Rename(f.Name(), path)
	} else if err == nil {
		err = os.Link(f.Name(), path) // unlike a rename it refuses a name that is taken
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return fault.New(fault.Refused, "cannot write %s: it exists", path).WithHint("repeat with --force to write over it")
	case err != nil:
		return fault.Wrap(fault.Unknown, err, "cannot write %s", path)
	}
	return nil
}

// changeACL sends a change and shows the list as it is then.
func changeACL(ctx context.Context, a *app, verb string, method control.Method[control.PoolACLReq, control.ACL], req *control.PoolACLReq) error {
	acl, err := ask(ctx, a, "pool "+verb+"-acl", method, req)
	if fault.StatusOf(err) == int32(drpc.StatusNonexist) && fault.Of(err) != fault.NotFound && req.Principal != "" {
		return fault.New(fault.NotFound, "pool %s-acl failed: pool %q has no entry for %s", verb, req.ID, req.Principal).
			WithStatus(fault.StatusOf(err)).WithHint("see the entries with `dmg pool get-acl %s`", req.ID)
	}
	if err != nil {
		return err
	}
	a.showACL(acl, func(w io.Writer) {
		fmt.Fprintf(w, "Pool-%s-ACL command succeeded, ID: %s\n", verb, req.ID)
		printACL(w, acl, false)
	})
	return nil
}

func poolOverwriteACLCommand(a *app) *cobra.Command {
	var file string
	cmd, target := poolVerb(a, "overwrite-acl", "replace the access control list of a pool")
	cmd.Long = `Replace the access control list of a pool by that of a file, as get-acl prints it.`
	cmd.Example = examples("dmg pool overwrite-acl blue --acl-file blue.acl")
	cmd.Flags().StringVarP(&file, "acl-file", "a", "", "`file` with the entries, one on each line (required)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := poolOf(cmd, args)
		if err != nil {
			return err
		}
		if file == "" {
			return fault.New(fault.Usage, "missing flag: --acl-file").WithHint("usage: %s --acl-file FILE", cmd.UseLine())
		}
		entries, err := readACL(a.Path(file))
		if err != nil {
			return err
		}
		return changeACL(cmd.Context(), a, "overwrite", control.PoolReplaceACL, &control.PoolACLReq{Target: *target, ID: id, Entries: entries})
	}
	return cmd
}

func poolUpdateACLCommand(a *app) *cobra.Command {
	var file, entry string
	cmd, target := poolVerb(a, "update-acl", "add entries to the access control list of a pool, or change them")
	cmd.Long = `Add entries to the access control list of a pool. An entry takes the place of the one
that its principal has. "dmg pool get-acl --help" tells how entries are written.`
	cmd.Example = examples("dmg pool update-acl blue --entry A::zoe@:rw", "dmg pool update-acl blue --acl-file blue.acl")
	cmd.Flags().StringVarP(&file, "acl-file", "a", "", "`file` with the entries, one on each line")
	cmd.Flags().StringVarP(&entry, "entry", "e", "", "one `entry`, such as A::zoe@:rw")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := poolOf(cmd, args)
		if err != nil {
			return err
		}
		entries, err := givenEntries(a, file, entry)
		if err != nil {
			return err
		}
		return changeACL(cmd.Context(), a, "update", control.PoolUpdateACL, &control.PoolACLReq{Target: *target, ID: id, Entries: entries})
	}
	return cmd
}

// givenEntries are those of the file or the one entry, never both.
func givenEntries(a *app, file, entry string) ([]string, error) {
	if (file == "") == (entry == "") {
		return nil, fault.New(fault.Usage, "cannot update an access control list: it takes either --acl-file or --entry").
			WithHint("write --entry A::zoe@:rw, or --acl-file FILE with one entry on each line")
	}
	if file != "" {
		return readACL(a.Path(file))
	}
	e, err := parseEntry(entry)
	return []string{e.String()}, err
}

func poolDeleteACLCommand(a *app) *cobra.Command {
	var principal string
	cmd, target := poolVerb(a, "delete-acl", "take a principal out of the access control list of a pool")
	cmd.Long = `Take the entry of a user, a group or OWNER@, GROUP@ or EVERYONE@ out of the access
control list of a pool.`
	cmd.Example = examples("dmg pool delete-acl blue --principal u:zoe@", "dmg pool delete-acl blue -p EVERYONE@")
	cmd.Flags().StringVarP(&principal, "principal", "p", "", "`principal` whose entry goes: u:NAME@, g:NAME@, OWNER@, GROUP@ or EVERYONE@ (required)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := poolOf(cmd, args)
		if err != nil {
			return err
		}
		if principal == "" {
			return fault.New(fault.Usage, "missing flag: --principal").WithHint("usage: %s --principal u:NAME@", cmd.UseLine())
		}
		whom, err := parsePrincipal(principal)
		if err != nil {
			return err
		}
		return changeACL(cmd.Context(), a, "delete", control.PoolDeleteACL, &control.PoolACLReq{Target: *target, ID: id, Principal: whom})
	}
	return cmd
}
