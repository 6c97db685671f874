//! A sequence leaves the cache as bytes, comes back, and goes on.

mod model;

fn main() -> kvc::Result<()> {
    let cache = model::cache()?;
    let sequence = cache.sequence(&Default::default())?;
    model::forward(&cache, &sequence, 1, 200)?;
    let bytes = cache.snapshot_export(Some(&[&sequence]))?;
    println!("bytes {}", bytes.len());
    sequence.close()?;

    let restored = cache.snapshot_import(&bytes)?.remove(0);
    println!("restored {}", restored.length()?);
    println!("sha256 {}", model::sha256(&model::forward(&cache, &restored, 1, 1)?));
    Ok(())
}
