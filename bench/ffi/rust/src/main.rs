//! What the calls of a decode step cost from Rust; bench/README.md says what is timed.

use kvc::{abi_version, Cache, Options, Result, Sequence};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

const LAYERS: i64 = 30;
const KV_HEADS: i64 = 3;
const Q_HEADS: i64 = 9;
const DIM: i64 = 64;
const ROUNDS: usize = 21;
const NO_OPS: u32 = 20_000;
const SEQUENCES: usize = 300;
const SHORT_STEPS: usize = 32;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counted.
struct Counting;

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        System.alloc(layout)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        System.dealloc(block, layout)
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One token's keys and values, queries, and room for what it attends to.
struct Row {
    kv: Vec<f32>,
    q: Vec<f32>,
    out: Vec<f32>,
}

impl Row {
    fn new() -> Self {
        let fill = |n: i64| (0..n).map(|i| (i * 37 % 101 - 50) as f32 / 50.0).collect();
        Row { kv: fill(KV_HEADS * DIM), q: fill(Q_HEADS * DIM), out: fill(Q_HEADS * DIM) }
    }
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn nanoseconds(from: Instant, to: Instant) -> f64 {
    (to - from).as_nanos() as f64
}

fn new_cache(tokens: i64) -> Result<Cache> {
    Cache::new(&Options {
        layers: LAYERS,
        kv_heads: KV_HEADS,
        q_heads: Q_HEADS,
        k_dim: DIM,
        codec: "int4".into(),
        arena_tokens: tokens,
        ..Default::default()
    })
}

fn no_op_ns() -> f64 {
    let round = || {
        let from = Instant::now();
        for _ in 0..NO_OPS {
            black_box(abi_version());
        }
        nanoseconds(from, Instant::now()) / f64::from(NO_OPS)
    };
    median((0..ROUNDS).map(|_| round()).collect())
}

/// Of one append and one attend over next to nothing.
fn calls_ns(row: &mut Row) -> Result<(f64, f64)> {
    let cache = new_cache(1024)?;
    let (mut appends, mut attends) = (Vec::new(), Vec::new());
    for _ in 0..SEQUENCES {
        let sequence = cache.sequence(&Default::default())?;
        for _ in 0..SHORT_STEPS {
            let mut step = cache.begin([(&sequence, 1)], &Default::default())?;
            let from = Instant::now();
            for layer in 0..LAYERS {
                step.append(layer, &row.kv, &row.kv)?;
            }
            let middle = Instant::now();
            for layer in 0..LAYERS {
                step.attend(layer, &row.q, &mut row.out)?;
            }
            let end = Instant::now();
            appends.push(nanoseconds(from, middle) / LAYERS as f64);
            attends.push(nanoseconds(middle, end) / LAYERS as f64);
            step.commit()?;
        }
    }
    Ok((median(appends), median(attends)))
}

fn decode(cache: &Cache, sequence: &Sequence, row: &mut Row) -> Result<()> {
    let mut step = cache.begin([(sequence, 1)], &Default::default())?;
    for layer in 0..LAYERS {
        step.append(layer, &row.kv, &row.kv)?;
        step.attend(layer, &row.q, &mut row.out)?;
    }
    step.commit()
}

/// A line on stdin asks for so many steps and is answered with the median of their second half; the end, with what one step allocates:
/// calls of Rust's allocator.
fn answer(context: usize, most_steps: usize, row: &mut Row) -> Result<()> {
    let cache = new_cache((context + most_steps) as i64)?;
    let sequence = cache.sequence(&Default::default())?;
    let rows = row.kv.repeat(context);
    let mut step = cache.begin([(&sequence, context as i64)], &Default::default())?;
    for layer in 0..LAYERS {
        step.append(layer, &rows, &rows)?;
    }
    step.commit()?;
    let (mut allocated, mut taken) = (0, 0);
    for line in std::io::stdin().lines() {
        let mut samples: Vec<f64> = vec![0.0; line.unwrap().parse().unwrap()];
        let before = ALLOCATIONS.load(Relaxed);
        for sample in &mut samples {
            let from = Instant::now();
            decode(&cache, &sequence, row)?;
            *sample = nanoseconds(from, Instant::now()) / 1000.0;
        }
        allocated += ALLOCATIONS.load(Relaxed) - before;
        taken += samples.len();
        println!("{:.2}", median(samples.split_off(samples.len() / 2)));
    }
    println!("{{\"allocated\": {:.2}}}", allocated as f64 / taken as f64);
    Ok(())
}

fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [context, most_steps] = numbers[..] else {
        eprintln!("usage: ffi CONTEXT MOST_STEPS");
        std::process::exit(2);
    };
    let mut row = Row::new();
    let no_op = no_op_ns();
    let (append, attend) = calls_ns(&mut row)?;
    println!("{{\"noop_ns\": {no_op:.2}, \"append_ns\": {append:.1}, \"attend_ns\": {attend:.1}}}");
    answer(context, most_steps, &mut row)
}
