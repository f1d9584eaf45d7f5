//! Errors in a recipe or a list of images.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::error::Explain;

/// The error of reading a recipe or a list.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file is missing.
    #[error("there is no recipe at {}", .0.display())]
    Missing(PathBuf),
    /// The file cannot be read.
    #[error("cannot read {what} {}", file.display())]
    Read {
        /// `the recipe` or `the list`.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A build argument: recipes have none.
    #[error("the build argument `{argument}` is not used: {} has no build arguments", file.display())]
    Argument {
        /// The recipe.
        file: PathBuf,
        /// The name of the argument.
        argument: String,
    },
    /// The text has a fault.
    #[error("{at}: {fault}")]
    Fault {
        /// The position of the fault.
        at: Position,
        /// The fault.
        fault: Box<TableFault>,
    },
}

/// A position in a recipe or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    /// Formats the position as compilers do: `FILE:LINE:COLUMN`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A fault in a recipe or a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableFault {
    /// The file is not UTF-8 text.
    #[error("{0} is not UTF-8 text")]
    Encoding(&'static str),
    /// The text is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// A number that TOML does not allow, such as the mode `0755`.
    #[error("the number {0} begins with 0, which TOML does not allow")]
    LeadingZero(String),
    /// A key that the table does not know.
    #[error("unknown key `{key}` in {table}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The table: `[config]`, …
        table: String,
        /// How to fix it.
        hint: String,
    },
    /// A required key is missing.
    #[error("{table} has no `{key}`")]
    MissingKey {
        /// The key.
        key: &'static str,
        /// The table.
        table: String,
        /// An example.
        example: &'static str,
    },
    /// A value with an unexpected type or form.
    #[error("`{key}` is {found}; expected {expected}")]
    Value {
        /// The key, with the name of its table where this helps.
        key: String,
        /// A description of the value, with its article.
        found: String,
        /// A description of the expected value, with its article.
        expected: String,
        /// How to fix it.
        hint: Option<String>,
    },
    /// A `[[layer]]` without a kind.
    #[error("this [[layer]] has no kind")]
    NoKind {
        /// The kinds that there are.
        kinds: String,
    },
    /// A `[[layer]]` with two kinds.
    #[error("this [[layer]] has two kinds, `{0}` and `{1}`")]
    TwoKinds(&'static str, &'static str),
    /// A key that the kind of its layer does not have.
    #[error("`{key}` cannot be combined with `{kind}`")]
    Stray {
        /// The key.
        key: String,
        /// The kind of the layer.
        kind: &'static str,
        /// How to fix it.
        hint: Option<String>,
    },
    /// A feature of the recipe that this version does not have yet.
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

impl TableFault {
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
            Self::NoKind { kinds } => Some(format!("give it one of {kinds}")),
            Self::TwoKinds(..) => Some("write two [[layer]] tables; ociforge builds them in order".into()),
        }
    }
}
