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
pub use credentials::Credentials;
pub use error::{Problem, ResolveError};
pub use fetch::{Check, FetchCause, FetchError, Fetcher};
pub use isolated::{IsolatedError, IsolatedRunner, Job, OUT};
pub use redact::redacted;
pub use resolve::{Replaced, Requirements, Resolution, Sources, Tags, index_options, resolve};
pub(crate) use source::ARCHIVES;
pub use source::{LockedSource, Origin};
pub use target::{PythonVersion, PythonVersionError, Target};
pub(crate) use wheel::same_version;
pub use wheel::{Location, LockedWheel, check_libc, digest_of_file, local, misfits};
