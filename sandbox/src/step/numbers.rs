//! Architectures, and their numbers of system calls.

use std::str::FromStr;

use syscalls::{aarch64, arm, x86, x86_64};

/// The bit that distinguishes system calls of x32 and of x86-64 (`asm/unistd.h`); a process can call both.
pub(super) const X32: u32 = 0x4000_0000;

/// System calls with their own numbers on x32, from [`FIRST_OF_X32`]. The others have the numbers of x86-64.
const OF_X32: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

const FIRST_OF_X32: u32 = 512;

/// An architecture, with its number for seccomp(2) (`linux/audit.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Architecture {
    X86_64 = 0xC000_003E,
    X86 = 0x4000_0003,
    Aarch64 = 0xC000_00B7,
    Arm = 0x4000_0028,
}

impl Architecture {
    /// The architecture of this machine's kernel, if filters support it.
    pub(super) fn native() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// The other architecture whose programs this kernel runs, with its name in the runtime spec.
    pub(super) fn other(self) -> Option<(&'static str, Self)> {
        match self {
            Self::X86_64 => Some(("SCMP_ARCH_X86", Self::X86)),
            Self::Aarch64 => Some(("SCMP_ARCH_ARM", Self::Arm)),
            Self::X86 | Self::Arm => None,
        }
    }

    /// The number of a system call, if it exists.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        match self {
            Self::X86_64 => x86_64::Sysno::from_str(name).ok().map(|number| number as u32),
            Self::X86 => x86::Sysno::from_str(name).ok().map(|number| number as u32),
            Self::Aarch64 => aarch64::Sysno::from_str(name).ok().map(|number| number as u32),
            Self::Arm => arm::Sysno::from_str(name).ok().map(|number| number as u32),
        }
    }
}

/// The numbers of a system call on x32: the kernel also accepts some by the number of x86-64.
pub(super) fn on_x32(name: &str) -> impl Iterator<Item = u32> {
    let own = OF_X32.iter().position(|known| *known == name);
    let own = own.and_then(|index| u32::try_from(index).ok()).map(|index| FIRST_OF_X32 + index);
    own.into_iter().chain(Architecture::X86_64.number(name)).map(|number| number | X32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(Architecture::X86_64.number("mount"), Some(165));
        assert_eq!(Architecture::X86.number("socketcall"), Some(102));
        assert_eq!(Architecture::Aarch64.number("openat"), Some(56));
        assert_eq!(Architecture::Arm.number("ugetrlimit"), Some(191));
        assert_eq!(Architecture::Aarch64.number("open"), None);
        assert_eq!(on_x32("getpid").collect::<Vec<_>>(), [X32 | 39]);
        assert_eq!(on_x32("execve").collect::<Vec<_>>(), [X32 | 520, X32 | 59]);
        assert_eq!(on_x32("pwritev2").collect::<Vec<_>>(), [X32 | 547, X32 | 328]);
    }
}
