//! The hot path allocates nothing in Rust and copies nothing: this allocator counts.

use kvc::{AttendOptions, Cache, Options, StepOptions};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        System.alloc(layout)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        System.dealloc(block, layout)
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        System.realloc(block, layout, bytes)
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of this thread while `work` runs.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

fn cache() -> Cache {
    let options =
        Options { layers: 2, kv_heads: 2, q_heads: 4, k_dim: 64, arena_tokens: 4096, arena_sequences: 64, ..Default::default() };
    Cache::new(&options).unwrap()
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
}

#[test]
fn decode_steps_of_many_sequences_allocate_nothing() {
    let cache = cache();
    let sequences: Vec<_> = (0..64).map(|_| cache.sequence(&Default::default()).unwrap()).collect();
    let (kv, q) = (vec![0.5f32; 64 * 2 * 64], vec![0.25f32; 64 * 4 * 64]);
    let (mut out, mut lse) = (vec![0f32; 64 * 4 * 64], vec![0f32; 64 * 4]);
    let (step_options, attend_options) = (StepOptions::default(), AttendOptions { soft_cap: 30.0, ..Default::default() });
    let counted = allocations(|| {
        for _ in 0..20 {
            let mut step = cache.begin(sequences.iter().map(|sequence| (sequence, 1)), &step_options).unwrap();
            for layer in 0..2 {
                step.append(layer, &kv, &kv).unwrap();
                step.attend(layer, &q, &mut out).unwrap();
                step.attend_with(layer, &q, &mut out, Some(&mut lse), &attend_options).unwrap();
            }
            step.commit().unwrap();
        }
        assert_eq!(sequences[63].length().unwrap(), 20);
        assert_eq!(cache.stats().unwrap().tokens_appended, 64 * 20);
    });
    assert_eq!(counted, 0);
}

/// Buffers of 1 MiB and more pass through a thread that has no room for a copy of one: a small stack, and no allocation.
#[test]
fn large_buffers_are_not_copied() {
    let work = || {
        let cache = cache();
        let sequence = cache.sequence(&Default::default()).unwrap();
        let (kv, q) = (vec![0.5f32; 2048 * 2 * 64], vec![0.25f32; 2048 * 4 * 64]);
        let mut out = vec![0f32; 2048 * 4 * 64];
        let counted = allocations(|| {
            let mut step = cache.begin([(&sequence, 2048)], &Default::default()).unwrap();
            step.append(0, &kv, &kv).unwrap();
            step.attend(0, &q, &mut out).unwrap();
            step.append(1, &kv, &kv).unwrap();
            step.commit().unwrap();
        });
        assert_eq!(counted, 0);
        assert!(out.iter().all(|x| (x - 0.5).abs() < 0.05));
    };
    std::thread::Builder::new().stack_size(512 << 10).spawn(work).unwrap().join().unwrap();
}
