//! Bars for a terminal.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use console::Term;
use indicatif::{
    DecimalBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};
use ociforge_manifests::lint::Finding;

use super::{found, line, said, shortened, size_of};
use crate::error::printable;
use crate::progress::{Progress, Reporter};

/// The number of last output lines below the bar of a task.
const TAIL: usize = 5;

const INDENT: &str = "  ";

/// The interval for drawing a bar without a total.
const TICK: Duration = Duration::from_millis(100);

pub(super) struct Bars {
    all: MultiProgress,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self { all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)) }
    }
}

impl Reporter for Bars {
    fn task(&self, label: &str, total: Option<u64>) -> Box<dyn Progress> {
        let bar = self.all.add(ProgressBar::new(total.unwrap_or(0)));
        let template = if total.is_some() {
            "{prefix:32!} [{wide_bar}] {decimal_bytes:>9}/{decimal_total_bytes:<9}{tail}"
        } else {
            "{prefix:32!} {spinner} {far:>9}{tail}"
        };
        let tail = Arc::new(Mutex::new(OutputTail::default()));
        if let Ok(style) = ProgressStyle::with_template(template) {
            let drawn = tail.clone();
            let draw = move |_: &ProgressState, out: &mut dyn fmt::Write| {
                let width = usize::from(Term::stderr().size().1);
                let _ = drawn.lock().map(|tail| tail.draw(width, out));
            };
            bar.set_style(style.progress_chars("=> ").with_key("far", far).with_key("tail", draw));
        }
        bar.set_prefix(shortened(label, 32));
        if total.is_none() {
            bar.enable_steady_tick(TICK);
        }
        Box::new(Bar {
            bar,
            tail,
            all: self.all.clone(),
            label: shortened(label, 48),
            total,
            done: AtomicBool::new(false),
        })
    }

    fn note(&self, text: &str) {
        self.all.suspend(|| line(&said(text)));
    }

    fn warn(&self, text: &str) {
        self.all.suspend(|| line(&said(&format!("warning: {text}"))));
    }

    fn finding(&self, finding: &Finding) {
        self.all.suspend(|| line(&found(finding)));
    }
}

/// The progress of a task without a total: its bytes, or the elapsed time if it has none.
fn far(state: &ProgressState, out: &mut dyn fmt::Write) {
    let _ = match state.pos() {
        0 => write!(out, "{:#}", HumanDuration(state.elapsed())),
        bytes => write!(out, "{}", DecimalBytes(bytes)),
    };
}

struct Bar {
    bar: ProgressBar,
    tail: Arc<Mutex<OutputTail>>,
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

    fn output(&self, line: &str) {
        self.show(line, true);
    }

    fn unfinished(&self, line: &str) {
        self.show(line, false);
    }
}

impl Bar {
    fn show(&self, line: &str, whole: bool) {
        // Do not hold this lock together with the bar's: drawing takes the bar's lock first and then this one.
        let first = self.tail.lock().is_ok_and(|mut tail| {
            let first = tail.lines.is_empty();
            tail.push(line, whole);
            first
        });
        // A bar with a total is drawn only when it advances.
        if first && self.total.is_some() {
            self.bar.enable_steady_tick(TICK);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The last output lines of a program, below a bar. They are drawn together with the bar, so a program with much output
/// does not wait for the terminal.
#[derive(Default)]
struct OutputTail {
    lines: VecDeque<String>,
    /// Whether the last line is incomplete.
    open: bool,
}

impl OutputTail {
    fn push(&mut self, line: &str, whole: bool) {
        if std::mem::take(&mut self.open) {
            self.lines.pop_back();
        }
        // Empty lines would take the space of lines with text.
        if line.trim().is_empty() {
            return;
        }
        if self.lines.len() == TAIL {
            self.lines.pop_front();
        }
        self.lines.push_back(line.trim_end().to_owned());
        self.open = !whole;
    }

    /// Writes each line on its own line, truncated to the width of the terminal.
    fn draw(&self, width: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        for line in &self.lines {
            let line = printable(&line.replace('\t', "    "));
            let line = console::truncate_str(&line, width.saturating_sub(INDENT.len()), "…");
            write!(out, "\n{INDENT}{}", console::style(line).for_stderr().dim())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(tail: &OutputTail, width: usize) -> Vec<String> {
        let mut out = String::new();
        tail.draw(width, &mut out).unwrap();
        console::strip_ansi_codes(&out).split('\n').skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn the_last_lines_are_drawn() {
        let mut tail = OutputTail::default();
        assert_eq!(drawn(&tail, 80), [] as [&str; 0]);
        for n in 0..9 {
            tail.push(&format!("{n}"), true);
            tail.push(" ", true);
        }
        assert_eq!(drawn(&tail, 80), ["  4", "  5", "  6", "  7", "  8"]);
        tail.push("10%", false);
        tail.push("20%", false);
        assert_eq!(drawn(&tail, 80)[3..], ["  8", "  20%"]);
        tail.push("100%", true);
        tail.push("end", true);
        assert_eq!(drawn(&tail, 80)[2..], ["  8", "  100%", "  end"]);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut tail = OutputTail::default();
        for line in ["x".repeat(200).as_str(), &"日本".repeat(50), "a\tb\tc\td\te\tf\tg\th", "\u{1b}[2J\u{9b}", "é"]
        {
            tail.push(line, true);
        }
        for width in [0, 1, 2, 3, 20, 79] {
            for line in drawn(&tail, width) {
                assert!(console::measure_text_width(&line) <= width.max(3), "{width} {line}");
                assert!(!line.chars().any(char::is_control), "{line}");
            }
        }
    }
}
