package hostlist

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"daosbox/cluster/fault"
)

// What is read folds to a text that reads as the same, and as one text only.
func FuzzEval(f *testing.F) {
	for _, seed := range []string{"rack[1-4]node[01-20/2]!rack2node03", "a&b^c,d!e", "n1[0-2]3 [fe80::1]:5", "[1-2]x[", "n[98-101,098-101]x", "a ! b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := Eval(context.Background(), text, nil)
		if err != nil {
			if code := fault.Of(err); code != fault.Usage && code != fault.NotFound {
				t.Fatalf("%v is no usage fault", err)
			}
			return
		}
		folded := n.String()
		again, err := Eval(context.Background(), folded, nil)
		if err != nil || !again.Equal(n) || again.String() != folded {
			t.Fatalf("%q folds to %q, which reads as %v, %v", text, folded, again, err)
		}
		if n.Len() > 10_000 {
			return
		}
		names := slices.Collect(n.All())
		slices.Reverse(names)
		spelled, err := ReadNodes(context.Background(), strings.NewReader(strings.Join(names, "\n")), nil)
		if err != nil || spelled.String() != folded || len(names) != n.Len() {
			t.Fatalf("%q has the names %q, which fold to %v, %v", text, names, spelled, err)
		}
	})
}

// Files of groups are refused or read; names that they define can be asked for.
func FuzzGroupFiles(f *testing.F) {
	for _, seed := range []string{"a: n1\n", "[Main]\ndefault: a\n[a]\nmap: x 'y' \"z\"\n more\n", "a:\n  b: c\n  d: [e, f]\n", "# x\n;y\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if groups, err := parseLines(data); err == nil {
			for name := range groups {
				if badGroup(name) != "" {
					t.Fatalf("group %q", name)
				}
			}
		}
		if sources, err := parseYAML(data); err == nil {
			for _, s := range sources {
				if s.groups == nil {
					t.Fatalf("source %q without groups", s.name)
				}
			}
		}
		sections, err := parseConf(data)
		if err != nil {
			return
		}
		for _, s := range sections {
			for _, line := range s.keys {
				if argv, why := splitWords(line); why == "" && len(argv) == 0 {
					t.Fatalf("%q has no words", line)
				}
			}
		}
	})
}

// Lines may come in pieces of any size.
func FuzzReadNodes(f *testing.F) {
	f.Add([]byte("n1\nn2 # no\nr[1-2]n3,n[4-5]!n4\n"), uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		whole, err := ReadNodes(context.Background(), bytes.NewReader(data), nil)
		pieces, err2 := ReadNodes(context.Background(), &slowReader{data, int(piece)%7 + 1}, nil)
		if (err == nil) != (err2 == nil) || err == nil && whole.String() != pieces.String() {
			t.Fatalf("%v %v: %v %v", whole, pieces, err, err2)
		}
	})
}

type slowReader struct {
	data  []byte
	piece int
}

func (r *slowReader) Read(p []byte) (int, error) {
	n, err := bytes.NewReader(r.data).Read(p[:min(r.piece, len(p))])
	r.data = r.data[n:]
	return n, err
}
