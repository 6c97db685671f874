//! Replays operation scripts (docs/SCRIPTS.md) over the crate kvc, and prints the SHA-256 of all that could be observed:
//!     replay_rust [target=T] [threads=N] FILE...
//! One line a file, `<64 hex>  <FILE>`. A status that the script does not expect is told on stderr, with file, line and message; the
//! next file goes on, and the exit status is 1.

mod buffer;
mod evictions;
#[path = "../../kvc/examples/numbers/mod.rs"]
mod numbers;
mod replay;
mod script;
mod sequences;
mod shapes;
mod snapshots;
mod steps;

use replay::{Replay, RunOptions};
use std::io::Write;
use std::process::ExitCode;

const USAGE: &str = "usage: replay_rust [target=T] [threads=N] FILE...";

/// The digest of a script, or line and reason of what went wrong.
fn digest_of(path: &str, options: &RunOptions) -> Result<String, (usize, String)> {
    let text = std::fs::read_to_string(path).map_err(|error| (0, error.to_string()))?;
    let mut replay = Replay::new(options);
    for (line, operation) in script::parse(&text) {
        let operation = operation.map_err(|fault| (line, fault))?;
        let (status, message) = replay.run(&operation).map_err(|fault| (line, fault))?;
        if !operation.expects(status) {
            return Err((line, format!("{} answered {}: {message}", operation.text, script::word_of(status))));
        }
    }
    Ok(replay.digest())
}

fn options_and_files(arguments: &[String]) -> Result<(RunOptions, Vec<&str>), String> {
    let (mut options, mut files) = (RunOptions::default(), Vec::new());
    for argument in arguments {
        match argument.split_once('=') {
            Some(("target", target)) => options.target = target.to_owned(),
            Some(("threads", threads)) => options.threads = threads.parse().map_err(|_| format!("{argument}: no number"))?,
            _ => files.push(argument.as_str()),
        }
    }
    if files.is_empty() {
        return Err(USAGE.to_owned());
    }
    Ok((options, files))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, files) = match options_and_files(&arguments) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let (mut code, mut out) = (ExitCode::SUCCESS, std::io::stdout().lock());
    for file in files {
        let written = match digest_of(file, &options) {
            Ok(digest) => writeln!(out, "{digest}  {file}"),
            Err((line, reason)) => {
                code = ExitCode::FAILURE;
                eprintln!("{file}:{line}: {reason}");
                Ok(())
            }
        };
        if written.is_err() {
            return ExitCode::FAILURE; // nobody reads on
        }
    }
    code
}
