package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// tailBytes is how much of a log is shown.
const tailBytes = 2 << 10

// showTail prints the end of a log on standard error.
func (b *box) showTail(path string) {
	b.line.clear()
	text, err := tail(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && text == "" {
		return
	}
	fmt.Fprintf(b.Stderr, "--- the end of %s\n", path)
	if err != nil {
		fmt.Fprintf(b.Stderr, "cannot read it: %v\n", err)
		return
	}
	fmt.Fprint(b.Stderr, text)
}

// tail is the end of a file, in whole lines.
func tail(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	start := max(0, info.Size()-tailBytes)
	data := make([]byte, info.Size()-start)
	n, err := f.ReadAt(data, start)
	if n == 0 && err != nil && len(data) > 0 {
		return "", err
	}
	text := string(data[:n])
	if start > 0 {
		if _, rest, ok := strings.Cut(text, "\n"); ok {
			text = rest
		}
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text, nil
}
