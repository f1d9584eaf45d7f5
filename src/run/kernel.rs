//! The features of this host's kernel.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ociforge_manifests::runtime::NETWORK_SYSCTLS;

/// Version and patch level of a kernel's release, such as `6.1.0-13-amd64`.
#[must_use]
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The existing parameters below `sys` (`/proc/sys`) among those that a container with its own network sets.
pub(super) fn sysctls(sys: &Path) -> BTreeSet<String> {
    let names = NETWORK_SYSCTLS.iter().map(|(name, _)| *name);
    names.filter(|name| sys.join(name.replace('.', "/")).exists()).map(str::to_owned).collect()
}

/// Whether the cgroups mounted at `cgroups` limit memory but not swap: the kernel is built or started without that.
pub(super) fn cannot_limit_swap(cgroups: &Path, v2: bool) -> bool {
    let lacks =
        |cgroup: &Path, memory: &str, swap: &str| cgroup.join(memory).exists().then(|| !cgroup.join(swap).exists());
    if !v2 {
        return lacks(&cgroups.join("memory"), "memory.limit_in_bytes", "memory.memsw.limit_in_bytes").unwrap_or(false);
    }
    // The root itself has no limits.
    let below = fs::read_dir(cgroups).into_iter().flatten().flatten().map(|entry| entry.path());
    below.filter_map(|cgroup| lacks(&cgroup, "memory.max", "memory.swap.max")).next().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(version("5.10"), Some((5, 10)));
        assert_eq!(version("x"), None);
    }

    #[test]
    fn a_limit_for_swap_is_looked_for_beside_the_one_for_memory() {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = place.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        let lacks = |v2| cannot_limit_swap(place.path(), v2);
        assert!(!lacks(true) && !lacks(false), "nothing is known");
        file("memory/memory.limit_in_bytes");
        file("user.slice/cgroup.procs");
        assert!(!lacks(true) && lacks(false));
        file("memory/memory.memsw.limit_in_bytes");
        file("user.slice/memory.max");
        assert!(lacks(true) && !lacks(false));
        file("user.slice/memory.swap.max");
        assert!(!lacks(true));
    }

    #[test]
    fn parameters_are_files() {
        let place = tempfile::tempdir().unwrap();
        assert!(sysctls(place.path()).is_empty());
        fs::create_dir_all(place.path().join("net/ipv4")).unwrap();
        fs::write(place.path().join("net/ipv4/ping_group_range"), "").unwrap();
        assert_eq!(sysctls(place.path()).into_iter().collect::<Vec<_>>(), ["net.ipv4.ping_group_range"]);
    }
}
