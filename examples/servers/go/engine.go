package main

import (
	"errors"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"kvc"
)

var errBusy = errors.New("the queue is full")

// Counters move while the engine runs and are read by /metrics.
type Counters struct {
	promptTokens, textTokens, lookedUp, found atomic.Int64
	stopped, reachedLength, aborted, rejected atomic.Int64
	preempted, steppedDown, evicted           atomic.Int64
	heldTokens                                atomic.Int64 // of running sequences
}

// Engine owns model and cache. One goroutine runs it; connections submit streams and read their events.
type Engine struct {
	model    *Model
	cache    *kvc.Cache
	policy   Policy
	maxQueue int
	count    Counters
	rows     rows // buffers of a step

	mutex     sync.Mutex // of what follows
	admission *Admission
	queue     []*Stream
	running   []*Stream // oldest first; changed by the engine alone
	closing   time.Time // when running streams are cut; zero = not closing
	wake      chan struct{}
	ended     chan struct{}
}

func newEngine(model *Model, cache *kvc.Cache, admission *Admission, maxQueue int) *Engine {
	return &Engine{model: model, cache: cache, policy: admission.policy, admission: admission, maxQueue: maxQueue,
		wake: make(chan struct{}, 1), ended: make(chan struct{})}
}

func (e *Engine) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

const tolerance = 1e-9 // of sums of shares

// Submit queues a stream: errBusy if it cannot be admitted at once and the queue is full, errShutdown, errInvalid. A prompt without tokens
// has no row to choose from: such a stream would be handed its neighbour's tokens.
func (e *Engine) Submit(s *Stream) error {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if !e.closing.IsZero() {
		return errShutdown
	}
	if s.prompt == 0 {
		return fmt.Errorf("%w: the prompt has no tokens", errInvalid)
	}
	share, err := e.admission.Share(s.prompt + s.maxTokens)
	if err != nil {
		return err
	}
	if share == 0 {
		return fmt.Errorf("%w: %d tokens of prompt and %d of max_tokens are more than the server's memory holds", errInvalid, s.prompt, s.maxTokens)
	}
	s.share = share
	waiting, taken := 0, e.taken()
	for _, other := range append(e.queue[:len(e.queue):len(e.queue)], s) {
		if taken += other.share; taken > e.policy.most+tolerance {
			waiting++
		}
	}
	if waiting > e.maxQueue {
		e.count.rejected.Add(1)
		return errBusy
	}
	e.queue = append(e.queue, s)
	e.signal()
	return nil
}

func (e *Engine) taken() float64 {
	sum := 0.0
	for _, s := range e.running {
		sum += s.share
	}
	return sum
}

// Shutdown refuses what waits, lets what runs go on for a while, and returns when nothing runs.
func (e *Engine) Shutdown(grace time.Duration) {
	e.mutex.Lock()
	e.closing = time.Now().Add(grace)
	e.mutex.Unlock()
	e.signal()
	<-e.ended
}

// Closing says that no new requests are taken.
func (e *Engine) Closing() bool {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return !e.closing.IsZero()
}

// Depth counts what runs and what waits.
func (e *Engine) Depth() (running, waiting int) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return len(e.running), len(e.queue)
}

// Run is the engine's loop; it ends after Shutdown.
func (e *Engine) Run() {
	defer close(e.ended)
	for {
		e.leave()
		if e.cut() {
			return
		}
		e.admit()
		if len(e.running) == 0 {
			<-e.wake
			continue
		}
		e.step()
	}
}

// leave drops the streams whose clients have gone.
func (e *Engine) leave() {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	waiting := e.queue[:0]
	for _, s := range e.queue {
		if s.gone.Err() == nil {
			waiting = append(waiting, s)
		} else {
			e.count.aborted.Add(1)
		}
	}
	e.queue = waiting
	for _, s := range append([]*Stream(nil), e.running...) {
		if s.gone.Err() != nil {
			e.count.aborted.Add(1)
			e.release(s)
		}
	}
	e.count.heldTokens.Store(e.held())
}

func (e *Engine) held() int64 {
	sum := 0
	for _, s := range e.running {
		sum += s.length
	}
	return int64(sum)
}

// cut ends streams once the server shuts down: true if nothing is left.
func (e *Engine) cut() bool {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.closing.IsZero() {
		return false
	}
	for _, s := range e.queue {
		s.fail(errShutdown)
	}
	e.queue = nil
	if time.Now().After(e.closing) {
		for _, s := range append([]*Stream(nil), e.running...) {
			s.fail(errShutdown)
			e.release(s)
		}
	}
	return len(e.running) == 0
}

// release takes a running stream's sequence away and forgets the stream. The mutex is held.
func (e *Engine) release(s *Stream) {
	if err := s.sequence.Close(); err != nil {
		panic(err) // no step is open: only a fault of the program or of the library gets here
	}
	s.sequence = nil
	for i, other := range e.running {
		if other == s {
			e.running = append(e.running[:i:i], e.running[i+1:]...)
			break
		}
	}
}

// admit takes requests from the head of the queue while their shares fit.
func (e *Engine) admit() {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	for len(e.queue) > 0 {
		s := e.queue[0]
		if e.taken()+s.share > e.policy.most+tolerance {
			return
		}
		sequence, hit, err := e.cache.Lookup(s.tokens[:s.prompt], "", kvc.SequenceOptions{PromptLength: s.prompt})
		if errors.Is(err, kvc.ErrNoMemory) && len(e.running) > 0 {
			return // a later step will have ended something
		}
		e.queue = e.queue[1:]
		if err != nil {
			s.fail(err)
			continue
		}
		s.sequence, s.length = sequence, hit.Tokens
		s.published = s.system == 0 || hit.Tokens >= s.system
		if !s.started {
			e.count.promptTokens.Add(int64(s.prompt))
		}
		e.count.lookedUp.Add(int64(s.prompt))
		e.count.found.Add(int64(hit.Tokens))
		e.running = append(e.running, s)
		s.start()
	}
}

// preempt takes the youngest running stream but one off the cache and puts it back to the head of the queue.
func (e *Engine) preempt(but *Stream) bool {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	for i := len(e.running) - 1; i >= 0; i-- {
		if s := e.running[i]; s != but {
			e.release(s)
			e.queue = append([]*Stream{s}, e.queue...)
			e.count.preempted.Add(1)
			return true
		}
	}
	return false
}

// advance gives a stream the token that follows what it has read, and ends it where it is complete.
func (e *Engine) advance(s *Stream, token int64) {
	finish := ""
	event := Event{}
	if token == e.model.endToken {
		finish = "stop"
		e.count.stopped.Add(1)
	} else {
		s.tokens = append(s.tokens, token)
		event.text = e.model.Text(token, &s.pending)
		e.count.textTokens.Add(1)
		if s.written() == s.maxTokens {
			finish = "length"
			e.count.reachedLength.Add(1)
		}
	}
	if finish != "" {
		event.finish = finish
		event.text += e.model.Text(-1, &s.pending)
		e.mutex.Lock()
		e.release(s)
		e.mutex.Unlock()
	}
	s.events <- event
}

// byWeight lists the sequences of running streams, those first that hold the most of what the policy gives up.
func byWeight(running []*Stream, policy Policy) []*kvc.Sequence {
	weight := map[*kvc.Sequence]int{}
	var list []*kvc.Sequence
	for _, s := range running {
		list = append(list, s.sequence)
		if policy.evictTo > 0 {
			weight[s.sequence], _ = s.sequence.Live(0, 0)
		} else if stats, err := s.sequence.Stats(); err == nil {
			weight[s.sequence] = stats.RecordBytes
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return weight[list[i]] > weight[list[j]] })
	return list
}
