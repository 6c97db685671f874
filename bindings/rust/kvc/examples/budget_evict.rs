//! Evicts down to a budget of tokens: sinks and the most recent ones stay.

mod model;

use kvc::EvictOptions;

fn main() -> kvc::Result<()> {
    let cache = model::cache()?;
    let mut sequence = cache.sequence(&Default::default())?;
    model::forward(&cache, &sequence, 1, 512)?;
    let report = sequence.evict(None, &EvictOptions { budget: 256, recent: 32, ..Default::default() })?;
    for layer in 0..2 {
        println!("layer {layer} live {}", sequence.live(layer, 0)?);
    }
    println!("evicted {}", report.tokens_evicted);
    Ok(())
}
