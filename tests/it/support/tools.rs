//! Programs that people use beside ociforge.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use super::{Place, run};

/// Runs a program that must succeed, and gives what it printed.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> String {
    run(Command::new(program).args(arguments).stdin(Stdio::null())).ok()
}

pub(crate) fn skopeo(arguments: &[&str]) -> String {
    tool("skopeo", &[&["--insecure-policy"], arguments].concat())
}

/// Copies an image byte by byte.
pub(crate) fn skopeo_copy(from: &str, to: &str) {
    skopeo(&[
        "copy",
        "--quiet",
        "--all",
        "--preserve-digests",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        from,
        to,
    ]);
}

/// The bytes of the manifest or index that an image's name stands for, by skopeo.
pub(crate) fn skopeo_raw(image: &str) -> String {
    let tls: &[&str] = if image.starts_with("docker://") { &["--tls-verify=false"] } else { &[] };
    skopeo(&[&["inspect", "--raw"], tls, &[image]].concat())
}

/// What curl prints; it must get an answer.
pub(crate) fn curl(arguments: &[&str]) -> String {
    tool("curl", &[&["--silent", "--show-error", "--noproxy", "*"], arguments].concat())
}

/// The status that curl gets, unless `arguments` have it print something else.
pub(crate) fn curl_status(arguments: &[&str]) -> String {
    curl(&[&["-o", "/dev/null", "-w", "%{http_code}"], arguments].concat())
}

/// Unpacks the image `oci:LAYOUT:TAG` with umoci and gives its root.
pub(crate) fn unpack(place: &Place, image: &str) -> PathBuf {
    let bundle = place.path(format!("bundle-{}", fs::read_dir(place.path("")).unwrap().count()));
    let image = image.strip_prefix("oci:").unwrap();
    let rootless: &[&str] = if is_root() { &[] } else { &["--rootless"] };
    tool("umoci", &[&["unpack"], rootless, &["--image", image, bundle.to_str().unwrap()]].concat());
    bundle.join("rootfs")
}

/// Runs a command in an unpacked root.
pub(crate) fn chroot(root: &Path, command: &[&str]) -> String {
    let root = root.to_str().unwrap();
    let chroot: &[&str] = if is_root() { &["chroot", root] } else { &["unshare", "--map-root-user", "chroot", root] };
    let words = [chroot, &["/usr/bin/env", "-i", "PATH=/usr/bin:/bin"], command].concat();
    tool(words[0], &words[1..])
}

pub(crate) fn is_root() -> bool {
    static ROOT: LazyLock<bool> = LazyLock::new(|| tool("id", &["-u"]).trim() == "0");
    *ROOT
}
