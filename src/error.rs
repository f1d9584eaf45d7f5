//! Errors for users: what failed, the causes, and a hint.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use ociforge_manifests::runtime::SpecError;
use ociforge_manifests::runtime::cdi::CdiError;
use ociforge_sandbox::SandboxError;
use ociforge_sandbox::overlay::OverlayError;

/// An error with an optional hint.
///
/// The `Display` of an error does not include its `source`; the chain of sources is printed as the causes.
pub trait Explain: Error {
    /// The hint, as a sentence without a capital or a full stop.
    fn hint(&self) -> Option<String> {
        None
    }

    /// Whether the command line was wrong (exit code 2), as opposed to its execution (1).
    fn is_usage(&self) -> bool {
        false
    }

    /// The exit code of the program if it fails with this error.
    fn exit_code(&self) -> u8 {
        if self.is_usage() { 2 } else { 1 }
    }
}

impl<E: Explain + ?Sized> Explain for Arc<E> {
    fn hint(&self) -> Option<String> {
        (**self).hint()
    }

    fn is_usage(&self) -> bool {
        (**self).is_usage()
    }

    fn exit_code(&self) -> u8 {
        (**self).exit_code()
    }
}

impl Explain for ociforge_layers::source::wheel::WheelError {
    fn hint(&self) -> Option<String> {
        self.hint().map(Into::into)
    }
}

impl Explain for ociforge_layers::source::tar::TarError {
    fn hint(&self) -> Option<String> {
        self.hint().map(Into::into)
    }
}

impl Explain for OverlayError {
    fn hint(&self) -> Option<String> {
        self.hint()
    }
}

impl Explain for SandboxError {
    fn hint(&self) -> Option<String> {
        self.hint()
    }
}

impl Explain for ociforge_sandbox::step::SandboxStepError {
    fn hint(&self) -> Option<String> {
        self.hint()
    }
}

impl Explain for SpecError {
    fn hint(&self) -> Option<String> {
        Self::hint(self)
    }

    fn is_usage(&self) -> bool {
        // The other errors may be caused by the image as well as by the command line.
        matches!(
            self,
            Self::Workdir(_)
                | Self::SamePlace(_)
                | Self::RelativeSource(_)
                | Self::CdiName(_)
                | Self::Seccomp { .. }
                | Self::Memory(_)
                | Self::SwapAlone(_)
                | Self::SwapBelowMemory { .. }
                | Self::Mixed(_)
                | Self::Cdi(CdiError::Name(_))
        )
    }
}

impl Explain for ociforge_manifests::ReferenceError {
    fn hint(&self) -> Option<String> {
        Some("names are HOST/REPOSITORY:TAG, oci:DIR:TAG, oci-archive:FILE:TAG or docker-archive:FILE:NAME".into())
    }

    fn is_usage(&self) -> bool {
        true
    }
}

/// The hint for a full disk in the store.
pub const FULL_DISK: &str = "free some space (`ociforge cache prune`), or choose another directory with --store";

/// Whether an error means that the disk is full or the user's quota is exceeded.
#[must_use]
pub fn is_full_disk(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// The message of the kernel, without the error number.
#[must_use]
pub fn said(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// A failed command: a message, its causes from the outermost to the innermost, and a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The failed operation and its object.
    pub message: String,
    /// The causes, outermost first.
    pub causes: Vec<String>,
    /// The hint.
    pub hint: Option<String>,
    /// The exit code: 1, or 2 for a wrong command line; that of a failed build step; 125 to 127, as in docker, if a
    /// container cannot run.
    pub code: u8,
}

impl Failure {
    /// A failure without causes.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), hint: None, code: 1 }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with a cause, and the causes of that.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Error) -> Self {
        self.causes.push(cause.to_string());
        self.causes.extend(sources(&cause));
        self
    }

    /// The same as a wrong command line.
    #[must_use]
    pub fn usage(mut self) -> Self {
        self.code = 2;
        self
    }

    /// The same for a command with the exit codes of containers: 125 in place of 1, as in docker.
    #[must_use]
    pub fn before_container(mut self) -> Self {
        if self.code == 1 {
            self.code = 125;
        }
        self
    }

    /// The same as the cause of the failure of a larger operation.
    #[must_use]
    pub fn during(mut self, what: impl Into<String>) -> Self {
        self.causes.insert(0, std::mem::replace(&mut self.message, what.into()));
        self
    }
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        let causes = sources(&error);
        let code = error.exit_code();
        Self { message: error.to_string(), causes, hint: error.hint(), code }
    }
}

/// The messages of an error's sources, outermost first.
fn sources(error: &dyn Error) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // Some libraries include the source in their message, which would print it twice.
        if causes.last().is_none_or(|last| !last.ends_with(&text)) {
            causes.push(text);
        }
        source = cause.source();
    }
    causes
}

impl fmt::Display for Failure {
    /// Writes the three parts of a message, each on its own lines, without the leading `error: `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.message))?;
        for cause in &self.causes {
            write!(f, "\n  cause: {}", printable(cause))?;
        }
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  hint: {}", printable(hint).replace('\n', " ")))
    }
}

/// Text for a terminal: errors may contain foreign bytes, which must neither control nor fill the terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    const MOST: usize = 4000;
    let safe = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
    let mut shown: String = text.chars().take(MOST).map(safe).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the thing")]
    struct Outer(#[source] std::io::Error);
    impl Explain for Outer {
        fn hint(&self) -> Option<String> {
            Some("close it first".into())
        }
    }

    #[test]
    fn foreign_bytes_do_not_reach_the_terminal() {
        let shown = Failure::new(format!("\u{1b}[2J{}", "x".repeat(9000))).to_string();
        assert!(shown.starts_with("\u{fffd}[2Jx") && shown.chars().count() == 4001);
    }

    #[test]
    fn causes_and_hint_are_lines_of_their_own() {
        let failure = Failure::from(Outer(std::io::Error::other("it is open"))).during("cannot begin");
        let text = "cannot begin\n  cause: cannot open the thing\n  cause: it is open\n  hint: close it first";
        assert_eq!(failure.to_string(), text);
        assert_eq!(Failure::new("x").hint("a\nerror: b").to_string(), "x\n  hint: a error: b");
    }
}
