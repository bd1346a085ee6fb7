package dmg

import (
	"os"
	"strings"
	"testing"

	"daosbox/cluster/fault"
	"daosbox/commands/cli"

	"github.com/matryer/is"
)

// TestCompletion: what a shell suggests while a command line is typed.
func TestCompletion(t *testing.T) {
	f := newFakePools()
	s := startPools(t, f, false)
	for line, want := range map[string]string{
		"pool query |":                    "blue 1c2d3e4f-",
		"pool destroy |":                  "blue",
		"pool set-prop blue rec|":         "reclaim:",
		"pool set-prop blue label:x,rec|": "label:x,reclaim:",
		"pool get-prop blue label,rec|":   "label,reclaim",
		"pool query blue |":               "",
		"storage scan -l |":               s.addr,
		"system query --with-states |":    "joined excluded",
		"system query --with-states a,|":  "a,joined",
		"pool qu|":                        "query",
		"sto|":                            "storage",
		"pool create --s|":                "--scm-size --size",
	} {
		t.Run(line, func(t *testing.T) {
			is := is.New(t)
			words := strings.Split(strings.ReplaceAll(line, "|", ""), " ")
			args := append([]string{"__completeNoDesc"}, words...)
			if len(words) > 2 { // cobra completes no verbs after flags
				args = append([]string{"__completeNoDesc", "-o", s.conf}, words...)
			}
			exit, out, _ := runDmg(t, s.dir, args...)
			is.Equal(exit, cli.OK)
			is.True(!strings.Contains(out, "svc_list:")) // cannot be set
			for _, word := range strings.Fields(want) {
				if !strings.Contains("\n"+out, "\n"+word) {
					t.Errorf("no %q in\n%s", word, out)
				}
			}
			if want == "" {
				is.Equal(out, ":4\n")
			}
		})
	}
	is := is.New(t)
	f.fail["pool.list"] = fault.New(fault.Permission, "no")
	for range 2 { // a system that refuses, and none
		exit, out, _ := runDmg(t, s.dir, "__completeNoDesc", "-o", s.conf, "pool", "query", "")
		is.Equal(exit, cli.OK)
		is.Equal(out, ":4\n")
		is.NoErr(os.WriteFile(s.conf, []byte("bogus"), 0o600))
	}
}
