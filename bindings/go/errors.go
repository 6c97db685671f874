package kvc

import (
	"fmt"
	"strings"

	"kvc/raw"
)

// Status says how a call failed. It is an error itself, so that errors.Is(err, kvc.ErrBusy) answers which one it was.
type Status int32

// One error for each status of the library; kvc.h says when they occur.
var (
	ErrArgument    = Status(raw.KVC_E_ARGUMENT)
	ErrHandle      = Status(raw.KVC_E_HANDLE)
	ErrRange       = Status(raw.KVC_E_RANGE)
	ErrOrder       = Status(raw.KVC_E_ORDER)
	ErrBusy        = Status(raw.KVC_E_BUSY)
	ErrNoMemory    = Status(raw.KVC_E_NO_MEMORY)
	ErrNonfinite   = Status(raw.KVC_E_NONFINITE)
	ErrUnsupported = Status(raw.KVC_E_UNSUPPORTED)
	ErrForked      = Status(raw.KVC_E_FORKED)
	ErrInternal    = Status(raw.KVC_E_INTERNAL)
	ErrCorrupt     = Status(raw.KVC_E_CORRUPT)
	ErrIO          = Status(raw.KVC_E_IO)
	ErrDevice      = Status(raw.KVC_E_DEVICE)
	ErrCapture     = Status(raw.KVC_E_CAPTURE)
	ErrAgain       = Status(raw.KVC_E_AGAIN)
)

// Error is the library's name of the status, such as KVC_E_BUSY.
func (s Status) Error() string { return raw.Kvc_status_name(int32(s)) }

// Error tells which operation failed, how, and what was wrong. errors.As finds it in every error of this package.
type Error struct {
	Status    Status
	Operation string // the function of kvc.h without its "kvc_", such as "seq_fork"
	Message   string // what, which and the limit
}

func (e *Error) Error() string {
	message := e.Message
	if !strings.HasPrefix(message, e.Operation+":") { // most of the library's messages begin with it
		message = e.Operation + ": " + message
	}
	return fmt.Sprintf("kvc: %s (%s)", message, e.Status.Error())
}

// Unwrap gives the status.
func (e *Error) Unwrap() error { return e.Status }

func refuse(operation, format string, values ...any) error {
	return &Error{ErrArgument, operation, fmt.Sprintf(format, values...)}
}

// checkText refuses what C would read as another text: one that does not fit its field, or that holds a NUL.
func checkText(operation, field, text string, capacity int64) error {
	if int64(len(text)) > capacity {
		return refuse(operation, "%s: a text of %d bytes (at most %d)", field, len(text), capacity)
	}
	if at := strings.IndexByte(text, 0); at >= 0 {
		return refuse(operation, "%s: byte %d is a NUL", field, at)
	}
	return nil
}
