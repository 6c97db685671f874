//! The verbs of snapshots.

use crate::replay::{bytes_of, Answer, Replay, Stop};
use crate::script::Operation;

impl Replay<'_> {
    pub fn export(&mut self, operation: &Operation) -> Answer {
        let objects: Vec<_> = operation.names.iter().skip(1).map(|name| self.sequence(name)).collect();
        let sequences: Vec<_> = objects.iter().map(|object| &**object).collect();
        let snapshot = self.cache.snapshot_export((!sequences.is_empty()).then_some(&sequences[..]))?;
        let mut bytes = bytes_of(&[snapshot.len() as i64]);
        bytes.extend(&snapshot);
        self.snapshots.insert(operation.name(0).to_owned(), snapshot);
        Ok(bytes)
    }

    pub fn import(&mut self, operation: &Operation) -> Answer {
        let mut snapshot = self.snapshots.get(operation.name(0)).cloned().unwrap_or_default();
        if operation.has("flip") && !snapshot.is_empty() {
            let at = operation.number("flip")?.rem_euclid(snapshot.len() as i64);
            snapshot[at as usize] ^= 1;
        }
        let names = operation.names.get(1..).unwrap_or_default();
        if names.is_empty() {
            return Ok(bytes_of(&[self.cache.snapshot_sequences(&snapshot)?])); // only their number is asked for
        }
        let made = self.cache.snapshot_import(&snapshot)?;
        if names.len() != made.len() {
            return Err(Stop::Fault(format!("the snapshot has {} sequences, the line {} names", made.len(), names.len())));
        }
        let n = made.len() as i64;
        for (name, sequence) in names.iter().zip(made) {
            self.name(name, sequence, operation.seed("data")?, operation.number("first_position")?);
        }
        Ok(bytes_of(&[n]))
    }
}
