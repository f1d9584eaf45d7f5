//! The volumes that an image declares: directories that outlive changes of the root filesystem, seeded with what the
//! image has there.

use super::path::clean;
use crate::config::Config;

/// Where the kernel's own filesystems are, which an image's files may not take the place of.
const KERNEL: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Where the image wants volumes: absolute, clean, each once, sorted. Who unpacks the image makes a copy of each place
/// and names it in [`Host::volumes`](super::Host::volumes). What makes no sense is skipped with a warning.
#[must_use]
pub fn image_volumes(config: &Config, warnings: &mut Vec<String>) -> Vec<String> {
    let mut places = Vec::new();
    for path in config.config.volumes.keys() {
        let place = clean(path);
        let inside = |top: &&str| place.strip_prefix(*top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let reason = if path.contains('\0') {
            Some("has a NUL")
        } else if place == "/" {
            Some("is the whole root filesystem")
        } else if KERNEL.iter().any(inside) {
            Some("is the kernel's")
        } else {
            None
        };
        match reason {
            Some(reason) => warnings.push(format!("the image's volume `{path}` {reason}; it is skipped")),
            None if !path.starts_with('/') => {
                warnings.push(format!("the image's volume `{path}` is relative; it is taken from the root"));
                places.push(place);
            }
            None => places.push(place),
        }
    }
    places.sort_unstable();
    places.dedup();
    places
}
