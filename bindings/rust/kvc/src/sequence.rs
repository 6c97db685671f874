//! A sequence of a cache: its life, eviction, merging, precision and read-back.

use crate::cache::Owner;
use crate::error::{call, make, report, Result, Status};
use crate::kinds::{Cut, Part};
use crate::options::{EvictOptions, MergeOptions, StepDownOptions};
use crate::Cache;
use kvc_sys::{kvc_evict_report, kvc_seq, kvc_seq_stats, kvc_step_down_report};
use std::ops::Range;
use std::ptr::{null, null_mut};
use std::sync::Arc;

/// A sequence, destroyed when it is dropped. It keeps its cache alive.
///
/// What changes the sequence takes it mutably, so that the compiler refuses it while a step is open, which kvc would answer with
/// [`Status::Busy`](crate::Status::Busy).
#[derive(Debug)]
pub struct Sequence {
    pub(crate) owner: Arc<Owner>,
    pub(crate) raw: kvc_seq,
}

impl Sequence {
    /// A sequence that came from elsewhere as a handle, and is destroyed with this object. A handle that is none gives a sequence whose
    /// calls answer [`Status::Handle`](crate::Status::Handle).
    pub fn from_raw(cache: &Cache, raw: kvc_seq) -> Sequence {
        Sequence { owner: cache.owner.clone(), raw }
    }

    pub fn raw(&self) -> kvc_seq {
        self.raw
    }

    /// The handle alone, which this object no longer destroys.
    pub fn into_raw(mut self) -> kvc_seq {
        std::mem::take(&mut self.raw)
    }

    /// Destroys the sequence, and says whether that went well. If it did not, the object is dropped all the same; call
    /// [`Sequence::try_close`] to keep it.
    pub fn close(mut self) -> Result<()> {
        self.try_close()
    }

    /// Destroys the sequence; if that fails, as it does while another object of the same handle is in an open step, the sequence stays as
    /// it was. Afterwards its calls answer [`Status::Handle`](crate::Status::Handle).
    pub fn try_close(&mut self) -> Result<()> {
        call!(kvc_seq_destroy(self.owner.raw, self.raw))?;
        self.raw = 0;
        Ok(())
    }

    /// A new sequence with the tokens below position `length`.
    pub fn fork(&self, length: i64, cut: Cut) -> Result<Sequence> {
        let raw = make!(kvc_seq_fork(self.owner.raw, self.raw, length, cut.number()))?;
        Ok(Sequence { owner: self.owner.clone(), raw })
    }

    /// Forgets the tokens at position `length` and above.
    pub fn truncate(&mut self, length: i64, cut: Cut) -> Result<()> {
        call!(kvc_seq_truncate(self.owner.raw, self.raw, length, cut.number()))
    }

    /// Position of the next token.
    pub fn length(&self) -> Result<i64> {
        let mut out = 0;
        call!(kvc_seq_length(self.owner.raw, self.raw, &mut out)).map(|()| out)
    }

    /// Lowest length to which truncate and fork are exact.
    pub fn exact_floor(&self) -> Result<i64> {
        let mut out = 0;
        call!(kvc_seq_exact_floor(self.owner.raw, self.raw, &mut out)).map(|()| out)
    }

    /// The most tokens that a step may add.
    pub fn step_limit(&self) -> Result<i64> {
        let mut out = 0;
        call!(kvc_seq_step_limit(self.owner.raw, self.raw, &mut out)).map(|()| out)
    }

    /// Queries at positions below `end` use the prompt kernels. Set it before a prompt is read.
    pub fn prompt_set(&mut self, end: i64) -> Result<()> {
        call!(kvc_seq_prompt_set(self.owner.raw, self.raw, end))
    }

    /// Replaces the amount of the cache's policy from the next boundary on; 0 = the policy's own again.
    pub fn budget_set(&mut self, budget: i64) -> Result<()> {
        call!(kvc_seq_budget_set(self.owner.raw, self.raw, budget))
    }

    pub fn stats(&self) -> Result<kvc_seq_stats> {
        let mut out = report!(kvc_seq_stats);
        call!(kvc_seq_stats_get(self.owner.raw, self.raw, &mut out)).map(|()| out)
    }

    /// Evicts down to the budget: by the cache's policy, or so that the highest scores stay `[layers acted on, heads acted on, length -
    /// first_position]`.
    pub fn evict(&mut self, scores: Option<&[f32]>, options: &EvictOptions) -> Result<kvc_evict_report> {
        let (mut out, options) = (report!(kvc_evict_report), options.raw("kvc_evict")?);
        let (scores, n) = scores.map_or((null(), 0), |list| (list.as_ptr(), list.len() as i64));
        call!(kvc_evict(self.owner.raw, self.raw, scores, n, &options, &mut out)).map(|()| out)
    }

    /// Evicts all tokens but the given positions, sinks and the residual window.
    pub fn evict_keep(&mut self, positions: &[i64], options: &EvictOptions) -> Result<kvc_evict_report> {
        let (mut out, options) = (report!(kvc_evict_report), options.raw("kvc_evict_keep")?);
        let (list, n) = (positions.as_ptr(), positions.len() as i64);
        call!(kvc_evict_keep(self.owner.raw, self.raw, list, n, &options, &mut out)).map(|()| out)
    }

    /// Joins tokens with others: clusters `[layers acted on, heads acted on, length - first_position]`.
    pub fn merge(&mut self, clusters: &[i32], options: &MergeOptions) -> Result<kvc_evict_report> {
        let (mut out, options) = (report!(kvc_evict_report), options.raw("kvc_merge")?);
        let (list, n) = (clusters.as_ptr(), clusters.len() as i64);
        call!(kvc_merge(self.owner.raw, self.raw, list, n, &options, &mut out)).map(|()| out)
    }

    /// Codes pages anew at a lower rung of the codec's ladder.
    pub fn step_down(&mut self, options: &StepDownOptions) -> Result<kvc_step_down_report> {
        let (mut out, options) = (report!(kvc_step_down_report), options.raw("kvc_step_down")?);
        call!(kvc_step_down(self.owner.raw, self.raw, &options, &mut out)).map(|()| out)
    }

    /// Tokens kept by one layer and kv head.
    pub fn live(&self, layer: i64, head: i64) -> Result<i64> {
        let mut out = 0;
        call!(kvc_seq_live(self.owner.raw, self.raw, layer, head, &mut out)).map(|()| out)
    }

    /// Positions of the live tokens, ascending.
    pub fn positions(&self, layer: i64, head: i64) -> Result<Vec<i64>> {
        self.per_token(layer, head, |out, n, tokens| call!(kvc_seq_positions(self.owner.raw, self.raw, layer, head, out, n, tokens)))
    }

    /// Tokens that each live token stands for.
    pub fn read_counts(&self, layer: i64, head: i64) -> Result<Vec<i64>> {
        self.per_token(layer, head, |out, n, tokens| call!(kvc_seq_read_counts(self.owner.raw, self.raw, layer, head, out, n, tokens)))
    }

    /// The rung of the page of each live token; -1: not coded.
    pub fn read_rungs(&self, layer: i64, head: i64) -> Result<Vec<i64>> {
        self.per_token(layer, head, |out, n, tokens| call!(kvc_seq_read_rungs(self.owner.raw, self.raw, layer, head, out, n, tokens)))
    }

    /// Attention mass of each live token, in units of 2^-30.
    pub fn read_mass(&self, layer: i64, head: i64) -> Result<Vec<i64>> {
        self.per_token(layer, head, |out, n, tokens| call!(kvc_seq_read_mass(self.owner.raw, self.raw, layer, head, out, n, tokens)))
    }

    /// One number for each live token, all of one moment: a commit may evict or add some at any time. What is wrong with the sequence,
    /// layer or head is said by `read`.
    fn per_token(&self, layer: i64, head: i64, mut read: impl FnMut(*mut i64, i64, &mut i64) -> Result<()>) -> Result<Vec<i64>> {
        loop {
            let live = self.live(layer, head);
            let n = *live.as_ref().unwrap_or(&0);
            let (mut out, mut tokens) = (vec![0; n as usize], 0);
            match read(out.as_mut_ptr(), n, &mut tokens) {
                Ok(()) => {
                    out.truncate(tokens as usize);
                    return Ok(out);
                }
                // That there is no room is all that can be wrong with the arguments.
                Err(error) if live.is_ok() && error.status == Status::Argument => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Live tokens of one layer and kv head, counted by position, dequantized into `[tokens, dim]`.
    pub fn read(&self, layer: i64, head: i64, part: Part, tokens: Range<i64>, out: &mut [f32]) -> Result<()> {
        let (n, bytes) = (tokens.end.saturating_sub(tokens.start), crate::element::bytes_of(out));
        call!(kvc_seq_read(self.owner.raw, self.raw, layer, head, part.number(), tokens.start, n, out.as_mut_ptr(), bytes))
    }

    /// Integer codes of the tokens in compressed pages `[tokens, dim]`. Gives their number; an empty `out` asks for that alone.
    pub fn read_codes(&self, layer: i64, head: i64, part: Part, out: &mut [u8]) -> Result<i64> {
        let (codes, bytes) = if out.is_empty() { (null_mut(), 0) } else { (out.as_mut_ptr(), out.len() as i64) };
        let mut tokens = 0;
        call!(kvc_seq_read_codes(self.owner.raw, self.raw, layer, head, part.number(), codes, bytes, &mut tokens)).map(|()| tokens)
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        if self.raw != 0 {
            let _ = self.try_close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    fn extend(cache: &Cache, sequence: &Sequence, tokens: i64) {
        let rows = vec![0.5f32; 16 * tokens as usize];
        let mut step = cache.begin([(sequence, tokens)], &Default::default()).unwrap();
        step.append(0, &rows, &rows).unwrap();
        step.commit().unwrap();
    }

    #[test]
    fn what_is_read_back_is_of_one_moment_while_the_sequence_changes() {
        let options = Options { layers: 1, kv_heads: 1, k_dim: 16, arena_tokens: 1024, ..Default::default() };
        let cache = Cache::new(&options).unwrap();
        let sequence = cache.sequence(&Default::default()).unwrap();
        extend(&cache, &sequence, 600);
        type Change<'a> = (&'a str, &'a dyn Fn(&mut Sequence));
        let changes: [Change; 5] = [
            ("nothing", &|_| {}),
            ("an eviction", &|same| {
                same.evict(None, &EvictOptions { budget: 400, ..Default::default() }).unwrap();
            }),
            ("a longer sequence", &|same| extend(&cache, same, 50)),
            ("the end of all tokens", &|same| same.truncate(0, Cut::Inexact).unwrap()),
            ("the first tokens", &|same| extend(&cache, same, 5)),
        ];
        for (name, change) in changes {
            let mut changed = false;
            let read = |out: *mut i64, n: i64, tokens: &mut i64| {
                if !std::mem::replace(&mut changed, true) {
                    let mut same = Sequence::from_raw(&cache, sequence.raw());
                    change(&mut same);
                    same.into_raw();
                }
                call!(kvc_seq_positions(cache.raw(), sequence.raw(), 0, 0, out, n, tokens))
            };
            let got = sequence.per_token(0, 0, read).unwrap();
            assert_eq!(got.len() as i64, sequence.live(0, 0).unwrap(), "{name}");
            assert_eq!(got, sequence.positions(0, 0).unwrap(), "{name}");
        }
        assert_eq!(sequence.positions(1, 0).unwrap_err().status, Status::Argument);
    }
}
