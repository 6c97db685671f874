//! The verbs by which tokens leave, join others, or lose bits.

use crate::numbers::{bell, Part, Stream};
use crate::replay::{bytes_of, Answer, Replay};
use crate::script::Operation;
use kvc::{EvictOptions, EvictReport, MergeOptions, StepDownOptions};

fn evict_options(operation: &Operation) -> Result<EvictOptions, String> {
    let (layers, heads) = (operation.range("layers")?, operation.range("heads")?);
    Ok(EvictOptions { layers, heads, budget: operation.number("budget")?, recent: operation.number("recent")? })
}

fn report_bytes(r: EvictReport) -> Vec<u8> {
    bytes_of(&[r.tokens_evicted, r.records_freed, r.bytes_freed, r.tokens_repacked])
}

impl Replay<'_> {
    pub fn eviction_verb(&mut self, operation: &Operation) -> Answer {
        let mut sequence = self.sequence(operation.name(0));
        match operation.verb {
            "evict" => {
                let scores = if operation.has("scores") { self.scores(operation)? } else { vec![] };
                let scores = (!scores.is_empty()).then_some(scores.as_slice());
                Ok(report_bytes(sequence.evict(scores, &evict_options(operation)?)?))
            }
            "keep" => Ok(report_bytes(sequence.evict_keep(&operation.list("positions")?, &evict_options(operation)?)?)),
            "merge" => {
                let options = MergeOptions {
                    layers: operation.range("layers")?,
                    heads: operation.range("heads")?,
                    values_only: operation.flag("values_only")?,
                    unbiased: operation.flag("unbiased")?,
                };
                let report = sequence.merge(&self.clusters(operation)?, &options)?;
                Ok([report_bytes(report), bytes_of(&[report.tokens_merged])].concat())
            }
            _ => {
                let options = StepDownOptions {
                    rung: operation.small("rung")?,
                    layers: operation.range("layers")?,
                    budget_bytes: operation.number("budget_bytes")?,
                    recent: operation.number("recent")?,
                };
                let r = sequence.step_down(&options)?;
                Ok(bytes_of(&[r.pages, r.tokens_requantized, r.bytes_freed, r.record_bytes]))
            }
        }
    }

    /// Tokens that the sequence of a line ever had.
    fn tokens_of(&self, operation: &Operation) -> i64 {
        let length = self.sequence(operation.name(0)).length().unwrap_or(0);
        (length - self.named(operation.name(0)).first_position).max(0)
    }

    fn scores(&self, operation: &Operation) -> Result<Vec<f32>, String> {
        let (seed, data, tokens) = (operation.seed("scores")?, self.named(operation.name(0)).data, self.tokens_of(operation));
        let mut scores = Vec::new();
        for (layer, head) in self.shapes.heads_acted_on(operation)? {
            Stream::normal(seed, data, layer, Part::Scores).extend(&mut scores, head, 1, 1, tokens);
        }
        Ok(scores)
    }

    fn clusters(&self, operation: &Operation) -> Result<Vec<i32>, String> {
        let (seed, data, n) = (operation.seed("seed")?, self.named(operation.name(0)).data, self.tokens_of(operation));
        let (first, recent) = (operation.number("first")?, operation.number("recent")?);
        let mut clusters = Vec::new();
        for (layer, head) in self.shapes.heads_acted_on(operation)? {
            let row = Stream::normal(seed, data, layer, Part::Clusters).row(head);
            clusters.extend((0..n).map(|i| match bell(row, i as u64).rem_euclid(4) {
                _ if i % 4 == 0 || i < first || i >= n - recent => i as i32,
                0 => (i - i % 4) as i32,
                1 => -1,
                _ => i as i32,
            }));
        }
        Ok(clusters)
    }
}
