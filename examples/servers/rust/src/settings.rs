//! The command line.

use std::time::Duration;

const HELP: &str = "options, as --name value or --name=value:
  --port P           loopback port; 0 = a free one (8080)
  --model DIR        folder of the model's files (build/servers/model)
  --mode CODEC       codec of the cache (int4)
  --arena-bytes N    byte budget of the cache (268435456)
  --policy TEXT      what is given up when memory is full (nothing)
  --threads N        threads that compute, 1 to 257 (processors)
  --max-queue N      requests that may wait (64)
  --write-timeout S  seconds after which a client that takes nothing has gone (30)";
/// The calling one, and as many as the model library starts.
const THREADS_MOST: i64 = 257;
const WRITE_TIMEOUT_MOST: i64 = 86400;

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

fn number<N: TryFrom<i64>>(name: &str, value: &str, least: i64, most: i64) -> Result<N, String> {
    let found = value.parse().ok().filter(|number| (least..=most).contains(number)).and_then(|number| N::try_from(number).ok());
    found.ok_or_else(|| format!("{name} {value}: an integer from {least} to {most} is needed"))
}

fn default_threads(processors: usize) -> i64 {
    THREADS_MOST.min(processors as i64)
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
            threads: std::thread::available_parallelism().map_or(1, |n| default_threads(n.get())),
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
                "--port" => settings.port = number(&name, &value, 0, u16::MAX.into())?,
                "--model" => settings.model = value,
                "--mode" => settings.mode = value,
                "--arena-bytes" => settings.arena_bytes = number(&name, &value, 1, i64::MAX)?,
                "--policy" => settings.policy = value,
                "--threads" => settings.threads = number(&name, &value, 1, THREADS_MOST)?,
                "--max-queue" => settings.max_queue = number(&name, &value, 0, i64::MAX)?,
                "--write-timeout" => settings.write_timeout = Duration::from_secs(number(&name, &value, 1, WRITE_TIMEOUT_MOST)?),
                _ => return Err(format!("{name} is no option; --help lists them")),
            }
        }
        Ok(Some(settings))
    }
}

#[cfg(test)]
mod tests {
    use super::default_threads;

    #[test]
    fn threads_are_as_many_as_processors_and_the_model_library_allow() {
        assert_eq!([2, 257, 300].map(default_threads), [2, 257, 257]);
    }
}
