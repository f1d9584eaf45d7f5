//! What is mounted into the container.

use serde_json::{Value, json};

use super::defaults::{self, Mount};
use super::modes::{Ipc, Network};
use super::request::{Request, Settings};
use super::spec::{Host, SpecError};
use super::volume::{Volume, clean};

/// The default mounts, without those that a volume takes the place of; then what comes from the host, outer ones first.
pub(crate) fn mounts(
    request: &Request,
    settings: &Settings,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<Vec<Value>, SpecError> {
    let ipc = settings.ipc.unwrap_or_default();
    let shm_size = settings.shm_size.filter(|size| size.0 > 0);
    let mut mounts = defaults::mounts(ipc, shm_size.unwrap_or(defaults::SHM_SIZE));
    let mut volumes = volumes(&request.volumes, host, warnings)?;
    let takes = |place: &str| volumes.iter().any(|volume| volume.destination == place);
    if let Some(size) = shm_size {
        let reason = match ipc {
            _ if takes("/dev/shm") => Some("a volume at /dev/shm"),
            Ipc::Host => Some("--ipc host, which shares the host's /dev/shm"),
            Ipc::None => Some("--ipc none, which has no /dev/shm"),
            Ipc::Private => None,
        };
        warnings.extend(reason.map(|reason| format!("--shm-size {size} has no effect with {reason}")));
    }
    mounts.retain(|mount| !takes(&mount.destination));
    if settings.network == Some(Network::Host) {
        let shared: Vec<_> = host.network_files.iter().filter(|file| !takes(file)).collect();
        volumes.extend(shared.iter().map(|file| Mount::bind(file, file, &["rbind", "rprivate", "ro"])));
    }
    volumes.sort_by_key(|mount| mount.destination.matches('/').count());
    mounts.extend(volumes);
    Ok(mounts.iter().map(|mount| json!(mount)).collect())
}

fn volumes(volumes: &[Volume], host: &Host, warnings: &mut Vec<String>) -> Result<Vec<Mount>, SpecError> {
    let mut mounts: Vec<Mount> = Vec::with_capacity(volumes.len());
    for volume in volumes {
        if volume.was_relative {
            warnings.push(format!("the volume's destination is taken from the root: {}", volume.destination));
        }
        if mounts.iter().any(|mount| mount.destination == volume.destination) {
            return Err(SpecError::SamePlace(volume.destination.clone()));
        }
        mounts.push(volume.mount(&source(volume, host, warnings)?));
    }
    Ok(mounts)
}

/// The absolute source of a volume. Docker takes a relative one without a leading dot for the name of a volume that it
/// keeps; there are no such volumes here.
fn source(volume: &Volume, host: &Host, warnings: &mut Vec<String>) -> Result<String, SpecError> {
    if volume.source.starts_with('/') {
        return Ok(volume.source.clone());
    }
    let directory = host.directory.as_ref().ok_or_else(|| SpecError::RelativeSource(volume.source.clone()))?;
    let path = clean(&format!("{directory}/{}", volume.source));
    if !volume.source.starts_with('.') {
        warnings.push(format!("the volume `{}` is the directory {path}; there are no named volumes", volume.source));
    }
    Ok(path)
}
