//! What stands in for a model in the examples: two layers that make up their keys, values and queries.

#[path = "../numbers/mod.rs"]
mod numbers;

use kvc::{Cache, Options, Result, Sequence, Step, StepOptions};
use numbers::{Part, Stream};

pub const LAYERS: i64 = 2;
pub const KV_HEADS: i64 = 2;
pub const Q_HEADS: i64 = 4;
pub const DIM: i64 = 64;

pub fn options() -> Options {
    Options {
        layers: LAYERS,
        kv_heads: KV_HEADS,
        q_heads: Q_HEADS,
        k_dim: DIM,
        codec: "int4".to_owned(),
        target: "scalar".to_owned(), // the same bits on every machine
        arena_tokens: 4096,
        ..Default::default()
    }
}

#[allow(dead_code)] // of some examples
pub fn cache() -> Result<Cache> {
    Cache::new(&options())
}

/// Keys, values and queries of a layer's new tokens, and room for what it attends to.
pub struct Rows {
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    pub q: Vec<f32>,
    pub out: Vec<f32>,
}

/// What a layer does in memory of the host.
pub fn run_layer(step: &mut Step, layer: i64, rows: &mut Rows) -> Result<()> {
    step.append(layer, &rows.k, &rows.v)?;
    step.attend(layer, &rows.q, &mut rows.out)
}

/// One forward pass over new tokens of a sequence; gives what each layer attended to, layer after layer.
#[allow(dead_code)] // of some examples
pub fn forward(cache: &Cache, sequence: &Sequence, data: u64, tokens: i64) -> Result<Vec<f32>> {
    forward_by(cache, sequence, data, tokens, &StepOptions::default(), run_layer)
}

/// The same where `run` does what a layer does.
pub fn forward_by(
    cache: &Cache,
    sequence: &Sequence,
    data: u64,
    tokens: i64,
    options: &StepOptions,
    run: impl Fn(&mut Step, i64, &mut Rows) -> Result<()>,
) -> Result<Vec<f32>> {
    let position = sequence.length()?;
    let mut all = Vec::new();
    let mut step = cache.begin([(sequence, tokens)], options)?;
    for layer in 0..LAYERS {
        let of = |part, heads| Stream::normal(1, data, layer, part).rows(position, tokens, heads, DIM);
        let mut rows = Rows {
            k: of(Part::Keys, KV_HEADS),
            v: of(Part::Values, KV_HEADS),
            q: of(Part::Queries, Q_HEADS),
            out: vec![0f32; (tokens * Q_HEADS * DIM) as usize],
        };
        run(&mut step, layer, &mut rows)?;
        all.extend(rows.out);
    }
    step.commit()?;
    Ok(all)
}

#[allow(dead_code)] // of some examples
pub fn sha256(numbers: &[f32]) -> String {
    sha256_of_bytes(&numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

pub fn sha256_of_bytes(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
