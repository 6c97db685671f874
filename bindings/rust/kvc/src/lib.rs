//! kvc: the key/value cache of LLM inference, kept compressed, with attention computed from the compressed pages.
//!
//! This is the idiomatic layer over [`kvc_sys`]. What a function does in full is said in `kvc.h`, whose function has the same name:
//! `kvc_seq_truncate` is [`Sequence::truncate`]. Numbers are `i64` as they are there; a wrong one is the error [`Status::Argument`].
//!
//! ```
//! use kvc::{Cache, Options, SeqOptions, StepOptions};
//!
//! fn main() -> kvc::Result<()> {
//!     let shape = Options { layers: 1, kv_heads: 2, q_heads: 4, k_dim: 64, arena_tokens: 4096, ..Default::default() };
//!     let cache = Cache::new(&shape)?;
//!     let sequence = cache.sequence(&SeqOptions::default())?;
//!     let mut step = cache.begin([(&sequence, 1)], &StepOptions::default())?;
//!     step.append(0, &[0.5; 2 * 64], &[0.25; 2 * 64])?;
//!     let mut out = [0f32; 4 * 64];
//!     step.attend(0, &[1f32; 4 * 64], &mut out)?;
//!     step.commit()?;
//!     assert_eq!((out[0], sequence.length()?), (0.25, 1));
//!     Ok(())
//! }
//! ```
//!
//! # Lifetime
//!
//! A [`Cache`] lives until it and all its [`Sequence`]s are dropped, in whatever order. [`Cache::close`] ends it at once.
//! A [`Step`] borrows its cache and its sequences. So none of them can go away under it:
//!
//! ```compile_fail,E0505
//! # use kvc::*;
//! # fn f(cache: Cache, sequence: Sequence) -> Result<()> {
//! let step = cache.begin([(&sequence, 1)], &StepOptions::default())?;
//! drop(sequence); // borrowed by the step
//! step.commit()
//! # }
//! ```
//! ```compile_fail,E0505
//! # use kvc::*;
//! # fn f(cache: Cache, sequence: Sequence) -> Result<()> {
//! let step = cache.begin([(&sequence, 1)], &StepOptions::default())?;
//! cache.close()?; // borrowed by the step
//! step.commit()
//! # }
//! ```
//!
//! A sequence cannot be changed while a step is open over it, and a step that was committed is gone:
//!
//! ```compile_fail,E0502
//! # use kvc::*;
//! # fn f(cache: Cache, mut sequence: Sequence) -> Result<()> {
//! let step = cache.begin([(&sequence, 1)], &StepOptions::default())?;
//! sequence.truncate(0, Cut::Exact)?; // borrowed by the step
//! step.commit()
//! # }
//! ```
//! ```compile_fail,E0382
//! # use kvc::*;
//! # fn f(cache: Cache, sequence: Sequence) -> Result<()> {
//! let mut step = cache.begin([(&sequence, 1)], &StepOptions::default())?;
//! step.commit()?;
//! step.append(0, &[0f32; 128], &[0f32; 128]) // moved by commit
//! # }
//! ```
//! `close`, `abort` and `commit` take their object, and it is gone whatever they answer. What libkvc may refuse now and grant later is
//! ended by [`Sequence::try_close`], [`Buffer::try_close`], [`Step::try_abort`] and [`Step::try_commit`], which keep it until then.
//!
//! A slice of device memory does not outlive its buffer, and a buffer not its cache, which would free it:
//! ```compile_fail,E0505
//! # use kvc::*;
//! # fn f(cache: Cache) -> Result<()> {
//! let buffer = cache.buffer(BufferKind::Device, 64)?;
//! let slice = buffer.slice::<f32>(0, 16)?;
//! drop(buffer); // borrowed by the slice
//! cache.copy_to_host(slice, &mut [0f32; 16])
//! # }
//! ```
//! ```compile_fail,E0505
//! # use kvc::*;
//! # fn f(cache: Cache, other: Cache) -> Result<()> {
//! let buffer = cache.buffer(BufferKind::Device, 64)?;
//! cache.close()?; // borrowed by the buffer
//! other.copy_to_host(buffer.slice(0, 16)?, &mut [0f32; 16])
//! # }
//! ```
//! ```compile_fail,E0505
//! # use kvc::*;
//! # fn f(cache: Cache) -> Result<i64> {
//! let buffer = cache.buffer(BufferKind::Pinned, 64)?;
//! drop(cache); // borrowed by the buffer
//! Ok(buffer.bytes())
//! # }
//! ```
//!
//! Without the offending lines these compile:
//!
//! ```
//! # use kvc::*;
//! # fn f(cache: Cache, mut sequence: Sequence) -> Result<()> {
//! let step = cache.begin([(&sequence, 1)], &StepOptions::default())?;
//! step.commit()?;
//! sequence.truncate(0, Cut::Exact)?;
//! drop(sequence);
//! cache.close()
//! # }
//! # fn g(cache: Cache) -> Result<()> {
//! let buffer = cache.buffer(BufferKind::Device, 64)?;
//! let slice = buffer.slice::<f32>(0, 16)?;
//! cache.copy_to_host(slice, &mut [0f32; 16])?;
//! drop(buffer);
//! cache.close()
//! # }
//! ```
//!
//! # Threads
//!
//! [`Cache`], [`Sequence`] and [`Buffer`] are [`Send`] and [`Sync`]: share them as you like. Calls that only read run side by side; calls
//! that change one cache wait for each other; steps over different sequences run in parallel. A [`Step`] is [`Send`], so that it can
//! be handed to a worker, and not [`Sync`], as its calls have an order:
//!
//! ```
//! fn shared<T: Send + Sync>() {}
//! fn handed_over<T: Send>() {}
//! shared::<kvc::Cache>();
//! shared::<kvc::Sequence>();
//! shared::<kvc::Buffer>();
//! handed_over::<kvc::Step>();
//! ```
//! ```compile_fail,E0277
//! fn shared<T: Send + Sync>() {}
//! shared::<kvc::Step>();
//! ```

mod abi;
mod cache;
mod device;
mod discovery;
mod element;
mod error;
mod graph;
mod kinds;
mod list;
mod options;
mod prefix;
mod sequence;
mod snapshot;
mod step;

#[cfg(test)]
mod coverage;

pub use cache::Cache;
pub use device::{Buffer, DeviceSlice, Stream};
pub use discovery::{
    abi_describe, abi_version, build_info, codec_format, device_count, device_describe, policies, policy_format, presets, targets,
    version,
};
pub use element::{Bf16, Element, F16};
pub use error::{Error, Result, Status};
pub use graph::Graph;
pub use kinds::{BufferKind, Cut, Device, Dtype, Keys, Part, Positions, RopePairs};
pub use options::{
    AttendOptions, EvictOptions, Layer, MergeOptions, Options, PlanRequest, PrefixOptions, SeqOptions, StepDownOptions, StepOptions,
};
pub use sequence::Sequence;
pub use step::Step;

/// Handles, as `raw` and `from_raw` take and give them.
pub use kvc_sys::{kvc_cache as RawCache, kvc_seq as RawSequence, kvc_step as RawStep};

/// The structs that kvc fills in, as the raw layer has them.
pub use kvc_sys::{
    kvc_evict_report as EvictReport, kvc_plan as Plan, kvc_prefix_hit as PrefixHit, kvc_prefix_stats as PrefixStats,
    kvc_seq_stats as SeqStats, kvc_stats as Stats, kvc_step_down_report as StepDownReport,
};

/// The README's program runs as it is printed there.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
