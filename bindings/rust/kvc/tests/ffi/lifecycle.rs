//! Objects end when they are dropped, in whatever order, and leave nothing.

use crate::{extend, model, small};
use kvc::{Cache, Cut, Device, RawCache, Sequence, Stats, Status, StepOptions};

/// Asked of libkvc itself, as an object would destroy the cache.
fn is_alive(cache: *mut RawCache) -> bool {
    let mut stats = Stats { struct_size: std::mem::size_of::<Stats>() as u32, ..Default::default() };
    match unsafe { kvc_sys::kvc_stats_get(cache, &mut stats, std::ptr::null_mut()) } {
        kvc_sys::kvc_status::KVC_OK => true,
        status => {
            assert_eq!(status, kvc_sys::kvc_status::KVC_E_HANDLE);
            false
        }
    }
}

fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![vec![]];
    }
    let insert = |order: Vec<usize>| (0..n).map(move |at| [&order[..at], &[n - 1], &order[at..]].concat());
    orders(n - 1).into_iter().flat_map(insert).collect()
}

#[test]
fn a_cache_lives_until_the_last_of_its_objects_is_dropped_in_every_order() {
    for order in orders(4) {
        let cache = Cache::new(&small()).unwrap();
        let first = cache.sequence(&Default::default()).unwrap();
        extend(&cache, &first, 3, 0.5).unwrap();
        let fork = first.fork(3, Cut::Exact).unwrap();
        let imported = cache.snapshot_import(&cache.snapshot_export(None).unwrap()).unwrap();
        let raw = cache.raw();
        let mut objects: Vec<Option<Box<dyn std::any::Any>>> =
            vec![Some(Box::new(cache)), Some(Box::new(first)), Some(Box::new(fork)), Some(Box::new(imported))];
        for object in order {
            assert!(is_alive(raw));
            drop(objects[object].take());
        }
        assert!(!is_alive(raw));
    }
}

#[test]
fn a_hundred_thousand_dropped_objects_leave_none() {
    // Slow tools run fewer.
    let n = std::env::var("KVC_TEST_OBJECTS").map_or(100_000, |n| n.parse().unwrap());
    let cache = Cache::new(&small()).unwrap();
    let published = cache.sequence(&Default::default()).unwrap();
    extend(&cache, &published, 2, 0.5).unwrap();
    cache.prefix_publish(&published, &[1, 2], b"", &Default::default()).unwrap();
    let snapshot = cache.snapshot_export(Some(&[&published])).unwrap();
    drop(published);
    let mut made = 0;
    while made < n {
        let sequence = cache.sequence(&Default::default()).unwrap();
        let fork = sequence.fork(0, Cut::Exact).unwrap();
        let (found, hit) = cache.prefix_lookup(&[1, 2, 3], b"", &Default::default()).unwrap();
        assert_eq!(hit.tokens, 2);
        let step = cache.begin([(&sequence, 1), (&found, 1)], &Default::default()).unwrap();
        drop(step);
        drop(fork);
        made += 4;
        if made % 100 == 0 {
            made += cache.snapshot_import(&snapshot).unwrap().len();
            drop(Cache::new(&small()).unwrap());
            made += 1;
        }
    }
    let stats = cache.stats().unwrap();
    assert_eq!((stats.sequences, stats.open_steps, stats.reserved_bytes), (0, 0, 0));
    cache.prefix_clear().unwrap();
    assert_eq!(cache.stats().unwrap().record_bytes, 0);
}

#[test]
fn calls_after_close_answer_that_the_handle_is_stale() {
    let cache = model::cache().unwrap();
    let mut sequence = cache.sequence(&Default::default()).unwrap();
    model::forward(&cache, &sequence, 1, 3).unwrap();
    let again = unsafe { Cache::from_raw(cache.raw(), Device::Cpu) };
    cache.close().unwrap();
    assert_eq!(sequence.length().unwrap_err().status, Status::Handle);
    assert_eq!(sequence.truncate(0, Cut::Exact).unwrap_err().status, Status::Handle);
    assert_eq!(sequence.close().unwrap_err().status, Status::Handle);
    assert_eq!(again.stats().unwrap_err().status, Status::Handle);
    assert_eq!(again.close().unwrap_err().status, Status::Handle);
}

#[test]
fn a_closed_sequence_is_gone_and_the_others_are_not() {
    let cache = Cache::new(&small()).unwrap();
    let (first, second) = (cache.sequence(&Default::default()).unwrap(), cache.sequence(&Default::default()).unwrap());
    let raw = first.raw();
    first.close().unwrap();
    assert_eq!(Sequence::from_raw(&cache, raw).length().unwrap_err().status, Status::Handle);
    assert_eq!(second.length().unwrap(), 0);
    assert_eq!(cache.stats().unwrap().sequences, 1);
    let kept = second.into_raw();
    assert_eq!(cache.stats().unwrap().sequences, 1);
    drop(Sequence::from_raw(&cache, kept));
    assert_eq!(cache.stats().unwrap().sequences, 0);
}

#[test]
fn a_step_ends_by_commit_abort_or_drop() {
    let cache = Cache::new(&small()).unwrap();
    let sequence = cache.sequence(&Default::default()).unwrap();
    let row = [0.5f32; 16];
    for end in 0..3 {
        let mut step = cache.begin([(&sequence, 1)], &Default::default()).unwrap();
        assert_eq!(cache.stats().unwrap().open_steps, 1);
        step.append(0, &row, &row).unwrap();
        match end {
            0 => step.commit().unwrap(),
            1 => step.abort().unwrap(),
            _ => drop(step),
        }
        assert_eq!((cache.stats().unwrap().open_steps, sequence.length().unwrap()), (0, 1));
    }
}

#[test]
fn a_commit_that_fails_undoes_the_step_or_leaves_it_open_as_asked() {
    let cache = Cache::new(&small()).unwrap();
    let sequence = cache.sequence(&Default::default()).unwrap();
    let row = [0.5f32; 16];
    let step = cache.begin([(&sequence, 1)], &Default::default()).unwrap();
    assert_eq!(step.commit().unwrap_err().status, Status::Order);
    assert_eq!(cache.stats().unwrap().open_steps, 0);

    let mut step = cache.begin([(&sequence, 1)], &Default::default()).unwrap();
    assert_eq!(step.try_commit(None).unwrap_err().status, Status::Order);
    step.append(0, &row, &row).unwrap();
    step.try_commit(None).unwrap();
    assert_eq!(step.try_commit(None).unwrap_err().status, Status::Handle);
    drop(step);
    assert_eq!(sequence.length().unwrap(), 1);
}

#[test]
fn a_step_leaves_as_a_handle_and_comes_back() {
    let cache = Cache::new(&small()).unwrap();
    let sequence = cache.sequence(&Default::default()).unwrap();
    let options = StepOptions::default();
    let raw = cache.begin([(&sequence, 1)], &options).unwrap().into_raw();
    assert_eq!(cache.stats().unwrap().open_steps, 1);
    drop(unsafe { kvc::Step::from_raw(&cache, raw, &options) });
    assert_eq!(cache.stats().unwrap().open_steps, 0);
    assert_eq!(unsafe { kvc::Step::from_raw(&cache, raw, &options) }.abort().unwrap_err().status, Status::Handle);
}
