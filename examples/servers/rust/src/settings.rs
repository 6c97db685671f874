//! The command line.

use std::str::FromStr;
use std::time::Duration;

const HELP: &str = "options, as --name value or --name=value:
  --port P           loopback port; 0 = a free one (8080)
  --model DIR        folder of the model's files (build/servers/model)
  --mode CODEC       codec of the cache (int4)
  --arena-bytes N    byte budget of the cache (268435456)
  --policy TEXT      what is given up when memory is full (nothing)
  --threads N        threads that compute (processors)
  --max-queue N      requests that may wait (64)
  --write-timeout S  seconds after which a client that takes nothing has gone (30)";
const WRITE_TIMEOUT_MOST: u64 = 86400;

pub struct Settings {
    pub port: u16,
    pub model: String,
    pub mode: String,
    pub arena_bytes: i64,
    pub policy: String,
    pub threads: i64,
    pub max_queue: usize,
    pub write_timeout: Duration,
}

fn number<N: FromStr>(name: &str, value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("{name} {value}: a number that fits is needed"))
}

impl Settings {
    /// Options come as `--name value` or `--name=value`. None: what was asked for is the list of them, which has been printed.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Settings>, String> {
        let mut settings = Settings {
            port: 8080,
            model: "build/servers/model".into(),
            mode: "int4".into(),
            arena_bytes: 256 << 20,
            policy: String::new(),
            threads: std::thread::available_parallelism().map_or(1, |n| n.get() as i64),
            max_queue: 64,
            write_timeout: Duration::from_secs(30),
        };
        while let Some(word) = words.next() {
            if word == "--help" {
                println!("{HELP}");
                return Ok(None);
            }
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
                "--write-timeout" => settings.write_timeout = Duration::from_secs(number(&name, &value)?),
                _ => return Err(format!("{name} is no option; --help lists them")),
            }
        }
        if settings.threads < 1 {
            return Err("--threads must be at least 1".into());
        }
        if !(1..=WRITE_TIMEOUT_MOST).contains(&settings.write_timeout.as_secs()) {
            return Err(format!("--write-timeout must be 1 to {WRITE_TIMEOUT_MOST} seconds"));
        }
        Ok(Some(settings))
    }
}
