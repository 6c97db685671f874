//! The verbs of one sequence: its life and what can be read of it.

use crate::replay::{bytes_of, seq_options, Answer, Replay, Stop};
use crate::script::Operation;
use kvc::{Cut, Part};

fn cut_of(operation: &Operation) -> Result<Cut, String> {
    operation.choice("cut", &[("exact", Cut::Exact), ("inexact", Cut::Inexact)])
}

impl Replay<'_> {
    pub fn sequence_verb(&mut self, operation: &Operation) -> Answer {
        let mut sequence = self.sequence(operation.name(0));
        let (layer, head) = (operation.number("layer")?, operation.number("head")?);
        let number = |given: kvc::Result<i64>| Ok(bytes_of(&[given?]));
        let list = |given: kvc::Result<Vec<i64>>| Ok(bytes_of(&given?));
        let nothing = |given: kvc::Result<()>| Ok(given.map(|()| vec![])?);
        match operation.verb {
            "seq" => self.seq(operation),
            "fork" => self.fork(operation),
            "truncate" => nothing(sequence.truncate(operation.number("length")?, cut_of(operation)?)),
            "destroy" => nothing(sequence.close()),
            "prompt" => nothing(sequence.prompt_set(operation.number("end")?)),
            "length" => number(sequence.length()),
            "floor" => number(sequence.exact_floor()),
            "live" => number(sequence.live(layer, head)),
            "positions" => list(sequence.positions(layer, head)),
            "mass" => list(sequence.read_mass(layer, head)),
            "counts" => list(sequence.read_counts(layer, head)),
            "rungs" => list(sequence.read_rungs(layer, head)),
            "read" => self.read(operation, layer, head),
            "codes" => self.codes(operation, layer, head),
            "stats" => {
                let s = sequence.stats()?;
                Ok(bytes_of(&[s.tokens, s.record_bytes, s.shared_bytes, s.fp16_bytes]))
            }
            unknown => Err(Stop::Fault(format!("unknown operation {unknown}"))),
        }
    }

    fn seq(&mut self, operation: &Operation) -> Answer {
        let options = seq_options(operation)?;
        let made = self.cache.sequence(&options)?;
        self.name(operation.name(0), made, operation.seed("data")?, options.first_position);
        Ok(vec![])
    }

    fn fork(&mut self, operation: &Operation) -> Answer {
        let from = self.named(operation.name(1));
        let made = self.sequence(operation.name(1)).fork(operation.number("length")?, cut_of(operation)?)?;
        let data = if operation.has("data") { operation.seed("data")? } else { from.data };
        self.name(operation.name(0), made, data, from.first_position);
        Ok(vec![])
    }

    fn part_and_dim(&self, operation: &Operation) -> Result<(Part, i64), String> {
        let (part, layer) =
            (operation.choice("part", &[("keys", Part::Keys), ("values", Part::Values)])?, self.shapes.layer_of(operation)?);
        Ok((part, if part == Part::Keys { layer.k_dim } else { layer.v_dim }))
    }

    fn read(&mut self, operation: &Operation, layer: i64, head: i64) -> Answer {
        let (sequence, first) = (self.sequence(operation.name(0)), operation.number("first")?);
        let n = operation.number_or("n", sequence.live(layer, head).unwrap_or(0) - first)?;
        let (part, dim) = self.part_and_dim(operation)?;
        let mut values = vec![0f32; (n.max(0) * dim) as usize];
        sequence.read(layer, head, part, first..first.saturating_add(n), &mut values)?;
        Ok(values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn codes(&mut self, operation: &Operation, layer: i64, head: i64) -> Answer {
        let (sequence, (part, dim)) = (self.sequence(operation.name(0)), self.part_and_dim(operation)?);
        let tokens = sequence.read_codes(layer, head, part, &mut [])?;
        let mut codes = vec![0u8; (tokens * dim) as usize];
        let mut bytes = bytes_of(&[sequence.read_codes(layer, head, part, &mut codes)?]);
        bytes.extend(codes);
        Ok(bytes)
    }
}
