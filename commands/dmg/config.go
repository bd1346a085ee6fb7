package dmg

import (
	"fmt"
	"io"

	"daosbox/commands/cli"
	"daosbox/commands/config"

	"github.com/spf13/cobra"
)

func configCommand(a *app) *cobra.Command {
	group := cli.Group("config", "look at the configuration file", "cfg")
	group.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "read the configuration (-o FILE) and tell every problem at once",
		Long: `Read the configuration as every verb does, without asking any server, and show what
it comes to: the system, its hosts and the certificates. Every problem is told at once
with its line and column; advice about keys of earlier releases goes to standard error.`,
		Example:     examples("dmg config check", "dmg config check -o daos_control.yml --json"),
		Annotations: local(),
		Args:        cli.NoArgs,
		RunE:        func(*cobra.Command, []string) error { return runConfigCheck(a) },
	})
	return group
}

// configCheck is the answer of config check.
type configCheck struct {
	// File is empty when no file was found and the built-in values hold.
	File    string   `json:"file"`
	Summary string   `json:"summary"`
	Hints   []string `json:"hints"`
	// Problems are empty when the file is good.
	Problems []configProblem `json:"problems"`
}

type configProblem struct {
	Text   string `json:"text"`
	Hint   string `json:"hint"`
	Line   string `json:"line"`
	Column string `json:"column"`
	Key    string `json:"key"`
	Code   int    `json:"code"`
}

func runConfigCheck(a *app) error {
	path, err := a.findConfig()
	if err != nil {
		return err
	}
	cfg, hints, err := config.OpenControl(path, config.ControlOverrides{Insecure: a.insecure})
	answer := configCheck{File: path, Hints: []string{}, Problems: []configProblem{}}
	for _, hint := range hints {
		a.Notice("%s", hint)
		answer.Hints = append(answer.Hints, hint.String())
	}
	for _, p := range config.Problems(err) {
		answer.Problems = append(answer.Problems, configProblem{Text: p.What, Hint: p.Hint,
			Line: p.Data["line"], Column: p.Data["column"], Key: p.Data["key"], Code: int(p.Code)})
	}
	if cfg != nil {
		answer.Summary = cfg.Summary()
	}
	a.Show(answer, func(w io.Writer) {
		if err != nil {
			return
		}
		if path == "" {
			fmt.Fprintln(w, "no file found: the built-in values hold")
		} else {
			fmt.Fprintf(w, "%s is good\n", path)
		}
		fmt.Fprint(w, answer.Summary)
	})
	return err
}
