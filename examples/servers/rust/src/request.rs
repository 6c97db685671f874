//! The body of a completion request.

use crate::refusal::Refusal;
use serde_json::{Map, Value};

/// The part of it that matters.
#[derive(Debug)]
pub struct Request {
    pub prompt: String,
    pub max_tokens: usize,
    pub stream: bool,
}

impl Request {
    pub fn parse(body: &[u8]) -> Result<Request, Refusal> {
        let fields: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|error| Refusal::invalid(format!("the body is not a JSON object in UTF-8: {error}")))?;
        let field = |name: &str| fields.get(name).filter(|value| !value.is_null());
        let prompt = field("prompt").and_then(Value::as_str).filter(|text| !text.is_empty());
        let max_tokens = field("max_tokens").map_or(Some(16.0), Value::as_f64).filter(|n| n.fract() == 0.0 && (1.0..=2e9).contains(n));
        let stream = field("stream").map_or(Some(false), Value::as_bool);
        for (name, only) in [("temperature", 0.0), ("n", 1.0), ("best_of", 1.0)] {
            if field(name).is_some_and(|value| value.as_f64() != Some(only)) {
                return Err(Refusal::invalid(format!("{name} must be {only}: text is greedy")));
            }
        }
        for name in ["stop", "suffix", "logprobs", "echo"] {
            if field(name).is_some_and(|value| name != "echo" || *value != Value::Bool(false)) {
                return Err(Refusal::invalid(format!("{name} is not offered")));
            }
        }
        Ok(Request {
            prompt: prompt.ok_or_else(|| Refusal::invalid("prompt must be a string that is not empty"))?.into(),
            max_tokens: max_tokens.ok_or_else(|| Refusal::invalid("max_tokens must be an integer from 1"))? as usize,
            stream: stream.ok_or_else(|| Refusal::invalid("stream must be a boolean"))?,
        })
    }
}
