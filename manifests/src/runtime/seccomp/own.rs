//! ociforge's own profile, for machines without one: equivalent to the profile of podman and related programs, with
//! newer harmless system calls.
//!
//! `mount` and `unshare` are allowed, because nested containers need them: the kernel checks their capabilities and
//! namespaces.

use super::profile::{Family, Rule, SeccompProfile, SyscallArgument, When};

/// The error for system calls that the profile does not have: programs handle it as on an older kernel.
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;
const EINVAL: u32 = 22;

/// Always allowed, by topic.
const ALLOWED: [&str; 10] = [
    // Processes and threads.
    "clone clone3 execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getpriority \
    getrlimit getrusage ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset \
    landlock_restrict_self membarrier pause pidfd_getfd pidfd_open pidfd_send_signal prctl prlimit64 \
    process_mrelease process_vm_readv process_vm_writev ptrace reboot restart_syscall rseq \
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr \
    sched_setparam sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address setns \
    setpriority setrlimit syscall sysinfo syslog tgkill times tkill ugetrlimit uname unshare vfork wait4 waitid \
    waitpid",
    // Credentials.
    "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp \
    getpid getppid getresgid getresgid32 getresuid getresuid32 getsid gettid getuid getuid32 keyctl setfsgid \
    setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setregid setregid32 setresgid \
    setresgid32 setresuid setresuid32 setreuid setreuid32 setsid setuid setuid32 umask",
    // Signals.
    "rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction sigaltstack signal signalfd signalfd4 sigpending \
    sigprocmask sigreturn sigsuspend",
    // Time.
    "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create \
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd \
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    // Memory.
    "brk get_mempolicy madvise mbind memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect \
    mremap msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages set_mempolicy",
    // Communication between processes.
    "accept accept4 bind connect eventfd eventfd2 futex futex_time64 getpeername getsockname getsockopt ipc \
    listen mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend \
    mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd pipe pipe2 recv recvfrom recvmmsg recvmmsg_time64 \
    recvmsg semctl semget semop semtimedop semtimedop_time64 send sendmmsg sendmsg sendto setsockopt shmat \
    shmctl shmdt shmget shutdown socketcall socketpair",
    // Events.
    "_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
    epoll_wait_old fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel \
    io_destroy io_getevents io_setup io_submit poll ppoll ppoll_time64 pselect6 pselect6_time64 select",
    // Mounts.
    "fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root umount umount2",
    // Files and directories.
    "_llseek access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat \
    faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchown fchown32 fchownat fcntl fcntl64 \
    fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync \
    ftruncate ftruncate64 futimesat getcwd getdents getdents64 getrandom getxattr ioctl lchown lchown32 \
    lgetxattr link linkat listxattr llistxattr lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod \
    mknodat name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 \
    read readahead readdir readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile \
    sendfile64 setxattr splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs \
    tee truncate truncate64 unlink unlinkat utime utimensat utimensat_time64 utimes write writev",
    // Newer than the reference profile.
    "cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat listmount listxattrat \
     map_shadow_stack mseal removexattrat set_mempolicy_home_node setxattrat statmount",
];

/// Always refused: obsolete, or able to bypass limits.
const REFUSED: &str = "\
    bdflush io_pgetevents kexec_file_load kexec_load migrate_pages move_pages nfsservctl nice oldfstat oldlstat \
    oldolduname oldstat olduname pciconfig_iobase pciconfig_read pciconfig_write sgetmask ssetmask swapcontext swapoff \
    swapon sysfs uselib userfaultfd ustat vm86 vm86old vmsplice";

/// Allowed with a capability, and otherwise refused.
const BY_CAPABILITY: [(&str, &str); 9] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_SYS_ADMIN", "bpf fanotify_init lookup_dcookie perf_event_open quotactl setdomainname sethostname setns"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module query_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
];

/// Allowed on some architectures, in Go's spelling.
const BY_ARCHITECTURE: [(&str, &str); 5] = [
    ("amd64 x32", "arch_prctl"),
    ("amd64 x32 x86", "modify_ldt"),
    ("arm arm64", "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"),
    ("ppc64le", "sync_file_range2"),
    ("s390 s390x", "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
];

/// Allowed values of `personality`: Linux, 32 bits, both also without address randomisation; and the query.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Architectures, and the other architectures whose programs they run.
const FAMILIES: [(&str, &str); 7] = [
    ("X86_64", "X86 X32"),
    ("AARCH64", "ARM"),
    ("MIPS64", "MIPS MIPS64N32"),
    ("MIPS64N32", "MIPS MIPS64"),
    ("MIPSEL64", "MIPSEL MIPSEL64N32"),
    ("MIPSEL64N32", "MIPSEL MIPSEL64"),
    ("S390X", "S390"),
];

/// The profile.
pub(super) fn profile() -> SeccompProfile {
    let mut rules = vec![refuse(REFUSED, EPERM), allow(&ALLOWED.join(" "))];
    rules.extend(PERSONALITIES.map(|value| Rule { args: vec![argument(0, value, "EQ")], ..allow("personality") }));
    rules.extend(
        BY_ARCHITECTURE.map(|(arches, names)| Rule {
            includes: When { arches: words(arches), ..When::default() },
            ..allow(names)
        }),
    );
    for (capability, names) in BY_CAPABILITY {
        rules.push(Rule { includes: with(capability), ..allow(names) });
        rules.push(Rule { excludes: with(capability), ..refuse(names, EPERM) });
    }
    rules.extend(sockets());
    let family = |(native, others): (&str, &str)| Family {
        architecture: format!("SCMP_ARCH_{native}"),
        sub_architectures: words(others).iter().map(|name| format!("SCMP_ARCH_{name}")).collect(),
    };
    SeccompProfile {
        default_action: "SCMP_ACT_ERRNO".into(),
        default_errno: Some(ENOSYS),
        flags: Vec::new(),
        arch_map: FAMILIES.map(family).into(),
        architectures: Vec::new(),
        rules,
    }
}

/// All sockets except those of the kernel's audit (protocol 9 of netlink, family 16), which require its capability.
fn sockets() -> [Rule; 4] {
    const AUDIT: &str = "CAP_AUDIT_WRITE";
    let without = |args, rule| Rule { args, excludes: with(AUDIT), ..rule };
    let (family, protocol) = (|op| argument(0, 16, op), |op| argument(2, 9, op));
    [
        without(vec![family("EQ"), protocol("EQ")], refuse("socket", EINVAL)),
        without(vec![protocol("NE")], allow("socket")),
        without(vec![family("NE")], allow("socket")),
        Rule { includes: with(AUDIT), ..allow("socket") },
    ]
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn with(capability: &str) -> When {
    When { caps: vec![capability.to_owned()], ..When::default() }
}

fn argument(index: u32, value: u64, op: &str) -> SyscallArgument {
    SyscallArgument { index, value, value_two: 0, op: format!("SCMP_CMP_{op}") }
}

fn allow(names: &str) -> Rule {
    Rule { names: words(names), action: "SCMP_ACT_ALLOW".into(), ..Rule::default() }
}

fn refuse(names: &str, errno: u32) -> Rule {
    Rule { names: words(names), action: "SCMP_ACT_ERRNO".into(), errno: Some(errno), ..Rule::default() }
}
