//! What a server gives up when memory is full, and the share of the arena that a request takes.

use crate::stream::Stream;
use kvc::{EvictOptions, Options, PlanRequest, StepDownOptions};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Mutex;

/// Rows of one step, decoded tokens and prompt together.
pub const STEP_ROWS: usize = 256;

/// Sums of shares may be off by so much.
pub const TOLERANCE: f64 = 1e-9;

/// What is given up where a step finds no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pressure {
    Nothing,
    StepDown,
    /// To so many tokens.
    Evict(i64),
}

#[derive(Clone, Debug)]
pub struct Policy {
    /// For kvc itself: acts at all times.
    pub library: String,
    pub pressure: Pressure,
    /// What shares may add up to.
    pub most: f64,
    /// Codec that admission counts.
    pub planned: String,
}

impl Policy {
    pub fn parse(text: &str, mode: &str) -> Result<Policy, String> {
        const OF_ROOM: f64 = 7.0 / 8.0;
        let all = Policy { library: String::new(), pressure: Pressure::Nothing, most: 1.0, planned: mode.into() };
        if text == "step-down" {
            return Ok(Policy { pressure: Pressure::StepDown, most: OF_ROOM, planned: last_rung(mode)?, ..all });
        }
        let Some(budget) = text.strip_prefix("evict:") else {
            return Ok(Policy { library: text.into(), ..all });
        };
        let digits = budget.bytes().all(|byte| byte.is_ascii_digit()); // parse would take a sign
        match budget.parse() {
            Ok(tokens) if digits && i32::is_positive(tokens) => {
                Ok(Policy { pressure: Pressure::Evict(tokens.into()), most: OF_ROOM, ..all })
            }
            _ => Err(format!("--policy {text}: a number of tokens follows evict:")),
        }
    }

    /// Makes room among running streams: those first that hold the most of what is given up. Returns what was done.
    pub fn relieve(&self, running: &mut [Stream]) -> Option<Pressure> {
        let mut order: Vec<usize> = (0..running.len()).collect();
        order.sort_by_cached_key(|i| Reverse(self.weight(&running[*i])));
        order.into_iter().any(|i| self.gives(&mut running[i])).then_some(self.pressure)
    }

    fn weight(&self, stream: &Stream) -> i64 {
        match self.pressure {
            Pressure::Nothing => 0,
            Pressure::StepDown => stream.held().stats().map_or(0, |stats| stats.record_bytes),
            Pressure::Evict(_) => stream.held().live(0, 0).unwrap_or(0),
        }
    }

    fn gives(&self, stream: &mut Stream) -> bool {
        let sequence = stream.held_mut();
        match self.pressure {
            Pressure::Nothing => false,
            Pressure::StepDown => sequence.step_down(&StepDownOptions::default()).is_ok_and(|report| report.pages > 0),
            Pressure::Evict(budget) => {
                sequence.evict(None, &EvictOptions { budget, ..Default::default() }).is_ok_and(|report| report.tokens_evicted > 0)
            }
        }
    }
}

/// The codec of a ladder's last rung, with the window and sinks that the first one says for all.
fn last_rung(ladder: &str) -> Result<String, String> {
    let canonical = kvc::codec_format(ladder).map_err(|error| error.to_string())?;
    let (first, rest) = canonical
        .split_once('/')
        .ok_or_else(|| format!("--policy step-down needs a ladder as --mode, such as int8/int4, not {ladder:?}"))?;
    let last = rest.rsplit('/').next().and_then(|rung| rung.split('@').next()).unwrap_or_default();
    let window = first.find(",window=").map_or("", |at| &first[at..]);
    Ok(format!("{last}{window}"))
}

/// Knows the share of the arena that a request takes, by kvc's planner.
pub struct Admission {
    options: Options,
    pub policy: Policy,
    /// Sequences by length, as far as they have been asked for.
    most: Mutex<HashMap<i64, i64>>,
}

impl Admission {
    pub fn new(options: &Options, policy: Policy) -> Admission {
        Admission { options: Options { codec: policy.planned.clone(), ..options.clone() }, policy, most: Mutex::default() }
    }

    /// The share of a request with so many tokens in all; none if the arena can never hold it.
    pub fn share(&self, tokens: usize) -> kvc::Result<Option<f64>> {
        let mut tokens = (tokens.next_multiple_of(64) as i64).min(self.options.context_tokens);
        if let Pressure::Evict(budget) = self.policy.pressure {
            tokens = tokens.min(budget.saturating_add(STEP_ROWS as i64));
        }
        let mut most = self.most.lock().expect("no panic under this lock");
        let sequences = match most.get(&tokens) {
            Some(known) => *known,
            None => {
                let budget_bytes = self.options.arena_bytes;
                let request = PlanRequest { tokens, step_tokens: STEP_ROWS as i64, budget_bytes, ..Default::default() };
                let planned = self.options.plan(&[], &request)?.max_sequences;
                most.insert(tokens, planned);
                planned
            }
        };
        let share = 1.0 / sequences as f64; // infinite without any
        Ok((share <= self.policy.most).then_some(share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_is_planned_by_its_last_rung_with_the_window_of_its_first() {
        let one = |ladder: &str| last_rung(ladder).map(|rung| kvc::codec_format(&rung).expect("a codec"));
        assert_eq!(one("int8,window=0/int4").unwrap(), kvc::codec_format("int4,window=0").unwrap());
        assert_eq!(one("int8,window=192/k3v2").unwrap(), kvc::codec_format("k3v2,window=192").unwrap());
        assert!(one("int4").unwrap_err().contains("ladder") && one("nonsense").is_err());
    }

    #[test]
    fn policies_that_are_none() {
        for text in ["evict:", "evict:0", "evict:-1", "evict:many", "evict:+5", "evict:2147483648", "step-down"] {
            assert!(Policy::parse(text, "int4").is_err(), "{text}");
        }
        assert_eq!(Policy::parse("evict:128", "int4").unwrap().pressure, Pressure::Evict(128));
        assert_eq!(Policy::parse("h2o:256", "int4").unwrap().library, "h2o:256");
    }
}
