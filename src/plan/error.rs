//! What can be wrong with a recipe or a list of images.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::error::Explain;

/// A recipe or a list can't be read.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There is no such file.
    #[error("there is no recipe at {}", .0.display())]
    Missing(PathBuf),
    /// The file can't be read.
    #[error("cannot read {what} {}", file.display())]
    Read {
        /// `the recipe` or `the list`.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A build argument, which no recipe has a use for.
    #[error("the build argument `{argument}` is not used: {} takes none", file.display())]
    Argument {
        /// The recipe.
        file: PathBuf,
        /// The argument's name.
        argument: String,
    },
    /// Something in it is wrong.
    #[error("{at}: {fault}")]
    Fault {
        /// Where.
        at: Position,
        /// What.
        fault: Box<Fault>,
    },
}

/// A place in a recipe or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    /// As compilers write it: `FILE:LINE:COLUMN`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// Something wrong in a recipe or a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not text.
    #[error("{0} is not UTF-8 text")]
    Encoding(&'static str),
    /// Not TOML.
    #[error("{0}")]
    Syntax(String),
    /// A number that TOML does not have, such as the mode `0755`.
    #[error("the number {0} begins with 0, which no number does in TOML")]
    LeadingZero(String),
    /// A key that means nothing where it stands.
    #[error("unknown key `{key}` in {table}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The table: `[config]`, …
        table: String,
        /// What to do.
        hint: String,
    },
    /// A key that has to be there.
    #[error("{table} has no `{key}`")]
    MissingKey {
        /// The key.
        key: &'static str,
        /// The table.
        table: String,
        /// An example.
        example: &'static str,
    },
    /// A value of another type or form than expected.
    #[error("`{key}` is {found}; expected {expected}")]
    Value {
        /// The key, with its table's name where this helps.
        key: String,
        /// What is there, with its article.
        found: String,
        /// What should be there, with its article.
        expected: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A `[[layer]]` that does nothing.
    #[error("this [[layer]] has no kind")]
    NoKind,
    /// A `[[layer]]` that does two things.
    #[error("this [[layer]] has two kinds, `{0}` and `{1}`")]
    TwoKinds(&'static str, &'static str),
    /// A key that does not belong to the kind of its layer.
    #[error("`{key}` does not go with `{kind}`")]
    Stray {
        /// The key.
        key: String,
        /// The layer's kind.
        kind: &'static str,
        /// What to do.
        hint: Option<String>,
    },
    /// Something that the interface has and this version has not.
    #[error("{0} is not supported yet")]
    Unsupported(&'static str),
}

impl Explain for PlanError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing(_) => {
                Some("name the recipe, or the directory that has an `ociforge.toml`, or use `-f FILE`".into())
            }
            Self::Read { .. } => None,
            Self::Argument { .. } => Some("leave `--build-arg` out; it is for Dockerfiles".into()),
            Self::Fault { fault, .. } => fault.hint(),
        }
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::Argument { .. } | Self::Missing(_))
    }
}

impl Fault {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax(message) if message.contains("octal") => {
                Some("an octal number has the digits 0 to 7, such as 0o755".into())
            }
            Self::Encoding(_) | Self::Syntax(_) | Self::Unsupported(_) => None,
            Self::LeadingZero(number) => Some(format!("write it in quotes: \"{number}\"")),
            Self::UnknownKey { hint, .. } => Some(hint.clone()),
            Self::MissingKey { example, .. } => Some(format!("write for example `{example}`")),
            Self::Value { hint, .. } | Self::Stray { hint, .. } => hint.clone(),
            Self::NoKind => Some("give it one of `directories`, `copy`, `tar`, `pip`, `run`".into()),
            Self::TwoKinds(..) => Some("make two [[layer]] tables of it; they are built in their order".into()),
        }
    }
}
