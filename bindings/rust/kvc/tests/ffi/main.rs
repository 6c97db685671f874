//! Tests of what the crate adds to libkvc: lives, errors, threads, and that each call reaches what it names.

mod lifecycle;
mod misuse;
#[path = "../../examples/model/mod.rs"]
mod model;
mod surface;
mod threads;

use kvc::{Cache, Options, Result, Sequence};

/// One layer of one head: small enough for many.
pub fn small() -> Options {
    Options { layers: 1, kv_heads: 1, k_dim: 16, arena_tokens: 1024, target: "scalar".to_owned(), ..Default::default() }
}

/// Adds tokens of which each element is `x` to a sequence of a small cache.
pub fn extend(cache: &Cache, sequence: &Sequence, tokens: i64, x: f32) -> Result<()> {
    let rows = vec![x; 16 * tokens as usize];
    let mut step = cache.begin([(sequence, tokens)], &Default::default())?;
    step.append(0, &rows, &rows)?;
    step.commit()
}
