//! Owners, devices and identities for steps in a user namespace that has one user only.
//!
//! In such a namespace the kernel has only root, so chown(2), setuid(2), mknod(2) and related calls fail. A seccomp
//! filter ([`install`]) forwards them to a process outside of the step ([`supervise`]), which handles them
//! (seccomp_unotify(2)):
//!
//! - Files: changed owners and devices are recorded with the file ([`ociforge_layers::owner`]) and returned by stat(2).
//!   The call is also executed with root in place of any owner, for its side effects: an overlay copies the file up,
//!   set-id bits and capabilities are removed.
//! - Processes: they have the ids that they set, by the rules of credentials(7), and new files belong to these.
//!   A program with a set-id bit runs as its recorded owner.
//!
//! Not emulated:
//!
//! - permissions: a process that is no longer root still has root's access to files, and changes their modes and times;
//! - ids in messages (`SO_PEERCRED`) and in `/proc`, and the capabilities of capget(2);
//! - owners of a lower layer's symbolic links, which have no record;
//! - new files through a dangling symbolic link, or by openat2(2) with restrictions, and sockets of bind(2): they
//!   belong to root;
//! - entries of access lists for others than root, which are skipped;
//! - the opening of devices: they are empty files;
//! - 32-bit programs.
//!
//! A signal that arrives just before this process receives a call interrupts the call, and a program whose handler does
//! not restart calls (`SA_RESTART`) sees an unexpected `EINTR`. The kernel has no remedy. After this process has
//! received a call, only the death of the caller interrupts it (Linux 5.19).

mod caller;
mod capabilities;
mod chown;
mod create;
mod credentials;
mod execute;
mod filter;
mod identities;
mod ids;
mod look;
mod records;
mod xattr;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use ociforge_layers::owner::OwnershipTable;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, fchdir, set_dumpable_behavior};

use self::caller::{Caller, ProcPath};
use self::identities::{Identities, State};
use self::records::OwnerRecords;
use super::sys_notify;

/// Installs the filter in this thread, and returns the listener for [`supervise`]. From then on the selected calls wait
/// for replies. Must be called in the process that becomes the step, directly before it changes its user and executes
/// the program; requires `CAP_SYS_ADMIN` in its user namespace, or no_new_privs.
///
/// # Errors
/// The kernel's: `EACCES` without that permission, `EBUSY` if another listener exists, `EINVAL` before Linux 5.0.
pub fn install() -> io::Result<OwnedFd> {
    // A process that enters a user namespace becomes undumpable, and then even its root cannot inspect it.
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    let program = filter::program();
    // Without this flag (Linux 5.19) any signal interrupts a call that is being handled.
    match sys_notify::listen(&program, libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => sys_notify::listen(&program, 0),
        installed => installed,
    }
}

/// Handles calls until the last process under the filter has ended, and returns the ownership that could not be
/// recorded with the files.
///
/// Must be called in another process than the step, outside of its pid namespace, with the same mount and user
/// namespaces and the step's root as its root directory. `proc` is a `/proc` of this process's pid namespace. `files`
/// is the directory that receives the step's writes: an overlay's upper directory, or the root directory.
///
/// The thread gets and keeps its own working directory and umask.
///
/// # Errors
/// The kernel's, for the listener or the directories; the step's calls then fail with `ENOSYS`.
pub fn supervise(listener: OwnedFd, proc: OwnedFd, files: OwnedFd) -> io::Result<OwnershipTable> {
    sys_notify::own_directories()?;
    fchdir(&proc)?;
    drop(proc);
    sys_notify::wake_in_place(listener.as_fd());
    let mut supervisor = Supervisor { records: OwnerRecords::new(files)?, identities: Identities::default() };
    loop {
        let mut polled = [PollFd::new(&listener, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = polled[0].revents();
        if events.contains(PollFlags::IN) {
            match sys_notify::receive(listener.as_fd()) {
                Ok(call) => supervisor.reply(Caller { listener: listener.as_fd(), call })?,
                // The thread of the call was killed.
                Err(error) if is(&error, Errno::NOENT) || is(&error, Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        } else if events.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Ok(supervisor.records.into_table());
        }
    }
}

fn is(error: &io::Error, number: Errno) -> bool {
    Errno::from_io_error(error) == Some(number)
}

/// The reply to a call.
enum SyscallReply {
    /// The kernel executes the call.
    Pass,
    /// A value.
    Value(i64),
    /// A descriptor of this file, closed by execve(2) if the flag is set.
    File(OwnedFd, bool),
}

/// The error is what the call fails with.
type SyscallResult = Result<SyscallReply, Errno>;

const DONE: SyscallResult = Ok(SyscallReply::Value(0));
const PASS: SyscallResult = Ok(SyscallReply::Pass);

/// The error of a call by this process, as the error of the caller's call.
fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

struct Supervisor {
    records: OwnerRecords,
    identities: Identities,
}

impl Supervisor {
    /// Handles a call and sends the reply.
    fn reply(&mut self, caller: Caller<'_>) -> io::Result<()> {
        let outcome = self.identities.of(caller.call.thread).map_err(errno);
        let outcome = outcome.and_then(|state| self.answer(&caller, state));
        loop {
            match send_reply(&caller, &outcome) {
                Err(error) if is(&error, Errno::INTR) => {}
                // The caller no longer waits.
                Err(error) if is(&error, Errno::NOENT) => return Ok(()),
                given => return given,
            }
        }
    }

    fn answer(&mut self, caller: &Caller<'_>, state: Rc<State>) -> SyscallResult {
        let request = SyscallRequest { caller, state };
        let int = |index| caller.int(index);
        let argument = |index| caller.argument(index);
        match caller.call.number {
            libc::SYS_newfstatat => self.stat(&request, int(0), argument(1), int(3), argument(2)),
            libc::SYS_fstat => self.stat(&request, int(0), 0, libc::AT_EMPTY_PATH, argument(1)),
            libc::SYS_statx => self.statx(&request),
            libc::SYS_openat => self.open(&request, int(0), argument(1), int(2), caller.word(3)),
            libc::SYS_openat2 => self.openat2(&request),
            libc::SYS_mkdirat => self.mkdir(&request, int(0), argument(1), caller.word(2)),
            libc::SYS_mknodat => self.mknod(&request, int(0), argument(1), caller.word(2), caller.word(3)),
            libc::SYS_symlinkat => self.symlink(&request, argument(0), int(1), argument(2)),
            libc::SYS_fchown => self.chown(&request, int(0), 0, libc::AT_EMPTY_PATH, 1),
            libc::SYS_fchownat => self.chown(&request, int(0), argument(1), int(4), 2),
            libc::SYS_execve => self.execute(&request, libc::AT_FDCWD, argument(0), 0),
            libc::SYS_execveat => self.execute(&request, int(0), argument(1), int(4)),
            libc::SYS_listxattr | libc::SYS_llistxattr | libc::SYS_flistxattr => self.list(&request),
            libc::SYS_setxattr | libc::SYS_lsetxattr | libc::SYS_fsetxattr => self.set_attribute(&request),
            libc::SYS_chroot | libc::SYS_pivot_root | libc::SYS_unshare | libc::SYS_setns => {
                self.record_chroot(&request)
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_stat => self.stat(&request, libc::AT_FDCWD, argument(0), 0, argument(1)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lstat => self.stat(&request, libc::AT_FDCWD, argument(0), libc::AT_SYMLINK_NOFOLLOW, argument(1)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open => self.open(&request, libc::AT_FDCWD, argument(0), int(1), caller.word(2)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_creat => {
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
                self.open(&request, libc::AT_FDCWD, argument(0), flags, caller.word(1))
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_mkdir => self.mkdir(&request, libc::AT_FDCWD, argument(0), caller.word(1)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_mknod => self.mknod(&request, libc::AT_FDCWD, argument(0), caller.word(1), caller.word(2)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_symlink => self.symlink(&request, argument(0), libc::AT_FDCWD, argument(1)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chown => self.chown(&request, libc::AT_FDCWD, argument(0), 0, 1),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lchown => self.chown(&request, libc::AT_FDCWD, argument(0), libc::AT_SYMLINK_NOFOLLOW, 1),
            _ => self.identify(&request),
        }
    }

    /// chroot(2) and related calls: the process's root directory may differ from now on.
    fn record_chroot(&mut self, request: &SyscallRequest<'_>) -> SyscallResult {
        let caller = request.caller;
        let namespaces = (libc::CLONE_NEWNS | libc::CLONE_NEWUSER).cast_unsigned();
        let stays = caller.call.number == libc::SYS_unshare && caller.word(0) & namespaces == 0;
        if !stays && !request.state.own_root {
            caller.still_waits()?;
            let state = State { own_root: true, ..State::clone(&request.state) };
            self.identities.set(caller.call.thread, state).map_err(errno)?;
        }
        PASS
    }
}

/// A call, and the state of its process.
struct SyscallRequest<'a> {
    caller: &'a Caller<'a>,
    state: Rc<State>,
}

impl SyscallRequest<'_> {
    /// The file of a directory descriptor, a path at an address, and flags (`AT_EMPTY_PATH`, `AT_SYMLINK_NOFOLLOW`).
    /// `None` if it cannot be found: the kernel then executes the call and returns its error.
    fn place(&self, dirfd: i32, address: u64, flags: i32) -> Option<ProcPath> {
        let may_be_empty = flags & libc::AT_EMPTY_PATH != 0;
        let path = match address {
            0 if may_be_empty => Vec::new(),
            _ => self.caller.string(address).ok()?,
        };
        if path.is_empty() && !may_be_empty {
            return None;
        }
        self.place_of(dirfd, &path, flags & libc::AT_SYMLINK_NOFOLLOW == 0)
    }

    fn place_of(&self, dirfd: i32, path: &[u8], follow: bool) -> Option<ProcPath> {
        self.caller.place(dirfd, path, follow, self.state.own_root).ok()
    }
}

/// Sends the reply, if the caller still waits.
fn send_reply(caller: &Caller<'_>, outcome: &SyscallResult) -> io::Result<()> {
    let (listener, id) = (caller.listener, caller.call.id);
    match outcome {
        Ok(SyscallReply::Pass) => sys_notify::let_pass(listener, id),
        Ok(SyscallReply::Value(value)) => sys_notify::answer(listener, id, *value, 0),
        Err(error) => sys_notify::answer(listener, id, 0, error.raw_os_error()),
        Ok(SyscallReply::File(file, cloexec)) => {
            let handed = match sys_notify::hand_over(listener, id, file.as_fd(), *cloexec, true) {
                Err(error) if is(&error, Errno::INVAL) => {
                    sys_notify::hand_over(listener, id, file.as_fd(), *cloexec, false)
                        .and_then(|number| sys_notify::answer(listener, id, number.into(), 0))
                }
                handed => handed.map(|_| ()),
            };
            match handed {
                Err(error) if !is(&error, Errno::NOENT) && !is(&error, Errno::INTR) => {
                    sys_notify::answer(listener, id, 0, errno(error).raw_os_error())
                }
                handed => handed,
            }
        }
    }
}
