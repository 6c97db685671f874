//! What is wrong is an error with status, operation and message, and changes nothing.

use crate::{extend, small};
use kvc::{
    Bf16, BufferKind, Cache, Cut, Device, DeviceSlice, Dtype, Error, EvictOptions, Layer, Options, Part, Sequence, Status,
    StepOptions, F16,
};

fn check(error: Error, status: Status, operation: &str, words: &str) {
    assert_eq!((error.status, error.operation), (status, operation), "{error}");
    assert!(error.message.contains(words), "\"{}\" does not say \"{words}\"", error.message);
    assert_eq!(error.to_string(), format!("{} ({operation}: {})", error.message, status.name()));
}

fn cache_and_sequence() -> (Cache, Sequence) {
    let cache = Cache::new(&small()).unwrap();
    let sequence = cache.sequence(&Default::default()).unwrap();
    extend(&cache, &sequence, 3, 0.5).unwrap();
    (cache, sequence)
}

#[test]
fn options_that_are_wrong() {
    let create = |options: Options| Cache::new(&options).unwrap_err();
    check(create(Options { layers: 0, ..small() }), Status::Argument, "kvc_create", "layers");
    check(create(Options { k_dim: -16, ..small() }), Status::Argument, "kvc_create", "k_dim");
    check(create(Options { codec: "int5".to_owned(), ..small() }), Status::Argument, "kvc_create", "int5");
    check(create(Options { policy: "lru".to_owned(), ..small() }), Status::Argument, "kvc_create", "lru");
    check(create(Options { codec: "@/no/such/file".to_owned(), ..small() }), Status::Io, "kvc_create", "/no/such/file");
    assert_eq!(create(Options { target: "abacus".to_owned(), ..small() }).status, Status::Unsupported);
    // A text that is cut could be another one.
    let (long, nul) = ("int4".to_owned() + &" ".repeat(124), "scalar\0".to_owned());
    let cut = Options { codec: long.clone(), ..small() };
    check(create(cut.clone()), Status::Argument, "kvc_create", "codec: \"int4");
    check(create(Options { target: nul, ..small() }), Status::Argument, "kvc_create", "NUL or more than");
    check(cut.supports(&[]).unwrap_err(), Status::Argument, "kvc_supports", "more than 127 bytes");
    check(cut.plan(&[], &Default::default()).unwrap_err(), Status::Argument, "kvc_plan_compute", "more than 127 bytes");
    let layer = [Layer { codec: long, ..Default::default() }];
    check(Cache::with_layers(&small(), &layer).unwrap_err(), Status::Argument, "kvc_create", "more than 127 bytes");
    check(small().supports(&layer).unwrap_err(), Status::Argument, "kvc_supports", "more than 127 bytes");
    check(small().plan(&layer, &Default::default()).unwrap_err(), Status::Argument, "kvc_plan_compute", "more than 127 bytes");
    let supports = Options { kv_heads: 0, ..small() }.supports(&[]).unwrap_err();
    check(supports, Status::Argument, "kvc_supports", "kv_heads");
    check(kvc::codec_format("int5").unwrap_err(), Status::Argument, "kvc_codec_format", "int5");
    check(kvc::codec_format("int4\0").unwrap_err(), Status::Argument, "kvc_codec_format", "NUL");
    check(kvc::device_describe(Device::Cpu, 3).unwrap_err(), Status::Argument, "kvc_device_describe", "ordinal 3");
    assert_eq!(kvc::policy_format("lru").unwrap_err().operation, "kvc_policy_format");
}

#[test]
fn steps_that_are_wrong() {
    let (cache, sequence) = cache_and_sequence();
    let begin = |count, options: &StepOptions| cache.begin([(&sequence, count)], options).map(drop).unwrap_err();
    check(begin(-1, &Default::default()), Status::Argument, "kvc_step_begin", "-1");
    assert_eq!(begin(1_000_000, &Default::default()).status, Status::NoMemory);
    let twice = cache.begin([(&sequence, 1), (&sequence, 1)], &Default::default()).map(drop).unwrap_err();
    assert_eq!(twice.operation, "kvc_step_begin");
    let at = cache.begin_at([(&sequence, 1)], &[7], &Default::default()).map(drop).unwrap_err();
    check(at, Status::Argument, "kvc_step_begin", "7");
    cache.begin_at([(&sequence, 1)], &[3], &Default::default()).unwrap().abort().unwrap();

    let mut step = cache.begin([(&sequence, 1)], &Default::default()).unwrap();
    let (row, mut out) = ([0.5f32; 16], [7f32; 16]);
    check(step.attend(0, &row, &mut out).unwrap_err(), Status::Order, "kvc_attend", "layer 0");
    check(step.append(9, &row, &row).unwrap_err(), Status::Argument, "kvc_append", "9");
    check(step.append(0, &row[..15], &row).unwrap_err(), Status::Argument, "kvc_append", "60");
    check(step.append(0, &[f32::NAN; 16], &row).unwrap_err(), Status::Nonfinite, "kvc_append", "");
    step.append(0, &row, &row).unwrap();
    assert_eq!(step.append(0, &row, &row).unwrap_err().status, Status::Order);
    assert_eq!(step.attend(0, &row, &mut out[..8]).unwrap_err().status, Status::Argument);
    assert_eq!(out, [7f32; 16]);
    assert_eq!(step.commit_accepted(&[0]).unwrap_err().status, Status::Argument);
    assert_eq!(sequence.length().unwrap(), 3);
}

#[test]
fn lists_that_came_out_empty_are_not_left_out() {
    let (cache, mut sequence) = cache_and_sequence();
    let at = cache.begin_at([(&sequence, 1)], &[], &Default::default()).map(drop).unwrap_err();
    check(at, Status::Argument, "kvc_step_begin", "n_positions 0");
    let mut step = cache.begin([(&sequence, 4)], &StepOptions { partial_commit: true, ..Default::default() }).unwrap();
    step.append(0, &[0f32; 64], &[0f32; 64]).unwrap();
    check(step.try_commit(Some(&[])).unwrap_err(), Status::Argument, "kvc_step_commit", "accepted");
    check(step.commit_accepted(&[]).unwrap_err(), Status::Argument, "kvc_step_commit", "accepted");
    let evicted = sequence.evict(Some(&[]), &EvictOptions { budget: 2, ..Default::default() }).unwrap_err();
    check(evicted, Status::Argument, "kvc_evict", "0 scores given");
    assert_eq!((sequence.length().unwrap(), sequence.live(0, 0).unwrap()), (3, 3));
}

#[test]
fn buffers_of_a_wrong_type_or_place_do_not_reach_c() {
    let (cache, sequence) = cache_and_sequence();
    let mut step = cache.begin([(&sequence, 1)], &StepOptions { kv_dtype: Dtype::F16, ..Default::default() }).unwrap();
    let (row, mut out) = ([0f32; 16], [0f32; 16]);
    check(step.append(0, &row, &row).unwrap_err(), Status::Argument, "kvc_append", "begun for F16, not F32");
    // As many bytes, other bits.
    check(step.append(0, &[Bf16(0); 16], &[Bf16(0); 16]).unwrap_err(), Status::Argument, "kvc_append", "not Bf16");
    step.append(0, &[F16(0); 16], &[F16(0); 16]).unwrap();
    check(step.attend(0, &[F16(0); 16], &mut out).unwrap_err(), Status::Argument, "kvc_attend", "q: the step was begun for F32");
    check(step.attend(0, &row, &mut [F16(0); 16]).unwrap_err(), Status::Argument, "kvc_attend", "out: the step was begun for F32");
    step.attend(0, &row, &mut out).unwrap();
    let slice = unsafe { DeviceSlice::<F16>::from_raw(std::ptr::null_mut(), 16) };
    check(step.append_device(0, slice, slice).unwrap_err(), Status::Argument, "kvc_append", "buffers on Cpu");
    let slice = unsafe { DeviceSlice::<f32>::from_raw(std::ptr::null_mut(), 16) };
    let attended = step.attend_device(0, slice, slice, None, &Default::default());
    check(attended.unwrap_err(), Status::Argument, "kvc_attend", "buffers on Cpu");
}

#[test]
fn a_host_cache_has_no_device_memory() {
    let (cache, sequence) = cache_and_sequence();
    for kind in [BufferKind::Device, BufferKind::Pinned] {
        assert_eq!(cache.buffer(kind, 4096).unwrap_err().status, Status::Unsupported);
    }
    check(cache.graph(&[1], 64, 0, 0).unwrap_err(), Status::Unsupported, "kvc_graph_create", "the cache is on the host");
    check(cache.graph(&[], 64, 0, 0).unwrap_err(), Status::Argument, "kvc_graph_create", "n 0");
    let options = StepOptions { buffers: Device::Cuda, ..Default::default() };
    assert_eq!(cache.begin([(&sequence, 1)], &options).map(drop).unwrap_err().operation, "kvc_step_begin");
    let slice = unsafe { DeviceSlice::<f32>::from_raw(std::ptr::null_mut(), 16) };
    check(cache.copy_to_device(&[0f32; 8], slice).unwrap_err(), Status::Argument, "kvc_buffer_copy", "32 bytes into 64");
    assert_eq!(cache.copy_to_host(slice, &mut [0f32; 16]).unwrap_err().operation, "kvc_buffer_copy");
    assert_eq!(cache.copy_on_device(slice, slice).unwrap_err().operation, "kvc_buffer_copy");
    cache.synchronize().unwrap();
}

#[test]
fn sequences_that_are_wrong() {
    let (cache, mut sequence) = cache_and_sequence();
    check(sequence.truncate(9, Cut::Exact).unwrap_err(), Status::Range, "kvc_seq_truncate", "9");
    assert_eq!(sequence.fork(9, Cut::Exact).unwrap_err().status, Status::Range);
    assert_eq!(sequence.evict_keep(&[8], &EvictOptions::default()).unwrap_err().status, Status::Range);
    assert_eq!(sequence.live(1, 0).unwrap_err().status, Status::Argument);
    assert_eq!(sequence.positions(0, 1).unwrap_err().operation, "kvc_seq_positions");
    assert_eq!(sequence.read(0, 0, Part::Keys, 0..3, &mut [0f32; 47]).unwrap_err().status, Status::Argument);
    assert_eq!(
        sequence.read(0, 0, Part::Keys, std::ops::Range { start: 3, end: 2 }, &mut [0f32; 48]).unwrap_err().status,
        Status::Argument
    );
    assert_eq!(sequence.evict(Some(&[1.0]), &Default::default()).unwrap_err().status, Status::Argument);
    assert_eq!(sequence.step_down(&Default::default()).unwrap_err().status, Status::Unsupported);
    // The compiler sees borrows; that a handle was given twice, kvc sees.
    let mut view = Sequence::from_raw(&cache, sequence.raw());
    let step = cache.begin([(&sequence, 1)], &Default::default()).unwrap();
    assert_eq!(view.truncate(0, Cut::Exact).unwrap_err().status, Status::Busy);
    for _ in 0..2 {
        check(view.try_close().unwrap_err(), Status::Busy, "kvc_seq_destroy", "");
        assert_eq!(view.raw(), sequence.raw());
    }
    drop(step);
    assert_eq!(view.length().unwrap(), 3);
    view.into_raw();
    assert_eq!(sequence.length().unwrap(), 3);
    sequence.try_close().unwrap();
    assert_eq!((sequence.raw(), cache.stats().unwrap().sequences), (0, 0));
    check(sequence.try_close().unwrap_err(), Status::Handle, "kvc_seq_destroy", "");
    assert_eq!(sequence.length().unwrap_err().status, Status::Handle);
}

#[test]
fn sequences_of_another_cache_are_refused_even_if_theirs_is_a_number_of_ours() {
    let ((cache, ours), (_other, theirs)) = (cache_and_sequence(), cache_and_sequence());
    let refused = |error: Error, operation| check(error, Status::Handle, operation, "another cache");
    refused(cache.begin([(&ours, 1), (&theirs, 1)], &Default::default()).map(drop).unwrap_err(), "kvc_step_begin");
    refused(cache.prefix_publish(&theirs, &[1], b"", &Default::default()).unwrap_err(), "kvc_prefix_publish");
    refused(cache.snapshot_export(Some(&[&theirs])).unwrap_err(), "kvc_snapshot_export");
    refused(cache.snapshot_save(Some(&[&theirs]), "never.written").unwrap_err(), "kvc_snapshot_save");
}

#[test]
fn snapshots_that_are_wrong() {
    let (cache, sequence) = cache_and_sequence();
    let mut bytes = cache.snapshot_export(None).unwrap();
    check(cache.snapshot_export_into(None, &mut [0; 8]).unwrap_err(), Status::Argument, "kvc_snapshot_export", "8 bytes");
    check(cache.snapshot_export(Some(&[&sequence, &sequence])).unwrap_err(), Status::Argument, "kvc_snapshot_export", "");
    let none = |error: Error, operation| check(error, Status::Argument, operation, "no sequences were named");
    none(cache.snapshot_export(Some(&[])).unwrap_err(), "kvc_snapshot_export");
    none(cache.snapshot_bytes(Some(&[])).unwrap_err(), "kvc_snapshot_export");
    none(cache.snapshot_export_into(Some(&[]), &mut [0; 1 << 16]).unwrap_err(), "kvc_snapshot_export");
    none(cache.snapshot_save(Some(&[]), "never.written").unwrap_err(), "kvc_snapshot_save");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    check(cache.snapshot_import(&bytes).unwrap_err(), Status::Corrupt, "kvc_snapshot_import", "");
    check(cache.snapshot_import(&[]).unwrap_err(), Status::Corrupt, "kvc_snapshot_import", "");
    check(cache.snapshot_load("no/such/file").unwrap_err(), Status::Io, "kvc_snapshot_load", "no/such/file");
    check(cache.snapshot_load("with\0NUL").unwrap_err(), Status::Argument, "kvc_snapshot_load", "NUL");
    assert_eq!(cache.stats().unwrap().sequences, 1);
}

#[test]
fn a_number_that_is_no_status_stays_what_it_is() {
    assert_eq!(Status::from_number(4711), Status::Unknown(4711));
    assert_eq!((Status::Unknown(4711).number(), Status::Unknown(4711).name()), (4711, "unknown"));
    assert_eq!(Status::from_number(0), Status::Unknown(0));
}
