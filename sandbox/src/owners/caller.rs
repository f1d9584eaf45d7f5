//! The thread that waits for a reply, and the files of its arguments.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::sys_notify::{self, SeccompNotification};

/// Maximum length of a path with its final zero (limits.h).
const PATH_MAX: usize = 4096;

/// The smallest page size: a read within one page succeeds or fails as a whole.
const PAGE: u64 = 4096;

/// A thread that waits for the reply to a system call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) listener: BorrowedFd<'a>,
    pub(super) call: SeccompNotification,
}

/// The lower half of an argument, which is the part that the kernel uses of an `int`.
#[allow(clippy::cast_possible_truncation, reason = "that is meant")]
fn lower(argument: u64) -> u32 {
    argument as u32
}

impl Caller<'_> {
    pub(super) fn argument(&self, index: usize) -> u64 {
        self.call.arguments[index]
    }

    /// An argument that is an id, a mode, or a bit set.
    pub(super) fn word(&self, index: usize) -> u32 {
        lower(self.argument(index))
    }

    /// An argument that is a descriptor, or flags.
    pub(super) fn int(&self, index: usize) -> i32 {
        self.word(index).cast_signed()
    }

    /// Checks that it still waits. Otherwise data that was read from it may be another process's.
    ///
    /// # Errors
    /// `EINTR`, which no process receives.
    pub(super) fn still_waits(&self) -> Result<(), Errno> {
        if sys_notify::waits(self.listener, self.call.id) { Ok(()) } else { Err(Errno::INTR) }
    }

    /// This number of bytes of its memory.
    ///
    /// # Errors
    /// `EFAULT`.
    pub(super) fn bytes(&self, address: u64, length: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; length];
        if length > 0 {
            let read = sys_notify::read_memory(self.call.thread, address, &mut bytes).map_err(|_| Errno::FAULT)?;
            if read < length {
                return Err(Errno::FAULT);
            }
        }
        Ok(bytes)
    }

    /// A string, without its final zero.
    ///
    /// # Errors
    /// `EFAULT`, `ENAMETOOLONG`.
    pub(super) fn string(&self, address: u64) -> Result<Vec<u8>, Errno> {
        let mut string = Vec::new();
        let mut chunk = [0; PATH_MAX];
        while string.len() < PATH_MAX {
            let at = address.checked_add(string.len() as u64).ok_or(Errno::FAULT)?;
            // Not across the end of a page: the next one may be unmapped.
            let length = usize::try_from(PAGE - at % PAGE).unwrap_or(PATH_MAX).min(PATH_MAX - string.len());
            let read = sys_notify::read_memory(self.call.thread, at, &mut chunk[..length]).map_err(|_| Errno::FAULT)?;
            let read = &chunk[..read];
            if let Some(end) = read.iter().position(|byte| *byte == 0) {
                string.extend_from_slice(&read[..end]);
                return Ok(string);
            }
            string.extend_from_slice(read);
        }
        Err(Errno::NAMETOOLONG)
    }

    /// Writes to its memory.
    ///
    /// # Errors
    /// `EFAULT`.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.still_waits()?;
        sys_notify::write_memory(self.call.thread, address, bytes).map_err(|_| Errno::FAULT)
    }

    /// Its umask.
    ///
    /// # Errors
    /// `ESRCH` when it has ended.
    pub(super) fn umask(&self) -> Result<Mode, Errno> {
        let status = std::fs::read_to_string(format!("{}/status", self.call.thread)).map_err(|_| Errno::SRCH)?;
        let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        let umask = umask.and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok()).ok_or(Errno::SRCH)?;
        Ok(Mode::from_raw_mode(umask))
    }

    /// The file of a directory descriptor and a path; with an empty path, the file of the descriptor.
    ///
    /// # Errors
    /// Those of open(2) if the path must be resolved now: when it is too long, or when the process has another root.
    pub(super) fn place(&self, dirfd: i32, path: &[u8], follow: bool, own_root: bool) -> io::Result<ProcPath> {
        let thread = self.call.thread;
        let base = match dirfd {
            libc::AT_FDCWD => format!("{thread}/cwd"),
            fd => format!("{thread}/fd/{fd}"),
        };
        let alias = if follow { descriptor(path).map(|fd| format!("{thread}/fd/{fd}")) } else { None };
        let is_base = path.is_empty();
        let whole = match alias {
            Some(alias) => alias.into_bytes(),
            None if path.starts_with(b"/") => path.to_owned(),
            None if is_base => base.clone().into_bytes(),
            None => [base.as_bytes(), b"/", path].concat(),
        };
        let follow = follow || is_base;
        if own_root {
            let root = openat(CWD, format!("{thread}/root"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
            return within(&root, || ProcPath { path: CString::new(whole)?, follow, held: None }.hold());
        }
        if whole.len() < PATH_MAX {
            return Ok(ProcPath { path: CString::new(whole)?, follow, held: None });
        }
        let base = openat(CWD, base, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        ProcPath::held(openat(base, path, path_flags(follow), Mode::empty())?)
    }
}

/// The descriptor that a path in `/dev` or `/proc/self` refers to: `/proc/self` depends on the process.
fn descriptor(path: &[u8]) -> Option<u32> {
    let standard = [&b"/dev/stdin"[..], b"/dev/stdout", b"/dev/stderr"];
    if let Some(number) = standard.iter().position(|name| *name == path) {
        return u32::try_from(number).ok();
    }
    let prefixes = [&b"/proc/self/fd/"[..], b"/proc/thread-self/fd/", b"/dev/fd/"];
    let number = prefixes.iter().find_map(|prefix| path.strip_prefix(*prefix))?;
    if number.iter().all(u8::is_ascii_digit) { std::str::from_utf8(number).ok()?.parse().ok() } else { None }
}

/// Calls `act` with `root` as this thread's root directory. Its working directory stays.
fn within<T>(root: &OwnedFd, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let open = |path| openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let (outside, here) = (open("/")?, open(".")?);
    let enter = |directory: &OwnedFd| {
        rustix::process::fchdir(directory)?;
        rustix::process::chroot(".")?;
        rustix::process::fchdir(&here)
    };
    enter(root)?;
    let done = act();
    enter(&outside)?;
    done
}

fn path_flags(follow: bool) -> OFlags {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if follow { flags } else { flags | OFlags::NOFOLLOW }
}

/// A file by a path relative to this process's working directory, which is `/proc`.
#[derive(Debug)]
pub(super) struct ProcPath {
    pub(super) path: CString,
    follow: bool,
    /// Keeps the descriptor in the path open.
    held: Option<OwnedFd>,
}

impl ProcPath {
    /// The file of a descriptor.
    pub(super) fn held(file: OwnedFd) -> io::Result<Self> {
        let path = CString::new(name_of(&file))?;
        Ok(Self { path, follow: true, held: Some(file) })
    }

    /// The same by a descriptor, so that it always refers to the same file.
    pub(super) fn hold(self) -> io::Result<Self> {
        if self.held.is_some() {
            return Ok(self);
        }
        Self::held(self.open()?)
    }

    /// Opens the file with `O_PATH`, which never blocks.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        Ok(openat(CWD, &self.path, path_flags(self.follow), Mode::empty())?)
    }

    /// The directory, for creating files in it.
    pub(super) fn directory(&self) -> io::Result<OwnedFd> {
        Ok(openat(CWD, &self.path, path_flags(true) | OFlags::DIRECTORY, Mode::empty())?)
    }

    /// Whether a symbolic link at the end of the path is not followed.
    pub(super) fn is_link_itself(&self) -> bool {
        !self.follow
    }

    /// The flags for system calls with the path.
    pub(super) fn flags(&self) -> AtFlags {
        if self.follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW }
    }
}

/// The path of an open file, relative to `/proc`.
pub(super) fn name_of(file: &OwnedFd) -> String {
    format!("self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_by_name() {
        assert_eq!(descriptor(b"/proc/self/fd/17"), Some(17));
        assert_eq!((descriptor(b"/dev/fd/0"), descriptor(b"/dev/stderr")), (Some(0), Some(2)));
        for path in ["/proc/self/fd/", "/proc/self/fd/1/x", "/dev/fd/-1", "/proc/7/fd/1", "/dev/fd/99999999999"] {
            assert_eq!(descriptor(path.as_bytes()), None, "{path}");
        }
    }
}
