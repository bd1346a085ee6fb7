package dmg

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"daosbox/cluster/fault"
	"daosbox/commands/control"
)

// Bounds of access control lists.
const (
	maxPrincipal = 255
	maxACLFile   = 1 << 20
)

// The principals that stand for something.
const (
	ownerPrincipal    = "OWNER@"
	groupPrincipal    = "GROUP@"
	everyonePrincipal = "EVERYONE@"
)

// aclPermissions are the letters of permissions and their names, in the order in
// which lists are written.
var aclPermissions = []struct {
	letter byte
	name   string
}{
	{'r', "Read"}, {'w', "Write"}, {'c', "Create-Cont"}, {'d', "Destroy-Cont"}, {'t', "Get-Prop"},
	{'T', "Set-Prop"}, {'a', "Get-ACL"}, {'A', "Set-ACL"}, {'o', "Set-Owner"},
}

// aclEntry is an access control entry: TYPE:FLAGS:PRINCIPAL:PERMISSIONS.
type aclEntry struct {
	Group       bool
	Principal   string
	Permissions string
}

// parseEntry reads an entry that allows something; the tools know no other type.
func parseEntry(text string) (aclEntry, error) {
	bad := func(why string, args ...any) (aclEntry, error) {
		return aclEntry{}, fault.New(fault.Usage, "cannot read access control entry %q: %s", brief(text), fmt.Sprintf(why, args...)).
			WithHint("write TYPE:FLAGS:PRINCIPAL:PERMISSIONS, such as A::zoe@:rw or A:G:lab@:r")
	}
	fields := strings.Split(text, ":")
	if len(fields) != 4 {
		return bad("it has %d fields instead of 4", len(fields))
	}
	if fields[0] != "A" {
		return bad("type %q is not A (allow)", brief(fields[0]))
	}
	if fields[1] != "" && fields[1] != "G" {
		return bad("flags %q are neither empty nor G (the principal is a group)", brief(fields[1]))
	}
	e := aclEntry{Group: fields[1] == "G", Principal: fields[2], Permissions: fields[3]}
	if why := principalProblem(e.Principal); why != "" {
		return bad("%s", why)
	}
	switch {
	case e.Principal == groupPrincipal && !e.Group:
		return bad("%s needs the flag G", groupPrincipal)
	case e.Group && (e.Principal == ownerPrincipal || e.Principal == everyonePrincipal):
		return bad("%s is no group", e.Principal)
	}
	for i := range len(e.Permissions) {
		letter := e.Permissions[i]
		if permissionName(letter) == "" {
			return bad("%q is no permission", e.Permissions[i:i+1])
		}
		if strings.IndexByte(e.Permissions, letter) < i {
			return bad("permission %q is there twice", e.Permissions[i:i+1])
		}
	}
	return e, nil
}

func permissionName(letter byte) string {
	for _, p := range aclPermissions {
		if p.letter == letter {
			return p.name
		}
	}
	return ""
}

// principalProblem says what is wrong with name@[domain], "" when nothing is.
func principalProblem(principal string) string {
	name, _, ok := strings.Cut(principal, "@")
	switch {
	case !ok:
		return fmt.Sprintf("principal %q has no @", brief(principal))
	case name == "":
		return "the principal has no name before @"
	case strings.Count(principal, "@") > 1:
		return fmt.Sprintf("principal %q has more than one @", brief(principal))
	case len(principal) > maxPrincipal:
		return fmt.Sprintf("the principal has more than %d characters", maxPrincipal)
	case strings.ContainsFunc(principal, func(r rune) bool { return r <= ' ' || r == 0x7f || r == ':' }):
		return fmt.Sprintf("principal %q has blanks or colons in it", brief(principal))
	}
	return ""
}

func (e aclEntry) String() string {
	flags := ""
	if e.Group {
		flags = "G"
	}
	return "A:" + flags + ":" + e.Principal + ":" + e.Permissions
}

// words spells the entry out for people.
func (e aclEntry) words() string {
	flags, principal := "", e.Principal
	if e.Group {
		flags = "Group"
	}
	switch e.Principal {
	case ownerPrincipal:
		principal = "Owner"
	case groupPrincipal:
		principal = "Owner-Group"
	case everyonePrincipal:
		principal = "Everyone"
	}
	var names []string
	for i := range len(e.Permissions) {
		names = append(names, permissionName(e.Permissions[i]))
	}
	if len(names) == 0 {
		names = []string{"No-Access"}
	}
	return "Allow:" + flags + ":" + principal + ":" + strings.Join(names, "/")
}

// parseACL reads entries, one on each line; blanks round them, empty lines and
// lines that start with # do not matter. name is for messages.
func parseACL(r io.Reader, name string) ([]string, error) {
	limited := &io.LimitedReader{R: r, N: maxACLFile + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, maxACLFile)
	seen := make(map[string]int)
	var entries []string
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		e, err := parseEntry(line)
		if err != nil {
			return nil, fault.Wrap(fault.Usage, err, "%s:%d", name, number)
		}
		whom := fmt.Sprint(e.Group, e.Principal)
		if before := seen[whom]; before != 0 {
			return nil, fault.New(fault.Usage, "cannot use %s:%d: line %d has an entry for %s already", name, number, before, e.Principal).
				WithHint("put all permissions of a principal into one entry")
		}
		seen[whom] = number
		entries = append(entries, e.String())
	}
	switch {
	case lines.Err() != nil:
		return nil, fault.Wrap(fault.Usage, lines.Err(), "cannot read %s", name)
	case limited.N <= 0:
		return nil, fault.New(fault.Usage, "cannot read %s: it is larger than %d bytes", name, maxACLFile)
	case len(entries) == 0:
		return nil, fault.New(fault.Usage, "cannot use %s: it has no access control entry", name).
			WithHint("write one entry on each line, such as A::zoe@:rw")
	}
	return entries, nil
}

// reasonOf is an error of a file without the operation and the path, which stand
// before it.
func reasonOf(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

func readACL(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.Usage, reasonOf(err), "cannot read access control list %s", path).
			WithHint("write one entry on each line of a file, such as A::zoe@:rw, or begin with `dmg pool get-acl POOL -O FILE`")
	}
	defer f.Close()
	return parseACL(f, path)
}

// parseOwner reads the value of --user and --group; the @ may be left out.
func parseOwner(text string) (string, error) {
	if !strings.Contains(text, "@") {
		text += "@"
	}
	if why := principalProblem(text); why != "" {
		return "", fault.New(fault.Usage, "cannot use owner %q: %s", brief(text), why).WithHint("write a name of the system, such as zoe or zoe@")
	}
	return text, nil
}

// parsePrincipal reads whose entry goes away: u:name@, g:name@ or a special one.
func parsePrincipal(text string) (string, error) {
	if slices.Contains([]string{ownerPrincipal, groupPrincipal, everyonePrincipal}, text) {
		return text, nil
	}
	kind, name, _ := strings.Cut(text, ":")
	if kind != "u" && kind != "g" {
		return "", fault.New(fault.Usage, "cannot use principal %q: it is neither a user nor a group", brief(text)).
			WithHint("write u:NAME@ for a user, g:NAME@ for a group, or OWNER@, GROUP@, EVERYONE@")
	}
	if !strings.Contains(name, "@") {
		name += "@"
	}
	if why := principalProblem(name); why != "" {
		return "", fault.New(fault.Usage, "cannot use principal %q: %s", brief(text), why).WithHint("write it as u:zoe@ or g:lab@")
	}
	return kind + ":" + name, nil
}

// printACL writes the list so that it is a file for --acl-file. An entry that the
// tools cannot read has no words.
func printACL(w io.Writer, acl control.ACL, verbose bool) {
	if acl.Owner != "" {
		fmt.Fprintf(w, "# Owner: %s\n", acl.Owner)
	}
	if acl.Group != "" {
		fmt.Fprintf(w, "# Owner Group: %s\n", acl.Group)
	}
	fmt.Fprintln(w, "# Entries:")
	if len(acl.Entries) == 0 {
		fmt.Fprintln(w, "#   None")
	}
	for _, text := range acl.Entries {
		if e, err := parseEntry(text); verbose && err == nil {
			fmt.Fprintf(w, "# %s\n", e.words())
		}
		fmt.Fprintln(w, text)
	}
}
