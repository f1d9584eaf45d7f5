//! Extended attributes: hides the one for ownership records, and filters access lists.

use ociforge_layers::owner::ATTRIBUTE;
use rustix::fs::{XattrFlags, listxattr, llistxattr, setxattr};
use rustix::io::Errno;

use super::caller::ProcPath;
use super::{DONE, PASS, Supervisor, SyscallReply, SyscallRequest, SyscallResult};

/// acl(5) in an attribute's value: a version, then entries of tag, permissions and id (linux/posix_acl_xattr.h).
const ACL_HEADER: usize = 4;
const ACL_ENTRY: usize = 8;
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;

/// Maximum size of an attribute's value (limits.h), and of a list of names.
const MOST: usize = 65_536;

impl Supervisor {
    /// listxattr(2): hides ownership records, so that programs do not copy them to other files.
    pub(super) fn list(&self, request: &SyscallRequest<'_>) -> SyscallResult {
        let caller = request.caller;
        let Some(place) = named(request, libc::SYS_flistxattr, libc::SYS_llistxattr) else { return PASS };
        if self.records.get(&place).is_none() {
            return PASS;
        }
        let mut names = vec![0; MOST];
        let listed = if place.is_link_itself() {
            llistxattr(&place.path, &mut names[..])
        } else {
            listxattr(&place.path, &mut names[..])
        };
        let Ok(length) = listed else { return PASS };
        let names = names[..length].split_inclusive(|byte| *byte == 0);
        let others = names.filter(|name| name.strip_suffix(b"\0") != Some(ATTRIBUTE.as_bytes()));
        let names = others.collect::<Vec<_>>().concat();
        let room = usize::try_from(caller.argument(2)).unwrap_or(usize::MAX);
        if room > 0 {
            if room < names.len() {
                return Err(Errno::RANGE);
            }
            if !names.is_empty() {
                caller.write(caller.argument(1), &names)?;
            }
        }
        Ok(SyscallReply::Value(i64::try_from(names.len()).unwrap_or_default()))
    }

    /// setxattr(2): sets an access list without its entries for users and groups that are not mapped.
    pub(super) fn set_attribute(&self, request: &SyscallRequest<'_>) -> SyscallResult {
        let caller = request.caller;
        let Ok(name) = caller.string(caller.argument(1)) else { return PASS };
        if name == ATTRIBUTE.as_bytes() {
            return Err(Errno::OPNOTSUPP);
        }
        let length = usize::try_from(caller.argument(3)).unwrap_or(usize::MAX);
        if !name.starts_with(b"system.posix_acl_") || length > MOST {
            return PASS;
        }
        let Ok(list) = caller.bytes(caller.argument(2), length) else { return PASS };
        let Some(known) = without_unmapped(&list) else { return PASS };
        let place = named(request, libc::SYS_fsetxattr, libc::SYS_lsetxattr).and_then(|place| place.hold().ok());
        let Some(place) = place else { return PASS };
        caller.still_waits()?;
        setxattr(&place.path, &name, &known, XattrFlags::from_bits_retain(caller.word(4)))?;
        DONE
    }
}

/// The file of a call with a descriptor (`by_descriptor`), or else with a path, whose last link is not followed for
/// `by_link`.
fn named(request: &SyscallRequest<'_>, by_descriptor: i64, by_link: i64) -> Option<ProcPath> {
    let caller = request.caller;
    let number = caller.call.number;
    if number == by_descriptor {
        return request.place(caller.int(0), 0, libc::AT_EMPTY_PATH);
    }
    let flags = if number == by_link { libc::AT_SYMLINK_NOFOLLOW } else { 0 };
    request.place(libc::AT_FDCWD, caller.argument(0), flags)
}

/// The list without entries of users and groups other than root; `None` if it has none.
fn without_unmapped(list: &[u8]) -> Option<Vec<u8>> {
    let (header, entries) = list.split_at_checked(ACL_HEADER)?;
    let is_unmapped = |entry: &&[u8]| {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        matches!(tag, ACL_USER | ACL_GROUP) && entry[4..] != [0; 4]
    };
    let entries = entries.chunks_exact(ACL_ENTRY);
    if !entries.remainder().is_empty() || !entries.clone().any(|entry| is_unmapped(&entry)) {
        return None;
    }
    Some([header].into_iter().chain(entries.filter(|entry| !is_unmapped(entry))).collect::<Vec<_>>().concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_left_out() {
        let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
        let list = |entries: &[Vec<u8>]| [vec![2, 0, 0, 0], entries.concat()].concat();
        let (owner, other, mask) = (entry(1, u32::MAX), entry(0x20, u32::MAX), entry(0x10, u32::MAX));
        let (root, user, group) = (entry(2, 0), entry(2, 4), entry(8, 190));
        let whole = list(&[owner.clone(), root.clone(), user, group, mask.clone(), other.clone()]);
        assert_eq!(without_unmapped(&whole), Some(list(&[owner.clone(), root.clone(), mask.clone(), other.clone()])));
        assert_eq!(without_unmapped(&list(&[owner, root, mask, other])), None);
        assert_eq!((without_unmapped(&[2, 0]), without_unmapped(&[2, 0, 0, 0, 1])), (None, None));
    }
}
