//! What stands in for a model in the examples: two layers that make up their keys, values and queries.

#[path = "../numbers/mod.rs"]
mod numbers;

use kvc::{Cache, Options, Result, Sequence, StepOptions};
use numbers::{Part, Stream};

const LAYERS: i64 = 2;
const KV_HEADS: i64 = 2;
const Q_HEADS: i64 = 4;
const DIM: i64 = 64;

pub fn cache() -> Result<Cache> {
    Cache::new(&Options {
        layers: LAYERS,
        kv_heads: KV_HEADS,
        q_heads: Q_HEADS,
        k_dim: DIM,
        codec: "int4".to_owned(),
        target: "scalar".to_owned(), // the same bits on every machine
        arena_tokens: 4096,
        ..Default::default()
    })
}

/// One forward pass over new tokens of a sequence; gives what each layer attended to, layer after layer.
pub fn forward(cache: &Cache, sequence: &Sequence, data: u64, tokens: i64) -> Result<Vec<f32>> {
    let position = sequence.length()?;
    let rows = |layer, part, heads| Stream::normal(1, data, layer, part).rows(position, tokens, heads, DIM);
    let mut all = Vec::new();
    let mut step = cache.begin([(sequence, tokens)], &StepOptions::default())?;
    for layer in 0..LAYERS {
        step.append(layer, &rows(layer, Part::Keys, KV_HEADS), &rows(layer, Part::Values, KV_HEADS))?;
        let mut out = vec![0f32; (tokens * Q_HEADS * DIM) as usize];
        step.attend(layer, &rows(layer, Part::Queries, Q_HEADS), &mut out)?;
        all.extend(out);
    }
    step.commit()?;
    Ok(all)
}

#[allow(dead_code)] // of some examples
pub fn sha256(numbers: &[f32]) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    numbers.iter().for_each(|x| hash.update(x.to_le_bytes()));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
