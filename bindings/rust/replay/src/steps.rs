//! The verbs of steps.

use crate::buffer::{type_of, Buffer, Number};
use crate::numbers::{Kind, Part, Stream};
use crate::replay::{Answer, Borrowed, Replay};
use crate::script::Operation;
use kvc::{AttendOptions, Bf16, Dtype, RawStep, Step, StepOptions, F16};
use std::mem::ManuallyDrop;

const TYPES: [(&str, Dtype); 3] = [("f32", Dtype::F32), ("f16", Dtype::F16), ("bf16", Dtype::Bf16)];
const KINDS: [(&str, Kind); 10] = [
    ("normal", Kind::Normal),
    ("sharp", Kind::Sharp),
    ("constant", Kind::Constant),
    ("zero", Kind::Zero),
    ("outlier", Kind::Outlier),
    ("tiny", Kind::Tiny),
    ("extreme", Kind::Extreme),
    ("huge", Kind::Huge),
    ("nan", Kind::Nan),
    ("inf", Kind::Inf),
];

/// New tokens of one sequence: where its numbers come from, the position of the first one, and how many.
#[derive(Clone, Copy)]
struct New {
    data: u64,
    first: i64,
    count: i64,
}

/// A step as scripts know it: a handle that stays when the step has ended, and what it was begun with.
#[derive(Clone)]
pub struct Begun {
    handle: *mut RawStep,
    options: StepOptions,
    padding: i64,
    sequences: Vec<New>,
}

impl Default for Begun {
    fn default() -> Self {
        Begun { handle: std::ptr::null_mut(), options: StepOptions::default(), padding: 0, sequences: vec![] }
    }
}

impl Begun {
    fn tokens(&self) -> i64 {
        self.sequences.iter().map(|new| new.count).sum()
    }
}

/// The body of a generic function for one of the types of elements.
macro_rules! for_type {
    ($dtype:expr, $T:ident => $call:expr) => {
        match $dtype {
            Dtype::F32 => {
                type $T = f32;
                $call
            }
            Dtype::F16 => {
                type $T = F16;
                $call
            }
            Dtype::Bf16 => {
                type $T = Bf16;
                $call
            }
        }
    };
}

impl Replay<'_> {
    pub fn step_verb(&mut self, operation: &Operation) -> Answer {
        if operation.verb == "begin" {
            return self.begin(operation);
        }
        let begun = self.steps.get(operation.name(0)).cloned().unwrap_or_default();
        let mut step = self.step(&begun);
        match operation.verb {
            "append" => for_type!(begun.options.kv_dtype, T => self.append::<T>(operation, &begun)),
            "attend" => {
                for_type!(begun.options.q_dtype, Q => for_type!(begun.options.out_dtype, O => self.attend::<Q, O>(operation, &begun)))
            }
            "commit" => {
                let accepted: Vec<i64> = operation.counts.iter().map(|(_, count)| *count).collect();
                step.try_commit((!accepted.is_empty()).then_some(&accepted[..]))?;
                Ok(vec![])
            }
            _ => {
                ManuallyDrop::into_inner(step).abort()?;
                Ok(vec![])
            }
        }
    }

    /// The object behind a name. Scripts go on with handles whose steps have ended, so it must not undo what it stands for.
    fn step(&self, begun: &Begun) -> ManuallyDrop<Step<'_>> {
        ManuallyDrop::new(unsafe { Step::from_raw(&self.cache, begun.handle, &begun.options) })
    }

    fn begin(&mut self, operation: &Operation) -> Answer {
        let objects: Vec<_> = operation.counts.iter().map(|(name, _)| self.sequence(name)).collect();
        let new = |(object, (name, count)): (&Borrowed, &(&str, i64))| New {
            data: self.named(name).data,
            first: object.length().unwrap_or(0),
            count: *count,
        };
        let sequences: Vec<New> = objects.iter().zip(&operation.counts).map(new).collect();
        let options = self.step_options(operation)?;
        let pairs = objects.iter().zip(&sequences).map(|(object, new)| (&**object, new.count));
        let step = if operation.has("guard") || operation.has("position_error") {
            let error = operation.number("position_error")?;
            let positions: Vec<i64> = sequences.iter().map(|new| new.first + error).collect();
            self.cache.begin_at(pairs, &positions, &options)?
        } else {
            self.cache.begin(pairs, &options)?
        };
        let handle = step.into_raw();
        self.steps.insert(operation.name(0).to_owned(), Begun { handle, options, padding: operation.number("padding")?, sequences });
        Ok(vec![])
    }

    fn step_options(&self, operation: &Operation) -> Result<StepOptions, String> {
        let mut options = StepOptions {
            kv_dtype: operation.choice("kv", &TYPES)?,
            q_dtype: operation.choice("q", &TYPES)?,
            out_dtype: operation.choice("out", &TYPES)?,
            partial_commit: operation.flag("partial_commit")?,
            strict: operation.flag("strict")?,
            accumulate: operation.flag("accumulate")?,
            ..Default::default()
        };
        let padding = operation.number("padding")?;
        if padding > 0 {
            let shape = self.shapes.layer_of(operation)?;
            options.k_token_stride = shape.kv_heads * shape.k_dim + padding;
            options.v_token_stride = shape.kv_heads * shape.v_dim + padding;
            options.q_token_stride = shape.q_heads * shape.k_dim + padding;
            options.out_token_stride = shape.q_heads * shape.v_dim + padding;
        }
        Ok(options)
    }

    /// The numbers of an append or attend, `[tokens][heads * dim]`.
    fn numbers<T: Number>(&self, operation: &Operation, begun: &Begun, part: Part, heads: i64, dim: i64) -> Result<Buffer<T>, String> {
        let (seed, layer, kind) = (operation.seed("seed")?, operation.number("layer")?, operation.choice("kind", &KINDS)?);
        let mut numbers = Vec::new();
        for new in &begun.sequences {
            let stream = Stream { seed, data: new.data, layer, part, kind, element: type_of(T::DTYPE) };
            stream.extend(&mut numbers, new.first, new.count, heads, dim);
        }
        match (numbers.last_mut(), kind) {
            (Some(last), Kind::Nan) => *last = f32::NAN,
            (Some(last), Kind::Inf) => *last = f32::INFINITY,
            _ => {}
        }
        Ok(Buffer::filled(&numbers, heads * dim, begun.padding))
    }

    fn append<T: Number>(&self, operation: &Operation, begun: &Begun) -> Answer {
        let shape = self.shapes.layer_of(operation)?;
        let k = self.numbers::<T>(operation, begun, Part::Keys, shape.kv_heads, shape.k_dim)?;
        let v = self.numbers::<T>(operation, begun, Part::Values, shape.kv_heads, shape.v_dim)?;
        self.step(begun).append(operation.number("layer")?, &k.elements, &v.elements)?;
        Ok(vec![])
    }

    fn attend<Q: Number, O: Number>(&self, operation: &Operation, begun: &Begun) -> Answer {
        let shape = self.shapes.layer_of(operation)?;
        let q = self.numbers::<Q>(operation, begun, Part::Queries, shape.q_heads, shape.k_dim)?;
        let mut out = Buffer::<O>::empty(begun.tokens(), shape.q_heads * shape.v_dim, begun.padding);
        let options = AttendOptions {
            scale: operation.real("scale")? as f32,
            soft_cap: operation.real("soft_cap")? as f32,
            partial: operation.flag("partial")?,
            sliding_window: operation.number("sliding_window")?,
            causal_offset: operation.number("causal_offset")?,
        };
        let mut lse = (operation.number_or("lse", 1)? != 0).then(|| vec![0f32; (begun.tokens() * shape.q_heads) as usize]);
        let layer = operation.number("layer")?;
        let answered = self.step(begun).attend_with(layer, &q.elements, &mut out.elements, lse.as_deref_mut(), &options);
        let mut bytes = out.bytes()?; // also where it failed: nothing may have been written between the rows
        answered?;
        bytes.extend(lse.iter().flatten().flat_map(|x| x.to_le_bytes()));
        Ok(bytes)
    }
}
