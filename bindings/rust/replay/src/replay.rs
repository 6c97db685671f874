//! The state of a script that runs, and its verbs of cache and prefix index.

use crate::numbers::{Part, Stream};
use crate::script::Operation;
use crate::shapes::Shapes;
use crate::steps::Begun;
use kvc::{Cache, Device, PlanRequest, PrefixOptions, SeqOptions, Sequence};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

#[derive(Default)]
pub struct RunOptions {
    pub target: String,
    pub threads: i64,
}

/// Why a verb has nothing to show: kvc refused, or the line makes no sense.
pub enum Stop {
    Refused(kvc::Error),
    Fault(String),
}

impl From<kvc::Error> for Stop {
    fn from(error: kvc::Error) -> Stop {
        Stop::Refused(error)
    }
}

impl From<String> for Stop {
    fn from(fault: String) -> Stop {
        Stop::Fault(fault)
    }
}

/// What an operation lets a caller see, as it enters the digest.
pub type Answer = Result<Vec<u8>, Stop>;

/// A sequence as scripts know it: a handle that stays when its object has ended, and where its numbers come from.
#[derive(Clone, Copy, Default)]
pub struct Named {
    pub handle: i64,
    pub data: u64,
    pub first_position: i64,
}

/// The object behind a name. Scripts go on with handles whose objects have ended, so it does not destroy what it stands for.
pub struct Borrowed(Option<Sequence>);

impl Borrowed {
    pub fn close(mut self) -> kvc::Result<()> {
        self.0.take().map_or(Ok(()), Sequence::close)
    }
}

impl Deref for Borrowed {
    type Target = Sequence;
    fn deref(&self) -> &Sequence {
        self.0.as_ref().expect("only close takes it away")
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut Sequence {
        self.0.as_mut().expect("only close takes it away")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let _ = self.0.take().map(Sequence::into_raw);
    }
}

pub struct Replay<'o> {
    run: &'o RunOptions,
    pub shapes: Shapes,
    pub cache: Cache,
    created: bool,
    pub sequences: HashMap<String, Named>,
    pub steps: HashMap<String, Begun>,
    pub snapshots: HashMap<String, Vec<u8>>,
    digest: Sha256,
}

pub fn bytes_of(numbers: &[i64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

impl<'o> Replay<'o> {
    pub fn new(run: &'o RunOptions) -> Replay<'o> {
        Replay {
            run,
            shapes: Shapes::default(),
            cache: unsafe { Cache::from_raw(std::ptr::null_mut(), Device::Cpu) }, // no cache yet: calls answer so
            created: false,
            sequences: HashMap::new(),
            steps: HashMap::new(),
            snapshots: HashMap::new(),
            digest: Sha256::new(),
        }
    }

    /// Status and message of an operation; or what is wrong with the line itself.
    pub fn run(&mut self, operation: &Operation) -> Result<(i32, String), String> {
        let (status, message, bytes) = match self.verb(operation) {
            Ok(bytes) => (0, String::new(), bytes),
            Err(Stop::Refused(error)) => (error.status.number(), error.message, vec![]),
            Err(Stop::Fault(fault)) => return Err(format!("{}: {fault}", operation.text)),
        };
        self.digest.update(status.to_le_bytes());
        self.digest.update(bytes);
        Ok((status, message))
    }

    pub fn digest(self) -> String {
        self.digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn verb(&mut self, operation: &Operation) -> Answer {
        match operation.verb {
            "layer" => Ok(self.shapes.layer(operation).map(|()| vec![])?),
            "create" => self.create(operation),
            "plan" => self.plan(operation),
            "sink_logits" => self.sink_logits(operation),
            "stats" if operation.names.is_empty() => self.stats(),
            "publish" => self.publish(operation),
            "lookup" => self.lookup(operation),
            "unpublish" => self.unpublish(operation),
            "prefix_clear" => Ok(self.cache.prefix_clear().map(|()| vec![])?),
            "prefix_budget" => Ok(self.cache.prefix_budget_set(operation.number("bytes")?).map(|()| vec![])?),
            "prefix_stats" => self.prefix_stats(),
            "begin" | "append" | "attend" | "commit" | "abort" => self.step_verb(operation),
            "evict" | "keep" | "merge" | "step_down" => self.eviction_verb(operation),
            "export" => self.export(operation),
            "import" => self.import(operation),
            _ => self.sequence_verb(operation),
        }
    }

    // ---- Names ----

    pub fn named(&self, name: &str) -> Named {
        self.sequences.get(name).copied().unwrap_or_default()
    }

    pub fn sequence(&self, name: &str) -> Borrowed {
        Borrowed(Some(Sequence::from_raw(&self.cache, self.named(name).handle)))
    }

    pub fn name(&mut self, name: &str, made: Sequence, data: u64, first_position: i64) {
        self.sequences.insert(name.to_owned(), Named { handle: made.into_raw(), data, first_position });
    }

    // ---- Cache ----

    fn create(&mut self, operation: &Operation) -> Answer {
        if self.created {
            return Err(Stop::Fault("a script has one cache".to_owned()));
        }
        self.shapes.create(operation)?;
        (self.shapes.options.target, self.shapes.options.threads) = (self.run.target.clone(), self.run.threads);
        self.cache = Cache::with_layers(&self.shapes.options, self.shapes.layers())?;
        self.created = true;
        Ok(vec![])
    }

    fn plan(&mut self, operation: &Operation) -> Answer {
        let request = PlanRequest {
            tokens: operation.number("tokens")?,
            sequences: operation.number("sequences")?,
            step_tokens: operation.number("step_tokens")?,
            budget_bytes: operation.number("budget_bytes")?,
            partial_commit: operation.flag("partial_commit")?,
        };
        let p = self.shapes.options.plan(self.shapes.layers(), &request)?;
        Ok(bytes_of(&[p.arena_bytes, p.slab_bytes, p.record_bytes, p.fp16_bytes, p.max_tokens, p.max_sequences]))
    }

    fn sink_logits(&mut self, operation: &Operation) -> Answer {
        let n = operation.number_or("n", self.shapes.layer_of(operation)?.q_heads)?;
        let layer = operation.number("layer")?;
        let logits = Stream::normal(operation.seed("seed")?, 0, layer, Part::SinkLogits).rows(0, 1, 1, n);
        self.cache.sink_logits_set(layer, &logits)?;
        Ok(vec![])
    }

    fn stats(&mut self) -> Answer {
        let s = self.cache.stats()?;
        Ok(bytes_of(&[
            s.arena_bytes,
            s.bound_bytes,
            s.record_bytes,
            s.sink_bytes,
            s.window_bytes,
            s.code_bytes,
            s.reserved_bytes,
            s.side_bytes,
            s.sequences,
            s.open_steps.into(),
            s.tokens_appended,
            s.tokens_evicted,
            s.pages_quantized,
            s.tokens_requantized,
        ]))
    }

    // ---- Prefix index ----

    fn publish(&mut self, operation: &Operation) -> Answer {
        let (tokens, salt) = (prompt_tokens(operation)?, operation.word("salt").as_bytes());
        let options = PrefixOptions { pinned: operation.flag("pinned")?, seal: operation.flag("seal")? };
        self.cache.prefix_publish(&self.sequence(operation.name(0)), &tokens, salt, &options)?;
        Ok(vec![])
    }

    fn lookup(&mut self, operation: &Operation) -> Answer {
        let (tokens, salt, options) = (prompt_tokens(operation)?, operation.word("salt").as_bytes(), seq_options(operation)?);
        let (made, hit) = self.cache.prefix_lookup(&tokens, salt, &options)?;
        self.name(operation.name(0), made, operation.seed("data")?, options.first_position);
        Ok(bytes_of(&[hit.tokens, hit.shared]))
    }

    fn unpublish(&mut self, operation: &Operation) -> Answer {
        Ok(bytes_of(&[self.cache.prefix_remove(&prompt_tokens(operation)?, operation.word("salt").as_bytes())?]))
    }

    fn prefix_stats(&mut self) -> Answer {
        let s = self.cache.prefix_stats()?;
        Ok(bytes_of(&[s.entries, s.tokens, s.record_bytes, s.budget_bytes, s.hits, s.misses, s.hit_tokens, s.evictions]))
    }
}

pub fn seq_options(operation: &Operation) -> Result<SeqOptions, String> {
    Ok(SeqOptions { first_position: operation.number("first_position")?, prompt_length: operation.number("prompt_length")? })
}

/// Token ids: those of `text`, from index `turn` on those of `other`.
fn prompt_tokens(operation: &Operation) -> Result<Vec<i64>, String> {
    let (n, text, other) = (operation.number("n")?, operation.number("text")?, operation.number("other")?);
    let turn = operation.number_or("turn", n)?;
    Ok((0..n).map(|i| 1000 * i + if i < turn { text } else { other }).collect())
}
