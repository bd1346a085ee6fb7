package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"daosbox/cluster/fault"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manVerb is the hidden verb `manpage` of every personality: it prints the manual
// page that its tree of commands makes, so that page and flags cannot differ.
func manVerb(t *Tool) *cobra.Command {
	output, as := "", ""
	cmd := &cobra.Command{
		Use:    "manpage",
		Short:  "print the manual page of this tool",
		Hidden: true,
		Args:   NoArgs,
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write the page to this file")
	cmd.Flags().StringVar(&as, "as", t.Name, "what users type to call this tool")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		page := manual(cmd.Root(), as)
		if output != "" {
			return writePage(t.Path(output), page)
		}
		t.Show(page, func(w io.Writer) { fmt.Fprint(w, page) })
		return nil
	}
	return cmd
}

func writePage(path, page string) error {
	aside := path + ".new"
	if err := os.WriteFile(aside, []byte(page), 0o644); err != nil {
		return fault.Wrap(fault.Permission, err, "cannot write the manual page")
	}
	if err := os.Rename(aside, filepath.Clean(path)); err != nil {
		return fault.Wrap(fault.Permission, err, "cannot write the manual page")
	}
	return nil
}

// page is a manual page in the making, in the man macros of troff.
type page struct{ strings.Builder }

// manual is the manual page (section 8) of a tree of commands that is called as
// the words of as.
func manual(root *cobra.Command, as string) string {
	var p page
	p.head(strings.ReplaceAll(as, " ", "-"), root.Short)
	p.macro("SH", "SYNOPSIS")
	p.line(`\fB` + escape(as) + `\fR [\fIOPTION\fR...] \fICOMMAND\fR [\fIARGUMENT\fR...]`)
	if root.Long != "" {
		p.macro("SH", "DESCRIPTION")
		p.text(root.Long)
	}
	p.macro("SH", "OPTIONS")
	p.text("These stand before the command or after it.")
	p.flags(root.LocalFlags(), nil)
	p.macro("SH", "COMMANDS")
	p.commands(root, root)
	p.exitCodes()
	p.seeAlso()
	return p.String()
}

// PlainManual is the manual page of a program without commands: synopsis is what
// follows its name, paragraphs describe it.
func PlainManual(name, short, synopsis string, paragraphs ...string) string {
	var p page
	p.head(strings.ReplaceAll(name, " ", "-"), short)
	p.macro("SH", "SYNOPSIS")
	p.line(strings.TrimSpace(`\fB` + escape(name) + `\fR ` + escape(synopsis)))
	p.macro("SH", "DESCRIPTION")
	for i, text := range paragraphs {
		if i > 0 {
			p.macro("PP")
		}
		p.text(text)
	}
	p.exitCodes()
	p.seeAlso()
	return p.String()
}

func (p *page) head(name, short string) {
	p.line(`.\" Made from the program's own tables; "make man" makes it anew.`)
	p.macro("TH", strings.ToUpper(name), "8", "", "daosbox "+Version, "DAOS control plane")
	p.macro("SH", "NAME")
	p.line(escape(name) + ` \- ` + escape(short))
}

// commands describes the verbs below cmd, each with the flags that are its own.
func (p *page) commands(root, cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		if sub.HasAvailableSubCommands() {
			p.commands(root, sub)
			continue
		}
		p.macro("SS", useLine(root, sub))
		p.text(description(sub))
		if len(sub.Aliases) > 0 {
			p.text("Also: " + strings.Join(sub.Aliases, ", ") + ".")
		}
		p.flags(sub.LocalFlags(), root.LocalFlags())
	}
}

func useLine(root, cmd *cobra.Command) string {
	line := strings.TrimPrefix(cmd.CommandPath(), root.CommandPath()+" ")
	if _, arguments, ok := strings.Cut(cmd.Use, " "); ok {
		line += " " + arguments
	}
	return line
}

func description(cmd *cobra.Command) string {
	if cmd.Long != "" {
		return cmd.Long
	}
	return strings.ToUpper(cmd.Short[:1]) + cmd.Short[1:] + "."
}

// flags lists the visible flags of fs that are not in but.
func (p *page) flags(fs, but *pflag.FlagSet) {
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" || f.Name == "help" || but != nil && but.Lookup(f.Name) != nil {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := `\fB` + escape("--"+f.Name) + `\fR`
		if f.Shorthand != "" {
			name = `\fB` + escape("-"+f.Shorthand) + `\fR, ` + name
		}
		if value != "" {
			name += ` \fI` + escape(value) + `\fR`
		}
		p.macro("TP")
		p.line(name)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "[]" && !strings.Contains(usage, "default") {
			usage += " (default: " + f.DefValue + ")"
		}
		p.text(usage)
	})
}

func (p *page) exitCodes() {
	p.macro("SH", "EXIT STATUS")
	for _, row := range ExitTable() {
		code, meaning, _ := strings.Cut(row, " ")
		p.macro("TP")
		p.line(`\fB` + code + `\fR`)
		p.text(meaning)
	}
}

func (p *page) seeAlso() {
	p.macro("SH", "SEE ALSO")
	p.line(`\fBdaosbox\fR(8), \fBdaos_server\fR(8), \fBdmg\fR(8), \fBdaos_agent\fR(8)`)
}

func (p *page) macro(name string, args ...string) {
	p.WriteString("." + name)
	for _, arg := range args {
		p.WriteString(` "` + strings.ReplaceAll(escape(arg), `"`, `\(dq`) + `"`)
	}
	p.WriteByte('\n')
}

func (p *page) line(text string) { p.WriteString(text + "\n") }

// text writes prose; an empty line begins a paragraph, an indented one stands as
// it is.
func (p *page) text(text string) {
	for line := range strings.Lines(strings.TrimRight(text, " \n")) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "":
			p.macro("PP")
		case line[0] == ' ' || line[0] == '\t':
			p.macro("br")
			p.line(escape(line))
		default:
			p.line(escape(line))
		}
	}
}

// escape keeps troff from reading text as its own: backslashes, dashes that must
// stay ASCII, and a control character at the start of a line.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
