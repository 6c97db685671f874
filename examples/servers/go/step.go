package main

import (
	"errors"

	"kvc"
)

// rows are the buffers of a step; they grow to the largest one.
type rows struct {
	tokens, positions    []int64
	x, q, k, v, attended []float32
	lastRows, chosen     []int64
	entries              []kvc.Entry
	streams              []*Stream
}

func grown[T any](slice []T, n int) []T {
	if cap(slice) < n {
		return make([]T, n)
	}
	return slice[:n]
}

// compose lists who takes part in the next step: streams that write, oldest first, then the oldest that reads.
func (e *Engine) compose() {
	r := &e.rows
	r.streams, r.entries = r.streams[:0], r.entries[:0]
	var reader *Stream
	for _, s := range e.running {
		if !s.reads() {
			r.streams, r.entries = append(r.streams, s), append(r.entries, kvc.Entry{Sequence: s.sequence, Tokens: 1})
		} else if reader == nil {
			reader = s
		}
	}
	if reader == nil {
		return
	}
	const least = 64 // rows of a prompt, however many streams write
	n := min(reader.unread(), max(least, stepRows-len(r.streams)))
	if !reader.published && reader.length < reader.system {
		n = min(n, reader.system-reader.length)
	}
	if limit, err := reader.sequence.StepLimit(); err == nil {
		n = min(n, limit)
	}
	r.streams, r.entries = append(r.streams, reader), append(r.entries, kvc.Entry{Sequence: reader.sequence, Tokens: n})
}

// begin opens the step, and makes room for it where there is none.
func (e *Engine) begin() (*kvc.Step, error) {
	r := &e.rows
	for {
		step, err := e.cache.Begin(r.entries, kvc.StepOptions{})
		if !errors.Is(err, kvc.ErrNoMemory) {
			return step, err
		}
		last := len(r.entries) - 1
		if e.relieve() {
			continue
		} else if last > 0 {
			r.streams, r.entries = r.streams[:last], r.entries[:last]
		} else if e.preempt(r.streams[0]) {
			continue
		} else if r.entries[0].Tokens == 1 {
			return nil, err
		} else {
			r.entries[0].Tokens /= 2
		}
	}
}

// step runs one step and hands its tokens out. What fails, fails for the streams in it.
func (e *Engine) step() {
	e.compose()
	err := e.forward()
	r := &e.rows
	if err != nil {
		e.mutex.Lock()
		for _, s := range r.streams {
			s.fail(err)
			e.release(s)
		}
		e.mutex.Unlock()
		return
	}
	next := 0
	for i, s := range r.streams {
		s.length += r.entries[i].Tokens
		if !s.published && s.length == s.system {
			s.published = true
			_ = s.sequence.Publish(s.tokens[:s.system], "", kvc.PrefixOptions{}) // an index without room is no error
		}
		if s.unread() == 0 {
			e.advance(s, r.chosen[next])
			next++
		}
	}
}

// forward computes the step: the model's layers around kvc's appends and attends.
func (e *Engine) forward() error {
	step, err := e.begin()
	if err != nil {
		return err
	}
	defer step.Close()
	e.fill()
	r := &e.rows
	if err := e.model.Embed(r.tokens, r.x); err != nil {
		return err
	}
	for layer := range e.model.layers {
		if err := e.model.Project(layer, r.x, r.positions, r.q, r.k, r.v); err != nil {
			return err
		}
		if err := kvc.Append(step, layer, r.k, r.v); err != nil {
			return err
		}
		if err := kvc.Attend(step, layer, r.q, r.attended, nil, kvc.AttendOptions{}); err != nil {
			return err
		}
		if err := e.model.Mix(layer, r.x, r.attended); err != nil {
			return err
		}
	}
	if err := step.Commit(); err != nil {
		return err
	}
	return e.model.Choose(r.x, r.lastRows, r.chosen)
}

// fill lays out the rows of the step that was begun.
func (e *Engine) fill() {
	r := &e.rows
	r.tokens, r.positions, r.lastRows = r.tokens[:0], r.positions[:0], r.lastRows[:0]
	for i, s := range r.streams {
		n := r.entries[i].Tokens
		for at := s.length; at < s.length+n; at++ {
			r.tokens, r.positions = append(r.tokens, s.tokens[at]), append(r.positions, int64(at))
		}
		if n > 0 && n == s.unread() {
			r.lastRows = append(r.lastRows, int64(len(r.tokens)-1))
		}
	}
	n, m := len(r.tokens), e.model
	r.x, r.q, r.attended = grown(r.x, n*m.width), grown(r.q, n*m.qWidth), grown(r.attended, n*m.qWidth)
	r.k, r.v, r.chosen = grown(r.k, n*m.kvWidth), grown(r.v, n*m.kvWidth), grown(r.chosen, len(r.lastRows))
}
