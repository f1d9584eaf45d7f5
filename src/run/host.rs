//! The facts about this host that a runtime spec needs.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use ociforge_manifests::runtime::{HOOK_NAME, Host};

/// Where distributions put hooks when they are not on the caller's `PATH`.
const USUAL: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/usr/sbin"];

/// Asks this host. What can't be found out counts as unknown; there are no errors.
#[must_use]
pub fn facts() -> Host {
    let cpus = fs::read_to_string("/sys/devices/system/cpu/online");
    Host {
        directory: env::current_dir().ok().and_then(text),
        nvidia_hook: find(HOOK_NAME, env::var_os("PATH").as_deref()).and_then(text),
        cgroup_v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        cpus: cpus.ok().and_then(|list| list.trim().parse().ok()),
        network_files: network_files(),
        ..Host::default()
    }
}

/// What a container on the host's network needs to find others by name.
fn network_files() -> Vec<String> {
    ["/etc/hosts", "/etc/resolv.conf"].into_iter().filter(|file| Path::new(file).is_file()).map(str::to_owned).collect()
}

/// The first program called `name` in the absolute directories of `path`, or else in the usual ones.
fn find(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let named = path.into_iter().flat_map(env::split_paths).filter(|directory| directory.is_absolute());
    named.chain(USUAL.map(PathBuf::from)).map(|directory| directory.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(file).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

fn text(path: PathBuf) -> Option<String> {
    path.into_os_string().into_string().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_is_found_in_the_first_directory_that_has_it_executable() {
        let root = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| root.path().join(name));
        for (directory, mode) in [(&first, 0o644), (&second, 0o755)] {
            fs::create_dir(directory).unwrap();
            let file = directory.join("a-hook");
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = env::join_paths([Path::new("relative"), &first, &second]).unwrap();
        assert_eq!(find("a-hook", Some(&path)), Some(second.join("a-hook")));
        assert_eq!(find("a-hook", None), None);
    }

    #[test]
    fn this_host_has_processors_and_a_working_directory() {
        let host = facts();
        assert!(host.cpus.is_some());
        assert!(host.directory.unwrap().starts_with('/'));
    }
}
