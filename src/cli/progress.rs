//! Progress on stderr: bars for a terminal, lines for a log, JSON for a program.

mod bars;
mod plain;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use clap::ValueEnum;
use ociforge_manifests::lint::Finding;

use bars::Bars;
use plain::{Json, Lines};

use crate::bytes::human_bytes;
use crate::error::printable;
use crate::progress::Reporter;

/// The forms that progress can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Form {
    /// Bars when stderr is a terminal, else lines.
    #[default]
    Auto,
    /// Bars.
    Tty,
    /// A line for each piece of work when it is done, and now and then while it goes on.
    Plain,
    /// A JSON object a line.
    Json,
    /// Nothing but warnings and errors.
    None,
}

/// The reporter for this form.
#[must_use]
pub fn reporter(form: Form) -> Arc<dyn Reporter> {
    let terminal = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    match form {
        Form::Auto if terminal => Arc::new(Bars::new()),
        Form::Tty => Arc::new(Bars::new()),
        Form::Auto | Form::Plain => Arc::new(Lines { quiet: false }),
        Form::Json => Arc::new(Json),
        Form::None => Arc::new(Lines { quiet: true }),
    }
}

/// Writes one line to stderr. When that fails there is nobody to tell.
pub fn line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A text as people read it: what is foreign in it neither steers the terminal nor begins a line of its own, as lines
/// that go on are indented.
fn said(text: &str) -> String {
    let text = printable(text);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |all, line| all + if line.starts_with("  ") { "\n" } else { "\n  " } + line)
}

/// A finding as people read it.
fn found(Finding { code, message, hint }: &Finding) -> String {
    said(&format!(
        "warning[{code}]: {message}\n  hint: {hint}; silence it with [lint] allow = [\"{code}\"], or --allow {code}"
    ))
}

/// How much work it was: what was known beforehand, else what was done; nothing for work that has no bytes.
fn size_of(total: Option<u64>, done: u64) -> Option<String> {
    (total.is_some() || done > 0).then(|| human_bytes(total.unwrap_or(done)))
}

/// A label as it fits on a line.
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
