//! Lines for a log, JSON for a program.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ociforge_manifests::lint::Finding;
use serde_json::{Value, json};

use super::{found, line, said, shortened, size_of};
use crate::bytes::human_bytes;
use crate::progress::{Progress, Reporter};

/// The interval of progress lines in a log.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The interval of progress events for a program.
const JSON_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct PlainReporter {
    pub(super) quiet: bool,
}

impl Reporter for PlainReporter {
    fn task(&self, label: &str, total: Option<u64>) -> Box<dyn Progress> {
        if self.quiet {
            return Box::new(());
        }
        Box::new(PlainTask::new(&shortened(label, 100), total, LOG_INTERVAL, |event| line(&event.text())))
    }

    fn note(&self, text: &str) {
        if !self.quiet {
            line(&said(text));
        }
    }

    fn warn(&self, text: &str) {
        line(&said(&format!("warning: {text}")));
    }

    fn finding(&self, finding: &Finding) {
        line(&found(finding));
    }
}

pub(super) struct Json;

impl Json {
    fn event(event: Value) {
        line(&event.to_string());
    }
}

impl Reporter for Json {
    fn task(&self, label: &str, total: Option<u64>) -> Box<dyn Progress> {
        Self::event(json!({"event": "start", "task": label, "total": total}));
        Box::new(PlainTask::new(label, total, JSON_INTERVAL, |event| Self::event(event.json())))
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

/// An event of a task.
struct TaskEvent<'a> {
    label: &'a str,
    total: Option<u64>,
    kind: TaskEventKind<'a>,
}

enum TaskEventKind<'a> {
    /// `far` bytes are done.
    So { far: u64 },
    /// A program wrote a line.
    Output(&'a str),
    /// The task is done.
    Done { outcome: &'a str, bytes: u64, took: Duration },
}

impl TaskEvent<'_> {
    /// Formats the event for a log.
    fn text(&self) -> String {
        let Self { label, total, .. } = self;
        match self.kind {
            TaskEventKind::So { far } => {
                format!("{label}: {} of {}", human_bytes(far), total.map_or("?".into(), human_bytes))
            }
            TaskEventKind::Output(text) => format!("[{}] {text}", shortened(label, 32)),
            TaskEventKind::Done { outcome, bytes, took } => {
                let size = size_of(*total, bytes).map_or_else(String::new, |size| format!(", {size}"));
                format!("{label}: {outcome}{size}, {:.1} s", took.as_secs_f64())
            }
        }
    }

    /// Formats the event for a program.
    fn json(&self) -> Value {
        let Self { label, total, .. } = self;
        match self.kind {
            TaskEventKind::So { far } => json!({"event": "progress", "task": label, "bytes": far, "total": total}),
            TaskEventKind::Output(text) => json!({"event": "output", "task": label, "line": text}),
            TaskEventKind::Done { outcome, took, .. } => {
                let seconds = took.as_secs_f64();
                json!({"event": "done", "task": label, "total": total, "outcome": outcome, "seconds": seconds})
            }
        }
    }
}

/// A task that reports its progress at intervals, and its end.
struct PlainTask {
    label: String,
    total: Option<u64>,
    bytes: AtomicU64,
    began: Instant,
    interval: Duration,
    next: Mutex<Instant>,
    say: fn(TaskEvent<'_>),
}

impl PlainTask {
    fn new(label: &str, total: Option<u64>, interval: Duration, say: fn(TaskEvent<'_>)) -> Self {
        let began = Instant::now();
        let (bytes, next) = (AtomicU64::new(0), Mutex::new(began + interval));
        Self { label: label.to_owned(), total, bytes, began, interval, next, say }
    }

    fn tell(&self, kind: TaskEventKind<'_>) {
        (self.say)(TaskEvent { label: &self.label, total: self.total, kind });
    }
}

impl Progress for PlainTask {
    fn advance(&self, bytes: u64) {
        let far = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let now = Instant::now();
        if let Ok(mut next) = self.next.try_lock()
            && now >= *next
        {
            *next = now + self.interval;
            self.tell(TaskEventKind::So { far });
        }
    }

    fn restart(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn done(&self, outcome: &str) {
        let (bytes, took) = (self.bytes.load(Ordering::Relaxed), self.began.elapsed());
        self.tell(TaskEventKind::Done { outcome, bytes, took });
    }

    fn output(&self, line: &str) {
        self.tell(TaskEventKind::Output(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_in_a_log_and_to_a_program() {
        let label = "run make -j8 install DESTDIR=/opt/application";
        let took = Duration::from_millis(1250);
        let done = |total, bytes| (total, TaskEventKind::Done { outcome: "packed", bytes, took });
        for ((total, kind), text, json) in [
            (
                (None, TaskEventKind::Output("a \"line\"")),
                "[run make -j8 install DESTDIR=/o…] a \"line\"".to_owned(),
                json!({"event": "output", "task": label, "line": "a \"line\""}),
            ),
            (
                (Some(4000), TaskEventKind::So { far: 1500 }),
                format!("{label}: 1.5 kB of 4.0 kB"),
                json!({"event": "progress", "task": label, "bytes": 1500, "total": 4000}),
            ),
            (
                (None, TaskEventKind::So { far: 1500 }),
                format!("{label}: 1.5 kB of ?"),
                json!({"event": "progress", "task": label, "bytes": 1500, "total": null}),
            ),
            (
                done(None, 0),
                format!("{label}: packed, 1.2 s"),
                json!({"event": "done", "task": label, "total": null, "outcome": "packed", "seconds": 1.25}),
            ),
            (
                done(Some(4000), 0),
                format!("{label}: packed, 4.0 kB, 1.2 s"),
                json!({"event": "done", "task": label, "total": 4000, "outcome": "packed", "seconds": 1.25}),
            ),
        ] {
            let event = TaskEvent { label, total, kind };
            assert_eq!((event.text(), event.json()), (text, json));
        }
    }
}
