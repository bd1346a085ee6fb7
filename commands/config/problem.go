package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-multierror"

	"daosbox/cluster/fault"
)

// Codes of the inherited fault table that a configuration raises; the names are
// the table's.
const (
	codeScmTierMissing      fault.Code = 216
	codeAccelEngine         fault.Code = 307
	codeAccelOption         fault.Code = 308
	codeTierTypeMismatch    fault.Code = 309
	codeRolesWithDCPM       fault.Code = 312
	codeRolesBadNr          fault.Code = 313
	codeRolesMissing        fault.Code = 314
	codeTiersWithoutRoles   fault.Code = 315
	codeTooManyRoleTiers    fault.Code = 316
	codeMetadataNoRoles     fault.Code = 317
	codeRolesNoMetadata     fault.Code = 318
	codeWALDataNoMeta       fault.Code = 319
	codeBadConfig           fault.Code = 701
	codeNoPath              fault.Code = 702
	codeBadControlPort      fault.Code = 703
	codeBadTelemetryPort    fault.Code = 704
	codeBadReplicas         fault.Code = 705
	codeBadProvider         fault.Code = 707
	codeDuplicateLogFile    fault.Code = 710
	codeDuplicateScmMount   fault.Code = 711
	codeDuplicateScmList    fault.Code = 712
	codeOverlappingBdevs    fault.Code = 713
	codeTargetMismatch      fault.Code = 715
	codeHelperMismatch      fault.Code = 716
	codeFaultDomain         fault.Code = 717
	codeFaultBoth           fault.Code = 722
	codeFaultLayers         fault.Code = 724
	codeHugepagesRange      fault.Code = 725
	codeNoHugepagesNVMe     fault.Code = 726
	codeVMDBoth             fault.Code = 727
	codeMetadataNoPath      fault.Code = 729
	codeRamdiskTooSmall     fault.Code = 730
	codeScmClassMismatch    fault.Code = 732
	codeSysReservedZero     fault.Code = 734
	codeHotplugBoth         fault.Code = 735
	codeBdevExcludeClash    fault.Code = 736
	codeNoHugepagesNr       fault.Code = 737
	codeScmHugepageMismatch fault.Code = 738
	codeClientPort          fault.Code = 501
	codeClientHostList      fault.Code = 503
)

// Position is a place in a file; lines and columns count from 1, 0 is unknown.
type Position struct{ Line, Column int }

// Hint is advice about something that was accepted: an old key and its successor,
// or a value without effect.
type Hint struct {
	File string
	Position
	// Key is the path of the key, as engines[0].scm_class.
	Key string
	// Text is one line.
	Text string
}

// String is the line for stderr: FILE:LINE:COLUMN: text.
func (h Hint) String() string { return place(h.File, h.Position) + ": " + h.Text }

func place(file string, p Position) string {
	switch {
	case file == "":
		return "configuration"
	case p.Line == 0:
		return file
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", file, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", file, p.Line, p.Column)
}

// source is where a configuration came from.
type source struct {
	file string
	at   map[string]Position // by key path
	bad  map[string]bool     // key paths that have a problem already
}

// position finds the key path, or the nearest enclosing one that is in the file.
func (s source) position(key string) Position {
	for {
		if p, ok := s.at[key]; ok {
			return p
		}
		if key == "" {
			return Position{}
		}
		key = parent(key)
	}
}

// known reports whether the key, or something around it, has a problem already.
func (s source) known(key string) bool {
	for key != "" {
		if s.bad[key] {
			return true
		}
		key = parent(key)
	}
	return false
}

// parent cuts the last step off a key path: a[1].b -> a[1] -> a -> "".
func parent(key string) string {
	return key[:max(strings.LastIndexAny(key, ".["), 0)]
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// problem is one thing that is wrong in a file.
type problem struct {
	Position
	code           fault.Code
	key, why, hint string
	// flag is a problem of the command line, which has no place in the file.
	flag error
}

// maxProblems is how many problems of a file are kept; whoever has more has
// named the wrong file.
const maxProblems = 200

// problems collects what is wrong in one file.
type problems struct {
	file  string
	list  []problem
	hints []Hint
}

func (p *problems) full() bool { return len(p.list) >= maxProblems }

func (p *problems) add(pos Position, code fault.Code, key, hint, format string, args ...any) {
	if p.full() {
		return
	}
	p.list = append(p.list, problem{Position: pos, code: code, key: key, hint: hint, why: fmt.Sprintf(format, args...)})
}

func (p *problems) hint(pos Position, key, format string, args ...any) {
	p.hints = append(p.hints, Hint{File: p.file, Position: pos, Key: key, Text: fmt.Sprintf(format, args...)})
}

func (p *problems) addFlag(err error) { p.list = append(p.list, problem{flag: err}) }

// err returns nil, the one fault, or all of them sorted by position.
func (p *problems) err() error {
	list := slices.Clone(p.list)
	slices.SortStableFunc(list, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if len(list) == 1 {
		return list[0].fault(p.file)
	}
	many := &multierror.Error{ErrorFormat: func(all []error) string { return formatProblems(p.file, all) }}
	for _, one := range list {
		many = multierror.Append(many, one.fault(p.file))
	}
	return many.ErrorOrNil()
}

func (p problem) fault(file string) error {
	if p.flag != nil {
		return p.flag
	}
	what := p.why
	if p.key != "" {
		what = p.key + ": " + what
	}
	e := fault.New(p.code, "cannot use %s: %s", place(file, p.Position), what)
	e.Hint = p.hint
	return e.WithData("file", file).WithData("line", strconv.Itoa(p.Line)).
		WithData("column", strconv.Itoa(p.Column)).WithData("key", p.key)
}

func formatProblems(file string, all []error) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cannot use %s: %d problems", place(file, Position{}), len(all))
	for _, err := range all {
		b.WriteString("\n  " + strings.TrimPrefix(err.Error(), "cannot use "))
		if hint := fault.HintOf(err); hint != "" {
			b.WriteString("\n    " + hint)
		}
	}
	return b.String()
}

// Problems returns every fault that err holds, sorted by position.
func Problems(err error) []*fault.Error {
	var many *multierror.Error
	if !errors.As(err, &many) {
		if e, ok := fault.As(err); ok {
			return []*fault.Error{e}
		}
		return nil
	}
	var list []*fault.Error
	for _, one := range many.Errors {
		if e, ok := fault.As(one); ok {
			list = append(list, e)
		}
	}
	return list
}

// valueError is what a value's own parser says.
type valueError struct {
	code      fault.Code
	why, hint string
}

func (e *valueError) Error() string { return e.why }

func withCode(code fault.Code, err error) error {
	if e, ok := err.(*valueError); ok {
		e.code = code
	}
	return err
}
