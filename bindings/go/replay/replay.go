package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"

	"kvc"
)

// A replay is a script on its way: one cache, and what the script's names stand for. A name that is not there gives a nil object,
// which has the handle 0; one whose object has ended gives its stale handle.
type replay struct {
	target    string
	threads   int
	line      int
	cache     *kvc.Cache
	shapes    shapes
	sequences map[string]sequence
	steps     map[string]step
	snapshots map[string][]byte
	hash      hash.Hash
	given     []byte // what the operation gave
}

type sequence struct {
	*kvc.Sequence
	data  uint64
	first int // position
}

func newReplay(target string, threads int) *replay {
	return &replay{target: target, threads: threads, shapes: shapes{lines: map[int]*operation{}}, sequences: map[string]sequence{},
		steps: map[string]step{}, snapshots: map[string][]byte{}, hash: sha256.New()}
}

func (r *replay) digest() string { return hex.EncodeToString(r.hash.Sum(nil)) }

var verbs = map[string]func(*replay, *operation) error{
	"layer": (*replay).layer, "create": (*replay).create, "plan": (*replay).plan, "sink_logits": (*replay).sinkLogits,
	"stats": (*replay).stats,
	"seq":   (*replay).seq, "fork": (*replay).fork, "truncate": (*replay).truncate, "destroy": (*replay).destroy,
	"prompt": (*replay).prompt, "length": (*replay).length, "floor": (*replay).floor, "live": (*replay).live,
	"begin": (*replay).begin, "append": (*replay).append, "attend": (*replay).attend, "commit": (*replay).commit,
	"abort": (*replay).abort,
	"evict": (*replay).evict, "keep": (*replay).keep, "merge": (*replay).merge, "step_down": (*replay).stepDown,
	"read": (*replay).read, "codes": (*replay).codes, "mass": (*replay).mass, "positions": (*replay).positions,
	"counts": (*replay).counts, "rungs": (*replay).rungs,
	"publish": (*replay).publish, "lookup": (*replay).lookup, "unpublish": (*replay).unpublish,
	"prefix_clear": (*replay).prefixClear, "prefix_budget": (*replay).prefixBudget, "prefix_stats": (*replay).prefixStats,
	"export": (*replay).export, "import": (*replay).importSnapshot,
}

// run does one operation, adds what it shows to the digest, and holds its status against those that the script allows.
func (r *replay) run(o *operation) error {
	r.given = r.given[:0]
	verb, known := verbs[o.verb]
	if !known {
		panic(faultf("unknown operation %s", o.verb))
	}
	err := verb(r, o)
	status := kvc.Status(0)
	if err != nil {
		var failure *kvc.Error
		if !errors.As(err, &failure) {
			return err
		}
		status = failure.Status
		r.given = r.given[:0]
	}
	r.hash.Write(binary.LittleEndian.AppendUint32(nil, uint32(status)))
	r.hash.Write(r.given)
	word := "ok"
	if status != 0 {
		word = strings.ToLower(strings.TrimPrefix(status.Error(), "KVC_E_"))
	}
	if !slices.Contains(o.expected, word) {
		return fmt.Errorf("answered %s: %v", word, err)
	}
	return nil
}

// give adds numbers to what the operation gave.
func (r *replay) give(numbers ...int) {
	for _, n := range numbers {
		r.given = binary.LittleEndian.AppendUint64(r.given, uint64(n))
	}
}

// giveAll adds numbers of any type, as they lie in memory.
func giveAll[T any](r *replay, numbers []T) {
	given, err := binary.Append(r.given, binary.LittleEndian, numbers)
	if err != nil {
		panic(err)
	}
	r.given = given
}

// ---- Cache ----

func (r *replay) layer(o *operation) error {
	r.shapes.lines[parseNumber(o.name(0))] = o
	return nil
}

func (r *replay) create(o *operation) error {
	if r.cache != nil {
		panic(fault("a script has one cache"))
	}
	r.shapes.set(o, r.target, r.threads)
	made, err := kvc.New(r.shapes.options, r.shapes.differing()...)
	if err == nil {
		r.cache = made
	}
	return err
}

func (r *replay) plan(o *operation) error {
	request := kvc.PlanRequest{Tokens: o.number("tokens"), Sequences: o.number("sequences"), StepTokens: o.number("step_tokens"),
		BudgetBytes: o.number("budget_bytes"), PartialCommit: o.flag("partial_commit")}
	p, err := kvc.ComputePlan(r.shapes.options, request, r.shapes.differing()...)
	r.give(p.ArenaBytes, p.SlabBytes, p.RecordBytes, p.FP16Bytes, p.MaxTokens, p.MaxSequences)
	return err
}

func (r *replay) sinkLogits(o *operation) error {
	return r.cache.SetSinkLogits(o.number("layer"), r.shapes.sinkLogits(o))
}

func (r *replay) stats(o *operation) error {
	if len(o.names) > 0 {
		s, err := r.sequences[o.name(0)].Stats()
		r.give(s.Tokens, s.RecordBytes, s.SharedBytes, s.FP16Bytes)
		return err
	}
	s, err := r.cache.Stats()
	r.give(s.ArenaBytes, s.BoundBytes, s.RecordBytes, s.SinkBytes, s.WindowBytes, s.CodeBytes, s.ReservedBytes, s.SideBytes,
		s.Sequences, s.OpenSteps, s.TokensAppended, s.TokensEvicted, s.PagesQuantized, s.TokensRequantized)
	return err
}

// ---- Snapshots ----

func (r *replay) export(o *operation) error {
	var of []*kvc.Sequence
	for _, name := range o.names[min(1, len(o.names)):] {
		of = append(of, r.sequences[name].Sequence)
	}
	export := r.cache.ExportAll
	if len(of) > 0 {
		export = func() ([]byte, error) { return r.cache.Export(of...) }
	}
	bytes, err := export()
	if err != nil {
		return err
	}
	r.give(len(bytes))
	r.given = append(r.given, bytes...)
	r.snapshots[o.name(0)] = bytes
	return nil
}

func (r *replay) importSnapshot(o *operation) error {
	bytes := slices.Clone(r.snapshots[o.name(0)])
	if o.has("flip") && len(bytes) > 0 {
		bytes[uint64(o.number("flip"))%uint64(len(bytes))] ^= 1
	}
	names := o.names[min(1, len(o.names)):]
	made := make([]*kvc.Sequence, len(names))
	n, err := r.cache.ImportInto(made, bytes)
	r.give(n)
	for i, s := range made {
		if s != nil {
			r.sequences[names[i]] = sequence{s, uint64(o.number("data")), o.number("first_position")}
		}
	}
	return err
}
