//! The thread rules: what is shared, and what happens when a cache is closed under others.

use crate::model;
use kvc::{Cache, Cut, Device, Status};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What a stream of its own attends to.
fn stream(cache: &Cache, data: u64) -> Vec<f32> {
    let sequence = cache.sequence(&Default::default()).unwrap();
    let mut outputs = model::forward(cache, &sequence, data, 70).unwrap();
    (0..20).for_each(|_| outputs.extend(model::forward(cache, &sequence, data, 1).unwrap()));
    outputs
}

#[test]
fn streams_of_one_cache_on_many_threads_are_as_they_are_alone() {
    let cache = model::cache().unwrap();
    let alone: Vec<_> = (1..5).map(|data| stream(&cache, data)).collect();
    std::thread::scope(|scope| {
        let cache = &cache;
        let together: Vec<_> = (1..5).map(|data| scope.spawn(move || stream(cache, data))).collect();
        for (alone, together) in alone.iter().zip(together) {
            assert_eq!(*alone, together.join().unwrap());
        }
    });
    assert_eq!(cache.stats().unwrap().sequences, 0);
}

#[test]
fn a_step_moves_to_another_thread() {
    let cache = Cache::new(&crate::small()).unwrap();
    let sequence = cache.sequence(&Default::default()).unwrap();
    let mut step = cache.begin([(&sequence, 1)], &Default::default()).unwrap();
    std::thread::scope(|scope| {
        let work = move || {
            step.append(0, &[0.5f32; 16], &[0.5f32; 16]).unwrap();
            step.commit().unwrap();
        };
        scope.spawn(work).join().unwrap();
    });
    assert_eq!(sequence.length().unwrap(), 1);
}

#[test]
fn a_cache_that_is_closed_under_running_calls_ends_them_with_stale_handles() {
    for _ in 0..10 {
        let cache = model::cache().unwrap();
        let other = unsafe { Cache::from_raw(cache.raw(), Device::Cpu) };
        let (running, closed) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for data in 1..4 {
                let (cache, running, closed) = (&cache, &running, &closed);
                scope.spawn(move || {
                    let mut sequence = cache.sequence(&Default::default()).unwrap();
                    running.fetch_add(1, Ordering::SeqCst);
                    let error = loop {
                        let done = model::forward(cache, &sequence, data, 1).and_then(|_| sequence.truncate(0, Cut::Exact));
                        if let Err(error) = done {
                            break error;
                        }
                    };
                    assert!(closed.load(Ordering::SeqCst), "{error}");
                    assert_eq!(error.status, Status::Handle, "{error}");
                });
            }
            while running.load(Ordering::SeqCst) < 3 {
                std::thread::yield_now();
            }
            closed.store(true, Ordering::SeqCst);
            other.close().unwrap();
        });
        assert_eq!(cache.stats().unwrap_err().status, Status::Handle);
    }
}
