//! Why a wheel can't be used.

use std::io;

use crate::path::{LayerPath, PathError};
use crate::tree::TreeError;

/// A wheel that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the wheel {wheel}")]
pub struct WheelError {
    /// The wheel's file name.
    pub wheel: String,
    /// What is wrong with it.
    #[source]
    pub fault: WheelFault,
}

/// What is wrong with a wheel. `name` is a member's name in the archive throughout.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WheelFault {
    /// The file could not be opened or mapped.
    #[error("the file could not be opened")]
    Open(#[source] io::Error),
    /// Not a wheel's file name (PEP 427, "File name convention").
    #[error("a wheel's name is NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl: {0}")]
    FileName(&'static str),
    /// Not a zip archive, or one whose headers contradict each other.
    #[error("it is not a sound zip archive")]
    Archive(#[from] zip::result::ZipError),
    /// Bytes after the end of the archive: other readers may see another archive in them.
    #[error("the archive does not end where its file ends")]
    Trailing,
    /// Two files of one name.
    #[error("it has two members called `{0}`, which are not the same")]
    Twice(String),
    /// A name that no file of a layer may have.
    #[error("the member `{name}` has a name that {reason}")]
    Name {
        /// The member, printable.
        name: String,
        /// What the name does.
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
    /// Sizes that can't be true.
    #[error("the sizes of the member `{name}` can't be true: {compressed} bytes that inflate to {len}")]
    Sizes {
        /// The member.
        name: String,
        /// Bytes in the archive.
        compressed: u64,
        /// Bytes of the file.
        len: u64,
    },
    /// A member that has to be read into memory and is too large for it.
    #[error("the member `{name}` has {len} bytes; at most {limit} are read")]
    TooLarge {
        /// The member.
        name: String,
        /// Its length.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// A member whose data does not inflate to what the archive says.
    #[error("the member `{name}` is damaged: {reason}")]
    Damaged {
        /// The member.
        name: String,
        /// How.
        reason: &'static str,
    },
    /// Not exactly one `.dist-info` directory.
    #[error("it has {0} .dist-info directories; a wheel has one")]
    DistInfo(usize),
    /// A file that every wheel has.
    #[error("it has no `{0}`")]
    Missing(String),
    /// A metadata file that is not UTF-8.
    #[error("`{0}` is not UTF-8 text")]
    NotText(String),
    /// A `Wheel-Version` that this program does not know (PEP 427: a greater major version must fail).
    #[error("its Wheel-Version is `{0}`; only 1.x is known")]
    WheelVersion(String),
    /// The file name, the dist-info directory and METADATA don't agree.
    #[error("{place} says `{found}` where the file name says `{expected}`")]
    Disagreement {
        /// Where the other value is.
        place: String,
        /// What is there.
        found: String,
        /// What the file name says.
        expected: String,
    },
    /// A file in `.data` that is in no known directory.
    #[error("`{0}` is in none of .data's directories: purelib, platlib, headers, scripts, data")]
    DataDirectory(String),
    /// Two members for one place.
    #[error("two members are installed as {0}")]
    Collision(LayerPath),
    /// An entry point that no script can be made of.
    #[error("the entry point `{entry}` {reason}")]
    EntryPoint {
        /// The line of entry_points.txt.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The wheel wants another Python.
    #[error("it requires Python {requires}; the base has Python {base}")]
    RequiresPython {
        /// `Requires-Python` of METADATA.
        requires: String,
        /// The base's version.
        base: String,
    },
    /// A path that can't be in a layer.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Entries that can't be in one tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl WheelFault {
    pub(super) fn of(self, wheel: &str) -> WheelError {
        WheelError { wheel: wheel.to_owned(), fault: self }
    }
}

impl WheelError {
    /// What the user can do about it, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match &self.fault {
            WheelFault::RequiresPython { .. } => {
                "choose a wheel for the base's Python; a requirement in place of the file lets `ociforge lock` choose"
            }
            WheelFault::Damaged { .. } | WheelFault::Archive(_) | WheelFault::Trailing => {
                "the file is damaged or was tampered with: fetch or build it again"
            }
            WheelFault::FileName(_) => "give the wheel the name that its build gave it",
            WheelFault::Open(_) | WheelFault::Path(_) | WheelFault::Tree(_) | WheelFault::TooLarge { .. } => {
                return None;
            }
            _ => "the wheel breaks the rules for wheels: build it again with a current build backend",
        })
    }
}
