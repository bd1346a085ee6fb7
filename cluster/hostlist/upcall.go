package hostlist

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"daosbox/cluster/fault"
)

// Limits of commands that know groups.
const (
	upcallTime   = 10 * time.Second
	upcallOutput = 16 << 20
)

// searched is where commands without a path are looked for; the user's PATH does
// not decide what an administrator's tool runs.
const searched = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// call runs the command line of a key of the source and returns what it prints.
// variable, if any, stands for value. There is no shell: variables are replaced
// after the line was split into words, so that no value can become syntax.
func (s *source) call(ctx context.Context, key, variable, value string) (string, error) {
	failed := func(err error, why string) error {
		code := fault.Unknown
		if err == nil {
			err, code = errors.New(why), fault.Config
		}
		if errors.Is(err, context.DeadlineExceeded) {
			code = fault.Timeout
		}
		return fault.Wrap(code, err, "cannot ask the %s command of source %s", key, s.name)
	}
	argv, why := splitWords(s.calls[key])
	if why != "" {
		return "", fault.New(fault.Config, "cannot ask the %s command of source %s: %s", key, s.name, why).
			WithHint("commands run without a shell: put the line into a script, or name the file that it reads")
	}
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], "$CFGDIR", s.base)
		argv[i] = strings.ReplaceAll(argv[i], "$SOURCE", s.name)
		if variable != "" {
			argv[i] = strings.ReplaceAll(argv[i], variable, value)
		}
	}
	path := s.find(argv[0])
	if path == "" {
		return "", failed(nil, "no executable "+argv[0]+" in "+searched)
	}
	ctx, cancel := context.WithTimeout(ctx, upcallTime)
	defer cancel()
	out, complaint := &limited{room: upcallOutput}, &limited{room: 4096, drop: true}
	cmd := exec.CommandContext(ctx, path)
	cmd.Args, cmd.Dir, cmd.Env = argv, s.dir, []string{"PATH=" + searched, "LC_ALL=C"}
	cmd.Stdout, cmd.Stderr = out, complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", failed(ctx.Err(), "")
	case err != nil && complaint.Len() > 0:
		return "", failed(err, "").(*fault.Error).WithHint("it says: %s", short(fault.OneLine(complaint.String())))
	case err != nil:
		return "", failed(err, "")
	}
	return out.String(), nil
}

// find returns the path of a program, "" when there is none.
func (s *source) find(program string) string {
	if strings.IndexByte(program, '/') >= 0 {
		if !filepath.IsAbs(program) {
			program = filepath.Join(s.dir, program)
		}
		return program
	}
	for _, dir := range filepath.SplitList(searched) {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// limited keeps what fits; more is an error, which ends the command, or dropped.
type limited struct {
	bytes.Buffer
	room int
	drop bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) <= l.room {
		return l.Buffer.Write(p)
	}
	if !l.drop {
		return 0, fault.New(fault.TooLarge, "more than %d bytes of output", l.room)
	}
	l.Buffer.Write(p[:l.room-l.Len()])
	return len(p), nil
}

// splitWords splits a command line as a shell does: quotes and backslashes. Other
// syntax of shells is refused, because what it asks for would not happen.
func splitWords(line string) (argv []string, why string) {
	var word []byte
	open := false // a word has begun
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\'' || c == '"':
			open = true
			end := i + 1
			for end < len(line) && line[end] != c {
				if c == '"' && line[end] == '\\' && end+1 < len(line) && strings.IndexByte(`"\$`+"`", line[end+1]) >= 0 {
					end++
				} else if c == '"' && (line[end] == '`' || line[end] == '$' && end+1 < len(line) && line[end+1] == '(') {
					return nil, "command substitution"
				}
				word = append(word, line[end])
				end++
			}
			if end == len(line) {
				return nil, "quote without an end"
			}
			i = end
		case c == '\\' && i+1 < len(line):
			i++
			word, open = append(word, line[i]), true
		case blank(c):
			if open {
				argv, word, open = append(argv, string(word)), nil, false
			}
		case strings.IndexByte("|&;<>()`*?~", c) >= 0:
			return nil, "shell syntax " + string(rune(c))
		default:
			word, open = append(word, c), true
		}
	}
	if open {
		argv = append(argv, string(word))
	}
	if len(argv) == 0 {
		return nil, "no command"
	}
	return argv, ""
}
