package dmg

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"daosbox/commands/cli"

	"github.com/matryer/is"
	"github.com/spf13/cobra"
)

// leaves lists the commands that do something. Host lists have tests of their own.
func leaves(cmd *cobra.Command) (found []*cobra.Command) {
	for _, sub := range cmd.Commands() {
		if sub.Name() == "hostlist" {
			continue
		}
		if sub.HasSubCommands() {
			found = append(found, leaves(sub)...)
		} else {
			found = append(found, sub)
		}
	}
	return found
}

// TestHelpTeaches: each verb tells more than its summary, by example.
func TestHelpTeaches(t *testing.T) {
	_, root := words(t)
	for _, cmd := range append(leaves(root), root) {
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			is := is.New(t)
			is.True(strings.HasSuffix(cmd.Long, "."))
			is.True(len(cmd.Long) > len(cmd.Short))
			is.True(cmd.Example != "")
			for line := range strings.Lines(cmd.Long) {
				if width := utf8.RuneCountInString(line); width > 90 && cmd != root {
					t.Errorf("%d columns: %s", width, line)
				}
			}
		})
	}
}

// exampleWords splits a line as a shell would, where it has single quotes at most.
func exampleWords(line string) (words []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

// TestExamples runs every example against a server that knows pools only: each is
// understood, in today's spelling.
func TestExamples(t *testing.T) {
	s := startPools(t, newFakePools(), false)
	if err := os.WriteFile(filepath.Join(s.dir, "blue.acl"), []byte("A::zoe@:rw\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "daos_control.yml"), []byte("name: daos_server\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	nodes := regexp.MustCompile(`-(l) node\S+`)
	_, root := words(t)
	for _, cmd := range append(leaves(root), root) {
		for line := range strings.Lines(cmd.Example) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "#") {
				continue
			}
			t.Run(line, func(t *testing.T) {
				is := is.New(t)
				words := exampleWords(nodes.ReplaceAllString(line, "-l "+s.addr))
				is.Equal(words[0], currentName)
				at, _, err := root.Find(words[1:])
				is.NoErr(err)
				is.True(at == cmd || cmd == root) // an example of this command
				exit, _, errs := s.run(t, words[1:]...)
				if exit == cli.Usage || strings.Contains(errs, "is the old spelling of") {
					t.Errorf("exit %d: %s", exit, errs)
				}
			})
		}
	}
}
