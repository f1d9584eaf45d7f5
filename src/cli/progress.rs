//! Progress on stderr: bars for a terminal, lines for a log, JSON for a program.

mod bars;
mod plain;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use clap::ValueEnum;
use ociforge_manifests::lint::Finding;

use bars::Bars;
use plain::{Json, PlainReporter};

use crate::bytes::human_bytes;
use crate::error::printable;
use crate::progress::Reporter;

/// The formats of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ProgressFormat {
    /// Bars when stderr is a terminal, else lines.
    #[default]
    Auto,
    /// Bars.
    Tty,
    /// A line for each task at its end, and every few seconds before.
    Plain,
    /// A JSON object on each line.
    Json,
    /// Only warnings and errors.
    None,
}

/// The reporter for this format.
#[must_use]
pub fn reporter(form: ProgressFormat) -> Arc<dyn Reporter> {
    let terminal = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    match form {
        ProgressFormat::Auto if terminal => Arc::new(Bars::new()),
        ProgressFormat::Tty => Arc::new(Bars::new()),
        ProgressFormat::Auto | ProgressFormat::Plain => Arc::new(PlainReporter { quiet: false }),
        ProgressFormat::Json => Arc::new(Json),
        ProgressFormat::None => Arc::new(PlainReporter { quiet: true }),
    }
}

/// Writes one line to stderr. Errors are ignored: there is no other place to report them.
pub fn line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Makes a text safe to print: foreign text cannot control the terminal, and cannot look like a message of ociforge,
/// because all lines but the first are indented.
fn said(text: &str) -> String {
    let text = printable(text);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |all, line| all + if line.starts_with("  ") { "\n" } else { "\n  " } + line)
}

/// Formats a finding.
fn found(Finding { code, message, hint }: &Finding) -> String {
    said(&format!(
        "warning[{code}]: {message}\n  hint: {hint}; silence it with [lint] allow = [\"{code}\"], or --allow {code}"
    ))
}

/// The size of a task: the known total, else the bytes done; `None` for a task without bytes.
fn size_of(total: Option<u64>, done: u64) -> Option<String> {
    (total.is_some() || done > 0).then(|| human_bytes(total.unwrap_or(done)))
}

/// Shortens a label to `most` characters on one line.
fn shortened(label: &str, most: usize) -> String {
    let label = printable(label).replace('\n', " ");
    match label.char_indices().nth(most) {
        None => label,
        Some(_) => label.chars().take(most - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_neither_steers_the_terminal_nor_begins_a_line() {
        for (text, expected) in [
            ("GET /v2/a\u{1b}[2J\u{9b}\r\t 404", "GET /v2/a\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd} 404"),
            ("the tag a\nerror: b\n", "the tag a\n  error: b"),
            ("cannot a\n  cause: b\n  hint: c", "cannot a\n  cause: b\n  hint: c"),
            ("", ""),
        ] {
            assert_eq!(said(text), expected);
        }
        assert_eq!(shortened("a\n\u{1b}b", 9), "a \u{fffd}b");
    }
}
