//! Tests of what a black box does not show: admission that lets in too many makes streams lose their sequences, and what they write stays
//! the same; a stream without tokens is refused at the queue, too.

use crate::engine::Engine;
use crate::model::Model;
use crate::policy::{Admission, Policy};
use crate::queue::Queue;
use crate::stream::{Event, Stream};
use kvc::{Cache, Options};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

const TEXT_TOKENS: usize = 150;
const PROMPT: &str =
    "<|im_start|>user\nTell me a long story about a river, a mill and a miller's daughter.<|im_end|>\n<|im_start|>assistant\n";

struct Running {
    model: Arc<Model>,
    cache: Arc<Cache>,
    queue: Arc<Queue>,
    admission: Admission,
    thread: Option<JoinHandle<()>>,
}

/// An engine over fp16 pages, whose admission lets in so many times what fits.
fn start(arena_bytes: i64, times: f64) -> Running {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../build/servers/model");
    let model = Arc::new(Model::open(folder, 2).expect("a model"));
    let shape = model.shape;
    let options = Options {
        layers: shape.layers,
        kv_heads: shape.kv_heads,
        q_heads: shape.q_heads,
        k_dim: shape.head_dim,
        codec: "fp16".into(),
        arena_bytes,
        threads: 1,
        context_tokens: shape.context_tokens,
        ..Default::default()
    };
    let cache = Arc::new(Cache::new(&options).expect("a cache"));
    let policy = Policy { most: times, ..Policy::parse("", "fp16").expect("a policy") };
    let queue = Arc::new(Queue::new(times, 0));
    let engine = Engine::new(model.clone(), cache.clone(), queue.clone(), policy.clone());
    let thread = Some(std::thread::spawn(move || engine.run()));
    Running { model, cache, queue, admission: Admission::new(&options, policy), thread }
}

impl Running {
    fn submit(&self) -> UnboundedReceiver<Event> {
        let tokens = self.model.encode(PROMPT).expect("tokens");
        let (mut stream, events) = Stream::new(tokens, TEXT_TOKENS, 0);
        stream.share = self.admission.share(stream.prompt + TEXT_TOKENS).expect("a plan").expect("room for one");
        self.queue.submit(stream).expect("room in the queue");
        events
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.queue.close(Duration::from_secs(1));
        self.thread.take().expect("a thread").join().expect("an engine that ends");
        let stats = self.cache.stats().expect("stats");
        assert_eq!((stats.sequences, stats.record_bytes), (0, 0));
    }
}

fn text(mut events: UnboundedReceiver<Event>) -> String {
    let mut all = String::new();
    loop {
        match events.blocking_recv().expect("an end") {
            Event::Admitted => {}
            Event::Text(text) => all += &text,
            Event::Finished { text, .. } => return all + &text,
            Event::Failed(refusal) => panic!("{}", refusal.message),
        }
    }
}

#[test]
fn a_prompt_without_tokens_is_refused() {
    let running = start(12 << 20, 1.0);
    let refusal = running.queue.submit(Stream::new(Vec::new(), 1, 0).0).expect_err("it was taken");
    assert_eq!(refusal.status, 400);
}

#[test]
fn preempted_streams_go_on_as_if_nothing_had_happened() {
    const ROOM: i64 = 12 << 20; // two of the streams
    let alone = start(ROOM, 1.0);
    let expected = text(alone.submit());
    assert!(expected.len() >= 200, "{expected}");
    assert_eq!(alone.queue.count.preempted.get(), 0);
    let crowded = start(ROOM, 2.0);
    let streams: Vec<_> = (0..4).map(|_| crowded.submit()).collect();
    for (i, stream) in streams.into_iter().enumerate() {
        assert_eq!(text(stream), expected, "stream {i}");
    }
    assert!(crowded.queue.count.preempted.get() > 0, "nothing was preempted: the test is too small");
}
