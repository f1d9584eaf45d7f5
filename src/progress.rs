//! How long work tells of itself, without knowing a terminal.

mod lines;

use ociforge_manifests::lint::Finding;

pub use lines::Lines;

/// Told how one piece of work goes.
pub trait Progress: Send + Sync {
    /// `bytes` more are done.
    fn advance(&self, bytes: u64);

    /// The work starts again: of what `advance` was told so far only `bytes` are kept.
    fn restart(&self, bytes: u64);

    /// The work is done, or was not needed; `outcome` says in a few words what became of it, such as `pushed`,
    /// `mounted` or `exists`. Work that is dropped without this has failed.
    fn done(&self, outcome: &str);

    /// A program that does the work has written a line; [`Lines`] makes lines of what it writes.
    fn output(&self, _line: &str) {}

    /// The program has begun a line, and may go on with it or overwrite it, as progress bars do: of interest only to who
    /// sees it happen. Each call is about the same line until [`Progress::output`] has it whole.
    fn unfinished(&self, _line: &str) {}
}

/// Shows pieces of work while they go on.
pub trait Reporter: Send + Sync {
    /// Begins a piece of work called `label`, of `total` bytes where that is known.
    fn task(&self, label: &str, total: Option<u64>) -> Box<dyn Progress>;

    /// Says something that is worth knowing, a sentence without a full stop.
    fn note(&self, text: &str);

    /// Says something that the user should do something about.
    fn warn(&self, text: &str);

    /// Warns of what was found in an image.
    fn finding(&self, finding: &Finding);
}

/// Nobody looks.
impl Progress for () {
    fn advance(&self, _: u64) {}
    fn restart(&self, _: u64) {}
    fn done(&self, _: &str) {}
}

/// Nobody looks.
impl Reporter for () {
    fn task(&self, _: &str, _: Option<u64>) -> Box<dyn Progress> {
        Box::new(())
    }
    fn note(&self, _: &str) {}
    fn warn(&self, _: &str) {}
    fn finding(&self, _: &Finding) {}
}
