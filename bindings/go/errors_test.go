package kvc

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kvc/raw"
)

// Every status of the library has an error of its own name, and errors.Is tells them apart.
func TestEveryStatusHasAnError(t *testing.T) {
	all := []Status{ErrArgument, ErrHandle, ErrRange, ErrOrder, ErrBusy, ErrNoMemory, ErrNonfinite, ErrUnsupported, ErrForked,
		ErrInternal, ErrCorrupt, ErrIO, ErrDevice,
		ErrCapture, ErrAgain}
	named := map[string]Status{}
	for _, status := range all {
		named[status.Error()] = status
	}
	_, enumerators := described(t)
	for _, name := range enumerators["kvc_status"] {
		if _, found := named[name]; !found && name != "KVC_OK" && !strings.HasSuffix(name, "_MAX_") {
			t.Errorf("no error for %s", name)
		}
	}
	if len(named) != len(all) {
		t.Errorf("%d names for %d errors", len(named), len(all))
	}
	for _, status := range all {
		var err error = &Error{Status: status}
		for _, other := range all {
			if errors.Is(err, other) != (status == other) {
				t.Errorf("errors.Is(%v, %v) is wrong", err, other)
			}
		}
	}
}

// wants holds an error against what it must carry.
func wants(t *testing.T, err error, status Status, operation, words string) {
	t.Helper()
	var failure *Error
	if !errors.As(err, &failure) {
		t.Errorf("%s: %v is no *Error", operation, err)
		return
	}
	if failure.Status != status || !errors.Is(err, status) || failure.Operation != operation || !strings.Contains(failure.Message, words) {
		t.Errorf("got %+v; want %v of %s with %q", failure, status, operation, words)
	}
	for _, part := range []string{operation, status.Error(), words} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

// What is wrong is told with its status, the operation's name and the library's message.
func TestMisuseGivesItsError(t *testing.T) {
	cache := newCache(t)
	sequence := newSequence(cache)
	check(run(sequence, 10))
	_, err := New(Options{Layers: 1})
	wants(t, err, ErrArgument, "create", "")
	wants(t, Supports(Options{Layers: -1, KVHeads: 1, KDim: 64, ArenaTokens: 64}), ErrArgument, "supports", "layers")
	_, err = ComputePlan(options(), PlanRequest{Tokens: -1})
	wants(t, err, ErrArgument, "plan_compute", "")
	onDevice := options()
	onDevice.Device = CUDA
	_, err = New(onDevice)
	wants(t, err, ErrUnsupported, "create", "")
	_, err = DeviceCount(CUDA)
	wants(t, err, ErrUnsupported, "device_count", "")
	_, err = sequence.Fork(11, CutExact)
	wants(t, err, ErrRange, "seq_fork", "11")
	_, err = FormatCodec("int5")
	wants(t, err, ErrArgument, "codec_format", "int5")
	_, err = FormatPolicy("no policy")
	wants(t, err, ErrArgument, "policy_format", "")
	_, err = cache.NewBuffer(BufferDevice, 64)
	wants(t, err, ErrUnsupported, "buffer_create", "")
	_, err = cache.NewGraph(GraphOptions{Counts: []int64{1}, MaxTokens: 64})
	wants(t, err, ErrUnsupported, "graph_create", "on the host")
	_, err = sequence.Begin(1, StepOptions{Graph: &Graph{handle: sequence.cache.handle}})
	wants(t, err, ErrHandle, "step_begin", "not a live graph")
	_, err = cache.Import([]byte("no snapshot"))
	wants(t, err, ErrCorrupt, "snapshot_import", "")
	_, err = cache.Load(filepath.Join(t.TempDir(), "missing"))
	wants(t, err, ErrIO, "snapshot_load", "missing")
	_, err = sequence.StepDown(StepDownOptions{})
	wants(t, err, ErrUnsupported, "step_down", "")
	small := options()
	small.ArenaTokens, small.ArenaSequences = 64, 1
	tight := must(New(small))
	defer tight.Close()
	_, err = newSequence(tight).Begin(2048, StepOptions{})
	wants(t, err, ErrNoMemory, "step_begin", "")

	step := must(sequence.Begin(1, StepOptions{}))
	defer step.Close()
	wants(t, sequence.Close(), ErrBusy, "seq_destroy", "")
	wants(t, step.Commit(), ErrOrder, "step_commit", "")
	p := newPass[float32](1)
	wants(t, Attend(step, 0, p.q, p.out, nil, AttendOptions{}), ErrOrder, "attend", "")
	wants(t, Append(step, 9, p.k, p.v), ErrArgument, "append", "9")
	wants(t, Append(step, 0, p.k[:1], p.v), ErrArgument, "append", "")
	p.k[0] = float32(math.NaN())
	wants(t, Append(step, 0, p.k, p.v), ErrNonfinite, "append", "")
}

// A text that C would cut, at its field's end or at a NUL, might be another codec there: it is refused before it gets there.
func TestTextsThatDoNotFitAreRefused(t *testing.T) {
	long := strings.Repeat("x", 128)
	for field, change := range map[string]func(o *Options){
		"codec":  func(o *Options) { o.Codec = long },
		"target": func(o *Options) { o.Target = long[:16] },
		"policy": func(o *Options) { o.Policy = long },
	} {
		o := options()
		change(&o)
		_, err := New(o)
		wants(t, err, ErrArgument, "create", field)
	}
	wants(t, Supports(options(), Layer{}, Layer{Codec: long}), ErrArgument, "supports", "layer")
	o := options()
	o.Codec = "int4\x00,window=0"
	_, err := New(o)
	wants(t, err, ErrArgument, "create", "NUL")
	_, err = FormatCodec("int4\x00")
	wants(t, err, ErrArgument, "codec_format", "NUL")
	_, err = FormatPolicy("h2o:20%\x00")
	wants(t, err, ErrArgument, "policy_format", "NUL")
	cache := newCache(t)
	path := filepath.Join(t.TempDir(), "a")
	wants(t, cache.Save(path+"\x00b"), ErrArgument, "snapshot_save", "NUL")
	if _, err := os.Stat(path); err == nil {
		t.Error("a snapshot was saved under a path cut at its NUL")
	}
	_, err = cache.Load("a\x00b")
	wants(t, err, ErrArgument, "snapshot_load", "NUL")
	// The longest text that fits does.
	o.Codec = "int4" + strings.Repeat(" ", 127-4)
	if err := Supports(o); errors.Is(err, ErrArgument) && strings.Contains(err.Error(), "a text of") {
		t.Error(err)
	}
}

// Elements of another type than the step was begun with would be read as other numbers.
func TestElementTypesAreChecked(t *testing.T) {
	cache := newCache(t)
	sequence := newSequence(cache)
	step := must(sequence.Begin(1, StepOptions{KVDType: BF16, QDType: F16}))
	defer step.Close()
	single, half, brain := newPass[float32](1), newPass[Float16](1), newPass[BFloat16](1)
	wants(t, Append(step, 0, single.k, single.v), ErrArgument, "append", "k and v")
	wants(t, Append(step, 0, half.k, half.v), ErrArgument, "append", "k and v")
	check(Append(step, 0, brain.k, brain.v))
	wants(t, Attend(step, 0, single.q, single.out, nil, AttendOptions{}), ErrArgument, "attend", "q")
	wants(t, Attend(step, 0, half.q, half.q, nil, AttendOptions{}), ErrArgument, "attend", "out")
	check(Attend(step, 0, half.q, single.out, nil, AttendOptions{}))
}

// Go's slices cannot stand for the device's memory.
// An empty list is no way to say "all".
func TestNoSequencesAreNotAllOfThem(t *testing.T) {
	cache := newCache(t)
	one := newSequence(cache)
	defer one.Close() // the collector would take it after its last use
	var none []*Sequence
	for _, named := range [][]*Sequence{none, {}} {
		_, err := cache.Export(named...)
		wants(t, err, ErrArgument, "snapshot_export", "ExportAll")
		_, err = cache.ExportInto(make([]byte, 1<<16), named...)
		wants(t, err, ErrArgument, "snapshot_export", "ExportAll")
		wants(t, cache.Save(filepath.Join(t.TempDir(), "a"), named...), ErrArgument, "snapshot_save", "SaveAll")
	}
	want := must(cache.Export(one))
	if all := must(cache.ExportAll()); !bytes.Equal(all, want) {
		t.Errorf("%d bytes of the one sequence, %d of all", len(want), len(all))
	}
	into := make([]byte, len(want))
	if n := must(cache.ExportAllInto(into)); n != len(want) || !bytes.Equal(into, want) {
		t.Errorf("%d bytes were written of %d", n, len(want))
	}
	path := filepath.Join(t.TempDir(), "all")
	check(cache.SaveAll(path))
	if saved := must(os.ReadFile(path)); !bytes.Equal(saved, want) {
		t.Errorf("%d bytes were saved of %d", len(saved), len(want))
	}
}

// A file that is replaced, between the question how many sequences it has and their making, gives those that it has then.
func TestAFileThatIsReplacedGivesWhatItHas(t *testing.T) {
	cache := newCache(t)
	a, b := newSequence(cache), newSequence(cache)
	path := filepath.Join(t.TempDir(), "snapshot")
	for _, c := range []struct{ before, after []*Sequence }{{[]*Sequence{a, b}, []*Sequence{a}}, {[]*Sequence{a}, []*Sequence{a, b}}} {
		check(cache.Save(path, c.before...))
		made := must(cache.adoptWhole("snapshot_load", func(handle uintptr, handles []int64, n *int64, x *crossing) raw.Kvc_status {
			if len(handles) > 0 {
				check(cache.Save(path, c.after...))
			}
			return raw.Kvc_snapshot_load(handle, path, handles, n, x.failure)
		}))
		if len(made) != len(c.after) || slices.Contains(made, nil) {
			t.Errorf("sequences of a file that has %d: %v", len(c.after), made)
		}
		for _, s := range made {
			check(s.Close())
		}
	}
	if n := must(cache.Stats()).Sequences; n != 2 {
		t.Errorf("%d sequences, where 2 were made and kept", n)
	}
	check(a.Close())
	check(b.Close())
}

// The zero Device, which options take for the CPU, means it everywhere.
func TestTheZeroDeviceIsTheCPU(t *testing.T) {
	for _, device := range []Device{0, CPU} {
		if n, err := DeviceCount(device); n != 1 || err != nil {
			t.Errorf("device %d: %d of them, %v", device, n, err)
		}
	}
	named, err := DescribeDevice(CPU, 0)
	if zero, failed := DescribeDevice(0, 0); zero != named || err != nil || failed != nil {
		t.Errorf("%q, %v; of the zero value %q, %v", named, err, zero, failed)
	}
	from, to := []byte{1, 2, 3}, make([]byte, 3)
	for _, device := range []Device{0, CPU} {
		o := options()
		o.Device = device
		cache := must(New(o))
		defer cache.Close()
		there, unpin := pinned(make([]byte, 3))
		defer unpin()
		want := fmt.Sprint(cache.Copy(there, CPU, there, CPU, 3))
		for _, got := range []error{cache.Upload(there, from), cache.Download(to, there), cache.Copy(there, 0, there, 0, 3)} {
			if fmt.Sprint(got) != want {
				t.Errorf("device %d: %v; Copy says %s", device, got, want)
			}
		}
	}
}

func TestStepsOverDeviceBuffersRefuseSlices(t *testing.T) {
	step := &Step{kv: F32, q: F32, out: F32, device: true}
	p := newPass[float32](1)
	wants(t, Append(step, 0, p.k, p.v), ErrArgument, "append", "addresses")
	wants(t, Attend(step, 0, p.q, p.out, nil, AttendOptions{}), ErrArgument, "attend", "addresses")
	wants(t, step.AppendMemory(0, Memory{}, Memory{}), ErrHandle, "append", "")
	wants(t, step.AttendMemory(0, Memory{}, Memory{}, Memory{}, AttendOptions{}), ErrHandle, "attend", "")
}

// Memory that is not Go's reaches the library by its address.
func TestMemoryIsTakenByAddress(t *testing.T) {
	cache := newCache(t)
	step := must(newSequence(cache).Begin(1, StepOptions{}))
	defer step.Close()
	const kv, q = kvHeads * dim * 4, qHeads * dim * 4
	block := raw.Swig_malloc(2*kv + 2*q)
	defer raw.Swig_free(block)
	k, v := Memory{block, kv}, Memory{block + kv, kv}
	for i := range 2 * kv { // any bytes would do that are finite numbers
		*byteAt(block + uintptr(i)) = 0
	}
	from, out := Memory{block + 2*kv, q}, Memory{block + 2*kv + q, q}
	for i := range 2 * q {
		*byteAt(from.Address + uintptr(i)) = 0x3f
	}
	check(step.AppendMemory(0, k, v))
	check(step.AttendMemory(0, from, out, Memory{}, AttendOptions{}))
	if *byteAt(out.Address) != 0 {
		t.Error("attention over values of 0 is not 0")
	}
	wants(t, step.AppendMemory(1, Memory{block, kv - 1}, v), ErrArgument, "append", "")
}

// A list that came out empty is refused: nobody who computed one meant all tokens, no guard or the policy.
func TestEmptyListsAreNotLeftOut(t *testing.T) {
	cache := newCache(t)
	sequence := newSequence(cache)
	check(run(sequence, 300))
	for _, empty := range [][]int64{nil, {}} {
		_, err := cache.BeginAt([]Entry{{sequence, 1}}, empty, StepOptions{})
		wants(t, err, ErrArgument, "step_begin", "n_positions 0")
		step := must(sequence.Begin(4, StepOptions{PartialCommit: true}))
		p := newPass[float32](4)
		for layer := range layers {
			check(Append(step, layer, p.k, p.v))
		}
		wants(t, step.CommitAccepted(empty), ErrArgument, "step_commit", "accepted")
		check(step.Abort())
	}
	for _, empty := range [][]float32{nil, {}} {
		_, err := sequence.EvictByScores(empty, EvictOptions{Budget: 200})
		wants(t, err, ErrArgument, "evict", "0 scores given")
	}
	if live, length := must(sequence.Live(0, 0)), must(sequence.Length()); live != 300 || length != 300 {
		t.Errorf("%d of %d tokens are left after what was refused", live, length)
	}
	if report := must(sequence.Evict(EvictOptions{Budget: 200})); report.TokensEvicted == 0 {
		t.Error("without scores nothing was evicted")
	}
}
