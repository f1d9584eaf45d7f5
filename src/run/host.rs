//! The facts about this host that a runtime spec needs.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use ociforge_manifests::runtime::cdi::{CdiRegistry, DeviceFacts};
use ociforge_manifests::runtime::{DriverVersion, Emitted, HOOK_NAME, Host, LOCKED};
use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};
use rustix::process::{Resource, geteuid, getrlimit};

use super::{cdi, kernel, toolkit};
use ociforge_sandbox::{ids, program};

/// The paths of the seccomp profile of container tools; the administrator's is first.
const SECCOMP: [&str; 2] = ["/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json"];

/// The mount point of cgroups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Facts about the host that the user overrides.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Directories of CDI files; empty for the default ones.
    pub cdi_directories: Vec<PathBuf>,
    /// The NVIDIA driver's version, for example of the host that the container is for.
    pub driver: Option<DriverVersion>,
    /// Whether the container is rootless, independent of the user of this process.
    pub rootless: bool,
}

/// Detects the facts of this host. Errors make a fact unknown.
#[must_use]
pub fn facts(overrides: Overrides) -> Host {
    let cpus = fs::read_to_string("/sys/devices/system/cpu/online");
    let cgroup_v2 = Path::new(CGROUPS).join("cgroup.controllers").exists();
    let (mappings, inside_user_namespace) = match ids::current() {
        // The root of a user namespace has it, and others can create one in it.
        Some(current) if geteuid().is_root() => (current, true),
        _ => (ids::available(), false),
    };
    let registry = cdi(&overrides.cdi_directories, overrides.rootless);
    let toolkit = toolkit::gather(Path::new("/"), driver().as_ref());
    Host {
        directory: env::current_dir().ok().and_then(text),
        nvidia_hook: program(HOOK_NAME).and_then(text),
        driver: overrides.driver.or_else(driver),
        devices: cdi::devices(&registry),
        absent: cdi::absent(&registry),
        toolkit,
        cdi: registry,
        cgroup_v2,
        cpus: cpus.ok().and_then(|list| list.trim().parse().ok()),
        cannot_limit_swap: kernel::cannot_limit_swap(Path::new(CGROUPS), cgroup_v2),
        sysctls: kernel::sysctls(Path::new("/proc/sys")),
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        network_files: network_files(),
        architecture: Some(architecture().to_owned()),
        kernel: kernel::version(&rustix::system::uname().release().to_string_lossy()),
        seccomp: seccomp_profile().and_then(|file| fs::read_to_string(file).ok()),
        capabilities: fs::read_to_string("/proc/self/status").ok().and_then(|status| bounding_set(&status)),
        limits: limits(),
        mappings: Some(mappings),
        inside_user_namespace,
        delegated: delegated(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default(), cgroup_v2),
        ..Host::default()
    }
}

/// Whether only rootless containers are possible: for users other than root, and for the root of a user namespace.
#[must_use]
pub fn is_unprivileged() -> bool {
    !geteuid().is_root() || ids::current().is_some()
}

/// Adds the locked mount flags of the sources to the bind mounts of a rootless spec ([`Emitted::keep_locked`]).
pub fn keep_locked(emitted: &mut Emitted) {
    let flags = |source: &String| {
        let set = statvfs(Path::new(source)).ok()?.f_flag;
        let bits =
            [StatVfsMountFlags::NOSUID, StatVfsMountFlags::NODEV, StatVfsMountFlags::NOEXEC, StatVfsMountFlags::RDONLY];
        let names = LOCKED.into_iter().zip(bits).filter(|(_, bit)| set.contains(*bit)).map(|(name, _)| name);
        Some((source.clone(), names.collect()))
    };
    let flags: BTreeMap<_, _> = emitted.bind_sources().iter().filter_map(flags).collect();
    emitted.keep_locked(&flags);
}

/// The CDI devices of these directories, or of the default ones including the user's `own`.
#[must_use]
pub fn cdi(directories: &[PathBuf], own: bool) -> CdiRegistry {
    match directories {
        [] => cdi::load(&usual_directories(own, |key| env::var_os(key)), false),
        named => cdi::load(named, true),
    }
}

/// The device nodes that CDI files name and this host has.
#[must_use]
pub fn cdi_devices(registry: &CdiRegistry) -> BTreeMap<String, DeviceFacts> {
    cdi::devices(registry)
}

/// The files of CDI files that this host cannot mount or execute, with the reason.
#[must_use]
pub fn cdi_absent(registry: &CdiRegistry) -> BTreeMap<String, String> {
    cdi::absent(registry)
}

/// The seccomp profile that the host has for containers.
#[must_use]
pub fn seccomp_profile() -> Option<PathBuf> {
    SECCOMP.iter().map(PathBuf::from).find(|file| fs::File::open(file).is_ok())
}

/// The cgroups of version 2 that are mounted beside those of version 1, if they have controllers.
#[must_use]
pub fn second_cgroups() -> Option<PathBuf> {
    let second = Path::new(CGROUPS).join("unified");
    let is_used = fs::read_to_string(second.join("cgroup.controllers")).is_ok_and(|list| !list.trim().is_empty());
    is_used.then_some(second)
}

/// The version of the driver that is loaded.
#[must_use]
pub fn driver() -> Option<DriverVersion> {
    DriverVersion::from_proc(&fs::read_to_string("/proc/driver/nvidia/version").ok()?)
}

/// The directories of CDI files, those of the user's `own` among them (basedir-spec).
fn usual_directories(own: bool, variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let path = |key| variable(key).map(PathBuf::from).filter(|path| path.is_absolute()).filter(|_| own);
    let config = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")));
    cdi::default_directories(config, path("XDG_RUNTIME_DIR"))
}

/// The files that a container on the host's network needs for name resolution.
fn network_files() -> BTreeMap<String, String> {
    let files = ["/etc/hosts", "/etc/resolv.conf"].into_iter().filter(|file| Path::new(file).is_file());
    files.map(|file| (file.to_owned(), file.to_owned())).collect()
}

/// This machine's architecture in Go's spelling.
#[must_use]
pub fn architecture() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "loongarch64" => "loong64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}

/// `CapBnd` of `/proc/self/status`.
fn bounding_set(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// The hard limits of this process, by docker's names.
fn limits() -> BTreeMap<String, u64> {
    let resources = [
        ("core", Resource::Core),
        ("cpu", Resource::Cpu),
        ("data", Resource::Data),
        ("fsize", Resource::Fsize),
        ("locks", Resource::Locks),
        ("memlock", Resource::Memlock),
        ("msgqueue", Resource::Msgqueue),
        ("nice", Resource::Nice),
        ("nofile", Resource::Nofile),
        ("nproc", Resource::Nproc),
        ("rss", Resource::Rss),
        ("rtprio", Resource::Rtprio),
        ("rttime", Resource::Rttime),
        ("sigpending", Resource::Sigpending),
        ("stack", Resource::Stack),
    ];
    let hard = |resource| getrlimit(resource).maximum.unwrap_or(u64::MAX);
    resources.into_iter().map(|(name, resource)| (name.to_owned(), hard(resource))).collect()
}

/// The delegated cgroup controllers of this user. `membership` is `/proc/self/cgroup` (cgroups(7)).
///
/// In version 2, a cgroup with processes cannot delegate controllers, so only the controllers that a cgroup of this
/// user already delegates count.
fn delegated(membership: &str, v2: bool) -> BTreeSet<String> {
    let writable = |directory: &Path| access(directory, Access::WRITE_OK).is_ok();
    let own = |path: &str| Path::new(CGROUPS).join(path.trim_start_matches('/'));
    let mut controllers = BTreeSet::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (fields.next(), fields.next()) else { continue };
        if v2 && names.is_empty() && writable(&own(path)) {
            let handed_on = fs::read_to_string(own(path).join("cgroup.subtree_control")).unwrap_or_default();
            controllers.extend(handed_on.split_ascii_whitespace().map(str::to_owned));
        } else if !v2
            && !names.is_empty()
            && writable(&Path::new(CGROUPS).join(names).join(path.trim_start_matches('/')))
        {
            controllers.extend(names.split(',').map(str::to_owned));
        }
    }
    controllers
}

fn text(path: PathBuf) -> Option<String> {
    path.into_os_string().into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_processors_and_a_working_directory() {
        let host = facts(Overrides::default());
        assert!(host.cpus.is_some());
        assert!(host.directory.unwrap().starts_with('/'));
        assert!(host.kernel.unwrap() > (3, 0) && host.limits["nofile"] > 0 && host.mappings.is_some());
        let driver = "1.2".parse().ok();
        assert_eq!(facts(Overrides { driver: driver.clone(), ..Overrides::default() }).driver, driver);
        assert_eq!(is_unprivileged(), !geteuid().is_root() || host.inside_user_namespace);
    }

    #[test]
    fn the_kernel_s_texts_are_read() {
        assert_eq!(bounding_set("Name:\tx\nCapBnd:\t00000000a80425fb\n"), Some(0xa804_25fb));
        assert_eq!(bounding_set(""), None);
        assert!(delegated("nonsense\n0::/no/such/cgroup\n", true).is_empty());
    }

    #[test]
    fn the_flags_of_a_mount_are_seen() {
        struct Mounted(tempfile::TempDir);
        impl Drop for Mounted {
            fn drop(&mut self) {
                let _ = std::process::Command::new("umount").arg(self.0.path()).status();
            }
        }
        let place = tempfile::tempdir().unwrap();
        let options = ["-t", "tmpfs", "-o", "ro,nosuid,nodev", "none"];
        assert!(std::process::Command::new("mount").args(options).arg(place.path()).status().unwrap().success());
        let place = Mounted(place);
        let json = serde_json::json!({"mounts": [
            {"destination": "/a", "type": "bind", "source": place.0.path(), "options": ["rbind", "dev", "rw", "noexec"]},
            {"destination": "/b", "type": "bind", "source": "/no/such", "options": ["rbind"]},
        ]});
        let mut emitted = Emitted { json, warnings: Vec::new() };
        keep_locked(&mut emitted);
        let options = |index: usize| emitted.json["mounts"][index]["options"].to_string();
        assert_eq!(options(0), r#"["rbind","noexec","nosuid","nodev","ro"]"#);
        assert_eq!(options(1), r#"["rbind"]"#);
    }

    #[test]
    fn only_a_users_container_takes_the_users_cdi_files() {
        let all = |key: &str| match key {
            "HOME" => Some("/home/me".into()),
            "XDG_RUNTIME_DIR" => Some("/run/user/1".into()),
            _ => None,
        };
        let texts = |own| usual_directories(own, all).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(texts(false), ["/etc/cdi", "/var/run/cdi"]);
        assert_eq!(texts(true), ["/etc/cdi", "/var/run/cdi", "/home/me/.config/cdi", "/run/user/1/cdi"]);
        let config = usual_directories(true, |key| (key == "XDG_CONFIG_HOME").then(|| "/c".into()));
        assert_eq!(config.last().unwrap(), Path::new("/c/cdi"));
    }
}
