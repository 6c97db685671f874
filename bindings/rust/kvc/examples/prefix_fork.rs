//! One prompt's beginning serves the next: publish, look up, fork.

mod model;

use kvc::Cut;

fn main() -> kvc::Result<()> {
    let cache = model::cache()?;
    let ids: Vec<i64> = (0..250).map(|i| 1000 * i + 7).collect();
    let first = cache.sequence(&Default::default())?;
    model::forward(&cache, &first, 1, 200)?;
    cache.prefix_publish(&first, &ids[..200], b"tenant", &Default::default())?;

    let (found, hit) = cache.prefix_lookup(&ids, b"tenant", &Default::default())?;
    println!("hit {}", hit.tokens);
    let fork = found.fork(found.length()?, Cut::Exact)?;
    model::forward(&cache, &fork, 2, 10)?;
    println!("original {} fork {}", found.length()?, fork.length()?);
    Ok(())
}
