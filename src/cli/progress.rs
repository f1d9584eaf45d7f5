//! Progress on stderr: bars for a terminal, lines for a log, JSON for a program.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ociforge_manifests::lint::Finding;
use serde_json::{Value, json};

use crate::bytes::human_bytes;
use crate::error::printable;
use crate::progress::{Progress, Reporter};

/// How often a long piece of work says in a log how far it is.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How often it says so to a program.
const JSON_INTERVAL: Duration = Duration::from_millis(500);

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
pub(super) fn line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

struct Bars {
    all: MultiProgress,
}

impl Bars {
    fn new() -> Self {
        Self { all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)) }
    }
}

impl Reporter for Bars {
    fn task(&self, label: &str, total: Option<u64>) -> Box<dyn Progress> {
        let bar = self.all.add(ProgressBar::new(total.unwrap_or(0)));
        let template = if total.is_some() {
            "{prefix:32!} [{wide_bar}] {decimal_bytes:>9}/{decimal_total_bytes:<9}"
        } else {
            "{prefix:32!} {spinner} {decimal_bytes:>9}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(shortened(label, 32));
        if total.is_none() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Box::new(Bar { bar, all: self.all.clone(), label: shortened(label, 48), total, done: AtomicBool::new(false) })
    }

    fn note(&self, text: &str) {
        self.all.suspend(|| line(text));
    }

    fn warn(&self, text: &str) {
        self.all.suspend(|| line(&format!("warning: {text}")));
    }

    fn finding(&self, finding: &Finding) {
        self.all.suspend(|| line(&found(finding)));
    }
}

struct Bar {
    bar: ProgressBar,
    all: MultiProgress,
    label: String,
    total: Option<u64>,
    done: AtomicBool,
}

impl Progress for Bar {
    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn restart(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    fn done(&self, outcome: &str) {
        if !self.done.swap(true, Ordering::Relaxed) {
            let size = size_of(self.total, self.bar.position()).unwrap_or_default();
            self.bar.finish_and_clear();
            self.all.suspend(|| line(&format!("{:<48} {size:>9}  {outcome}", self.label)));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

struct Lines {
    quiet: bool,
}

impl Reporter for Lines {
    fn task(&self, label: &str, total: Option<u64>) -> Box<dyn Progress> {
        if self.quiet {
            return Box::new(());
        }
        let say = |label: &str, total: Option<u64>, bytes: u64, outcome: Option<&str>, took: Duration| match outcome {
            Some(outcome) => {
                let size = size_of(total, bytes).map_or_else(String::new, |size| format!(", {size}"));
                line(&format!("{label}: {outcome}{size}, {:.1} s", took.as_secs_f64()));
            }
            None => line(&format!("{label}: {} of {}", human_bytes(bytes), total.map_or("?".into(), human_bytes))),
        };
        Box::new(Told::new(&shortened(label, 100), total, LOG_INTERVAL, say))
    }

    fn note(&self, text: &str) {
        if !self.quiet {
            line(text);
        }
    }

    fn warn(&self, text: &str) {
        line(&format!("warning: {text}"));
    }

    fn finding(&self, finding: &Finding) {
        line(&found(finding));
    }
}

struct Json;

impl Json {
    fn event(event: Value) {
        line(&event.to_string());
    }
}

impl Reporter for Json {
    fn task(&self, label: &str, total: Option<u64>) -> Box<dyn Progress> {
        Self::event(json!({"event": "start", "task": label, "total": total}));
        let say = |label: &str, total: Option<u64>, bytes: u64, outcome: Option<&str>, took: Duration| match outcome {
            Some(outcome) => Self::event(
                json!({"event": "done", "task": label, "total": total, "outcome": outcome, "seconds": took.as_secs_f64()}),
            ),
            None => Self::event(json!({"event": "progress", "task": label, "bytes": bytes, "total": total})),
        };
        Box::new(Told::new(label, total, JSON_INTERVAL, say))
    }

    fn note(&self, text: &str) {
        Self::event(json!({"event": "note", "text": text}));
    }

    fn warn(&self, text: &str) {
        Self::event(json!({"event": "warning", "text": text}));
    }

    fn finding(&self, Finding { code, message, hint }: &Finding) {
        Self::event(json!({"event": "warning", "code": code.name(), "text": message, "hint": hint}));
    }
}

/// A piece of work that is told of at its end, and at intervals before.
struct Told<F> {
    label: String,
    total: Option<u64>,
    bytes: AtomicU64,
    began: Instant,
    interval: Duration,
    next: Mutex<Instant>,
    say: F,
}

impl<F: Fn(&str, Option<u64>, u64, Option<&str>, Duration) + Send + Sync> Told<F> {
    fn new(label: &str, total: Option<u64>, interval: Duration, say: F) -> Self {
        let began = Instant::now();
        let (bytes, next) = (AtomicU64::new(0), Mutex::new(began + interval));
        Self { label: label.to_owned(), total, bytes, began, interval, next, say }
    }
}

impl<F: Fn(&str, Option<u64>, u64, Option<&str>, Duration) + Send + Sync> Progress for Told<F> {
    fn advance(&self, bytes: u64) {
        let so_far = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let now = Instant::now();
        if let Ok(mut next) = self.next.try_lock()
            && now >= *next
        {
            *next = now + self.interval;
            (self.say)(&self.label, self.total, so_far, None, now - self.began);
        }
    }

    fn restart(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn done(&self, outcome: &str) {
        (self.say)(&self.label, self.total, self.bytes.load(Ordering::Relaxed), Some(outcome), self.began.elapsed());
    }
}

/// A finding as people read it.
fn found(Finding { code, message, hint }: &Finding) -> String {
    printable(&format!(
        "warning[{code}]: {message}\n  hint: {hint}; silence it with [lint] allow = [\"{code}\"], or --allow {code}"
    ))
}

/// How much work it was: what was known beforehand, else what was done; nothing for work that has no bytes.
fn size_of(total: Option<u64>, done: u64) -> Option<String> {
    (total.is_some() || done > 0).then(|| human_bytes(total.unwrap_or(done)))
}

/// A label as it fits on a line.
fn shortened(label: &str, most: usize) -> String {
    match label.char_indices().nth(most) {
        None => label.to_owned(),
        Some(_) => label.chars().take(most - 1).chain(['…']).collect(),
    }
}
