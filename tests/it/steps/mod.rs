//! Steps that run something: what they see, and what becomes of what they do.
//!
//! Debian: umoci busybox-static

mod environment;
mod layers;

use std::fs;

use serde_json::json;

use crate::support::{Builds, Layered, Packing, Ran, Tar, files, run, said};

/// Prints what is in the root filesystem, but for what is mounted and directories' sizes.
pub(crate) const LIST: &str = "cd / && find . -xdev ! -path './etc/host*' ! -path ./proc ! -path ./sys ! -path ./dev \
     -exec stat -c '%n %f %u:%g %t,%T' {} + && \
     find . -xdev -type f ! -path './etc/host*' -exec stat -c '%n %s %h' {} + && cat /etc/passwd";

/// Steps of which each changes what the one before did.
pub(crate) fn three_steps(last: &str) -> String {
    let first = "mkdir -p /d/e /d/f; echo 1 > /d/e/x; echo 2 > /d/f/y; ln /d/f/y /d/z; chown 5:6 /d/e/x; busybox \
        chmod 2751 /d/e; echo 0 > /etc/profile";
    let second = "rm -r /d/e; mkdir /d/e; echo 3 > /d/e/new; echo more > /d/f/new; chown 7:8 /d/f; rm /etc/profile; \
        mkdir /etc/profile; touch /etc/profile/x; mkdir /d/p";
    format!(
        "[[layer]]\nrun = \"{first}; {LIST}\"\n[[layer]]\nrun = \"{LIST}; {second}; {LIST}\"\n[[layer]]\nrun = \
            \"{LIST}; {last}\"\n"
    )
}

/// The lines of a list in one order: that of directories depends on the filesystem.
pub(crate) fn sorted(list: &str) -> String {
    let mut lines: Vec<&str> = list.split_inclusive('\n').collect();
    lines.sort_unstable();
    lines.concat()
}

/// Asserts that a step began with what the one before ended with, of what [`three_steps`] say.
#[track_caller]
pub(crate) fn assert_seen(said: &str) {
    let lists: Vec<String> = said.split_inclusive("nobody:x:65534:65534::/:/bin/sh\n").map(sorted).collect();
    assert_eq!(lists.len(), 4, "{said}");
    assert!(lists[0] == lists[1] && lists[1] != lists[2] && lists[2] == lists[3], "{said}");
    assert!(lists[3].contains("./d/z ") && !lists[3].contains("./d/e/x"));
}
