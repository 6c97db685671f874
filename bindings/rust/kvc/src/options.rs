//! Options of the calls, as structs with defaults: `SeqOptions { prompt_length: 200, ..Default::default() }`.

use crate::device::Stream;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::kinds::{Device, Dtype, Keys, Positions, RopePairs};
use kvc_sys::kvc_graph;
use std::ffi::{c_char, c_void};
use std::ops::Range;

/// How a value of Rust gets into the fields of C that it stands for.
trait Field<To> {
    fn put(&self, to: To, operation: &'static str, name: &'static str) -> Result<()>;
}

macro_rules! plain_fields {
    ($($from:ty => $to:ty: $turn:expr;)*) => {
        $(impl Field<(&mut $to,)> for $from {
            fn put(&self, to: (&mut $to,), _: &'static str, _: &'static str) -> Result<()> {
                *to.0 = $turn(*self);
                Ok(())
            }
        })*
    };
}

plain_fields! {
    i64 => i64: |n| n;
    i32 => i32: |n| n;
    f32 => f32: |x| x;
    f64 => f64: |x| x;
    bool => i32: i32::from;
    Device => i32: Device::number;
    Dtype => i32: Dtype::number;
    RopePairs => i32: RopePairs::number;
    Keys => i32: Keys::number;
    Positions => i32: Positions::number;
    Stream => *mut c_void: Stream::address;
}

impl Field<(&mut *mut kvc_graph,)> for Option<Graph> {
    fn put(&self, to: (&mut *mut kvc_graph,), _: &'static str, _: &'static str) -> Result<()> {
        *to.0 = self.as_ref().map_or(std::ptr::null_mut(), Graph::handle);
        Ok(())
    }
}

impl Field<(&mut i64, &mut i64)> for Range<i64> {
    fn put(&self, to: (&mut i64, &mut i64), _: &'static str, _: &'static str) -> Result<()> {
        (*to.0, *to.1) = (self.start, self.end);
        Ok(())
    }
}

/// A cut codec string can be another codec, so what does not fit is refused.
impl<const N: usize> Field<(&mut [c_char; N],)> for String {
    fn put(&self, to: (&mut [c_char; N],), operation: &'static str, name: &'static str) -> Result<()> {
        if self.len() >= N || self.contains('\0') {
            return Err(Error::argument(operation, format!("{name}: {:?} has a NUL or more than {} bytes", self, N - 1)));
        }
        to.0.iter_mut().zip(self.bytes()).for_each(|(to, from)| *to = from as c_char);
        Ok(())
    }
}

macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $raw:ident, $init:ident {
        $($(#[$note:meta])* $field:ident: $type:ty = $($to:ident)+,)*
    })*) => {
        $($(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $name { $($(#[$note])* pub $field: $type),* }

        impl $name {
            /// For a call of that function.
            pub(crate) fn raw(&self, operation: &'static str) -> Result<kvc_sys::$raw> {
                let mut raw = kvc_sys::$raw::default();
                let bytes = std::mem::size_of_val(&raw) as i64;
                crate::error::checked(operation, |_| unsafe { kvc_sys::$init(&mut raw, bytes) })?;
                $(Field::put(&self.$field, ($(&mut raw.$to,)+), operation, stringify!($field))?;)*
                Ok(raw)
            }
        })*

        /// What of each struct of C is in this crate, for the test that nothing is missing.
        #[cfg(test)]
        pub(crate) const OPTIONS: &[(&str, &[&str])] = &[$((stringify!($raw), &[$($(stringify!($to),)+)*])),*];

        /// Every field set alone and by itself, for the test that it arrives where it belongs.
        #[cfg(test)]
        pub(crate) fn each_field_alone(samples: &crate::coverage::Samples) -> Vec<crate::coverage::Crossed> {
            use crate::coverage::{Crossed, Sample};
            let mut all = Vec::new();
            $($({
                let (value, expected) = Sample::of(samples);
                let options = $name { $field: value, ..Default::default() };
                let (raw, unset) = (options.raw("").unwrap(), $name::default().raw("").unwrap());
                all.push(Crossed::new((stringify!($raw), stringify!($field)), &[$(stringify!($to)),+], (&unset, &raw), expected));
            })*)*
            all
        }
    };
}

options! {
    /// Shapes, codec, memory and policy of a cache. Zero and the empty text mean the default; `kvc.h` has the limits.
    Options: kvc_options, kvc_options_init {
        device: Device = device,
        /// Which device of that kind.
        device_ordinal: i64 = device_ordinal,
        /// Required.
        layers: i64 = layers,
        /// Required.
        kv_heads: i64 = kv_heads,
        /// A multiple of `kv_heads`; 0 = `kv_heads`.
        q_heads: i64 = q_heads,
        /// Required: channels of a key and a query.
        k_dim: i64 = k_dim,
        /// Channels of a value; 0 = `k_dim`.
        v_dim: i64 = v_dim,
        /// A query sees this many newest tokens, itself included; 0 = all.
        sliding_window: i64 = sliding_window,
        /// Preset, codec string, ladder, or `@FILE`: a calibration; "" = "int4".
        codec: String = codec,
        /// Kernel target to force, for tests; "" = the best one.
        target: String = target,
        /// Size of the arena; or say `arena_tokens`, or hand memory over ([`crate::Cache::with_memory`]).
        arena_bytes: i64 = arena_bytes,
        /// Room for `arena_sequences` sequences of so many tokens each.
        arena_tokens: i64 = arena_tokens,
        /// 0 = 1; only with `arena_tokens`.
        arena_sequences: i64 = arena_sequences,
        /// Takes further slabs from the host when the arena is full.
        arena_growth: bool = arena_growth,
        /// 16-bit pages kept below the window, so that rollbacks of 64 tokens each are exact.
        spare_pages: i32 = spare_pages,
        /// Worker threads besides the calling one.
        threads: i64 = threads,
        /// Clamps numbers beyond the window's type instead of refusing them.
        saturate: bool = saturate,
        rope_pairs: RopePairs = rope_pairs,
        keys: Keys = keys,
        positions: Positions = positions,
        /// Required where kvc turns.
        rope_theta: f64 = rope_theta,
        /// Leading channels that turn, even; 0 = `k_dim`.
        rope_dims: i64 = rope_dims,
        /// Eviction policy with its budget; "" = nothing is evicted.
        policy: String = policy,
        /// What a budget in percent is a share of.
        context_tokens: i64 = context_tokens,
    }

    /// What differs in one layer; a zero field means: as in [`Options`].
    Layer: kvc_layer, kvc_layer_init {
        kv_heads: i64 = kv_heads,
        q_heads: i64 = q_heads,
        k_dim: i64 = k_dim,
        v_dim: i64 = v_dim,
        /// -1 = all tokens.
        sliding_window: i64 = sliding_window,
        codec: String = codec,
        rope_theta: f64 = rope_theta,
    }

    /// What [`Options::plan`] is asked.
    PlanRequest: kvc_plan_request, kvc_plan_request_init {
        /// Steps are begun with `partial_commit`.
        partial_commit: bool = partial_commit,
        /// Tokens per sequence.
        tokens: i64 = tokens,
        /// Parallel sequences; 0 = 1.
        sequences: i64 = sequences,
        /// Tokens of one sequence per step while its prompt is read; 0 = 512.
        step_tokens: i64 = step_tokens,
        /// For the two `max_` answers; 0 = do not compute them.
        budget_bytes: i64 = budget_bytes,
    }

    SeqOptions: kvc_seq_options, kvc_seq_options_init {
        /// Position of the first token.
        first_position: i64 = first_position,
        /// See [`crate::Sequence::prompt_set`]; 0 = decode kernels for all queries, slow for long prompts.
        prompt_length: i64 = prompt_length,
    }

    /// Types, strides and kind of a step. Strides are in elements; 0 = dense.
    StepOptions: kvc_step_options, kvc_step_options_init {
        /// Type of keys and values.
        kv_dtype: Dtype = kv_dtype,
        q_dtype: Dtype = q_dtype,
        out_dtype: Dtype = out_dtype,
        k_token_stride: i64 = k_token_stride,
        k_head_stride: i64 = k_head_stride,
        v_token_stride: i64 = v_token_stride,
        v_head_stride: i64 = v_head_stride,
        q_token_stride: i64 = q_token_stride,
        q_head_stride: i64 = q_head_stride,
        out_token_stride: i64 = out_token_stride,
        out_head_stride: i64 = out_head_stride,
        /// Commit may accept a part of the tokens (speculative decoding).
        partial_commit: bool = partial_commit,
        /// Decode kernels for all queries.
        strict: bool = strict,
        /// Attends add attention mass per token ([`crate::Sequence::read_mass`]).
        accumulate: bool = accumulate,
        /// Where the buffers of the step lie; [`Device::Cpu`] for slices, the cache's device for [`crate::DeviceSlice`].
        buffers: Device = buffers,
        /// Which the step's work is put on.
        stream: Stream = stream,
        /// The step is captured in this graph, or replays it.
        graph: Option<Graph> = graph,
    }

    AttendOptions: kvc_attend_options, kvc_attend_options_init {
        /// Of the logits; 0 = 1 / sqrt(k_dim).
        scale: f32 = scale,
        /// cap * tanh(logit / cap); 0 = none.
        soft_cap: f32 = soft_cap,
        /// Leaves learned sink logits out, for results that are merged with others by log-sum-exp.
        partial: bool = partial,
        /// 0 = the layer's; -1 = none.
        sliding_window: i64 = sliding_window,
        /// A query at position i sees tokens up to i + this; at most 0.
        causal_offset: i64 = causal_offset,
    }

    /// Layers and heads acted on (0..0 = all), and what stays.
    EvictOptions: kvc_evict_options, kvc_evict_options_init {
        layers: Range<i64> = layer_begin layer_end,
        heads: Range<i64> = head_begin head_end,
        /// Tokens to keep per layer and head, sinks and window included; 0 = those of the cache's policy.
        budget: i64 = budget,
        /// Newest tokens to keep besides.
        recent: i64 = recent,
    }

    MergeOptions: kvc_merge_options, kvc_merge_options_init {
        layers: Range<i64> = layer_begin layer_end,
        heads: Range<i64> = head_begin head_end,
        /// The kept token's key stays as it is.
        values_only: bool = values_only,
        /// log(count) is not added to logits.
        unbiased: bool = unbiased,
    }

    StepDownOptions: kvc_step_down_options, kvc_step_down_options_init {
        /// Lowest rung that pages take; 0 = each layer's lowest.
        rung: i32 = rung,
        layers: Range<i64> = layer_begin layer_end,
        /// The sequence's record bytes afterwards, at most; 0 = all pages go to `rung`.
        budget_bytes: i64 = budget_bytes,
        /// Pages that hold one of so many newest tokens stay as they are.
        recent: i64 = recent,
    }

    PrefixOptions: kvc_prefix_options, kvc_prefix_options_init {
        /// The entry stays until it is removed.
        pinned: bool = pinned,
        /// It holds codes alone; its length must be the codec's sinks and whole pages of 64.
        seal: bool = seal,
    }
}
