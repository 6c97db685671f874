//! A server of SmolLM2-135M with kvc as its KV cache. docs/SERVERS.md tells what it promises.

mod completions;
mod connections;
mod engine;
mod metrics;
mod model;
mod policy;
mod queue;
mod refusal;
mod request;
mod service;
mod settings;
mod step;
mod stream;

#[cfg(test)]
mod preemption;

use engine::Engine;
use kvc::{Cache, Options};
use model::Model;
use policy::{Admission, Policy};
use queue::Queue;
use service::Service;
use settings::Settings;
use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{signal, Signal, SignalKind};
use tokio::sync::oneshot;

/// How long running streams may go on at the end, and how long their last answers may take.
const GRACE: Duration = Duration::from_secs(2);
const LAST_ANSWERS: Duration = Duration::from_secs(1);

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    // One thread for all connections; it computes nothing. Signals are kept until there is something to end.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals =
        runtime.block_on(async { Ok::<_, io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)) })?;
    let Some(set) = Settings::parse(std::env::args().skip(1))? else { return Ok(()) };
    let model = Arc::new(Model::open(&set.model, set.threads)?);
    let policy = Policy::parse(&set.policy, &set.mode)?;
    let options = options(&model, &set, &policy);
    let cache = Arc::new(Cache::new(&options)?);
    let admission = Admission::new(&options, policy.clone());
    if admission.share(64)?.is_none() {
        return Err(format!("--arena-bytes {} holds not even one request of 64 tokens", set.arena_bytes).into());
    }
    let queue = Arc::new(Queue::new(policy.most, set.max_queue));
    let engine = Engine::new(model.clone(), cache.clone(), queue.clone(), policy);
    let service = Arc::new(Service::new(model, cache.clone(), queue, admission)?);
    let served = runtime.block_on(serve(engine, service, &set, signals));
    runtime.shutdown_background(); // a tokenizer that is still at work is not waited for
    served?;
    end(cache)
}

fn options(model: &Model, set: &Settings, policy: &Policy) -> Options {
    let shape = &model.shape;
    Options {
        layers: shape.layers,
        kv_heads: shape.kv_heads,
        q_heads: shape.q_heads,
        k_dim: shape.head_dim,
        codec: set.mode.clone(),
        arena_bytes: set.arena_bytes,
        threads: set.threads - 1,
        policy: policy.library.clone(),
        context_tokens: shape.context_tokens,
        ..Default::default()
    }
}

/// Serves until a signal says to end, and the engine has ended.
async fn serve(engine: Engine, service: Arc<Service>, set: &Settings, (mut terminate, mut interrupt): (Signal, Signal)) -> Outcome {
    let listener = TcpListener::bind(("127.0.0.1", set.port)).await?;
    connections::end_idle_readers(&listener, set.write_timeout)?;
    println!("listening on {}", listener.local_addr()?);
    let (says_ended, mut ended) = oneshot::channel();
    std::thread::Builder::new().name("engine".into()).spawn(move || {
        engine.run();
        let _ = says_ended.send(()); // nobody waits any more once the program ends
    })?;
    let queue = service.queue.clone();
    let (says_finish, finish) = oneshot::channel::<()>();
    let answering = tokio::spawn(connections::answer(listener, service.routes(), finish));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = &mut ended => return Err("the engine has failed".into()),
    }
    queue.close(GRACE);
    ended.await.map_err(|_| "the engine has failed")?;
    drop(says_finish);
    let _ = tokio::time::timeout(LAST_ANSWERS, answering).await; // who does not read is cut
    Ok(())
}

/// Checks that nothing is left, and destroys the cache.
fn end(cache: Arc<Cache>) -> Outcome {
    cache.prefix_clear()?;
    let stats = cache.stats()?;
    if (stats.sequences, stats.record_bytes, stats.open_steps) != (0, 0, 0) {
        let (sequences, bytes, steps) = (stats.sequences, stats.record_bytes, stats.open_steps);
        return Err(format!("{sequences} sequences, {bytes} record bytes and {steps} steps are left").into());
    }
    // A tokenizer that is still at work on an answer nobody waits for may hold it until the program is gone.
    Arc::into_inner(cache).map_or(Ok(()), |cache| Ok(cache.close()?))
}
