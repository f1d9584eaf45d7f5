//! New files of users other than root, new files in setgid directories, and devices.

use std::os::fd::OwnedFd;

use ociforge_layers::owner::{OwnershipRecord, RecordedDevice};
use rustix::fs::{CWD, Dev, FileType, Mode, OFlags, StatxFlags, mkdirat, mknodat, openat, statx, symlinkat};
use rustix::io::Errno;

use super::caller::ProcPath;
use super::capabilities::MKNOD;
use super::filter::TMPFILE;
use super::records::ROOT;
use super::{DONE, PASS, Supervisor, SyscallReply, SyscallRequest, SyscallResult, errno};

/// The location of a new file.
struct NewFile {
    directory: ProcPath,
    name: Vec<u8>,
    /// Its owner.
    owner: OwnershipRecord,
}

impl Supervisor {
    /// openat(2) with `O_CREAT` or `O_TMPFILE`. The kernel handles files that already exist.
    pub(super) fn open(
        &mut self,
        request: &SyscallRequest<'_>,
        dirfd: i32,
        path: u64,
        flags: i32,
        mode: u32,
    ) -> SyscallResult {
        let temporary = flags & TMPFILE != 0;
        if flags & libc::O_PATH != 0 || (!temporary && flags & libc::O_DIRECTORY != 0) {
            return PASS;
        }
        let new_file = match temporary {
            true => self.inside(request, dirfd, path),
            false => self.new_file(request, dirfd, path, false),
        };
        let Some(new_file) = new_file.filter(|new_file| new_file.owner != ROOT) else { return PASS };
        let Ok(directory) = prepare(request, &new_file) else { return PASS };
        let asked = OFlags::from_bits_retain(flags.cast_unsigned());
        let ours = OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::LARGEFILE;
        // A path that does not exist is neither a link nor a pipe.
        let new = if temporary { OFlags::empty() } else { OFlags::EXCL | OFlags::NOFOLLOW };
        let Ok(file) = openat(directory, &new_file.name, asked | ours | new, permissions(mode)) else { return PASS };
        self.records.set(&file, new_file.owner).map_err(errno)?;
        Ok(SyscallReply::File(file, asked.contains(OFlags::CLOEXEC)))
    }

    /// openat2(2). With restrictions of the resolution, the kernel handles it.
    pub(super) fn openat2(&mut self, request: &SyscallRequest<'_>) -> SyscallResult {
        let caller = request.caller;
        let Ok(how) = caller.bytes(caller.argument(2), 24) else { return PASS };
        let field = |at: usize| u64::from_ne_bytes(std::array::from_fn(|index| how[at + index]));
        let (Ok(flags), Ok(mode)) = (i32::try_from(field(0)), u32::try_from(field(8))) else { return PASS };
        if flags & (libc::O_CREAT | TMPFILE) == 0 || field(16) != 0 || caller.argument(3) != 24 {
            return PASS;
        }
        self.open(request, caller.int(0), caller.argument(1), flags, mode)
    }

    /// mkdirat(2).
    pub(super) fn mkdir(&mut self, request: &SyscallRequest<'_>, dirfd: i32, path: u64, mode: u32) -> SyscallResult {
        let new_file = self.new_file(request, dirfd, path, true).filter(|new_file| new_file.owner != ROOT);
        let Some(new_file) = new_file else { return PASS };
        let Ok(directory) = prepare(request, &new_file) else { return PASS };
        mkdirat(&directory, &new_file.name, permissions(mode))?;
        self.note(&directory, &new_file)
    }

    /// symlinkat(2).
    pub(super) fn symlink(
        &mut self,
        request: &SyscallRequest<'_>,
        target: u64,
        dirfd: i32,
        path: u64,
    ) -> SyscallResult {
        let new_file = self.new_file(request, dirfd, path, false).filter(|new_file| new_file.owner != ROOT);
        let Some(new_file) = new_file else { return PASS };
        let Ok(target) = request.caller.string(target) else { return PASS };
        let Ok(directory) = prepare(request, &new_file) else { return PASS };
        symlinkat(&target, &directory, &new_file.name)?;
        self.note(&directory, &new_file)
    }

    /// mknodat(2).
    pub(super) fn mknod(
        &mut self,
        request: &SyscallRequest<'_>,
        dirfd: i32,
        path: u64,
        mode: u32,
        device: u32,
    ) -> SyscallResult {
        let Some(mut new_file) = self.new_file(request, dirfd, path, false) else { return PASS };
        let kind = FileType::from_raw_mode(mode);
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        if !is_device && new_file.owner == ROOT {
            return PASS;
        }
        let Ok(directory) = prepare(request, &new_file) else { return PASS };
        if !is_device {
            // The kernel interprets a missing type as a regular file.
            let kind = if mode & libc::S_IFMT == 0 { FileType::RegularFile } else { kind };
            mknodat(&directory, &new_file.name, kind, permissions(mode), Dev::default())?;
            return self.note(&directory, &new_file);
        }
        let device = device_of(kind, device);
        // Only root can create devices, and an overlay cannot have the device that is its whiteout.
        if !request.state.credentials.capabilities.has(MKNOD) || (device.major, device.minor) == (0, 0) {
            return Err(Errno::PERM);
        }
        new_file.owner.device = Some(device);
        mknodat(&directory, &new_file.name, FileType::RegularFile, permissions(mode), Dev::default())?;
        self.note(&directory, &new_file)
    }

    /// Records the owner of a new file.
    fn note(&mut self, directory: &OwnedFd, new_file: &NewFile) -> SyscallResult {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(directory, &new_file.name, flags, Mode::empty())?;
        self.records.set(&file, new_file.owner).map_err(errno)?;
        DONE
    }

    /// The location and owner of a new file at a path. `None` if the path cannot be that of a new file.
    fn new_file(&self, request: &SyscallRequest<'_>, dirfd: i32, path: u64, is_directory: bool) -> Option<NewFile> {
        let path = request.caller.string(path).ok()?;
        let (parent, name) = split(&path, is_directory)?;
        let directory = request.place_of(dirfd, parent, true)?;
        let owner = self.owner_in(request, &directory)?;
        Some(NewFile { directory, name: name.to_owned(), owner })
    }

    /// The same for a file without a name in a directory.
    fn inside(&self, request: &SyscallRequest<'_>, dirfd: i32, path: u64) -> Option<NewFile> {
        let directory = request.place(dirfd, path, 0)?;
        let owner = self.owner_in(request, &directory)?;
        Some(NewFile { directory, name: b".".to_vec(), owner })
    }

    /// The owner of a new file in a directory.
    fn owner_in(&self, request: &SyscallRequest<'_>, directory: &ProcPath) -> Option<OwnershipRecord> {
        let credentials = &request.state.credentials;
        let (uid, gid) = (credentials.user.filesystem, credentials.group.filesystem);
        let groups = self.records.get(directory).unwrap_or(ROOT).gid;
        if groups == gid {
            return Some(OwnershipRecord { uid, gid, device: None });
        }
        let mode = statx(CWD, &directory.path, directory.flags(), StatxFlags::MODE).ok()?.stx_mode;
        let passes_on = u32::from(mode) & libc::S_ISGID != 0;
        Some(OwnershipRecord { uid, gid: if passes_on { groups } else { gid }, device: None })
    }
}

/// Opens the directory, and sets the caller's umask.
fn prepare(request: &SyscallRequest<'_>, new_file: &NewFile) -> Result<OwnedFd, Errno> {
    let umask = request.caller.umask()?;
    let directory = new_file.directory.directory().map_err(errno)?;
    request.caller.still_waits()?;
    rustix::process::umask(umask);
    Ok(directory)
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

/// The directory and the name of a new file. A directory's name may end with slashes.
fn split(path: &[u8], is_directory: bool) -> Option<(&[u8], &[u8])> {
    let end = path.iter().rposition(|byte| *byte != b'/')? + 1;
    if end < path.len() && !is_directory {
        return None;
    }
    let path = &path[..end];
    let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (parent, name) = path.split_at(start);
    (name != b"." && name != b"..").then_some((parent, name))
}

/// The numbers of a device from the kernel's encoding (`new_decode_dev`).
fn device_of(kind: FileType, device: u32) -> RecordedDevice {
    let (major, minor) = ((device & 0x000f_ff00) >> 8, (device & 0xff) | ((device >> 12) & 0x000f_ff00));
    RecordedDevice { block: kind == FileType::BlockDevice, major, minor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split() {
        let split = |path: &'static str, is_directory| {
            let (parent, name) = split(path.as_bytes(), is_directory)?;
            Some((std::str::from_utf8(parent).unwrap(), std::str::from_utf8(name).unwrap()))
        };
        assert_eq!(split("a", false), Some(("", "a")));
        assert_eq!(split("/a", false), Some(("/", "a")));
        assert_eq!(split("a//b/c", false), Some(("a//b/", "c")));
        assert_eq!(split("../a//", true), Some(("../", "a")));
        for path in ["", "/", ".", "a/..", "a/"] {
            assert_eq!(split(path, false), None, "{path}");
        }
    }

    #[test]
    fn devices_are_unpacked() {
        let unpacked = |major, minor| {
            let device = device_of(FileType::BlockDevice, u32::try_from(libc::makedev(major, minor)).unwrap());
            (device.block, device.major, device.minor)
        };
        assert_eq!((unpacked(8, 1), unpacked(259, 70_000)), ((true, 8, 1), (true, 259, 70_000)));
    }
}
