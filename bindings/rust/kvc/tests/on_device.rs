//! What needs a device: buffers, copies, steps over memory of the device, and the numbers of graphs. rust/test runs it on the emulated one.

use kvc::{BufferKind, Cache, Device, DeviceSlice, Error, Options, Status, StepOptions};

const ROW: usize = 64;

fn cache() -> Cache {
    let shape = Options { device: Device::Cuda, layers: 1, kv_heads: 1, k_dim: ROW as i64, arena_tokens: 1024, ..Default::default() };
    Cache::new(&shape).unwrap()
}

fn check(error: Error, status: Status, operation: &str, words: &str) {
    assert!(error.status == status && error.operation == operation && error.message.contains(words), "{error}");
}

fn on_host(cache: &Cache, from: DeviceSlice<f32>) -> Vec<f32> {
    let mut to = vec![f32::NAN; from.len()];
    cache.copy_to_host(from, &mut to).unwrap();
    to
}

#[test]
fn a_buffer_ends_once() {
    let cache = cache();
    for kind in [BufferKind::Device, BufferKind::Pinned] {
        let mut closed = cache.buffer(kind, 4096).unwrap();
        closed.try_close().unwrap();
        assert_eq!(closed.bytes(), 0);
        let next = cache.buffer(kind, 4096).unwrap(); // perhaps at the same address
        check(closed.try_close().unwrap_err(), Status::Handle, "kvc_buffer_destroy", "closed");
        check(closed.slice::<f32>(0, 1).unwrap_err(), Status::Handle, "Buffer::slice", "closed");
        drop(closed);
        next.close().unwrap();
    }
}

#[test]
fn a_cache_ends_after_its_buffers() {
    let cache = cache();
    drop(cache.buffer(BufferKind::Device, 4096).unwrap());
    cache.buffer(BufferKind::Pinned, 4096).unwrap().close().unwrap();
    check(cache.buffer(BufferKind::Device, -7).unwrap_err(), Status::Argument, "kvc_buffer_create", "-7");
    cache.close().unwrap();
}

#[test]
fn copies_go_from_the_one_to_the_other() {
    let cache = cache();
    let (first, second) = (vec![1f32; ROW], vec![2f32; ROW]);
    let (a, b) = (cache.buffer(BufferKind::Device, 256).unwrap(), cache.buffer(BufferKind::Device, 512).unwrap());
    let mut pinned = cache.buffer(BufferKind::Pinned, 256).unwrap();
    let (all_a, half_b) = (a.slice::<f32>(0, ROW).unwrap(), b.slice::<f32>(256, ROW).unwrap());
    cache.copy_to_device(&first, all_a).unwrap();
    cache.copy_to_device(&[3f32; 2 * ROW], b.slice(0, 2 * ROW).unwrap()).unwrap();
    cache.copy_to_device(&second, half_b).unwrap();
    assert_eq!(on_host(&cache, all_a), first);
    assert_eq!(on_host(&cache, b.slice(0, 2 * ROW).unwrap()), [vec![3f32; ROW], second.clone()].concat());
    cache.copy_on_device(half_b, all_a).unwrap();
    assert_eq!((on_host(&cache, all_a), on_host(&cache, half_b)), (second.clone(), second.clone()));

    cache.copy_to_device(&first, all_a).unwrap();
    cache.copy_on_device(all_a, pinned.slice(0, ROW).unwrap()).unwrap();
    cache.synchronize().unwrap();
    let host = unsafe { pinned.host_slice::<f32>() }.unwrap();
    assert_eq!(host, first);
    host.fill(5.0);
    cache.copy_on_device(pinned.slice(0, ROW).unwrap(), half_b).unwrap();
    assert_eq!((on_host(&cache, half_b), on_host(&cache, all_a)), (vec![5f32; ROW], first));
}

#[test]
fn a_step_over_memory_of_the_device_gives_what_one_over_the_hosts_gives() {
    let cache = cache();
    let tokens = 3;
    let numbers = |times: f32| (0..ROW * tokens).map(|i| times * (i % 11) as f32 / 8.0).collect::<Vec<f32>>();
    let (k, v, q) = (numbers(1.0), numbers(-2.0), numbers(0.5));
    let (mut out, mut lse) = (vec![0f32; ROW * tokens], vec![0f32; tokens]);
    let sequence = cache.sequence(&Default::default()).unwrap();
    let mut step = cache.begin([(&sequence, tokens as i64)], &Default::default()).unwrap();
    step.append(0, &k, &v).unwrap();
    step.attend_with(0, &q, &mut out, Some(&mut lse), &Default::default()).unwrap();
    step.commit().unwrap();

    let buffer = cache.buffer(BufferKind::Device, 4096).unwrap();
    let there = |offset, numbers: &[f32]| {
        let slice = buffer.slice::<f32>(offset, numbers.len()).unwrap();
        cache.copy_to_device(numbers, slice).unwrap();
        slice
    };
    let (k, v, q) = (there(0, &k), there(768, &v), there(1536, &q));
    let (to, to_lse) = (there(2304, &vec![f32::NAN; ROW * tokens]), there(3072, &vec![f32::NAN; tokens]));
    let other = cache.sequence(&Default::default()).unwrap();
    let options = StepOptions { buffers: Device::Cuda, ..Default::default() };
    let mut step = cache.begin([(&other, tokens as i64)], &options).unwrap();
    check(step.append(0, &[0f32; ROW], &[0f32; ROW]).unwrap_err(), Status::Argument, "kvc_append", "buffers on Cuda");
    step.append_device(0, k, v).unwrap();
    step.attend_device(0, q, to, Some(to_lse), &Default::default()).unwrap();
    step.commit().unwrap();
    assert_eq!((on_host(&cache, to), on_host(&cache, to_lse)), (out, lse));
    assert_eq!(other.length().unwrap(), tokens as i64);
}

#[test]
fn numbers_of_a_graph_arrive_in_their_place() {
    let cache = cache();
    drop(cache.graph(&[1, 2], 256, 100, 1).unwrap()); // of slots there are at most 64
    let refused = |counts: &[i64], max_tokens, attends, slots, words: &str| {
        let error = cache.graph(counts, max_tokens, attends, slots).unwrap_err();
        check(error, Status::Argument, "kvc_graph_create", words);
    };
    refused(&[1, -7], 256, 0, 0, "token count -7");
    refused(&[1], -3, 0, 0, "max_tokens -3");
    refused(&[1], 256, -4, 0, "attends -4");
    refused(&[1], 256, 0, 65, "slots 65");
}

#[test]
fn devices_are_told_apart_by_their_number() {
    let count = kvc::device_count(Device::Cuda).unwrap();
    for ordinal in 0..count {
        assert!(!kvc::device_describe(Device::Cuda, ordinal).unwrap().is_empty());
    }
    let none = kvc::device_describe(Device::Cuda, count).unwrap_err();
    check(none, Status::Argument, "kvc_device_describe", &format!("device {count}"));
}
