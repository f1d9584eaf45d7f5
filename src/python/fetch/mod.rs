//! Downloads of locked wheels into the cache: in parallel, resumable and verified.
//!
//! A cache entry is `<sha256>/<file name>`; only complete and verified files have that name. An incomplete file is
//! `<file name>.partial` beside it, and stays for the next run. Several processes may share a cache: each locks the
//! entries that it writes.
//!
//! Servers get the same credentials as from uv, see [`IndexCredentials`].

mod download;
mod error;
mod failure;
mod link;
mod partial;

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::block_in_place;
use url::{Origin, Url};

use super::credentials::IndexCredentials;
use super::wheel::{Location, LockedWheel};
use crate::http::{HttpClient, HttpHost, RetryPolicy, Timeouts};
use crate::layer::{Pip, StepKind};
use crate::plan::Plan;
use crate::progress::Reporter;
use crate::python::Requirements;
use crate::store::check::is_intact;
use crate::store::dir::there;
use crate::store::stamp::Stamp;
use crate::store::{FileHashes, Store};

pub use error::{FetchCause, FetchError};

/// Checks a wheel with the right hash before it enters the cache. Its path does not have the wheel's name yet.
pub type Check = Arc<dyn Fn(&Path, &LockedWheel) -> Result<(), Box<dyn Error + Send + Sync>> + Send + Sync>;

/// Maximum number of concurrent downloads.
const JOBS: usize = 4;

/// Fetches wheels into a cache. Requires a multi-threaded runtime.
pub struct Fetcher {
    http: HttpClient,
    retry: RetryPolicy,
    /// The state of the servers, by origin.
    hosts: Mutex<HashMap<Origin, Arc<HttpHost>>>,
    cache: PathBuf,
    /// The known hashes of wheels on this machine.
    hashes: FileHashes,
    credentials: IndexCredentials,
}

impl Fetcher {
    /// A fetcher into the store, with the credentials of the plan's requirements and of uv's settings.
    ///
    /// # Errors
    /// As [`Fetcher::new`].
    pub(crate) fn for_plan(store: &Store, plan: &Plan) -> Result<Self, FetchError> {
        let requirements = plan.steps().filter_map(|step| match &step.kind {
            StepKind::Pip(Pip::Requirements(list)) => Some(Requirements::List(list.clone())),
            StepKind::Pip(Pip::File(file)) => Some(Requirements::File(file.clone())),
            _ => None,
        });
        let requirements: Vec<_> = requirements.collect();
        Self::new(store.wheels(), store.file_hashes(), IndexCredentials::find(&requirements, &plan.directory))
    }

    /// A fetcher into the directory `cache`, with these credentials and the proxies of the environment.
    ///
    /// # Errors
    /// When the TLS client cannot be created.
    pub fn new(
        cache: impl Into<PathBuf>,
        hashes: FileHashes,
        credentials: IndexCredentials,
    ) -> Result<Self, FetchError> {
        let http = HttpClient::new(true, Vec::new(), Timeouts::default());
        http.check().map_err(|error| FetchError::Client(error.into()))?;
        let (retry, hosts) = (RetryPolicy::default(), Mutex::default());
        Ok(Self { http, retry, hosts, cache: cache.into(), hashes, credentials })
    }

    /// The state of a URL's server.
    fn host(&self, url: &Url) -> Arc<HttpHost> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(url.origin()).or_default())
    }

    /// Fetches the wheels that the cache lacks. Returns the paths of the files, in the order of `wheels`; their
    /// relative paths are relative to `directory`. `check` is called once for each wheel, when it enters the cache.
    ///
    /// # Errors
    /// When a wheel cannot be fetched, does not match the lock, or fails `check`. Received parts of the others stay for
    /// the next run.
    pub async fn fetch(
        &self,
        wheels: &[LockedWheel],
        directory: &Path,
        check: &Check,
        reporter: &dyn Reporter,
    ) -> Result<Vec<PathBuf>, FetchError> {
        let each = wheels.iter().map(|wheel| async move {
            let fetched = self.fetch_one(wheel, directory, check, reporter).await;
            fetched.map_err(|cause| FetchError::of(wheel, cause))
        });
        stream::iter(each).buffered(JOBS).try_collect().await
    }

    async fn fetch_one(
        &self,
        wheel: &LockedWheel,
        directory: &Path,
        check: &Check,
        reporter: &dyn Reporter,
    ) -> Result<PathBuf, FetchCause> {
        let entry = self.cache.join(wheel.sha256.hex());
        let path = entry.join(&wheel.file);
        if is_there(&path, wheel) {
            return Ok(path);
        }
        fs::create_dir_all(&entry)?;
        let _lock = lock(entry.join(".lock")).await?;
        if is_there(&path, wheel) {
            return Ok(path);
        }
        let progress = reporter.task(&wheel.file, wheel.size);
        // A partial download is written to, which a link to a file of the user must not be.
        let unchecked = |suffix| entry.join(format!("{}.{suffix}", wheel.file));
        let (unchecked, original) = match &wheel.location {
            Location::Url(url) => {
                let partial = unchecked("partial");
                self.download(wheel, url, &partial, progress.as_ref()).await?;
                (partial, None)
            }
            Location::Path(from) => {
                let (new, from) = (unchecked("new"), directory.join(from));
                let linked = block_in_place(|| link::link(wheel, &from, &new, &self.hashes, progress.as_ref()))?;
                (new, Some(linked))
            }
        };
        let checked = block_in_place(|| check(&unchecked, wheel)).map_err(FetchCause::Refused);
        if checked.is_err() {
            fs::remove_file(&unchecked)?;
        }
        checked?;
        // A rename onto another link of the same file does nothing.
        there(fs::remove_file(&path))?;
        fs::rename(&unchecked, &path)?;
        original.map_or(Ok(()), |(file, hashed)| self.hashes.refresh(&file, &hashed))?;
        Stamp::write(&stamp_file(&path), &path)?;
        progress.done("fetched");
        Ok(path)
    }
}

/// Whether the cache has the wheel unchanged.
pub(crate) fn is_there(path: &Path, wheel: &LockedWheel) -> bool {
    let has_size = |file: fs::Metadata| file.is_file() && wheel.size.is_none_or(|size| size == file.len());
    fs::metadata(path).is_ok_and(has_size) && is_intact(path, &stamp_file(path), &wheel.sha256).unwrap_or(false)
}

fn stamp_file(wheel: &Path) -> PathBuf {
    let mut name = wheel.as_os_str().to_owned();
    name.push(".stamp");
    name.into()
}

/// Waits for the lock of the entry.
async fn lock(path: PathBuf) -> io::Result<File> {
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::create(path)?;
        file.lock()?;
        Ok(file)
    });
    locked.await?
}

#[cfg(test)]
mod tests;
