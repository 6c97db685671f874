//! What connections and the engine share: requests that wait, and how much of the arena those take that run.

use crate::policy::TOLERANCE;
use crate::refusal::Refusal;
use crate::stream::Stream;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Counts for /metrics, which move while the engine runs.
#[derive(Default)]
pub struct Count(AtomicI64);

impl Count {
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as i64, Ordering::Relaxed);
    }

    pub fn set(&self, n: usize) {
        self.0.store(n as i64, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
pub struct Counters {
    pub prompt_tokens: Count,
    pub text_tokens: Count,
    pub looked_up: Count,
    pub found: Count,
    pub stopped: Count,
    pub reached_length: Count,
    pub aborted: Count,
    pub rejected: Count,
    pub preempted: Count,
    pub stepped_down: Count,
    pub evicted: Count,
    /// Tokens that running streams have in the cache.
    pub held: Count,
}

pub struct Queue {
    /// What shares may add up to.
    pub most: f64,
    max_waiting: usize,
    pub count: Counters,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub struct State {
    pub waiting: VecDeque<Stream>,
    /// When running streams are cut; none = the server does not shut down.
    pub closing: Option<Instant>,
    running: usize,
    taken: f64,
}

impl State {
    /// The engine says what runs, whenever that has changed.
    pub fn note(&mut self, running: &[Stream]) {
        self.running = running.len();
        self.taken = running.iter().map(|stream| stream.share).sum();
    }

    /// The head of the queue, if its share fits beside what runs.
    pub fn head(&mut self, most: f64) -> Option<Stream> {
        let fits = self.waiting.front().is_some_and(|stream| self.taken + stream.share <= most + TOLERANCE);
        fits.then(|| self.waiting.pop_front()).flatten()
    }
}

impl Queue {
    pub fn new(most: f64, max_waiting: usize) -> Queue {
        Queue { most, max_waiting, count: Counters::default(), state: Mutex::default(), changed: Condvar::new() }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the engine is gone, and the program with it")
    }

    /// Queues a request; refused if it cannot be admitted at once and the queue is full. A prompt without tokens has no row to choose from:
    /// such a stream would be handed its neighbour's tokens.
    pub fn submit(&self, stream: Stream) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.closing.is_some() {
            return Err(Refusal::shutdown());
        }
        if stream.prompt == 0 {
            return Err(Refusal::invalid("the prompt has no tokens"));
        }
        let (mut taken, mut waiting) = (state.taken, 0);
        for share in state.waiting.iter().map(|other| other.share).chain([stream.share]) {
            taken += share;
            waiting += usize::from(taken > self.most + TOLERANCE);
        }
        if waiting > self.max_waiting {
            self.count.rejected.add(1);
            return Err(Refusal::busy());
        }
        state.waiting.push_back(stream);
        self.changed.notify_one();
        Ok(())
    }

    /// No new requests from now on; what runs may go on for a while.
    pub fn close(&self, grace: Duration) {
        self.lock().closing = Some(Instant::now() + grace);
        self.changed.notify_one();
    }

    pub fn is_closing(&self) -> bool {
        self.lock().closing.is_some()
    }

    /// What runs and what waits.
    pub fn depth(&self) -> (usize, usize) {
        let state = self.lock();
        (state.running, state.waiting.len())
    }

    /// Sleeps while there is nothing to do.
    pub fn sleep(&self) {
        let idle = |state: &mut State| state.waiting.is_empty() && state.closing.is_none();
        drop(self.changed.wait_while(self.lock(), idle));
    }
}
