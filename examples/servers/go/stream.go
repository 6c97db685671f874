package main

import (
	"context"
	"errors"

	"kvc"
)

// Event is what a connection hears of its request: text, and at the end how it ended.
type Event struct {
	text   string
	finish string // "stop" or "length" with the last event
	err    error  // or why there is no more
}

var errShutdown = errors.New("the server is shutting down")

// Stream is one request. Before it is admitted the queue owns it, afterwards the engine.
type Stream struct {
	gone      context.Context // done when the client has gone
	prompt    int             // tokens of it
	system    int             // tokens of the system prompt, 0 = none
	maxTokens int
	share     float64 // of the arena

	tokens    []int64 // prompt and text
	length    int     // of them in the cache
	sequence  *kvc.Sequence
	published bool // the system prompt needs no publishing
	pending   [8]byte

	admitted chan struct{} // closed at admission, or at the end
	events   chan Event    // has room for all that can come
	started  bool          // admitted was closed
	refused  error         // why it never was admitted; set before admitted is closed
}

func newStream(gone context.Context, tokens []int64, maxTokens, system int) *Stream {
	return &Stream{gone: gone, prompt: len(tokens), system: system, maxTokens: maxTokens, tokens: tokens,
		admitted: make(chan struct{}), events: make(chan Event, maxTokens+2)}
}

// written counts the tokens of text.
func (s *Stream) written() int { return len(s.tokens) - s.prompt }

// unread counts the tokens that are not in the cache yet: a stream that writes has one.
func (s *Stream) unread() int { return len(s.tokens) - s.length }

// reads says that the stream has a prompt before it, or after a preemption all that it had.
func (s *Stream) reads() bool { return s.written() == 0 || s.unread() > 1 }

func (s *Stream) start() {
	if !s.started {
		s.started = true
		close(s.admitted)
	}
}

// fail ends the request; the connection hears why.
func (s *Stream) fail(err error) {
	if !s.started {
		s.refused = err
	}
	s.events <- Event{err: err}
	s.start()
}

// systemTokens counts the tokens of the system prompt that a prompt begins with, if it is worth sharing.
func systemTokens(tokens, opening []int64, end int64) int {
	const least = 64
	for i, token := range opening {
		if i >= len(tokens) || tokens[i] != token {
			return 0
		}
	}
	for i, token := range tokens {
		if token == end && i+2 >= least && i+2 < len(tokens) {
			return i + 2
		} else if token == end {
			return 0
		}
	}
	return 0
}
