//! The command line.

use std::str::FromStr;

pub struct Settings {
    pub port: u16,
    pub model: String,
    pub mode: String,
    pub arena_bytes: i64,
    pub policy: String,
    pub threads: i64,
    pub max_queue: usize,
}

fn number<N: FromStr>(name: &str, value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("{name} {value}: a number that fits is needed"))
}

impl Settings {
    /// Options come as `--name value` or `--name=value`.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Settings, String> {
        let mut settings = Settings {
            port: 8080,
            model: "build/servers/model".into(),
            mode: "int4".into(),
            arena_bytes: 256 << 20,
            policy: String::new(),
            threads: std::thread::available_parallelism().map_or(1, |n| n.get() as i64),
            max_queue: 64,
        };
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => (word.clone(), words.next().ok_or_else(|| format!("{word} needs a value"))?),
            };
            match name.as_str() {
                "--port" => settings.port = number(&name, &value)?,
                "--model" => settings.model = value,
                "--mode" => settings.mode = value,
                "--arena-bytes" => settings.arena_bytes = number(&name, &value)?,
                "--policy" => settings.policy = value,
                "--threads" => settings.threads = number(&name, &value)?,
                "--max-queue" => settings.max_queue = number(&name, &value)?,
                _ => {
                    return Err(format!(
                        "{name} is no option (--port, --model, --mode, --arena-bytes, --policy, --threads, --max-queue)"
                    ))
                }
            }
        }
        if settings.threads < 1 {
            return Err("--threads must be at least 1".into());
        }
        Ok(settings)
    }
}
