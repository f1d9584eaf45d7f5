//! Python packages: resolution by uv, downloads by hash, and the trees that their wheels install.

pub(crate) mod build;
mod credentials;
mod error;
pub mod fetch;
pub(crate) mod install;
mod isolated;
mod redact;
mod resolve;
mod source;
mod target;
mod wheel;

pub use build::{SourceError, WheelBuildError};
pub use credentials::IndexCredentials;
pub use error::{PackageProblem, ResolveError};
pub use fetch::{Check, FetchCause, FetchError, Fetcher};
pub use isolated::{IsolatedCommand, IsolatedError, IsolatedRunner, OUT};
pub use redact::redacted;
pub use resolve::{CompatibilityTags, Replaced, Requirements, Resolution, Sources, index_options, resolve};
pub(crate) use source::ARCHIVES;
pub use source::{LockedSource, SourceLocation};
pub use target::{Python3Version, PythonVersionError, WheelTarget};
pub(crate) use wheel::same_version;
pub use wheel::{Location, LockedWheel, check_libc, digest_of_file, local, misfits};
