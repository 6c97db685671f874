//! The engine: one thread that owns the sequences and computes for all requests at once.

use crate::model::Model;
use crate::policy::{Policy, Pressure};
use crate::queue::Queue;
use crate::refusal::Refusal;
use crate::step::Rows;
use crate::stream::{Event, Finish, Stream};
use kvc::{Cache, SeqOptions, Status};
use std::sync::Arc;
use std::time::Instant;

pub struct Engine {
    pub model: Arc<Model>,
    pub cache: Arc<Cache>,
    pub queue: Arc<Queue>,
    policy: Policy,
    /// Oldest first.
    pub running: Vec<Stream>,
    pub rows: Rows,
}

impl Engine {
    pub fn new(model: Arc<Model>, cache: Arc<Cache>, queue: Arc<Queue>, policy: Policy) -> Engine {
        Engine { model, cache, queue, policy, running: Vec::new(), rows: Rows::default() }
    }

    /// The loop; it ends when the queue is closed and nothing runs any more.
    pub fn run(mut self) {
        loop {
            self.leave();
            if self.cut() {
                return;
            }
            self.admit();
            if self.running.is_empty() {
                self.queue.sleep();
            } else {
                self.step();
            }
        }
    }

    /// Drops the requests whose clients have gone.
    fn leave(&mut self) {
        let mut state = self.queue.lock();
        let before = state.waiting.len() + self.running.len();
        state.waiting.retain(|stream| !stream.is_gone());
        self.running.retain(|stream| !stream.is_gone());
        self.queue.count.aborted.add(before - state.waiting.len() - self.running.len());
        self.queue.count.held.set(self.running.iter().map(|stream| stream.length).sum());
        state.note(&self.running);
    }

    /// Ends requests once the server shuts down: true if nothing is left.
    fn cut(&mut self) -> bool {
        let mut state = self.queue.lock();
        let Some(end) = state.closing else {
            return false;
        };
        state.waiting.drain(..).for_each(|stream| stream.fail(Refusal::shutdown()));
        if Instant::now() >= end {
            for mut stream in self.running.drain(..) {
                stream.sequence = None;
                stream.fail(Refusal::shutdown());
            }
            state.note(&self.running);
        }
        self.running.is_empty()
    }

    /// Takes a running stream off the cache.
    pub fn release(&mut self, index: usize) -> Stream {
        let mut stream = self.running.remove(index);
        let sequence = stream.sequence.take().expect("a running stream has a sequence");
        sequence.close().expect("no step is open: only a fault of the program or of the library gets here");
        self.queue.lock().note(&self.running);
        stream
    }

    /// Takes requests from the head of the queue while their shares fit.
    fn admit(&mut self) {
        let mut state = self.queue.lock();
        while let Some(mut stream) = state.head(self.queue.most) {
            let options = SeqOptions { prompt_length: stream.prompt as i64, ..Default::default() };
            match self.cache.prefix_lookup(&stream.tokens[..stream.prompt], b"", &options) {
                Ok((sequence, hit)) => {
                    stream.sequence = Some(sequence);
                    stream.length = hit.tokens as usize;
                    stream.published = stream.system == 0 || stream.length >= stream.system;
                    let count = &self.queue.count;
                    count.prompt_tokens.add(if stream.started() { 0 } else { stream.prompt });
                    count.looked_up.add(stream.prompt);
                    count.found.add(stream.length);
                    stream.start();
                    self.running.push(stream);
                }
                Err(error) if error.status == Status::NoMemory && !self.running.is_empty() => {
                    state.waiting.push_front(stream); // a later step will have ended something
                    return;
                }
                Err(error) => stream.fail(Refusal::internal(error)),
            }
            state.note(&self.running);
        }
    }

    /// Makes room for the step that found none: true if it is worth another try.
    pub fn make_room(&mut self) -> bool {
        if let Some(given) = self.policy.relieve(&mut self.running) {
            let count = &self.queue.count;
            if given == Pressure::StepDown { &count.stepped_down } else { &count.evicted }.add(1);
            return true;
        }
        if self.rows.entries.len() > 1 {
            self.rows.entries.pop();
            return true;
        }
        if self.preempt(self.rows.entries[0].stream) {
            return true;
        }
        let tokens = &mut self.rows.entries[0].tokens;
        *tokens /= 2;
        *tokens > 0
    }

    /// Takes the youngest running stream but one off the cache and puts it back to the head of the queue.
    fn preempt(&mut self, but: usize) -> bool {
        let Some(youngest) = (0..self.running.len()).rev().find(|index| *index != but) else {
            return false;
        };
        let stream = self.release(youngest);
        self.queue.lock().waiting.push_front(stream);
        self.queue.count.preempted.add(1);
        self.rows.entries[0].stream -= usize::from(youngest < but);
        true
    }

    /// Gives a stream the token that follows what it has read; the last event if it is complete.
    pub fn advance(&mut self, index: usize, token: i64) -> Option<Event> {
        let (stream, count) = (&mut self.running[index], &self.queue.count);
        let mut text = String::new();
        let finish = if token == self.model.shape.end_token {
            count.stopped.add(1);
            Finish::Stop
        } else {
            stream.tokens.push(token);
            text = self.model.text(token, &mut stream.pending);
            count.text_tokens.add(1);
            if stream.written() < stream.max_tokens {
                stream.send(Event::Text(text));
                return None;
            }
            count.reached_length.add(1);
            Finish::Length
        };
        text += &self.model.text(-1, &mut stream.pending);
        Some(Event::Finished { text, finish, written: stream.written() })
    }
}
