package commands

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/matryer/is"
)

// TestTable asks of every personality what a user may expect of it.
func TestTable(t *testing.T) {
	is := is.New(t)
	scripts := allScripts(t)
	var all []string
	for _, p := range table() {
		all = append(all, p.name)
		is.True(p.summary != "")
		is.True(!strings.HasSuffix(p.summary, ".")) // one line in a list
		is.True(len(p.summary) <= 80)
		is.True(p.run != nil)
		for _, name := range append([]string{p.name}, p.old...) {
			used := regexp.MustCompile(`(?m)^(exec|exit \d|until \S+|! exec) (daosbox )?` + name + `\b`)
			if !used.MatchString(scripts) {
				t.Errorf("no script in testdata/script runs %s", name)
			}
			row, ok := lookup(name)
			is.True(ok)
			is.Equal(row.name, p.name)
		}
	}
	is.True(slices.IsSorted(all))
	is.Equal(len(slices.Compact(slices.Clone(all))), len(all)) // unique
	for _, p := range table() {
		for _, old := range p.old {
			is.True(!slices.Contains(all, old)) // an old name hides none of today
		}
	}
}

func allScripts(t *testing.T) string {
	t.Helper()
	is := is.New(t)
	names, err := filepath.Glob("../testdata/script/*.txtar")
	is.NoErr(err)
	var all strings.Builder
	for _, name := range names {
		data, err := os.ReadFile(name)
		is.NoErr(err)
		script, _, _ := strings.Cut(string(data), "\n-- ") // without the files
		all.WriteString(script + "\n")
	}
	return all.String()
}
