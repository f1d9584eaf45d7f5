//! The machine and the user.

use std::fs;

use crate::base::facts::OsRelease;
use crate::run::kernel;
use ociforge_sandbox::ids::account_name;

/// The machine and the user.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// The effective user id.
    pub uid: u32,
    /// The user's name, if it has one.
    pub user: Option<String>,
    /// The kernel.
    pub kernel: Kernel,
    /// The architecture in the kernel's spelling, such as `x86_64`.
    pub architecture: String,
    /// The distribution, which decides the names of packages.
    pub distribution: LinuxDistribution,
    /// The architectures that the kernel runs through an emulator, in qemu's spelling.
    pub emulated: Vec<String>,
}

/// A kernel release.
#[derive(Debug, Clone, Default)]
pub struct Kernel {
    /// The release string, such as `6.1.0-18-amd64`.
    pub release: String,
    /// Major and minor version.
    pub version: (u32, u32),
}

/// The family of distributions, by their packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinuxDistribution {
    /// Debian or a derivative.
    #[default]
    Debian,
    /// Ubuntu.
    Ubuntu,
    /// Fedora or a similar distribution.
    Fedora,
}

impl Kernel {
    /// Parses a release; the version is (0, 0) if the release has none.
    #[must_use]
    pub fn of(release: &str) -> Self {
        Self { release: release.to_owned(), version: kernel::version(release).unwrap_or_default() }
    }
}

impl LinuxDistribution {
    /// Parses `os-release`. Unknown distributions count as Debian.
    #[must_use]
    pub fn of(os_release: &str) -> Self {
        let system = OsRelease::read(os_release);
        if system.is_like("fedora") || system.is_like("rhel") {
            Self::Fedora
        } else if system.is_like("ubuntu") {
            Self::Ubuntu
        } else {
            Self::Debian
        }
    }
}

impl Machine {
    pub(super) fn gather() -> Self {
        let uname = rustix::system::uname();
        let uid = rustix::process::geteuid().as_raw();
        let os_release = fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
        let formats = fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
        let names = formats.filter_map(|entry| entry.file_name().into_string().ok());
        let mut emulated: Vec<String> = names.filter_map(|name| Some(name.strip_prefix("qemu-")?.to_owned())).collect();
        emulated.sort();
        Self {
            uid,
            user: account_name(uid),
            kernel: Kernel::of(&uname.release().to_string_lossy()),
            architecture: uname.machine().to_string_lossy().into_owned(),
            distribution: LinuxDistribution::of(&os_release.unwrap_or_default()),
            emulated,
        }
    }

    /// Whether the user is root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// The user's name in `/etc/subuid`.
    #[must_use]
    pub fn owner(&self) -> String {
        self.user.clone().unwrap_or_else(|| self.uid.to_string())
    }

    /// The command with `sudo`, unless the user is root.
    #[must_use]
    pub fn as_root(&self, command: &str) -> String {
        if self.is_root() { command.to_owned() } else { format!("sudo {command}") }
    }

    /// The command that installs a package; its name may differ in Fedora.
    #[must_use]
    pub fn install(&self, debian: &str, fedora: &str) -> String {
        match self.distribution {
            LinuxDistribution::Fedora => self.as_root(&format!("dnf install {fedora}")),
            LinuxDistribution::Debian | LinuxDistribution::Ubuntu => self.as_root(&format!("apt-get install {debian}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_and_distributions_are_told_apart() {
        for (release, version) in [
            ("6.1.0-18-amd64", (6, 1)),
            ("5.10", (5, 10)),
            ("4.18.0-553.el8_10.x86_64", (4, 18)),
            ("6.18.44-fc-v595", (6, 18)),
            ("weird", (0, 0)),
        ] {
            assert_eq!(Kernel::of(release).version, version, "{release}");
        }
        for (text, distribution) in [
            ("ID=debian\n", LinuxDistribution::Debian),
            ("NAME=x\nID=ubuntu\nID_LIKE=debian\n", LinuxDistribution::Ubuntu),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", LinuxDistribution::Ubuntu),
            ("ID=fedora\n", LinuxDistribution::Fedora),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", LinuxDistribution::Fedora),
            ("", LinuxDistribution::Debian),
        ] {
            assert_eq!(LinuxDistribution::of(text), distribution, "{text}");
        }
    }

    #[test]
    fn root_needs_no_sudo() {
        let root = Machine::default();
        assert_eq!(root.install("uidmap", "shadow-utils"), "apt-get install uidmap");
        let user = Machine { uid: 7, distribution: LinuxDistribution::Fedora, ..root };
        assert_eq!(user.install("uidmap", "shadow-utils"), "sudo dnf install shadow-utils");
        assert_eq!(user.owner(), "7");
    }
}
