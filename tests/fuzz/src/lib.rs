//! What fuzz targets share: files for what is read from a path only, and checksums, which random changes break so that
//! nothing behind them would be reached.

pub mod tar;
pub mod wheel;
pub mod zip;

use std::fs;
use std::future::Future;
use std::path::PathBuf;

/// A file of this process that holds `bytes`, until the next call with this name. `run` sets `TMPDIR` to memory, and
/// removes it.
#[must_use]
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch().join(name);
    fs::write(&path, bytes).expect("the scratch directory can be written");
    path
}

/// A directory of this process.
#[must_use]
pub fn scratch() -> PathBuf {
    let directory = std::env::temp_dir().join(format!("ociforge-fuzz-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("TMPDIR can be written");
    directory
}

/// Runs a future to its end.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
