//! Results of checks.

use serde::Serialize;

/// The status of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// No problem.
    Ok,
    /// Something does not work, or has limits.
    Warn,
    /// Containers cannot run, or not this image.
    Missing,
}

/// The sections of a report, in the order of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// The kernel and its settings.
    System,
    /// Programs that ociforge calls.
    Programs,
    /// GPUs, and how containers get them.
    Gpus,
    /// Files of ociforge and of the user.
    Files,
    /// The image given on the command line.
    Image,
}

impl Section {
    /// The heading.
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

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// The section of the report.
    pub section: Section,
    /// A name of one or two words.
    pub name: String,
    /// The status.
    pub status: CheckStatus,
    /// The finding, and its consequence if that is not obvious.
    pub found: String,
    /// The commands that fix it, in order; always empty for [`CheckStatus::Ok`].
    pub mend: Vec<String>,
}

impl CheckResult {
    /// A check without a problem.
    pub(super) fn ok(section: Section, name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { section, name: name.into(), status: CheckStatus::Ok, found: found.into(), mend: Vec::new() }
    }

    /// A check with a limitation.
    pub(super) fn warn(section: Section, name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { status: CheckStatus::Warn, ..Self::ok(section, name, found) }
    }

    /// A check of something necessary that is missing.
    pub(super) fn missing(section: Section, name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { status: CheckStatus::Missing, ..Self::ok(section, name, found) }
    }

    /// Adds a command that fixes the problem.
    pub(super) fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend.push(command.into());
        self
    }
}
