//! The defaults of docker's rootful containers.

use serde_json::{Value, json};

use super::modes::Ipc;
use super::mount::SpecMount;
use super::values::Size;

/// The `PATH` of hooks, and of images without one.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The default size of `/dev/shm`: 64 MiB.
pub(crate) const SHM_SIZE: Size = Size(64 << 20);

/// Paths that are masked in the container.
pub(crate) const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that are read-only in the container.
pub(crate) const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Kernel parameters of a container's own network namespace: every user can listen on every port, and ping. The second
/// one contains groups that a user namespace does not have.
pub const NETWORK_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), (PING_SYSCTL, "0 2147483647")];

/// The parameter of [`NETWORK_SYSCTLS`] that cannot be set in a user namespace.
pub(crate) const PING_SYSCTL: &str = "net.ipv4.ping_group_range";

/// Character devices that the container can use: major and minor number, or every minor number.
const DEVICES: [(u32, Option<u32>); 9] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),  // pts/*
];

/// The mounts of every container, in order.
pub(crate) fn mounts(ipc: Ipc, shm_size: Size) -> Vec<SpecMount> {
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let mut mounts = vec![
        SpecMount::new("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        SpecMount::new("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        SpecMount::new("/dev/pts", "devpts", "devpts", &pts),
        SpecMount::new("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        SpecMount::new("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        SpecMount::new("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    let size = format!("size={}", shm_size.0);
    match ipc {
        Ipc::Private => {
            mounts.push(SpecMount::new("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]));
        }
        Ipc::Host => mounts.push(SpecMount::bind("/dev/shm", "/dev/shm", &["rbind", "rprivate"])),
        Ipc::None => {}
    }
    mounts
}

/// The rules of the device cgroup, in order.
pub(crate) fn device_rules(privileged: bool) -> Vec<Value> {
    if privileged {
        return vec![json!({"allow": true, "access": "rwm"})];
    }
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    rules.extend(DEVICES.iter().map(|(major, minor)| {
        let mut rule = json!({"allow": true, "type": "c", "major": major, "access": "rwm"});
        if let Some(minor) = minor {
            rule["minor"] = json!(minor);
        }
        rule
    }));
    rules
}
