//! The language of operation scripts (docs/SCRIPTS.md): one line, one operation.

use std::collections::HashMap;

pub struct Operation<'s> {
    pub text: &'s str,
    pub verb: &'s str,
    /// Sequences, steps and snapshots, in the order of the line.
    pub names: Vec<&'s str>,
    pub counts: Vec<(&'s str, i64)>,
    arguments: HashMap<&'s str, &'s str>,
    expected: &'s str,
}

/// What is wrong with a script, as opposed to what kvc answers.
pub type Parsed<T> = Result<T, String>;

fn number(text: &str) -> Parsed<i64> {
    text.parse().map_err(|_| format!("\"{text}\" is no number"))
}

pub fn parse(script: &str) -> Vec<(usize, Parsed<Operation<'_>>)> {
    let lines = script.lines().enumerate().map(|(i, line)| (i + 1, line.split('#').next().unwrap_or_default().trim()));
    lines.filter(|(_, text)| !text.is_empty()).map(|(line, text)| (line, parse_line(text))).collect()
}

fn parse_line(text: &str) -> Parsed<Operation<'_>> {
    let mut words = text.split_whitespace();
    let verb = words.next().unwrap_or_default();
    let mut operation = Operation { text, verb, names: vec![], counts: vec![], arguments: HashMap::new(), expected: "ok" };
    while let Some(word) = words.next() {
        if word == "->" {
            operation.expected = words.next().ok_or("a status is missing after ->")?;
            if words.next().is_some() {
                return Err("the status ends the line".to_owned());
            }
        } else if let Some((key, value)) = word.split_once('=') {
            operation.arguments.insert(key, value);
        } else if let Some((name, count)) = word.split_once(':') {
            operation.counts.push((name, number(count)?));
        } else {
            operation.names.push(word);
        }
    }
    Ok(operation)
}

impl<'s> Operation<'s> {
    pub fn has(&self, key: &str) -> bool {
        self.arguments.contains_key(key)
    }

    pub fn number_or(&self, key: &str, otherwise: i64) -> Parsed<i64> {
        self.arguments.get(key).map_or(Ok(otherwise), |text| number(text))
    }

    pub fn number(&self, key: &str) -> Parsed<i64> {
        self.number_or(key, 0)
    }

    pub fn seed(&self, key: &str) -> Parsed<u64> {
        Ok(self.number(key)? as u64)
    }

    pub fn flag(&self, key: &str) -> Parsed<bool> {
        match self.number(key)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("{key}={other}: expected 0 or 1")),
        }
    }

    pub fn small(&self, key: &str) -> Parsed<i32> {
        let value = self.number(key)?;
        i32::try_from(value).map_err(|_| format!("{key}={value} has more than 32 bits"))
    }

    pub fn real(&self, key: &str) -> Parsed<f64> {
        self.arguments.get(key).map_or(Ok(0.0), |text| text.parse().map_err(|_| format!("\"{text}\" is no number")))
    }

    pub fn word(&self, key: &str) -> &'s str {
        self.arguments.get(key).copied().unwrap_or_default()
    }

    /// One of some words, the first of which is the default.
    pub fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Parsed<T> {
        let word = if self.has(key) { self.word(key) } else { words[0].0 };
        let found = words.iter().find(|(name, _)| *name == word);
        found.map(|(_, choice)| *choice).ok_or_else(|| format!("{key}={word} is unknown"))
    }

    /// "2:5"; 0..0 if absent.
    pub fn range(&self, key: &str) -> Parsed<std::ops::Range<i64>> {
        let Some(text) = self.arguments.get(key) else { return Ok(0..0) };
        let (begin, end) = text.split_once(':').ok_or_else(|| format!("{key}={text}: expected begin:end"))?;
        Ok(number(begin)?..number(end)?)
    }

    /// "1,5,9"
    pub fn list(&self, key: &str) -> Parsed<Vec<i64>> {
        self.word(key).split(',').filter(|item| !item.is_empty()).map(number).collect()
    }

    /// A name of the line; empty if absent.
    pub fn name(&self, index: usize) -> &'s str {
        self.names.get(index).copied().unwrap_or_default()
    }

    /// Is the status among those after "->"? 0 is success.
    pub fn expects(&self, status: i32) -> bool {
        let status = word_of(status);
        self.expected.split('|').any(|word| word == status)
    }
}

/// "ok", "argument", ...: the name in C without its prefix, in small letters.
pub fn word_of(status: i32) -> String {
    if status == 0 {
        return "ok".to_owned();
    }
    kvc::Status::from_number(status).name().trim_start_matches("KVC_E_").to_lowercase()
}
