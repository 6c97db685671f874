//! Each call reaches the function that it names, and each option its field.

use crate::{extend, model, small};
use kvc::*;
use std::ffi::c_void;
use std::sync::atomic::{AtomicI64, Ordering};

fn filled(options: &Options, tokens: i64) -> (Cache, Sequence) {
    let cache = Cache::new(options).unwrap();
    let sequence = cache.sequence(&Default::default()).unwrap();
    extend(&cache, &sequence, tokens, 0.5).unwrap();
    (cache, sequence)
}

#[test]
fn discovery() {
    assert_eq!(abi_version(), i64::from(kvc_sys::KVC_ABI_VERSION));
    assert_eq!(version(), env!("CARGO_PKG_VERSION"));
    assert!(build_info().contains(version()) || !build_info().is_empty());
    assert!(abi_describe().starts_with("struct kvc_error"));
    assert!(presets().any(|name| name == "int4") && policies().any(|name| name == "h2o") && targets().any(|name| name == "scalar"));
    let canonical = codec_format("int4").unwrap();
    assert!(canonical.contains("k=int4") && codec_format(&canonical).unwrap() == canonical);
    assert!(policy_format("streaming:4+512").unwrap().starts_with("streaming"));
    assert_eq!(device_count(Device::Cpu).unwrap(), 1);
    assert!(!device_describe(Device::Cpu, 0).unwrap().contains('\0'));
    match device_count(Device::Cuda) {
        Ok(count) => assert!(count > 0 && !device_describe(Device::Cuda, 0).unwrap().is_empty()),
        Err(error) => assert!(error.status == Status::Unsupported && !error.message.is_empty()),
    }
}

#[test]
fn a_plan_is_the_arena_of_its_cache() {
    let options = Options { arena_tokens: 2048, arena_sequences: 3, ..small() };
    options.supports(&[]).unwrap();
    let plan = options.plan(&[], &PlanRequest { tokens: 2048, sequences: 3, budget_bytes: 1 << 20, ..Default::default() }).unwrap();
    assert_eq!(plan.arena_bytes, Cache::new(&options).unwrap().stats().unwrap().arena_bytes);
    assert!(plan.max_tokens > 0 && plan.effective_bits > 4.0);
}

#[test]
fn layers_of_their_own() {
    let layers = [Layer::default(), Layer { kv_heads: 2, codec: "int8".to_owned(), ..Default::default() }];
    let options = Options { layers: 2, ..small() };
    options.supports(&layers).unwrap();
    let cache = Cache::with_layers(&options, &layers).unwrap();
    let sequence = cache.sequence(&Default::default()).unwrap();
    let mut step = cache.begin([(&sequence, 1)], &Default::default()).unwrap();
    step.append(0, &[0f32; 16], &[0f32; 16]).unwrap();
    step.append(1, &[0f32; 32], &[0f32; 32]).unwrap();
    step.commit().unwrap();
    assert_eq!(sequence.live(1, 1).unwrap(), 1);
    assert!(Cache::with_layers(&options, &layers[..1]).is_err());
}

#[repr(align(128))]
struct Block([u8; 1 << 18]);

static ALLOCATED: AtomicI64 = AtomicI64::new(0);

unsafe extern "C" fn allocate(context: *mut c_void, bytes: i64, alignment: i64) -> *mut c_void {
    assert_eq!(*context.cast::<i32>(), 7);
    ALLOCATED.fetch_add(bytes, Ordering::SeqCst);
    std::alloc::alloc(std::alloc::Layout::from_size_align(bytes as usize, alignment.max(128) as usize).unwrap()).cast()
}

unsafe extern "C" fn release(context: *mut c_void, block: *mut c_void, bytes: i64) {
    assert_eq!(*context.cast::<i32>(), 7);
    ALLOCATED.fetch_sub(bytes, Ordering::SeqCst);
    std::alloc::dealloc(block.cast(), std::alloc::Layout::from_size_align(bytes as usize, 128).unwrap())
}

#[test]
fn memory_of_the_caller() {
    let mut block = Box::new(Block([0; 1 << 18]));
    let options = Options { arena_tokens: 0, arena_bytes: 1 << 18, ..small() };
    let cache = unsafe { Cache::with_memory(&options, &[], |raw| raw.arena_block = block.0.as_mut_ptr().cast()) }.unwrap();
    let sequence = cache.sequence(&Default::default()).unwrap();
    extend(&cache, &sequence, 200, 0.5).unwrap();
    drop((cache, sequence));
    assert!(block.0.iter().any(|byte| *byte != 0));

    let mut context = 7i32;
    let set = |raw: &mut kvc_sys::kvc_options| {
        raw.allocate = Some(allocate);
        raw.release = Some(release);
        raw.allocator_context = std::ptr::from_mut(&mut context).cast();
    };
    let cache = unsafe { Cache::with_memory(&small(), &[], set) }.unwrap();
    assert!(ALLOCATED.load(Ordering::SeqCst) >= cache.stats().unwrap().arena_bytes);
    drop(cache);
    assert_eq!(ALLOCATED.load(Ordering::SeqCst), 0);
}

/// The log-sum-exp of one token whose logits are all 0.
fn lse_of(cache: &Cache) -> f32 {
    let sequence = cache.sequence(&Default::default()).unwrap();
    let mut step = cache.begin([(&sequence, 1)], &Default::default()).unwrap();
    step.append(0, &[0f32; 16], &[1f32; 16]).unwrap();
    let (mut out, mut lse) = ([0f32; 16], [0f32; 1]);
    step.attend_with(0, &[1f32; 16], &mut out, Some(&mut lse), &Default::default()).unwrap();
    lse[0]
}

#[test]
fn sink_logits_and_rope_frequencies() {
    let cache = Cache::new(&small()).unwrap();
    assert_eq!(lse_of(&cache), 0.0);
    cache.sink_logits_set(0, &[0.0]).unwrap();
    assert!((lse_of(&cache) - 2f32.ln()).abs() < 1e-6);
    cache.sink_logits_set(0, &[]).unwrap();
    assert_eq!(lse_of(&cache), 0.0);

    let turned = Options { keys: Keys::BeforeRope, rope_theta: 10000.0, ..small() };
    let cache = Cache::new(&turned).unwrap();
    assert_eq!(cache.rope_frequencies_set(0, &[0.5; 7]).unwrap_err().status, Status::Argument);
    let _sequence = cache.sequence(&Default::default()).unwrap();
    assert_eq!(cache.rope_frequencies_set(0, &[0.5; 8]).unwrap_err().status, Status::Order);
}

/// The attention of two layers over keys that the cache turns, with what `before` says before the first sequence.
fn turned(thetas: [f64; 2], before: impl FnOnce(&Cache)) -> [Vec<f32>; 2] {
    let layers = thetas.map(|rope_theta| Layer { rope_theta, ..Default::default() });
    let options = Options { layers: 2, keys: Keys::BeforeRope, ..small() };
    let cache = Cache::with_layers(&options, &layers).unwrap();
    before(&cache);
    let sequence = cache.sequence(&Default::default()).unwrap();
    let mut step = cache.begin([(&sequence, 5)], &Default::default()).unwrap();
    let rows = |period: usize| (0..5 * 16).map(|i| (i % period) as f32 / 2.0).collect::<Vec<f32>>();
    [0, 1].map(|layer| {
        let mut out = vec![0f32; 5 * 16];
        step.append(layer, &rows(3), &rows(5)).unwrap();
        step.attend(layer, &rows(7), &mut out).unwrap();
        out
    })
}

#[test]
fn frequencies_of_another_theta_make_their_layer_what_that_theta_makes_it() {
    const USUAL: f64 = 10000.0;
    const OTHER: f64 = 50.0;
    let frequencies: Vec<f64> = (0..8).map(|i| OTHER.powf(-2.0 * f64::from(i) / 16.0)).collect();
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let plain = turned([USUAL; 2], |_| ());
    for layer in 0..2 {
        let mut thetas = [USUAL; 2];
        thetas[layer] = OTHER;
        let want = turned(thetas, |_| ());
        let got = turned([USUAL; 2], |cache| cache.rope_frequencies_set(layer as i64, &frequencies).unwrap());
        assert!((0..2).all(|of| distance(&got[of], &want[of]) < 1e-5), "layer {layer}");
        assert!(distance(&got[layer], &plain[layer]) > 1e-2, "layer {layer}");
    }
}

#[test]
fn types_of_sixteen_bits_give_what_f32_gives() {
    let cache = Cache::new(&small()).unwrap();
    let attend = |dtype: Dtype| {
        let sequence = cache.sequence(&Default::default()).unwrap();
        let options = StepOptions { kv_dtype: dtype, q_dtype: dtype, ..Default::default() };
        let mut out = [0f32; 16];
        let mut step = cache.begin([(&sequence, 1)], &options).unwrap();
        match dtype {
            Dtype::F32 => step.append(0, &[0.5f32; 16], &[1.5f32; 16]).and_then(|()| step.attend(0, &[1f32; 16], &mut out)),
            Dtype::F16 => {
                step.append(0, &[F16(0x3800); 16], &[F16(0x3e00); 16]).and_then(|()| step.attend(0, &[F16(0x3c00); 16], &mut out))
            }
            Dtype::Bf16 => {
                step.append(0, &[Bf16(0x3f00); 16], &[Bf16(0x3fc0); 16]).and_then(|()| step.attend(0, &[Bf16(0x3f80); 16], &mut out))
            }
        }
        .unwrap();
        out
    };
    assert_eq!(attend(Dtype::F32), [1.5; 16]);
    assert_eq!(attend(Dtype::F16), attend(Dtype::F32));
    assert_eq!(attend(Dtype::Bf16), attend(Dtype::F32));
}

#[cfg(feature = "half")]
#[test]
fn elements_of_the_crate_half() {
    let (cache, sequence) = filled(&small(), 1);
    let options = StepOptions { kv_dtype: Dtype::F16, q_dtype: Dtype::Bf16, ..Default::default() };
    let mut step = cache.begin([(&sequence, 1)], &options).unwrap();
    let half = [half::f16::from_f32(0.5); 16];
    step.append(0, &half, &half).unwrap();
    let mut out = [0f32; 16];
    step.attend(0, &[half::bf16::from_f32(1.0); 16], &mut out).unwrap();
    assert_eq!(out, [0.5; 16]);
}

#[test]
fn numbers_of_a_sequence() {
    let (cache, mut sequence) = filled(&small(), 200);
    assert_eq!((sequence.length().unwrap(), sequence.live(0, 0).unwrap(), sequence.step_limit().unwrap()), (200, 200, 1 << 40));
    assert!((137..=200).contains(&sequence.exact_floor().unwrap()));
    assert_eq!(sequence.positions(0, 0).unwrap(), (0..200).collect::<Vec<_>>());
    assert_eq!(sequence.read_counts(0, 0).unwrap(), [1; 200]);
    let mut rows = vec![0f32; 3 * 16];
    sequence.read(0, 0, Part::Values, 100..103, &mut rows).unwrap();
    assert!(rows.iter().all(|x| (x - 0.5).abs() < 0.05));
    let coded = sequence.read_codes(0, 0, Part::Keys, &mut []).unwrap();
    assert!(coded > 0 && coded % 64 == 0);
    assert_eq!(sequence.read_codes(0, 0, Part::Keys, &mut vec![0; coded as usize * 16]).unwrap(), coded);
    assert_eq!(sequence.stats().unwrap().tokens, 200);

    let report = sequence.evict_keep(&[20, 21], &Default::default()).unwrap();
    assert_eq!(report.tokens_evicted, 200 - sequence.live(0, 0).unwrap());
    sequence.truncate(0, Cut::Inexact).unwrap();
    assert_eq!((sequence.length().unwrap(), cache.stats().unwrap().record_bytes), (0, 0));
    let at = cache.sequence(&SeqOptions { first_position: 1000, prompt_length: 0 }).unwrap();
    assert_eq!(at.length().unwrap(), 1000);
}

/// Adds tokens as a model does, whose attention a policy counts.
fn attended(cache: &Cache, sequence: &Sequence, tokens: i64) {
    let rows = vec![0.5f32; 16 * tokens as usize];
    let mut step = cache.begin([(sequence, tokens)], &Default::default()).unwrap();
    step.append(0, &rows, &rows).unwrap();
    step.attend(0, &rows, &mut vec![0f32; rows.len()]).unwrap();
    step.commit().unwrap();
}

#[test]
fn prompts_budgets_and_accepted_tokens() {
    let scored = Options { policy: "h2o:256,every=128".to_owned(), arena_tokens: 4096, ..small() };
    let cache = Cache::new(&scored).unwrap();
    let mut sequence = cache.sequence(&Default::default()).unwrap();
    for (more, limit) in [(0, 128), (100, 28), (28, 128)] {
        attended(&cache, &sequence, more);
        assert_eq!(sequence.step_limit().unwrap(), limit);
    }
    for (budget, kept) in [(301, 301), (300, 300), (0, 256), (201, 201)] {
        sequence.budget_set(budget).unwrap();
        (0..4).for_each(|_| attended(&cache, &sequence, 128));
        assert_eq!(sequence.live(0, 0).unwrap(), kept, "budget {budget}");
    }
    assert_eq!(sequence.budget_set(-1).unwrap_err().operation, "kvc_seq_budget_set");
    sequence.prompt_set(100).unwrap();
    assert_eq!(sequence.prompt_set(-1).unwrap_err().operation, "kvc_seq_prompt_set");

    let cache = Cache::new(&small()).unwrap();
    let sequence = cache.sequence(&Default::default()).unwrap();
    let mut step = cache.begin([(&sequence, 4)], &StepOptions { partial_commit: true, ..Default::default() }).unwrap();
    step.append(0, &[0f32; 64], &[0f32; 64]).unwrap();
    step.commit_accepted(&[3]).unwrap();
    assert_eq!(sequence.length().unwrap(), 3);
}

#[test]
fn attention_mass() {
    let (cache, sequence) = filled(&small(), 0);
    let mut step = cache.begin([(&sequence, 4)], &StepOptions { accumulate: true, ..Default::default() }).unwrap();
    step.append(0, &[0f32; 64], &[0f32; 64]).unwrap();
    step.attend(0, &[0f32; 64], &mut [0f32; 64]).unwrap();
    step.commit().unwrap();
    let mass: i64 = sequence.read_mass(0, 0).unwrap().iter().sum();
    assert!((mass - (4 << 30)).abs() < 1024); // each token's is rounded
}

#[test]
fn merging_and_stepping_down() {
    let (_cache, mut sequence) = filled(&small(), 200);
    let clusters: Vec<i32> = (0..200).map(|i| if i == 11 { 10 } else { i }).collect();
    let report = sequence.merge(&clusters, &Default::default()).unwrap();
    assert_eq!((report.tokens_merged, sequence.read_counts(0, 0).unwrap()[10]), (1, 2));

    let ladder = Options { codec: "int8/int4@4096/int2@16384".to_owned(), ..small() };
    let (_cache, mut sequence) = filled(&ladder, 512);
    assert!(sequence.read_rungs(0, 0).unwrap().iter().all(|rung| *rung <= 0));
    let report = sequence.step_down(&StepDownOptions { rung: 1, ..Default::default() }).unwrap();
    assert!(report.pages > 0 && report.bytes_freed > 0 && sequence.read_rungs(0, 0).unwrap().contains(&1));
}

#[test]
fn prefixes() {
    let (cache, sequence) = filled(&small(), 100);
    let ids: Vec<i64> = (0..150).collect();
    cache.prefix_publish(&sequence, &ids[..100], b"salt", &PrefixOptions { pinned: true, seal: false }).unwrap();
    let (found, hit) = cache.prefix_lookup(&ids, b"salt", &Default::default()).unwrap();
    assert_eq!((hit.tokens, hit.shared, found.length().unwrap()), (100, 100, 100));
    let (empty, hit) = cache.prefix_lookup(&ids, b"other", &Default::default()).unwrap();
    assert_eq!((hit.tokens, empty.length().unwrap()), (0, 0));
    let stats = cache.prefix_stats().unwrap();
    assert_eq!((stats.entries, stats.hits, stats.misses), (1, 1, 1));
    assert_eq!(cache.prefix_budget_set(1).unwrap_err().status, Status::NoMemory);
    assert_eq!(cache.prefix_remove(&ids[..50], b"salt").unwrap(), 1);
    cache.prefix_publish(&sequence, &ids[..100], b"", &Default::default()).unwrap();
    cache.prefix_clear().unwrap();
    assert_eq!(cache.prefix_stats().unwrap().entries, 0);
}

#[test]
fn snapshots_in_memory_and_in_files() {
    let cache = model::cache().unwrap();
    let sequence = cache.sequence(&Default::default()).unwrap();
    model::forward(&cache, &sequence, 1, 150).unwrap();
    let bytes = cache.snapshot_export(Some(&[&sequence])).unwrap();
    assert_eq!(bytes.len() as i64, cache.snapshot_bytes(None).unwrap());
    assert_eq!(cache.snapshot_sequences(&bytes).unwrap(), 1);
    let path = std::env::temp_dir().join(format!("kvc-rust-{}.snapshot", std::process::id()));
    cache.snapshot_save(None, &path).unwrap();
    let loaded = cache.snapshot_load(&path).unwrap().remove(0);
    std::fs::remove_file(&path).unwrap();
    let imported = cache.snapshot_import(&bytes).unwrap().remove(0);
    let next = model::forward(&cache, &sequence, 1, 1).unwrap();
    assert_eq!(model::forward(&cache, &loaded, 1, 1).unwrap(), next);
    assert_eq!(model::forward(&cache, &imported, 1, 1).unwrap(), next);
}
