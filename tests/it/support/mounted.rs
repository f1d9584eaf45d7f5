//! Filesystems of a test's own, which take root.

use std::fs;
use std::process::Command;

use super::{Place, tool};

/// A mounted filesystem, until it is dropped.
pub(crate) struct Mounted(pub(crate) String);

impl Mounted {
    /// A tmpfs with these options, at the new directory `name`.
    pub(crate) fn tmpfs(place: &Place, name: &str, options: &str) -> Self {
        Self::new(place, name, "tmpfs", options)
    }

    /// An overlay of empty directories, at the new directory `name`. It can hold no upper directory of an overlay.
    pub(crate) fn overlay(place: &Place, name: &str) -> Self {
        for name in ["lower", "upper", "work"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| place.at(name));
        Self::new(place, name, "overlay", &format!("lowerdir={lower},upperdir={upper},workdir={work}"))
    }

    fn new(place: &Place, name: &str, kind: &str, options: &str) -> Self {
        let at = place.at(name);
        fs::create_dir(&at).unwrap();
        tool("mount", &["-t", kind, "-o", options, "none", &at]);
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", &self.0]).output();
    }
}
