//! The mounts of the container.

use serde_json::{Value, json};

use super::defaults;
use super::error::SpecError;
use super::host::Host;
use super::modes::{Ipc, Network};
use super::mount::SpecMount;
use super::path::clean;
use super::request::{ContainerRequest, RuntimeSettings};
use super::volume::Volume;

/// The default mounts, except those that a volume replaces; then the mounts of the host, outer ones first.
pub(crate) fn mounts(
    request: &ContainerRequest,
    settings: &RuntimeSettings,
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
    // A mount at /dev must not be covered by the default mounts in it.
    let hides = |place: &str| takes(place) || (takes("/dev") && place.starts_with("/dev/"));
    mounts.retain(|mount| !hides(&mount.destination));
    volumes.extend(images_volumes(image_volumes, request, host, &volumes, warnings));
    let takes = |place: &str| volumes.iter().any(|volume| volume.destination == place);
    let files = files(request, settings, host).into_iter().filter(|file| !takes(&file.destination)).collect::<Vec<_>>();
    volumes.extend(files);
    if request.privileged {
        let sys = mounts.iter_mut().filter(|mount| mount.destination.starts_with("/sys"));
        sys.for_each(|mount| mount.options.retain(|option| option != "ro"));
    }
    volumes.sort_by_key(|mount| mount.destination.matches('/').count());
    mounts.extend(volumes);
    Ok(mounts.iter().map(|mount| json!(mount)).collect())
}

/// The caller's copies for the image's volumes, except where the user has another mount.
fn images_volumes(
    places: &[String],
    request: &ContainerRequest,
    host: &Host,
    taken: &[SpecMount],
    warnings: &mut Vec<String>,
) -> Vec<SpecMount> {
    let mut free: Vec<_> =
        places.iter().filter(|place| taken.iter().all(|mount| mount.destination != **place)).collect();
    free.retain(|place| {
        let above = taken.iter().find(|mount| is_inside(place, &mount.destination));
        warnings.extend(above.map(|mount| {
            format!("the image's volume {place} is skipped: it is inside the mount at {}", mount.destination)
        }));
        above.is_none()
    });
    let (with, without): (Vec<_>, Vec<_>) = free.into_iter().partition(|place| host.volumes.contains_key(*place));
    if request.read_only && !without.is_empty() {
        let without: Vec<_> = without.iter().map(|place| place.as_str()).collect();
        warnings.push(format!(
            "the image has volumes at {}, which are read-only: give each a directory with -v",
            without.join(", ")
        ));
    }
    with.into_iter().map(|place| SpecMount::bind(&host.volumes[place], place, &["rbind", "rprivate", "rw"])).collect()
}

/// Whether a clean path is below another.
fn is_inside(place: &str, above: &str) -> bool {
    place.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// Single files below `/etc`: those created for this container, which are writable unless its root is read-only, and
/// those of the host's network if it is shared.
fn files(request: &ContainerRequest, settings: &RuntimeSettings, host: &Host) -> Vec<SpecMount> {
    let options: &[&str] = if request.read_only { &["rbind", "rprivate", "ro"] } else { &["rbind", "rprivate"] };
    let own = host.files.iter().map(|(place, file)| SpecMount::bind(file, place, options));
    let shares = settings.network == Some(Network::Host);
    let shared = host.network_files.iter().filter(|(place, _)| shares && !host.files.contains_key(*place));
    own.chain(shared.map(|(place, file)| SpecMount::bind(file, place, &["rbind", "rprivate", "ro"]))).collect()
}

/// The user's mounts. If a destination repeats, one mount counts, as in docker.
fn volumes(request: &ContainerRequest, host: &Host, warnings: &mut Vec<String>) -> Result<Vec<SpecMount>, SpecError> {
    let mut mounts: Vec<SpecMount> = Vec::with_capacity(request.volumes.len() + request.tmpfs.len());
    for tmpfs in &request.tmpfs {
        mounts.retain(|mount| mount.destination != tmpfs.destination);
        mounts.push(tmpfs.mount());
    }
    for (index, volume) in request.volumes.iter().enumerate() {
        if request.volumes[..index].contains(volume) {
            continue;
        }
        if volume.was_relative {
            warnings.push(format!("the volume's destination is taken from the root: {}", volume.destination));
        }
        if mounts.iter().any(|mount| mount.destination == volume.destination) {
            return Err(SpecError::SamePlace(volume.destination.clone()));
        }
        let source = source(volume, host, warnings)?;
        if volume.relabel && host.selinux {
            warnings.push(format!(
                "the SELinux labels of {source} are unchanged: if the container cannot read it, label it with `chcon \
                    -Rt container_file_t`"
            ));
        }
        mounts.push(volume.mount(&source));
    }
    Ok(mounts)
}

/// The absolute source of a volume. Docker interprets a relative one without a leading dot as a named volume; ociforge
/// has no named volumes.
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
