//! What is mounted into the container.

use serde_json::{Value, json};

use super::defaults::{self, Mount};
use super::error::SpecError;
use super::modes::{Ipc, Network};
use super::request::{Request, Settings};
use super::spec::Host;
use super::volume::{Volume, clean};

/// The default mounts, without those that a volume takes the place of; then what comes from the host, outer ones first.
pub(crate) fn mounts(
    request: &Request,
    settings: &Settings,
    image_volumes: &[String],
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<Vec<Value>, SpecError> {
    let ipc = settings.ipc.unwrap_or_default();
    let shm_size = settings.shm_size.filter(|size| size.0 > 0);
    let mut mounts = defaults::mounts(ipc, shm_size.unwrap_or(defaults::SHM_SIZE));
    let mut volumes = volumes(request, host, warnings)?;
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
    volumes.extend(images_volumes(image_volumes, request, host, &volumes, warnings));
    let takes = |place: &str| volumes.iter().any(|volume| volume.destination == place);
    mounts.retain(|mount| !takes(&mount.destination));
    let files = files(settings, host).into_iter().filter(|file| !takes(&file.destination)).collect::<Vec<_>>();
    volumes.extend(files);
    if request.privileged {
        let sys = mounts.iter_mut().filter(|mount| mount.destination.starts_with("/sys"));
        sys.for_each(|mount| mount.options.retain(|option| option != "ro"));
    }
    volumes.sort_by_key(|mount| mount.destination.matches('/').count());
    mounts.extend(volumes);
    Ok(mounts.iter().map(|mount| json!(mount)).collect())
}

/// The copies that the caller made for the image's volumes, where the user has put nothing else.
fn images_volumes(
    places: &[String],
    request: &Request,
    host: &Host,
    taken: &[Mount],
    warnings: &mut Vec<String>,
) -> Vec<Mount> {
    let free = places.iter().filter(|place| taken.iter().all(|mount| mount.destination != **place));
    let (with, without): (Vec<_>, Vec<_>) = free.partition(|place| host.volumes.contains_key(*place));
    if request.read_only && !without.is_empty() {
        let without: Vec<_> = without.iter().map(|place| place.as_str()).collect();
        warnings.push(format!(
            "the image has volumes at {}, which can't be written to: give each a directory with -v",
            without.join(", ")
        ));
    }
    with.into_iter().map(|place| Mount::bind(&host.volumes[place], place, &["rbind", "rprivate", "rw"])).collect()
}

/// Single files below `/etc`: those made for this container, and beside them those of the network that it shares.
fn files(settings: &Settings, host: &Host) -> Vec<Mount> {
    let own = host.files.iter().map(|(place, file)| Mount::bind(file, place, &["rbind", "rprivate"]));
    let shares = settings.network == Some(Network::Host);
    let shared = host.network_files.iter().filter(|(place, _)| shares && !host.files.contains_key(*place));
    own.chain(shared.map(|(place, file)| Mount::bind(file, place, &["rbind", "rprivate", "ro"]))).collect()
}

fn volumes(request: &Request, host: &Host, warnings: &mut Vec<String>) -> Result<Vec<Mount>, SpecError> {
    let mut mounts: Vec<Mount> = Vec::with_capacity(request.volumes.len() + request.tmpfs.len());
    for tmpfs in &request.tmpfs {
        if mounts.iter().any(|mount| mount.destination == tmpfs.destination) {
            return Err(SpecError::SamePlace(tmpfs.destination.clone()));
        }
        mounts.push(tmpfs.mount());
    }
    for volume in &request.volumes {
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
