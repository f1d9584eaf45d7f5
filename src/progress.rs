//! Progress of long operations, independent of a terminal.

mod lines;

use ociforge_manifests::lint::Finding;

pub use lines::Lines;

/// Receives the progress of one task.
pub trait Progress: Send + Sync {
    /// `bytes` more are done.
    fn advance(&self, bytes: u64);

    /// The task starts again: of the reported bytes only `bytes` count.
    fn restart(&self, bytes: u64);

    /// The task is done, or was not necessary; `outcome` is a short description of the result, such as `pushed`,
    /// `mounted` or `exists`. A task that is dropped without this has failed.
    fn done(&self, outcome: &str);

    /// A program of the task has written a line; [`Lines`] splits its output.
    fn output(&self, _line: &str) {}

    /// The program has written an incomplete line, which it may continue or overwrite, as progress bars do: useful only
    /// for a live display. All calls before the next [`Progress::output`] are about the same line.
    fn unfinished(&self, _line: &str) {}
}

/// Displays tasks while they run.
pub trait Reporter: Send + Sync {
    /// Begins a task called `label`, of `total` bytes if known.
    fn task(&self, label: &str, total: Option<u64>) -> Box<dyn Progress>;

    /// Reports information, as a sentence without a full stop.
    fn note(&self, text: &str);

    /// Reports a warning that the user should act on.
    fn warn(&self, text: &str);

    /// Reports a finding about an image.
    fn finding(&self, finding: &Finding);
}

/// Ignores all progress.
impl Progress for () {
    fn advance(&self, _: u64) {}
    fn restart(&self, _: u64) {}
    fn done(&self, _: &str) {}
}

/// Ignores all reports.
impl Reporter for () {
    fn task(&self, _: &str, _: Option<u64>) -> Box<dyn Progress> {
        Box::new(())
    }
    fn note(&self, _: &str) {}
    fn warn(&self, _: &str) {}
    fn finding(&self, _: &Finding) {}
}
