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

use self::partial::PartialWheel;
use super::credentials::IndexCredentials;
use super::wheel::{Location, LockedWheel};
use crate::http::{HttpClient, HttpHost, RetryPolicy, Timeouts};
use crate::layer::{Pip, StepKind};
use crate::plan::Plan;
use crate::progress::{Progress, Reporter};
use crate::python::Requirements;
use crate::store::Store;
use crate::store::check::is_intact;
use crate::store::stamp::Stamp;
use ociforge_layers::regular::open_regular;

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
        Self::new(store.wheels(), IndexCredentials::find(&requirements, &plan.directory))
    }

    /// A fetcher into the directory `cache`, with these credentials and the proxies of the environment.
    ///
    /// # Errors
    /// When the TLS client cannot be created.
    pub fn new(cache: impl Into<PathBuf>, credentials: IndexCredentials) -> Result<Self, FetchError> {
        let http = HttpClient::new(true, Vec::new(), Timeouts::default());
        http.check().map_err(|error| FetchError::Client(error.into()))?;
        let (retry, hosts) = (RetryPolicy::default(), Mutex::default());
        Ok(Self { http, retry, hosts, cache: cache.into(), credentials })
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
        let unchecked = entry.join(format!("{}.partial", wheel.file));
        match &wheel.location {
            Location::Url(url) => self.download(wheel, url, &unchecked, progress.as_ref()).await?,
            Location::Path(from) => copy(wheel, &directory.join(from), &unchecked, progress.as_ref())?,
        }
        let checked = block_in_place(|| check(&unchecked, wheel)).map_err(FetchCause::Refused);
        if checked.is_err() {
            fs::remove_file(&unchecked)?;
        }
        checked?;
        fs::rename(&unchecked, &path)?;
        Stamp::write(&stamp_file(&path), &path)?;
        progress.done("fetched");
        Ok(path)
    }
}

/// Whether the cache has the wheel unchanged.
fn is_there(path: &Path, wheel: &LockedWheel) -> bool {
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

/// Copies a wheel on this machine. The cache keeps the locked content, even if the original changes.
fn copy(wheel: &LockedWheel, from: &Path, to: &Path, progress: &dyn Progress) -> Result<(), FetchCause> {
    let mut source = open_regular(from).map_err(|source| FetchCause::Local { path: from.to_path_buf(), source })?;
    let mut partial = PartialWheel::create(to)?;
    let copied = block_in_place(|| partial.copy_from(&mut source, wheel.size, progress));
    let result = copied.and_then(|()| partial.verify(wheel));
    if result.is_err() {
        fs::remove_file(to)?;
    }
    result
}

#[cfg(test)]
mod tests;
