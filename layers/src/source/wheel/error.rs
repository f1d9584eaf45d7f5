//! The errors of wheels.

use std::io;

use crate::path::{LayerPath, PathError};
use crate::tree::TreeError;

/// An error of a wheel.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the wheel {wheel}")]
pub struct WheelError {
    /// The wheel's file name.
    pub wheel: String,
    /// The fault.
    #[source]
    pub fault: WheelFault,
}

/// A fault of a wheel. `name` is always a member's name in the archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WheelFault {
    /// The file cannot be opened or mapped.
    #[error("the file cannot be opened")]
    Open(#[source] io::Error),
    /// Not a wheel's file name (PEP 427, "File name convention").
    #[error("a wheel's name is NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl: {0}")]
    FileName(&'static str),
    /// Not a zip archive, or one whose headers contradict each other.
    #[error("it is not a valid zip archive")]
    Archive(#[from] zip::result::ZipError),
    /// Bytes after the end of the archive, which other readers may interpret as another archive.
    #[error("the archive does not end where its file ends")]
    Trailing,
    /// Two files with one name.
    #[error("it has two different members called `{0}`")]
    Twice(String),
    /// A name that no file of a layer can have.
    #[error("the member `{name}` has a name that {reason}")]
    Name {
        /// The member, printable.
        name: String,
        /// The fault of the name.
        reason: &'static str,
    },
    /// Neither a file nor a directory.
    #[error("the member `{0}` is a symbolic link or a special file; wheels hold regular files only")]
    Special(String),
    /// An encrypted member.
    #[error("the member `{0}` is encrypted")]
    Encrypted(String),
    /// A compression method other than stored and deflated.
    #[error("the member `{name}` is compressed with {method}; wheels are stored or deflated")]
    Method {
        /// The member.
        name: String,
        /// The method.
        method: String,
    },
    /// Impossible sizes.
    #[error("the sizes of the member `{name}` are impossible: {compressed} bytes that inflate to {len}")]
    Sizes {
        /// The member.
        name: String,
        /// Bytes in the archive.
        compressed: u64,
        /// Bytes of the file.
        len: u64,
    },
    /// A member that is too large to be read into memory.
    #[error("the member `{name}` has {len} bytes; at most {limit} are read")]
    TooLarge {
        /// The member.
        name: String,
        /// Its length.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// A member whose data does not inflate to the stated content.
    #[error("the member `{name}` is damaged: {reason}")]
    Damaged {
        /// The member.
        name: String,
        /// The damage.
        reason: &'static str,
    },
    /// Not exactly one `.dist-info` directory.
    #[error("it has {0} .dist-info directories; a wheel has one")]
    DistInfo(usize),
    /// A missing file that every wheel must have.
    #[error("it has no `{0}`")]
    Missing(String),
    /// A metadata file that is not UTF-8.
    #[error("`{0}` is not UTF-8 text")]
    NotText(String),
    /// A `Wheel-Version` that this program does not know (PEP 427: a greater major version must fail).
    #[error("its Wheel-Version is `{0}`; only 1.x is supported")]
    WheelVersion(String),
    /// The file name, the dist-info directory and METADATA do not agree.
    #[error("{place} has `{found}`, but the file name has `{expected}`")]
    Disagreement {
        /// The place of the other value.
        place: String,
        /// The other value.
        found: String,
        /// The value of the file name.
        expected: String,
    },
    /// A file in `.data` that is in no known directory.
    #[error("`{0}` is in none of the directories of .data: purelib, platlib, headers, scripts, data")]
    DataDirectory(String),
    /// Two members with the same destination.
    #[error("two members are installed as {0}")]
    Collision(LayerPath),
    /// An entry point that cannot become a script.
    #[error("the entry point `{entry}` {reason}")]
    EntryPoint {
        /// The line of entry_points.txt.
        entry: String,
        /// The fault.
        reason: &'static str,
    },
    /// The wheel requires another Python.
    #[error("it requires Python {requires}; the base has Python {base}")]
    RequiresPython {
        /// `Requires-Python` of METADATA.
        requires: String,
        /// The base's version.
        base: String,
    },
    /// A path that is invalid in a layer.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Conflicting entries.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl WheelFault {
    pub(super) fn of(self, wheel: &str) -> WheelError {
        WheelError { wheel: wheel.to_owned(), fault: self }
    }
}

impl WheelError {
    /// The hint for the user, if any.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match &self.fault {
            WheelFault::RequiresPython { .. } => {
                "choose a wheel for the base's Python; a requirement in place of the file lets `ociforge lock` choose"
            }
            WheelFault::Damaged { .. } | WheelFault::Archive(_) | WheelFault::Trailing => {
                "the file is damaged or was tampered with: fetch or build it again"
            }
            WheelFault::FileName(_) => "restore the file name that the build gave to the wheel",
            WheelFault::Open(_) | WheelFault::Path(_) | WheelFault::Tree(_) | WheelFault::TooLarge { .. } => {
                return None;
            }
            _ => "the wheel violates the wheel specification: build it again with a current build backend",
        })
    }
}
