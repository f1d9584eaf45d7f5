//! One line of a diagnosis.

use serde::Serialize;

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// Something will not work, or not as well as it could.
    Warn,
    /// Containers can't be run, or not this image.
    Missing,
}

/// What a line is about; they are shown in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// The kernel and what it allows.
    System,
    /// Programs that ociforge calls.
    Programs,
    /// GPUs and what gets them into containers.
    Gpus,
    /// Files of ociforge's own and of the user's.
    Files,
    /// The image that was asked about.
    Image,
}

impl Section {
    /// Its heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::System => "System",
            Self::Programs => "Programs",
            Self::Gpus => "GPUs",
            Self::Files => "Files",
            Self::Image => "Image",
        }
    }
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// What it belongs to.
    pub section: Section,
    /// What it is, in a word or two.
    pub name: String,
    /// How good it is.
    pub status: CheckStatus,
    /// What was found, and what that means where it is not obvious.
    pub found: String,
    /// The commands that mend it, one after the other; always empty when it is [`CheckStatus::Ok`].
    pub mend: Vec<String>,
}

impl CheckResult {
    /// Something as it should be.
    pub(super) fn ok(section: Section, name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { section, name: name.into(), status: CheckStatus::Ok, found: found.into(), mend: Vec::new() }
    }

    /// Something that could be better.
    pub(super) fn warn(section: Section, name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { status: CheckStatus::Warn, ..Self::ok(section, name, found) }
    }

    /// Something that must be there and is not.
    pub(super) fn missing(section: Section, name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { status: CheckStatus::Missing, ..Self::ok(section, name, found) }
    }

    /// The same with a command that mends it.
    pub(super) fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend.push(command.into());
        self
    }
}
