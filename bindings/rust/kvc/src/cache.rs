//! The cache: what holds sequences, and of what steps are made.

use crate::abi;
use crate::error::{call, make, report, Error, Result, Status};
use crate::kinds::Device;
use crate::list::List;
use crate::options::{Layer, Options, PlanRequest, SeqOptions, StepOptions};
use crate::sequence::Sequence;
use crate::step::Step;
use kvc_sys::{kvc_cache, kvc_layer, kvc_options, kvc_plan, kvc_seq, kvc_stats};
use std::ptr::null;
use std::sync::Arc;

/// Whoever drops the last reference to it destroys the cache.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) raw: *mut kvc_cache,
    pub(crate) device: Device,
}

// A handle is a value that libkvc looks up under its own locks; every function may be called from any thread.
unsafe impl Send for Owner {}
unsafe impl Sync for Owner {}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = call!(kvc_destroy(self.raw));
    }
}

/// A cache. It is destroyed when it and all its sequences are dropped, in whatever order.
#[derive(Debug)]
pub struct Cache {
    pub(crate) owner: Arc<Owner>,
}

/// Layers as kvc takes them: none means that all are as in the options.
fn raw_layers(operation: &'static str, layers: &[Layer]) -> Result<Vec<kvc_layer>> {
    layers.iter().map(|layer| layer.raw(operation)).collect()
}

fn pointer_of<T>(slice: &[T]) -> *const T {
    if slice.is_empty() {
        null()
    } else {
        slice.as_ptr()
    }
}

impl Options {
    /// Would [`Cache::new`] take these options? Allocates no arena.
    pub fn supports(&self, layers: &[Layer]) -> Result<()> {
        abi::check()?;
        let operation = "kvc_supports";
        let (raw, layers) = (self.raw(operation)?, raw_layers(operation, layers)?);
        call!(kvc_supports(&raw, pointer_of(&layers), layers.len() as i64))
    }

    /// The bytes that a request takes, to the byte.
    pub fn plan(&self, layers: &[Layer], request: &PlanRequest) -> Result<kvc_plan> {
        abi::check()?;
        let operation = "kvc_plan_compute";
        let (raw, layers, request) = (self.raw(operation)?, raw_layers(operation, layers)?, request.raw(operation)?);
        let mut out = report!(kvc_plan);
        call!(kvc_plan_compute(&raw, pointer_of(&layers), layers.len() as i64, &request, &mut out))?;
        Ok(out)
    }
}

impl Cache {
    /// A cache whose layers are all alike.
    pub fn new(options: &Options) -> Result<Cache> {
        Cache::with_layers(options, &[])
    }

    /// One element for each layer, or none.
    pub fn with_layers(options: &Options, layers: &[Layer]) -> Result<Cache> {
        unsafe { Cache::with_memory(options, layers, |_| ()) }
    }

    /// A cache in the caller's memory: `set` fills in the fields `arena_block`, or `allocate`, `release` and `allocator_context`.
    ///
    /// # Safety
    /// A block is 128-byte aligned, `arena_bytes` long, in the cache's device, and used by nothing else until the cache is destroyed. The
    /// functions do what `kvc.h` says of them, from any thread, until then: on a device they give memory of that device.
    pub unsafe fn with_memory(options: &Options, layers: &[Layer], set: impl FnOnce(&mut kvc_options)) -> Result<Cache> {
        abi::check()?;
        let operation = "kvc_create";
        let (mut raw, layers) = (options.raw(operation)?, raw_layers(operation, layers)?);
        set(&mut raw);
        let raw = make!(kvc_create(&raw, pointer_of(&layers), layers.len() as i64))?;
        Ok(Cache::adopt(raw, options.device))
    }

    /// A cache that came from elsewhere as a handle, and is destroyed with this object. A handle that is none gives a cache whose calls
    /// answer [`Status::Handle`].
    ///
    /// # Safety
    /// `device` is the one that the cache was created on: copies take addresses for memory of that device. Nobody else destroys the cache
    /// while a [`Buffer`](crate::Buffer) of this object lives.
    ///
    /// ```compile_fail,E0133
    /// kvc::Cache::from_raw(std::ptr::null_mut(), kvc::Device::Cuda);
    /// ```
    pub unsafe fn from_raw(raw: *mut kvc_cache, device: Device) -> Cache {
        Cache::adopt(raw, device)
    }

    fn adopt(raw: *mut kvc_cache, device: Device) -> Cache {
        Cache { owner: Arc::new(Owner { raw, device }) }
    }

    pub fn raw(&self) -> *mut kvc_cache {
        self.owner.raw
    }

    /// Destroys the cache now, with all its sequences: their calls answer [`Status::Handle`] from then on.
    pub fn close(self) -> Result<()> {
        call!(kvc_destroy(self.owner.raw))
    }

    /// Learned sink logits of a layer, one per query head; none takes them away.
    pub fn sink_logits_set(&self, layer: i64, logits: &[f32]) -> Result<()> {
        call!(kvc_sink_logits_set(self.owner.raw, layer, logits.as_ptr(), logits.len() as i64))
    }

    /// Own RoPE frequencies of a layer, radians per position, before the first sequence.
    pub fn rope_frequencies_set(&self, layer: i64, frequencies: &[f64]) -> Result<()> {
        call!(kvc_rope_frequencies_set(self.owner.raw, layer, frequencies.as_ptr(), frequencies.len() as i64))
    }

    pub fn stats(&self) -> Result<kvc_stats> {
        let mut out = report!(kvc_stats);
        call!(kvc_stats_get(self.owner.raw, &mut out))?;
        Ok(out)
    }

    /// An empty sequence.
    pub fn sequence(&self, options: &SeqOptions) -> Result<Sequence> {
        let options = options.raw("kvc_seq_create")?;
        Ok(Sequence::from_raw(self, make!(kvc_seq_create(self.owner.raw, &options))?))
    }

    /// Begins a step that adds so many tokens to each of different sequences, and reserves all that it can need. While it is open it
    /// borrows the cache and the sequences.
    pub fn begin<'a>(&'a self, sequences: impl IntoIterator<Item = (&'a Sequence, i64)>, options: &StepOptions) -> Result<Step<'a>> {
        self.begin_where(sequences, None, options)
    }

    /// The same, if the sequences have these lengths: a guard against lost updates.
    pub fn begin_at<'a>(
        &'a self,
        sequences: impl IntoIterator<Item = (&'a Sequence, i64)>,
        positions: &[i64],
        options: &StepOptions,
    ) -> Result<Step<'a>> {
        self.begin_where(sequences, Some(positions), options)
    }

    fn begin_where<'a>(
        &'a self,
        sequences: impl IntoIterator<Item = (&'a Sequence, i64)>,
        positions: Option<&[i64]>,
        options: &StepOptions,
    ) -> Result<Step<'a>> {
        let (mut seqs, mut counts) = (List::new(), List::new());
        for (sequence, count) in sequences {
            seqs.push(self.handle_of("kvc_step_begin", sequence)?);
            counts.push(count);
        }
        let (seqs, counts, raw) = (seqs.as_slice(), counts.as_slice(), options.raw("kvc_step_begin")?);
        let (at, n_at) = positions.map_or((null(), 0), |list| (list.as_ptr(), list.len() as i64));
        let n = seqs.len() as i64;
        let step = make!(kvc_step_begin(self.owner.raw, seqs.as_ptr(), counts.as_ptr(), n, at, n_at, &raw))?;
        Ok(unsafe { Step::from_raw(self, step, options) })
    }

    /// The handle of a sequence of this cache. One of another cache could have the number of one of ours.
    pub(crate) fn handle_of(&self, operation: &'static str, sequence: &Sequence) -> Result<kvc_seq> {
        if Arc::ptr_eq(&self.owner, &sequence.owner) {
            return Ok(sequence.raw);
        }
        Err(Error::new(Status::Handle, operation, "a sequence belongs to another cache"))
    }
}
