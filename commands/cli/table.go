package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table prints rows under titles the way the tools always did: columns as wide as
// their widest cell, one space between, a trailing space, dashes under the titles.
// A missing or empty cell prints None.
func Table(w io.Writer, indent string, titles []string, rows [][]string) {
	widths := make([]int, len(titles))
	for i, title := range titles {
		widths[i] = utf8.RuneCountInString(title)
	}
	for _, row := range rows {
		for i := range titles {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell(row, i)))
		}
	}
	line := func(row []string) {
		var b strings.Builder
		b.WriteString(indent)
		for i := range titles {
			text := cell(row, i)
			b.WriteString(text)
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+1))
		}
		fmt.Fprintln(w, b.String())
	}
	line(titles)
	dashes := make([]string, len(titles))
	for i, title := range titles {
		dashes[i] = strings.Repeat("-", utf8.RuneCountInString(title))
	}
	line(dashes)
	for _, row := range rows {
		line(row)
	}
}

func cell(row []string, i int) string {
	if i >= len(row) || row[i] == "" {
		return "None"
	}
	return row[i]
}

// Row is one line of an entity block.
type Row struct{ Key, Value string }

// Entity prints a titled block of "key : value" lines with aligned colons.
func Entity(w io.Writer, title string, rows []Row) {
	fmt.Fprintf(w, "%s\n%s\n", title, strings.Repeat("-", utf8.RuneCountInString(title)))
	width := 0
	for _, row := range rows {
		width = max(width, utf8.RuneCountInString(row.Key))
	}
	for _, row := range rows {
		fmt.Fprintf(w, "  %-*s : %s\n", width, row.Key, row.Value)
	}
}
