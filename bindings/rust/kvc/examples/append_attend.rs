//! Reads a prompt and decodes: keys and values go in, attention comes out.

mod model;

fn main() -> kvc::Result<()> {
    let cache = model::cache()?;
    let sequence = cache.sequence(&Default::default())?;
    let mut outputs = model::forward(&cache, &sequence, 1, 200)?;
    for _ in 0..8 {
        outputs.extend(model::forward(&cache, &sequence, 1, 1)?);
    }
    println!("tokens {}", sequence.length()?);
    println!("sha256 {}", model::sha256(&outputs));
    println!("record_bytes {}", sequence.stats()?.record_bytes);
    Ok(())
}
