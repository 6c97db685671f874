//! What answers HTTP requests: the engine's front, and the routes to it.

use crate::completions::complete;
use crate::model::Model;
use crate::policy::Admission;
use crate::queue::Queue;
use crate::refusal::{answer, Refusal};
use crate::request::Request;
use crate::stream::{system_tokens, Event, Stream};
use axum::extract::State;
use axum::http::header::{ALLOW, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use axum::http::{Method, StatusCode, Uri, Version};
use axum::middleware::{from_fn, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::Router;
use kvc::Cache;
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::UnboundedReceiver;

/// What a body may have.
pub const BODY_BYTES: usize = 1 << 20;
pub const MODEL: &str = "smollm2-135m";

pub struct Service {
    pub model: Arc<Model>,
    pub cache: Arc<Cache>,
    pub queue: Arc<Queue>,
    admission: Admission,
    /// Tokens that begin a system prompt, and the one that ends it.
    opening: Vec<i64>,
    ending: i64,
    ids: AtomicU64,
    began: u64,
}

impl Service {
    pub fn new(model: Arc<Model>, cache: Arc<Cache>, queue: Arc<Queue>, admission: Admission) -> Result<Service, String> {
        let opening = model.encode("<|im_start|>system")?;
        let ending = *model.encode("<|im_end|>")?.first().ok_or("the tokenizer knows no <|im_end|>")?;
        Ok(Service { model, cache, queue, admission, opening, ending, ids: AtomicU64::new(0), began: now() })
    }

    /// Queues a request: its number, its prompt's tokens, and what will be heard of it.
    pub fn submit(&self, request: &Request) -> Result<(u64, usize, UnboundedReceiver<Event>), Refusal> {
        let (bytes, most) = (request.prompt.len(), self.model.shape.prompt_bytes as usize);
        if bytes > most {
            let message = format!("a prompt of {bytes} bytes is longer than the model's context, which holds {most} at most");
            return Err(Refusal::invalid(message));
        }
        let tokens = self.model.encode(&request.prompt).map_err(Refusal::internal)?;
        let (prompt, max_tokens, context) = (tokens.len(), request.max_tokens, self.model.shape.context_tokens as usize);
        let asked = format!("{prompt} tokens of prompt and {max_tokens} of max_tokens");
        if prompt + max_tokens > context {
            return Err(Refusal::invalid(format!("{asked} are more than the model's context of {context}")));
        }
        let share = self.admission.share(prompt + max_tokens).map_err(Refusal::internal)?;
        let system = system_tokens(&tokens, &self.opening, self.ending);
        let (mut stream, events) = Stream::new(tokens, max_tokens, system);
        stream.share = share.ok_or_else(|| Refusal::invalid(format!("{asked} are more than the server's memory holds")))?;
        self.queue.submit(stream)?;
        Ok((self.ids.fetch_add(1, Ordering::Relaxed) + 1, prompt, events))
    }

    pub fn routes(self: Arc<Self>) -> Router {
        Router::new()
            .route("/v1/completions", post(complete))
            .route("/v1/models", get(models).head(wrong_method))
            .route("/metrics", get(metrics).head(wrong_method))
            .route("/healthz", get(health).head(wrong_method))
            .fallback(|uri: Uri| async move { Refusal::new(StatusCode::NOT_FOUND, format!("there is no {}", uri.path())) })
            .method_not_allowed_fallback(wrong_method)
            .layer(from_fn(check_head))
            .with_state(self)
    }
}

/// What hyper takes and HTTP/1.1 does not, or nobody here understands.
async fn check_head(request: axum::extract::Request, next: Next) -> Response {
    let codings: Vec<_> = request.headers().get_all(TRANSFER_ENCODING).iter().collect();
    if codings.len() > 1 || codings.iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Refusal::new(StatusCode::NOT_IMPLEMENTED, "no Transfer-Encoding but chunked is understood, once").into_response();
    }
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Refusal::invalid(format!("{hosts} Host fields were given; it must be one")).into_response();
    }
    next.run(request).await
}

/// Answers HEAD, too, which axum would take for a GET.
async fn wrong_method(method: Method, uri: Uri) -> Response {
    let allowed = if uri.path() == "/v1/completions" { "POST" } else { "GET" };
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} {}: only {allowed} is allowed", uri.path()));
    ([(ALLOW, allowed)], refusal).into_response()
}

async fn health(State(service): State<Arc<Service>>) -> Response {
    if service.queue.is_closing() {
        return Refusal::shutdown().into_response();
    }
    answer(StatusCode::OK, &json!({"status": "ok"}))
}

async fn models(State(service): State<Arc<Service>>) -> Response {
    let model = json!({"id": MODEL, "object": "model", "created": service.began, "owned_by": "kvc"});
    answer(StatusCode::OK, &json!({"object": "list", "data": [model]}))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

async fn metrics(State(service): State<Arc<Service>>) -> Result<Response, Refusal> {
    let text = aside(move || service.metrics().map_err(Refusal::internal)).await?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// Runs what computes or may wait for the engine on another thread than the one that all connections share.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(Refusal::internal)?
}
