//! stat(2) and related system calls: return the recorded owner instead of the kernel's.

use std::mem::offset_of;

use ociforge_layers::owner::{OwnershipRecord, RecordedDevice};

use super::caller::ProcPath;
use super::{DONE, PASS, Supervisor, SyscallRequest, SyscallResult};
use crate::sys_notify::{self, STAT, STATX};

impl Supervisor {
    /// fstatat(2): fills the `struct stat` at `buffer`.
    pub(super) fn stat(
        &self,
        request: &SyscallRequest<'_>,
        dirfd: i32,
        path: u64,
        flags: i32,
        buffer: u64,
    ) -> SyscallResult {
        let Some(place) = request.place(dirfd, path, flags) else { return PASS };
        let Some(record) = self.records.get(&place) else { return PASS };
        let Ok(mut stat) = sys_notify::stat(&place.path, walking(&place, flags)) else { return PASS };
        show_in_stat(&mut stat, record);
        request.caller.write(buffer, &stat)?;
        DONE
    }

    /// statx(2).
    pub(super) fn statx(&self, request: &SyscallRequest<'_>) -> SyscallResult {
        let caller = request.caller;
        let flags = caller.int(2);
        let Some(place) = request.place(caller.int(0), caller.argument(1), flags) else { return PASS };
        let Some(record) = self.records.get(&place) else { return PASS };
        let flags = walking(&place, flags);
        let Ok(mut statx) = sys_notify::statx(&place.path, flags, caller.word(3)) else { return PASS };
        show_in_statx(&mut statx, record);
        caller.write(caller.argument(4), &statx)?;
        DONE
    }
}

/// The caller's flags, combined with those for this process's path to the file.
fn walking(place: &ProcPath, flags: i32) -> i32 {
    flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) | place.flags().bits().cast_signed()
}

/// Writes a value at the offset of a field.
fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(field) = bytes.get_mut(at..at + N) {
        field.copy_from_slice(&value);
    }
}

/// A mode with its type bits replaced by those of a device.
fn device_mode(mode: u32, device: RecordedDevice) -> u32 {
    let kind = if device.block { libc::S_IFBLK } else { libc::S_IFCHR };
    (mode & !libc::S_IFMT) | kind
}

fn show_in_stat(stat: &mut [u8; STAT], record: OwnershipRecord) {
    const MODE: usize = offset_of!(libc::stat, st_mode);
    put(stat, offset_of!(libc::stat, st_uid), record.uid.to_ne_bytes());
    put(stat, offset_of!(libc::stat, st_gid), record.gid.to_ne_bytes());
    let Some(device) = record.device else { return };
    let mode = u32::from_ne_bytes([stat[MODE], stat[MODE + 1], stat[MODE + 2], stat[MODE + 3]]);
    put(stat, MODE, device_mode(mode, device).to_ne_bytes());
    put(stat, offset_of!(libc::stat, st_rdev), libc::makedev(device.major, device.minor).to_ne_bytes());
    put(stat, offset_of!(libc::stat, st_size), 0_i64.to_ne_bytes());
    put(stat, offset_of!(libc::stat, st_blocks), 0_i64.to_ne_bytes());
}

fn show_in_statx(statx: &mut [u8; STATX], record: OwnershipRecord) {
    const MODE: usize = offset_of!(libc::statx, stx_mode);
    put(statx, offset_of!(libc::statx, stx_uid), record.uid.to_ne_bytes());
    put(statx, offset_of!(libc::statx, stx_gid), record.gid.to_ne_bytes());
    let Some(device) = record.device else { return };
    let mode = u16::from_ne_bytes([statx[MODE], statx[MODE + 1]]).into();
    let mode = u16::try_from(device_mode(mode, device)).unwrap_or_default();
    put(statx, MODE, mode.to_ne_bytes());
    put(statx, offset_of!(libc::statx, stx_rdev_major), device.major.to_ne_bytes());
    put(statx, offset_of!(libc::statx, stx_rdev_minor), device.minor.to_ne_bytes());
    put(statx, offset_of!(libc::statx, stx_size), 0_u64.to_ne_bytes());
    put(statx, offset_of!(libc::statx, stx_blocks), 0_u64.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_device_is_shown_by_both() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "x").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o4620)).unwrap();
        let path = CString::new(file.path().as_os_str().as_bytes()).unwrap();
        let record: OwnershipRecord = "5:70000:c:136:300".parse().unwrap();

        let mut stat = sys_notify::stat(&path, 0).unwrap();
        let mut statx = sys_notify::statx(&path, 0, libc::STATX_BASIC_STATS).unwrap();
        let word = |bytes: &[u8], at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(word(&stat, offset_of!(libc::stat, st_mode)), 0o10_4620, "the layout is the kernel's");
        show_in_stat(&mut stat, record);
        show_in_statx(&mut statx, record);
        assert_eq!(word(&stat, offset_of!(libc::stat, st_mode)), 0o2_4620 & 0o7777 | libc::S_IFCHR);
        assert_eq!(word(&stat, offset_of!(libc::stat, st_uid)), 5);
        assert_eq!(word(&stat, offset_of!(libc::stat, st_gid)), 70000);
        let device = offset_of!(libc::stat, st_rdev);
        assert_eq!(stat[device..device + 8], libc::makedev(136, 300).to_ne_bytes());
        assert_eq!(word(&statx, offset_of!(libc::statx, stx_uid)), 5);
        assert_eq!(word(&statx, offset_of!(libc::statx, stx_mode)) & 0xffff, 0o4620 | libc::S_IFCHR);
        assert_eq!(word(&statx, offset_of!(libc::statx, stx_rdev_minor)), 300);
        assert_eq!(word(&statx, offset_of!(libc::statx, stx_size)), 0);
    }
}
