package kvc

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What no script has a verb for, seen by what it does, and the operation that each function's error names.

// boundaries makes a cache whose policy acts at each 64th token, and a sequence of so many tokens.
func boundaries(t *testing.T, policy string, tokens int) *Sequence {
	o := options()
	o.Policy = policy
	cache := must(New(o))
	t.Cleanup(func() { check(cache.Close()) })
	sequence := newSequence(cache)
	grow(sequence, tokens)
	return sequence
}

// grow adds tokens in steps that cross no boundary.
func grow(s *Sequence, tokens int) {
	for tokens > 0 {
		n := min(tokens, must(s.StepLimit()), 512)
		if n < 1 {
			panic("no step goes on from here")
		}
		check(run(s, n))
		tokens -= n
	}
}

// A step goes up to the next boundary; without a policy that scores tokens there is none.
func TestStepLimitIsTheWayToTheBoundary(t *testing.T) {
	const none = 1 << 40
	if limit := must(boundaries(t, "", 10).StepLimit()); limit != none {
		t.Errorf("without a policy: %d", limit)
	}
	sequence := boundaries(t, "h2o:256,every=128", 0)
	for _, c := range []struct{ more, limit int }{{0, 128}, {100, 28}, {28, 128}, {1, 127}} {
		grow(sequence, c.more)
		if limit := must(sequence.StepLimit()); limit != c.limit {
			t.Errorf("%d tokens: %d, want %d", must(sequence.Length()), limit, c.limit)
		}
	}
}

// A budget is kept to the token from the next boundary on, and 0 is the policy's own again.
func TestABudgetIsKeptToTheToken(t *testing.T) {
	sequence := boundaries(t, "h2o:256,every=128", 128)
	for _, c := range []struct{ budget, want int }{{301, 301}, {300, 300}, {0, 256}, {201, 201}} {
		check(sequence.SetBudget(c.budget))
		grow(sequence, 512)
		if live := must(sequence.Live(0, 0)); live != c.want {
			t.Errorf("with a budget of %d %d tokens are kept, not %d", c.budget, live, c.want)
		}
	}
	wants(t, sequence.SetBudget(-1), ErrArgument, "seq_budget_set", "-1")
}

// turned is the attention of each layer over keys that the cache turns, with what before says before the first sequence.
func turned(t *testing.T, thetas [layers]float64, before func(cache *Cache)) [layers][]float32 {
	o := options()
	o.Keys, o.Codec = KeysBeforeRope, "int8"
	cache := must(New(o, Layer{RopeTheta: thetas[0]}, Layer{RopeTheta: thetas[1]}))
	defer cache.Close()
	before(cache)
	step := must(newSequence(cache).Begin(5, StepOptions{}))
	defer step.Close()
	p := newPass[float32](5)
	for i := range p.q {
		p.q[i] = float32(i%7) / 4
	}
	var out [layers][]float32
	for layer := range layers {
		check(Append(step, layer, p.k, p.v))
		check(Attend(step, layer, p.q, p.out, p.lse, AttendOptions{}))
		out[layer] = append(slices.Clone(p.out), p.lse...)
	}
	return out
}

// Frequencies that are another theta's make the layer that they name what that theta makes it, and the other one stays as it was.
func TestRopeFrequenciesOfOneLayer(t *testing.T) {
	const usual, other = 10000.0, 50.0
	frequencies := make([]float64, dim/2)
	for i := range frequencies {
		frequencies[i] = math.Pow(other, -2*float64(i)/dim)
	}
	plain := turned(t, [layers]float64{usual, usual}, func(*Cache) {})
	for layer := range layers {
		thetas := [layers]float64{usual, usual}
		thetas[layer] = other
		want := turned(t, thetas, func(*Cache) {})
		got := turned(t, [layers]float64{usual, usual}, func(c *Cache) { check(c.SetRopeFrequencies(layer, frequencies)) })
		for of := range layers {
			if near := distance(got[of], want[of]); near > 1e-5 {
				t.Errorf("frequencies of layer %d: layer %d is %v off", layer, of, near)
			}
		}
		if distance(got[layer], plain[layer]) < 1e-2 {
			t.Errorf("frequencies of layer %d change nothing there", layer)
		}
	}
}

// distance is the largest difference of two lists.
func distance(a, b []float32) (most float64) {
	for i := range a {
		most = max(most, math.Abs(float64(a[i]-b[i])))
	}
	return most
}

// What cannot be served says which number it was, so that none reaches the library in another's place.
func TestNumbersOfDevicesArriveInTheirPlace(t *testing.T) {
	_, err := DescribeDevice(CPU, 3)
	wants(t, err, ErrArgument, "device_describe", "ordinal 3")
	_, err = DescribeDevice(Device(77), 0)
	wants(t, err, ErrArgument, "device_describe", "device 77")
	cache := newCache(t)
	wants(t, cache.Copy(64, Device(77), 128, CPU, 1), ErrArgument, "buffer_copy", "device 77")
	wants(t, cache.Copy(64, CPU, 128, Device(78), 1), ErrArgument, "buffer_copy", "device 78")
	wants(t, cache.Copy(64, Device(77), 128, Device(78), 1), ErrArgument, "buffer_copy", "device 77")
	wants(t, cache.Copy(64, CPU, 128, CPU, -5), ErrArgument, "buffer_copy", "-5 bytes")
}

// Of these no error is to be seen here: what has ended already is nothing to Close.
var silent = []string{"destroy", "graph_destroy"}

// ended are objects whose cache has ended, and a cache on the host that lives.
type ended struct {
	cache, live *Cache
	sequence    *Sequence
	step        *Step
	path        string
}

func second[T any](_ T, err error) error { return err }

// failures make each function fail, by its name in kvc.h.
var failures = map[string]func(e ended) error{
	"codec_format":         func(ended) error { return second(FormatCodec("int5")) },
	"policy_format":        func(ended) error { return second(FormatPolicy("lru")) },
	"device_count":         func(ended) error { return second(DeviceCount(Device(77))) },
	"device_describe":      func(ended) error { return second(DescribeDevice(CPU, 1)) },
	"supports":             func(ended) error { return Supports(Options{}) },
	"plan_compute":         func(ended) error { return second(ComputePlan(Options{}, PlanRequest{})) },
	"create":               func(ended) error { return second(New(Options{})) },
	"sink_logits_set":      func(e ended) error { return e.cache.SetSinkLogits(0, nil) },
	"rope_frequencies_set": func(e ended) error { return e.cache.SetRopeFrequencies(0, nil) },
	"synchronize":          func(e ended) error { return e.cache.Synchronize() },
	"stats_get":            func(e ended) error { return second(e.cache.Stats()) },
	"graph_create":         func(e ended) error { return second(e.cache.NewGraph(GraphOptions{Counts: []int64{1}, MaxTokens: 64})) },
	"buffer_create":        func(e ended) error { return second(e.cache.NewBuffer(BufferDevice, 64)) },
	"buffer_destroy":       func(e ended) error { return (&Buffer{cache: e.live, kind: BufferDevice}).Close() },
	"buffer_copy":          func(e ended) error { return e.cache.Copy(64, CPU, 64, CPU, 1) },
	"seq_create":           func(e ended) error { return second(e.cache.NewSequence(SequenceOptions{})) },
	"seq_destroy":          func(e ended) error { return e.sequence.Destroy() },
	"seq_fork":             func(e ended) error { return second(e.sequence.Fork(0, CutExact)) },
	"seq_truncate":         func(e ended) error { return e.sequence.Truncate(0, CutExact) },
	"seq_length":           func(e ended) error { return second(e.sequence.Length()) },
	"seq_exact_floor":      func(e ended) error { return second(e.sequence.ExactFloor()) },
	"seq_live":             func(e ended) error { return second(e.sequence.Live(0, 0)) },
	"seq_step_limit":       func(e ended) error { return second(e.sequence.StepLimit()) },
	"seq_prompt_set":       func(e ended) error { return e.sequence.SetPrompt(0) },
	"seq_budget_set":       func(e ended) error { return e.sequence.SetBudget(0) },
	"seq_stats_get":        func(e ended) error { return second(e.sequence.Stats()) },
	"seq_positions":        func(e ended) error { return second(e.sequence.Positions(0, 0, nil)) },
	"seq_read_mass":        func(e ended) error { return second(e.sequence.ReadMass(0, 0, nil)) },
	"seq_read_counts":      func(e ended) error { return second(e.sequence.ReadCounts(0, 0, nil)) },
	"seq_read_rungs":       func(e ended) error { return second(e.sequence.ReadRungs(0, 0, nil)) },
	"seq_read":             func(e ended) error { return e.sequence.Read(0, 0, Keys, 0, 0, nil) },
	"seq_read_codes":       func(e ended) error { return second(e.sequence.ReadCodes(0, 0, Keys, nil)) },
	"evict":                func(e ended) error { return second(e.sequence.Evict(EvictOptions{})) },
	"evict_keep":           func(e ended) error { return second(e.sequence.EvictKeep(nil, EvictOptions{})) },
	"merge":                func(e ended) error { return second(e.sequence.Merge(nil, MergeOptions{})) },
	"step_down":            func(e ended) error { return second(e.sequence.StepDown(StepDownOptions{})) },
	"step_begin":           func(e ended) error { return second(e.sequence.Begin(1, StepOptions{})) },
	"append":               func(e ended) error { return e.step.AppendBytes(0, nil, nil) },
	"attend":               func(e ended) error { return e.step.AttendBytes(0, nil, nil, nil, AttendOptions{}) },
	"step_commit":          func(e ended) error { return e.step.Commit() },
	"step_abort":           func(e ended) error { return e.step.Abort() },
	"prefix_publish":       func(e ended) error { return e.sequence.Publish(nil, "", PrefixOptions{}) },
	"prefix_lookup": func(e ended) error {
		_, _, err := e.cache.Lookup(nil, "", SequenceOptions{})
		return err
	},
	"prefix_remove":     func(e ended) error { return second(e.cache.RemovePrefixes(nil, "")) },
	"prefix_clear":      func(e ended) error { return e.cache.ClearPrefixes() },
	"prefix_budget_set": func(e ended) error { return e.cache.SetPrefixBudget(0) },
	"prefix_stats_get":  func(e ended) error { return second(e.cache.PrefixStats()) },
	"snapshot_export":   func(e ended) error { return second(e.cache.ExportAll()) },
	"snapshot_import":   func(e ended) error { return second(e.cache.Import(nil)) },
	"snapshot_save":     func(e ended) error { return e.cache.SaveAll(e.path) },
	"snapshot_load":     func(e ended) error { return second(e.cache.Load(e.path)) },
}

// Each function that can fail names itself in its error, and another name than that in kvc.h would be another function's.
func TestEveryErrorNamesItsFunction(t *testing.T) {
	e := ended{cache: newCache(t), live: newCache(t), path: filepath.Join(t.TempDir(), "none")}
	e.sequence = newSequence(e.cache)
	e.step = must(e.sequence.Begin(1, StepOptions{}))
	check(e.cache.Close())
	for name, fail := range failures {
		err := fail(e)
		if err == nil {
			t.Errorf("%s does not fail", name)
			continue
		}
		wants(t, err, err.(*Error).Status, name, "")
	}
	header := must(os.ReadFile("../../kvc.h"))
	functions := regexp.MustCompile(`(?s)KVC_API [^;(]*?\bkvc_(\w+)\(([^;]*?)\);`).FindAllSubmatch(header, -1)
	var seen []string
	for _, function := range functions {
		if name := string(function[1]); strings.Contains(string(function[2]), "kvc_error*") {
			seen = append(seen, name)
			if _, here := failures[name]; here == slices.Contains(silent, name) {
				t.Errorf("%s is made to fail: %v", name, here)
			}
		}
	}
	if len(seen) != len(failures)+len(silent) {
		t.Errorf("%d functions of kvc.h can fail, of which %v; here are %d and %d", len(seen), seen, len(failures), len(silent))
	}
}
