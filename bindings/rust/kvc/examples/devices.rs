//! The same program on the CPU and on a GPU: the argument says where the cache lies, `cpu` or `cuda:0`, and a second one names a file for
//! what was attended to. A prompt of 200 tokens, then 8 tokens one by one; what is stored is the same on both, to the bit.

mod model;

use kvc::{Buffer, BufferKind, Cache, Device, DeviceSlice, Options, Part, Sequence, Step, StepOptions};
use model::{Rows, DIM, KV_HEADS, LAYERS, Q_HEADS};
use std::error::Error;

const PROMPT: i64 = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next().unwrap_or_else(|| "cpu".to_owned());
    let cache = Cache::new(&options_at(&place)?)?;
    let sequence = cache.sequence(&Default::default())?;
    let buffers = if place == "cpu" { None } else { Some(Buffers::new(&cache)?) };
    let options = StepOptions { buffers: if buffers.is_some() { Device::Cuda } else { Device::Cpu }, ..Default::default() };
    let mut outputs = Vec::new();
    for tokens in [PROMPT, 1, 1, 1, 1, 1, 1, 1, 1] {
        outputs.extend(model::forward_by(&cache, &sequence, 1, tokens, &options, |step, layer, rows| match &buffers {
            Some(buffers) => buffers.run_layer(step, layer, rows),
            None => model::run_layer(step, layer, rows),
        })?);
    }
    println!("tokens {}", sequence.length()?);
    println!("codes {}", codes(&sequence)?);
    println!("record_bytes {}", sequence.stats()?.record_bytes);
    if let Some(file) = arguments.next() {
        std::fs::write(file, outputs.iter().flat_map(|x: &f32| x.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    Ok(())
}

fn options_at(place: &str) -> Result<Options, Box<dyn Error>> {
    if place == "cpu" {
        return Ok(model::options());
    }
    let ordinal = place.strip_prefix("cuda:").ok_or_else(|| format!("{place} is neither cpu nor cuda:NUMBER"))?;
    Ok(Options { device: Device::Cuda, device_ordinal: ordinal.parse()?, target: String::new(), ..model::options() })
}

/// Of the device's memory, for the prompt's step and those after it.
struct Buffers<'c> {
    cache: &'c Cache,
    k: Buffer<'c>,
    v: Buffer<'c>,
    q: Buffer<'c>,
    out: Buffer<'c>,
}

impl<'c> Buffers<'c> {
    fn new(cache: &'c Cache) -> kvc::Result<Self> {
        let of = |heads| cache.buffer(BufferKind::Device, PROMPT * heads * DIM * 4);
        Ok(Buffers { cache, k: of(KV_HEADS)?, v: of(KV_HEADS)?, q: of(Q_HEADS)?, out: of(Q_HEADS)? })
    }

    fn run_layer(&self, step: &mut Step, layer: i64, rows: &mut Rows) -> kvc::Result<()> {
        let (k, v, q) = (self.upload(&self.k, &rows.k)?, self.upload(&self.v, &rows.v)?, self.upload(&self.q, &rows.q)?);
        let out: DeviceSlice<f32> = self.out.slice(0, rows.out.len())?;
        step.append_device(layer, k, v)?;
        step.attend_device(layer, q, out, None, &Default::default())?;
        self.cache.copy_to_host(out, &mut rows.out)
    }

    fn upload<'b>(&self, buffer: &'b Buffer, numbers: &[f32]) -> kvc::Result<DeviceSlice<'b, f32>> {
        let there = buffer.slice(0, numbers.len())?;
        self.cache.copy_to_device(numbers, there)?;
        Ok(there)
    }
}

/// The digest of all codes that the sequence holds.
fn codes(sequence: &Sequence) -> kvc::Result<String> {
    let mut all = Vec::new();
    for layer in 0..LAYERS {
        for head in 0..KV_HEADS {
            for part in [Part::Keys, Part::Values] {
                let mut codes = vec![0u8; (sequence.read_codes(layer, head, part, &mut [])? * DIM) as usize];
                sequence.read_codes(layer, head, part, &mut codes)?;
                all.extend(codes);
            }
        }
    }
    Ok(model::sha256_of_bytes(&all))
}
