//! The seccomp filter: the system calls that go to the supervisor.

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF,
    c_long, sock_filter,
};

/// linux/audit.h: `EM_X86_64` or `EM_AARCH64` with the flags of 64 bits and little endian.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 62 | 0xc000_0000;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 183 | 0xc000_0000;

/// The offsets of the number, the architecture, and an argument's lower half in `struct seccomp_data`.
const NUMBER: u32 = 0;
const AUDIT_ARCH: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// Calls that are selected with any arguments.
const ALWAYS: &[c_long] = &[
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
];

/// Calls that open a file, and the argument with their flags: selected if they may create it.
const OPENING: &[(c_long, u32)] = &[
    (libc::SYS_openat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 1),
];

/// getrlimit(2) and setrlimit(2). The libc crate lacks the constants of the generic table.
#[cfg(target_arch = "x86_64")]
pub(super) const GETRLIMIT: c_long = libc::SYS_getrlimit;
#[cfg(target_arch = "x86_64")]
pub(super) const SETRLIMIT: c_long = libc::SYS_setrlimit;
#[cfg(target_arch = "aarch64")]
pub(super) const GETRLIMIT: c_long = 163;
#[cfg(target_arch = "aarch64")]
pub(super) const SETRLIMIT: c_long = 164;

/// Calls that are selected by the value of one argument: those for the limit that stores identities, and for
/// `PR_SET_KEEPCAPS`.
#[allow(clippy::unnecessary_cast, reason = "the type of limits differs between C libraries")]
const SELECTED: &[(c_long, u32, u32)] = &[
    (libc::SYS_prlimit64, 1, libc::RLIMIT_LOCKS as u32),
    (GETRLIMIT, 0, libc::RLIMIT_LOCKS as u32),
    (SETRLIMIT, 0, libc::RLIMIT_LOCKS as u32),
    (libc::SYS_prctl, 0, libc::PR_SET_KEEPCAPS.cast_unsigned()),
];

/// The bit of `O_TMPFILE` without `O_DIRECTORY`.
pub(super) const TMPFILE: i32 = 0o20_000_000;

/// The program. Calls of other architectures are allowed.
pub(super) fn program() -> Vec<sock_filter> {
    let mut program = vec![load(AUDIT_ARCH), jump(BPF_JEQ, ARCHITECTURE, 1, 0), allow(), load(NUMBER)];
    let making = (libc::O_CREAT | TMPFILE).cast_unsigned();
    for &(number, index) in OPENING {
        // Skips to the next comparison of the number, which is still loaded.
        program.push(jump(BPF_JEQ, word(number), 0, 4));
        program.extend([load(argument(index)), jump(BPF_JSET, making, 1, 0), allow(), notify()]);
    }
    for &(number, index, value) in SELECTED {
        program.push(jump(BPF_JEQ, word(number), 0, 4));
        program.extend([load(argument(index)), jump(BPF_JEQ, value, 1, 0), allow(), notify()]);
    }
    // Each number has its own return, because a jump reaches only 255 instructions.
    for &number in ALWAYS {
        program.extend([jump(BPF_JEQ, word(number), 0, 1), notify()]);
    }
    program.push(allow());
    program
}

fn word(number: c_long) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k }
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
}

fn jump(condition: u32, k: u32, then: u8, otherwise: u8) -> sock_filter {
    instruction(BPF_JMP | condition | BPF_K, k, then, otherwise)
}

fn allow() -> sock_filter {
    instruction(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0)
}

fn notify() -> sock_filter {
    instruction(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program like the kernel.
    fn run(architecture: u32, number: c_long, arguments: [u64; 6]) -> bool {
        let mut data = word(number).to_le_bytes().to_vec();
        data.extend(architecture.to_le_bytes());
        data.extend([0; 8]);
        data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let (program, mut at, mut accumulator) = (program(), 0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let code = u32::from(code);
            let branch = |condition: bool| usize::from(if condition { jt } else { jf });
            if code == BPF_LD | BPF_W | BPF_ABS {
                let from = k as usize;
                accumulator = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
            } else if code == BPF_JMP | BPF_JEQ | BPF_K {
                at += branch(accumulator == k);
            } else if code == BPF_JMP | BPF_JSET | BPF_K {
                at += branch(accumulator & k != 0);
            } else {
                assert_eq!(code, BPF_RET | BPF_K);
                return k == SECCOMP_RET_USER_NOTIF;
            }
        }
    }

    #[test]
    fn what_is_heard_of() {
        let open = |flags: i32| run(ARCHITECTURE, libc::SYS_openat, [0, 0, flags.cast_unsigned().into(), 0, 0, 0]);
        assert!(open(libc::O_CREAT | libc::O_RDWR) && open(libc::O_TMPFILE | libc::O_RDWR));
        assert!(!open(libc::O_RDONLY | libc::O_CLOEXEC) && !open(libc::O_DIRECTORY | libc::O_PATH));
        let limit = |which: u64| run(ARCHITECTURE, libc::SYS_prlimit64, [0, which, 0, 0, 0, 0]);
        assert!(limit(10) && !limit(7));
        let prctl = |what: u64| run(ARCHITECTURE, libc::SYS_prctl, [what, 1, 0, 0, 0, 0]);
        assert!(prctl(8) && !prctl(15));
        assert!(ALWAYS.iter().all(|number| run(ARCHITECTURE, *number, [0; 6])));
        for number in [libc::SYS_read, libc::SYS_openat, libc::SYS_fchmod, libc::SYS_rt_sigreturn, 0x4000_0004] {
            assert!(!run(ARCHITECTURE, number, [0; 6]), "{number}");
        }
        assert!(!run(0x4000_0003, libc::SYS_setuid, [0; 6]), "i386");
    }
}
