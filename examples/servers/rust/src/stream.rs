//! One request, from the queue to its last token.

use crate::model::Pending;
use crate::refusal::Refusal;
use kvc::Sequence;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};

/// Why a text ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finish {
    /// The model ended it.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
}

impl Finish {
    pub fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
        }
    }
}

/// What a connection hears of its request: it is admitted, text, and how it ended.
#[derive(Debug)]
pub enum Event {
    Admitted,
    Text(String),
    Finished { text: String, finish: Finish, written: usize },
    Failed(Refusal),
}

/// A request. The queue owns it before it is admitted, afterwards the engine.
pub struct Stream {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of the system prompt, 0 = none.
    pub system: usize,
    pub max_tokens: usize,
    /// Of the arena.
    pub share: f64,
    /// Prompt and text.
    pub tokens: Vec<i64>,
    /// How many of them are in the cache, from admission on.
    pub length: usize,
    pub sequence: Option<Sequence>,
    /// The system prompt needs no publishing.
    pub published: bool,
    pub pending: Pending,
    started: bool,
    events: UnboundedSender<Event>,
}

impl Stream {
    /// The stream and what its connection hears. The channel never holds more than max_tokens + 2 events.
    pub fn new(tokens: Vec<i64>, max_tokens: usize, system: usize) -> (Stream, UnboundedReceiver<Event>) {
        let (events, receiver) = unbounded_channel();
        let stream = Stream {
            prompt: tokens.len(),
            system,
            max_tokens,
            share: 0.0,
            tokens,
            length: 0,
            sequence: None,
            published: false,
            pending: [0; 8],
            started: false,
            events,
        };
        (stream, receiver)
    }

    /// Tokens of text.
    pub fn written(&self) -> usize {
        self.tokens.len() - self.prompt
    }

    /// Tokens that are not in the cache yet: a stream that writes has one.
    pub fn unread(&self) -> usize {
        self.tokens.len() - self.length
    }

    /// Has a prompt before it, or after a preemption all that it had.
    pub fn reads(&self) -> bool {
        self.written() == 0 || self.unread() > 1
    }

    /// The connection has dropped its receiver, because the client is gone.
    pub fn is_gone(&self) -> bool {
        self.events.is_closed()
    }

    /// Was admitted before, and lost its sequence since.
    pub fn started(&self) -> bool {
        self.started
    }

    pub fn start(&mut self) {
        if !self.started {
            self.started = true;
            self.send(Event::Admitted);
        }
    }

    /// A client that has gone hears nothing.
    pub fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    pub fn fail(&self, refusal: Refusal) {
        self.send(Event::Failed(refusal));
    }

    /// The sequence of a stream that runs.
    pub fn held(&self) -> &Sequence {
        self.sequence.as_ref().expect("a running stream has a sequence")
    }

    pub fn held_mut(&mut self) -> &mut Sequence {
        self.sequence.as_mut().expect("a running stream has a sequence")
    }
}

/// Tokens of the system prompt that a prompt begins with, 0 if there is none that is worth sharing.
pub fn system_tokens(tokens: &[i64], opening: &[i64], ending: i64) -> usize {
    const LEAST: usize = 64;
    if !tokens.starts_with(opening) {
        return 0;
    }
    let end = tokens.iter().position(|token| *token == ending).map_or(0, |at| at + 2);
    if end >= LEAST && end < tokens.len() {
        end
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_prompts_end_behind_their_mark() {
        let (opening, ending) = ([1, 9], 2);
        for (mark, length, expected) in [(70, 100, 72), (62, 100, 64), (61, 100, 0), (70, 72, 0), (70, 73, 72), (200, 100, 0)] {
            let mut tokens = vec![0; length];
            tokens[..2].copy_from_slice(&opening);
            if mark < length {
                tokens[mark] = ending;
            }
            assert_eq!(system_tokens(&tokens, &opening, ending), expected, "mark at {mark} of {length}");
            assert_eq!(system_tokens(&tokens, &[1, 8], ending), 0, "another opening");
        }
    }
}
