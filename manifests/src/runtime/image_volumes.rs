//! The volumes of an image: directories that outlive changes of the root filesystem, initialised with the image's
//! files.

use super::path::clean;
use crate::config::Config;

/// The mount points of the kernel's filesystems, which volumes of an image must not cover.
const KERNEL: [&str; 3] = ["/dev", "/proc", "/sys"];

/// The destinations of the image's volumes: absolute, clean, each once, sorted. The unpacker copies each directory and
/// adds the copy to [`Host::volumes`](super::Host::volumes). Invalid volumes are skipped with a warning.
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
