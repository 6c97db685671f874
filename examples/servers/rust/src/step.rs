//! One step of the engine: who takes part, the forward pass around kvc's appends and attends, and what comes of it.

use crate::engine::Engine;
use crate::policy::STEP_ROWS;
use crate::refusal::Refusal;
use kvc::{PrefixOptions, Status, StepOptions};
use std::cmp::Reverse;

/// A stream in a step, by its place among those that run.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub stream: usize,
    pub tokens: usize,
}

/// The buffers of a step; they keep the room of the largest one.
#[derive(Default)]
pub struct Rows {
    pub entries: Vec<Entry>,
    tokens: Vec<i64>,
    positions: Vec<i64>,
    x: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    last_rows: Vec<i64>,
    chosen: Vec<i64>,
}

impl Engine {
    /// Runs one step and hands its tokens out. What fails, fails for the streams in it.
    pub fn step(&mut self) {
        self.compose();
        match self.forward() {
            Ok(()) => self.settle(),
            Err(message) => {
                let mut places: Vec<usize> = self.rows.entries.iter().map(|entry| entry.stream).collect();
                places.sort_by_key(|place| Reverse(*place)); // those behind a released one move up
                for place in places {
                    self.release(place).fail(Refusal::internal(&message));
                }
            }
        }
    }

    /// Lists who takes part: streams that write, oldest first, then the oldest that reads.
    fn compose(&mut self) {
        const LEAST: usize = 64; // rows of a prompt, however many streams write
        let entries = &mut self.rows.entries;
        entries.clear();
        let writers = self.running.iter().enumerate().filter(|(_, stream)| !stream.reads());
        entries.extend(writers.map(|(stream, _)| Entry { stream, tokens: 1 }));
        let Some(stream) = self.running.iter().position(|stream| stream.reads()) else {
            return;
        };
        let reader = &self.running[stream];
        let mut tokens = reader.unread().min(STEP_ROWS.saturating_sub(entries.len()).max(LEAST));
        if !reader.published && reader.length < reader.system {
            tokens = tokens.min(reader.system - reader.length);
        }
        if let Ok(limit) = reader.held().step_limit() {
            tokens = tokens.min(limit as usize);
        }
        entries.push(Entry { stream, tokens });
    }

    /// Computes the step, or less of it where there is no room for all.
    fn forward(&mut self) -> Result<(), String> {
        let options = StepOptions::default();
        let mut step = loop {
            let entries = self.rows.entries.iter().map(|entry| (self.running[entry.stream].held(), entry.tokens as i64));
            let error = match self.cache.begin(entries, &options) {
                Ok(step) => break step,
                Err(error) => error,
            };
            if error.status != Status::NoMemory || !self.make_room() {
                return Err(error.to_string());
            }
        };
        let (rows, model) = (&mut self.rows, &*self.model);
        rows.fill(&self.running, model);
        model.embed(&rows.tokens, &mut rows.x)?;
        for layer in 0..model.shape.layers {
            model.project(layer, &rows.x, &rows.positions, &mut rows.q, &mut rows.k, &mut rows.v)?;
            step.append(layer, &rows.k, &rows.v).map_err(|error| error.to_string())?;
            step.attend(layer, &rows.q, &mut rows.attended).map_err(|error| error.to_string())?;
            model.mix(layer, &mut rows.x, &rows.attended)?;
        }
        step.commit().map_err(|error| error.to_string())?;
        model.choose(&rows.x, &rows.last_rows, &mut rows.chosen)
    }

    /// Moves the streams of a step on; those that are complete give their memory back before the client hears of it.
    fn settle(&mut self) {
        let (mut ended, mut next) = (Vec::new(), 0);
        for i in 0..self.rows.entries.len() {
            let Entry { stream: place, tokens } = self.rows.entries[i];
            let stream = &mut self.running[place];
            stream.length += tokens;
            if !stream.published && stream.length == stream.system {
                stream.published = true;
                // An index without room is no error.
                let _ = self.cache.prefix_publish(stream.held(), &stream.tokens[..stream.system], b"", &PrefixOptions::default());
            }
            if stream.unread() == 0 {
                let token = self.rows.chosen[next];
                next += 1;
                ended.extend(self.advance(place, token).map(|event| (place, event)));
            }
        }
        ended.sort_by_key(|(place, _)| Reverse(*place));
        for (place, event) in ended {
            self.release(place).send(event);
        }
    }
}

impl Rows {
    /// Lays out the rows of the step that was begun.
    fn fill(&mut self, running: &[crate::stream::Stream], model: &crate::model::Model) {
        self.tokens.clear();
        self.positions.clear();
        self.last_rows.clear();
        for entry in &self.entries {
            let stream = &running[entry.stream];
            let end = stream.length + entry.tokens;
            self.tokens.extend_from_slice(&stream.tokens[stream.length..end]);
            self.positions.extend((stream.length..end).map(|position| position as i64));
            if entry.tokens > 0 && end == stream.tokens.len() {
                self.last_rows.push(self.tokens.len() as i64 - 1);
            }
        }
        let n = self.tokens.len();
        self.x.resize(n * model.width(), 0.0);
        self.q.resize(n * model.q_width(), 0.0);
        self.attended.resize(n * model.q_width(), 0.0);
        self.k.resize(n * model.kv_width(), 0.0);
        self.v.resize(n * model.kv_width(), 0.0);
        self.chosen.resize(self.last_rows.len(), 0);
    }
}
