//! POST /v1/completions, whole or as a stream. When the client goes away this code is dropped, and the receiver of events with it.

use crate::refusal::{answer, Refusal};
use crate::request::Request;
use crate::service::{aside, now, Service, BODY_BYTES, MODEL};
use crate::stream::{Event, Finish};
use axum::body::{to_bytes, Body, HttpBody};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{unfold, TryStreamExt};
use serde_json::{json, Value};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

/// In which a body must come.
const BODY_TIME: Duration = Duration::from_secs(10);
/// In which the rest of one comes that was refused.
const LINGER: Duration = Duration::from_secs(1);

/// What all objects of one answer have in common.
struct Head {
    id: u64,
    created: u64,
}

impl Head {
    fn new(id: u64) -> Head {
        Head { id, created: now() }
    }

    fn object(&self, text: &str, finish: Option<Finish>) -> Value {
        json!({
            "id": format!("cmpl-{}", self.id), "object": "text_completion", "created": self.created, "model": MODEL,
            "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish.map(Finish::name)}],
        })
    }
}

pub async fn complete(State(service): State<Arc<Service>>, request: axum::extract::Request) -> Result<Response, Refusal> {
    let body = timeout(BODY_TIME, body_of(request))
        .await
        .map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"))??;
    let request = Request::parse(&body)?;
    let streams = request.stream;
    let (id, prompt, mut events) = aside(move || service.submit(&request)).await?;
    match heard(&mut events).await {
        Event::Failed(refusal) => Err(refusal),
        _ if streams => Ok(pieces(Head::new(id), events)),
        _ => whole(Head::new(id), prompt, events).await,
    }
}

/// The whole of it. One that is too large is refused at once, whether the rest is there or not. That is read behind the answer, so that a
/// client that has written it all reads why it is refused, not a reset.
async fn body_of(request: axum::extract::Request) -> Result<Vec<u8>, Refusal> {
    let mut too_large = request.body().size_hint().lower() > BODY_BYTES as u64;
    let mut rest = request.into_body().into_data_stream();
    let mut body = Vec::new();
    while !too_large {
        let part = rest.try_next().await.map_err(|error| Refusal::invalid(format!("the body cannot be read: {error}")))?;
        let Some(part) = part else { return Ok(body) };
        body.extend_from_slice(&part);
        too_large = body.len() > BODY_BYTES;
    }
    tokio::spawn(timeout(LINGER, to_bytes(Body::new(rest), 2 * BODY_BYTES)));
    Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {BODY_BYTES} bytes")))
}

/// The next event; an engine that has ended without a word has failed.
async fn heard(events: &mut UnboundedReceiver<Event>) -> Event {
    events.recv().await.unwrap_or_else(|| Event::Failed(Refusal::internal("the engine has failed")))
}

async fn whole(head: Head, prompt: usize, mut events: UnboundedReceiver<Event>) -> Result<Response, Refusal> {
    let mut all = String::new();
    loop {
        match heard(&mut events).await {
            Event::Admitted => {}
            Event::Text(text) => all += &text,
            Event::Failed(refusal) => return Err(refusal),
            Event::Finished { text, finish, written } => {
                let mut object = head.object(&(all + &text), Some(finish));
                object["usage"] = json!({"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written});
                return Ok(answer(StatusCode::OK, &object));
            }
        }
    }
}

/// Server-sent events: one for each piece of text that has characters, the last one with the finish reason, and [DONE].
fn pieces(head: Head, events: UnboundedReceiver<Event>) -> Response {
    let ready: VecDeque<String> = VecDeque::new();
    let stream = unfold((head, Some(events), ready), |(head, mut events, mut ready)| async move {
        while ready.is_empty() {
            match heard(events.as_mut()?).await {
                Event::Text(text) if !text.is_empty() => ready.push_back(head.object(&text, None).to_string()),
                Event::Text(_) | Event::Admitted => {}
                Event::Finished { text, finish, .. } => {
                    ready.extend([head.object(&text, Some(finish)).to_string(), "[DONE]".into()]);
                    events = None;
                }
                Event::Failed(refusal) => {
                    ready.push_back(refusal.body().to_string());
                    events = None;
                }
            }
        }
        let data = ready.pop_front()?;
        Some((Ok::<_, Infallible>(sse::Event::default().data(data)), (head, events, ready)))
    });
    Sse::new(stream).into_response()
}
