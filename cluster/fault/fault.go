// Package fault is the error that keeps its meaning: it says what could not be
// done, to what, why and what to do next, and carries a code that programs
// compare. It crosses the wire (package wire) unchanged, so that a client's copy
// answers errors.Is and errors.As for the same codes as the server's.
//
// Codes are appended and never renumbered; a golden test holds them. Text is for
// people, codes are for programs: nobody compares text.
package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Code classifies a fault. Codes below 10000 are the numbers of the fault table
// that scripts of existing systems know (formats.md §14.3); codes from 10000 are
// ours.
type Code int

// Our own codes. Append only.
const (
	// Unknown is an error that nobody classified.
	Unknown Code = 10000 + iota
	// Usage is a command line or request that cannot be understood.
	Usage
	// Unreachable is a host that cannot be connected.
	Unreachable
	// Timeout is a deadline that passed.
	Timeout
	// NoLeader is a management service without a leader or quorum.
	NoLeader
	// Permission is a role or user that may not do this.
	Permission
	// Refused is a safety check that forbids the operation.
	Refused
	// NotLeader is a replica that does not lead; Data["leader"] may name the
	// leader, Data["replicas"] lists the replicas, comma separated.
	NotLeader
	// NotReplica is a server without a replica; Data["replicas"] lists them.
	NotReplica
	// Partial is an operation that failed for some hosts or ranks.
	Partial
	// Canceled is an operation that its caller gave up.
	Canceled
	// Protocol is a peer that breaks the wire protocol.
	Protocol
	// TooLarge is a message above its limit.
	TooLarge
	// Unimplemented is a method that the peer does not know.
	Unimplemented
	// NotFound is a pool, rank, host or other subject that does not exist.
	NotFound
	// Exists is a subject that exists already.
	Exists
	// Busy is a subject that another operation holds; retry later.
	Busy
	// NotReady is a service that is starting or stopping; retry later.
	NotReady
	// Config is a configuration file that cannot be used.
	Config
	// Corrupt is stored data that is damaged.
	Corrupt
	// NoSpace is a full disk or tier.
	NoSpace
	// Certificate is a certificate that is missing, expired or not trusted.
	Certificate
	// Engine is a failure of an engine process or of a call to it.
	Engine
	// Internal is a broken invariant.
	Internal
)

// Codes of the inherited table that this project raises (formats.md §14.3).
const (
	SocketInUse             Code = 6
	AlreadyFormatted        Code = 101
	DuplicateLabel          Code = 609
	InstanceNotReady        Code = 611
	PoolLocked              Code = 402
	CertificateMissing      Code = 901
	CertificateUnreadable   Code = 902
	CertificateInvalid      Code = 903
	WrongSystem             Code = 603
	IncompatibleVersion     Code = 616
	EvenReplicas            Code = 706
	DuplicateFabricEndpoint Code = 709
)

// Error is a classified error. The zero value of each field but Code and What is
// allowed. Its JSON keys are also its keys on the wire.
type Error struct {
	Code Code `json:"code"`
	// What could not be done, to what, and why: one line, lower case.
	What string `json:"what"`
	// Hint is what to do next: one line, may be empty.
	Hint string `json:"hint,omitempty"`
	// Status is the engine's negative return code (drpc.md §10.1), 0 when no
	// engine was involved.
	Status int32 `json:"status,omitempty"`
	// Data has details for programs, by name.
	Data map[string]string `json:"data,omitempty"`

	cause error
}

// New makes a fault; the text follows the grammar "cannot X: why".
func New(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, What: err.Error(), cause: errors.Unwrap(err)}
}

// Wrap classifies err, whose text becomes the end of the fault's. An err that is
// a fault already keeps its status, hint and data.
func Wrap(code Code, err error, format string, args ...any) *Error {
	what := fmt.Sprintf(format, args...)
	e := &Error{Code: code, What: what + ": " + err.Error(), cause: err}
	if inner, ok := As(err); ok {
		e.Hint, e.Status, e.Data = inner.Hint, inner.Status, inner.Data
	}
	return e
}

// WithHint sets the next step and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// WithStatus sets the engine's return code and returns e.
func (e *Error) WithStatus(status int32) *Error {
	e.Status = status
	return e
}

// WithData adds a detail for programs and returns e.
func (e *Error) WithData(key, value string) *Error {
	if e.Data == nil {
		e.Data = make(map[string]string)
	}
	e.Data[key] = value
	return e
}

func (e *Error) Error() string { return e.What }

// Unwrap returns what the fault was made from, nil when it came over the wire.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is a fault of the same code; a target with a status
// must agree in the status too. So errors.Is(err, fault.Kind(fault.Busy)) works on
// both sides of the wire.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && (t.Status == 0 || t.Status == e.Status)
}

// Kind is the sentinel of a code, for errors.Is.
func Kind(code Code) error { return &Error{Code: code} }

// As finds the outermost fault in err's chain.
func As(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}

// Of returns the code of err: Unknown when it holds no fault, 0 when err is nil.
func Of(err error) Code {
	if err == nil {
		return 0
	}
	if e, ok := As(err); ok {
		return e.Code
	}
	return Unknown
}

// HintOf returns the first hint in err's chain.
func HintOf(err error) string {
	for err != nil {
		if e, ok := err.(*Error); ok && e.Hint != "" {
			return e.Hint
		}
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			for _, one := range many.Unwrap() {
				if hint := HintOf(one); hint != "" {
					return hint
				}
			}
			return ""
		}
		err = errors.Unwrap(err)
	}
	return ""
}

// StatusOf returns the engine's return code that err carries, 0 when none.
func StatusOf(err error) int32 {
	if e, ok := As(err); ok {
		return e.Status
	}
	return 0
}

// OneLine makes text from a peer or tool fit for a log line or a table cell.
func OneLine(text string) string {
	return strings.Join(strings.Fields(text), " ")
}
