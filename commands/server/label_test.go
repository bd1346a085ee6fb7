package server

import (
	"strings"
	"testing"

	"github.com/matryer/is"
)

func TestIsLabel(t *testing.T) {
	is := is.New(t)
	for text, want := range map[string]bool{
		"":                       false,
		"a":                      true,
		"Az09:._-":               true,
		"a b":                    false,
		" a":                     false,
		"a/b":                    false,
		"ä":                      false,
		"a\n":                    false,
		strings.Repeat("x", 127): true,
		strings.Repeat("x", 128): false,
	} {
		is.Equal(isLabel(text), want) // of text
	}
}
