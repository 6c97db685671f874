//! GET /metrics: Prometheus text, under vLLM's names behind "kvc:".

use crate::model::Model;
use crate::service::Service;
use std::fmt::{Display, Write};

struct Text(String);

impl Text {
    /// A family of numbers by the value of its label; a name without a label has one number.
    fn family<N: Display>(&mut self, kind: &str, name: &str, label: &str, numbers: &[(&str, N)]) {
        let _ = writeln!(self.0, "# TYPE kvc:{name} {kind}"); // a String takes all
        for (value, number) in numbers {
            let labels = if label.is_empty() { String::new() } else { format!("{{{label}=\"{value}\"}}") };
            let _ = writeln!(self.0, "kvc:{name}{labels} {number}");
        }
    }

    fn gauge(&mut self, name: &str, number: impl Display) {
        self.family("gauge", name, "", &[("", number)]);
    }

    fn counter(&mut self, name: &str, number: i64) {
        self.family("counter", name, "", &[("", number)]);
    }
}

/// Bytes of a token's keys and values in 16 bits.
fn token_bytes(model: &Model) -> i64 {
    model.shape.layers * model.kv_width() as i64 * 2 * 2
}

impl Service {
    pub fn metrics(&self) -> kvc::Result<String> {
        let (stats, prefix) = (self.cache.stats()?, self.cache.prefix_stats()?);
        let (count, (running, waiting)) = (&self.queue.count, self.queue.depth());
        let mut out = Text(String::new());
        out.gauge("num_requests_running", running);
        out.gauge("num_requests_waiting", waiting);
        out.gauge("kv_cache_usage_perc", stats.record_bytes as f64 / stats.arena_bytes as f64);
        let bytes = [
            ("arena", stats.arena_bytes),
            ("bound", stats.bound_bytes),
            ("record", stats.record_bytes),
            ("sink", stats.sink_bytes),
            ("window", stats.window_bytes),
            ("code", stats.code_bytes),
            ("side", stats.side_bytes),
            ("reserved", stats.reserved_bytes),
            ("table", stats.table_bytes),
            ("scratch", stats.scratch_bytes),
            ("prefix", prefix.record_bytes),
        ];
        out.family("gauge", "kv_cache_bytes", "kind", &bytes);
        out.gauge("kv_cache_sequences", stats.sequences);
        let held_bytes = count.held.get() * token_bytes(&self.model);
        out.gauge(
            "kv_cache_compression_ratio",
            if stats.record_bytes == 0 { 0.0 } else { held_bytes as f64 / stats.record_bytes as f64 },
        );
        out.counter("prefix_cache_queries_total", count.looked_up.get());
        out.counter("prefix_cache_hits_total", count.found.get());
        out.counter("prompt_tokens_total", count.prompt_tokens.get());
        out.counter("generation_tokens_total", count.text_tokens.get());
        let ended = [("stop", count.stopped.get()), ("length", count.reached_length.get()), ("abort", count.aborted.get())];
        out.family("counter", "request_success_total", "finished_reason", &ended);
        out.counter("request_rejected_total", count.rejected.get());
        out.counter("num_preemptions_total", count.preempted.get());
        let pressure = [("step_down", count.stepped_down.get()), ("evict", count.evicted.get())];
        out.family("counter", "pressure_total", "action", &pressure);
        out.counter("tokens_evicted_total", stats.tokens_evicted);
        out.counter("tokens_requantized_total", stats.tokens_requantized);
        Ok(out.0)
    }
}
