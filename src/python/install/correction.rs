//! Wheels with a wrong RECORD: the correct one is computed once, when a wheel enters the store, and kept beside the
//! wheel.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ociforge_layers::LayerPath;
use ociforge_layers::source::wheel::{Correction, Wheel, WheelError};
use serde::{Deserialize, Serialize};

use super::LocalWheel;
use crate::error::Explain;
use crate::progress::Reporter;
use crate::python::fetch::is_there;
use crate::python::{FetchCause, FetchError, LockedWheel};
use crate::store::blob::write_atomic;

/// The stored form of a [`Correction`].
#[derive(Debug, Serialize, Deserialize)]
struct KeptCorrection {
    record: String,
    /// The differences of the wheel's own RECORD, in words.
    discrepancies: Vec<String>,
}

/// The error of verifying a wheel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CorrectionError {
    /// The wheel is not usable.
    #[error(transparent)]
    Wheel(#[from] WheelError),
    /// The corrected RECORD cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Explain for CorrectionError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Wheel(error) => error.hint().map(Into::into),
            Self::Write { .. } => None,
        }
    }
}

/// Verifies every member of a wheel against the archive and its RECORD. The wheel is in the store, or in its final
/// directory.
pub(crate) fn verify(path: &Path, file_name: &str) -> Result<Wheel, CorrectionError> {
    let wheel = Wheel::open_as(path, file_name)?;
    let Some(Correction { record, discrepancies }) = wheel.verify()? else { return Ok(wheel) };
    let wheel = wheel.with_record(&record);
    let kept = KeptCorrection { record, discrepancies: discrepancies.iter().map(ToString::to_string).collect() };
    let path = place(path, file_name);
    let written = serde_json::to_vec(&kept).map_err(io::Error::from).and_then(|json| write_atomic(&path, &json));
    written.map_err(|source| CorrectionError::Write { path, source })?;
    Ok(wheel)
}

/// The [`Check`](crate::python::fetch::Check) of wheels for layers: verifies only a wheel whose RECORD is wrong by itself.
/// Packing compares the content of other wheels with RECORD.
pub(crate) fn check_record(path: &Path, wheel: &LockedWheel) -> Result<(), Box<dyn Error + Send + Sync>> {
    match Wheel::open_as(path, &wheel.file)?.has_complete_record()? {
        true => Ok(()),
        false => check(path, wheel),
    }
}

/// Verifies the wheels that may have the file at `path`, which is not as its RECORD says. Returns whether one of them has
/// a wrong RECORD, which is then corrected.
pub(crate) fn correct(wheels: &[LocalWheel], path: &LayerPath, reporter: &dyn Reporter) -> Result<bool, FetchError> {
    let mut is_corrected = false;
    for wheel in wheels {
        let failed = |cause: CorrectionError| FetchError::of(&wheel.locked, FetchCause::Refused(Box::new(cause)));
        if kept(&wheel.path, &wheel.locked.file).is_some() {
            continue;
        }
        let opened = Wheel::open_as(&wheel.path, &wheel.locked.file).map_err(|error| failed(error.into()))?;
        // The RECORD of a wheel that changed must not stay beside the wheel that is fetched again.
        if !opened.may_install(path) || !is_there(&wheel.path, &wheel.locked) {
            continue;
        }
        verify(&wheel.path, &wheel.locked.file).map_err(failed)?;
        warn(std::slice::from_ref(wheel), reporter);
        is_corrected |= kept(&wheel.path, &wheel.locked.file).is_some();
    }
    Ok(is_corrected)
}

/// [`verify`] as a [`Check`](crate::python::fetch::Check) of fetched wheels.
pub(crate) fn check(path: &Path, wheel: &LockedWheel) -> Result<(), Box<dyn Error + Send + Sync>> {
    Ok(verify(path, &wheel.file).map(drop)?)
}

/// Opens a wheel of the store with its correct RECORD.
pub(crate) fn open(path: &Path, file_name: &str) -> Result<Wheel, WheelError> {
    let wheel = Wheel::open_as(path, file_name)?;
    Ok(match kept(path, file_name) {
        Some(KeptCorrection { record, .. }) => wheel.with_record(&record),
        None => wheel,
    })
}

/// Warns about wheels with a wrong RECORD.
pub(crate) fn warn(wheels: &[LocalWheel], reporter: &dyn Reporter) {
    for LocalWheel { locked, path } in wheels {
        let Some(KeptCorrection { discrepancies, .. }) = kept(path, &locked.file) else { continue };
        let more = match discrepancies.len() {
            0 | 1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        let first = discrepancies.first().map_or("", String::as_str);
        reporter.warn(&format!(
            "the RECORD of {} is wrong: {first}{more}; ociforge installs the wheel with a corrected RECORD",
            locked.file
        ));
    }
}

fn kept(path: &Path, file_name: &str) -> Option<KeptCorrection> {
    serde_json::from_slice(&fs::read(place(path, file_name)).ok()?).ok()
}

fn place(path: &Path, file_name: &str) -> PathBuf {
    path.with_file_name(format!("{file_name}.record"))
}
