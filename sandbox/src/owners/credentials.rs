//! The emulated credentials of processes and their changes: credentials(7), with the kernel's rules.
//!
//! Permission for a change depends on the [`ProcessCapabilities`], which the ids of root affect.

use rustix::io::Errno;

use super::capabilities::{self, ProcessCapabilities};

/// The value in place of an id that does not change.
pub(super) const UNCHANGED: u32 = u32::MAX;

/// Maximum number of groups of a process (limits.h).
pub(super) const MOST_GROUPS: usize = 65_536;

/// The ids of one kind, users or groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct ProcessIds {
    /// The real id: that of the process's starter.
    pub(super) real: u32,
    /// The effective id, which determines permissions.
    pub(super) effective: u32,
    /// The saved id, to which the process can return.
    pub(super) saved: u32,
    /// The filesystem id, which determines access to files and the owner of new files.
    pub(super) filesystem: u32,
}

/// All ids of a process. The default is root without other groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct ProcessCredentials {
    pub(super) user: ProcessIds,
    pub(super) group: ProcessIds,
    /// Supplementary groups, sorted.
    pub(super) groups: Vec<u32>,
    /// The capabilities.
    pub(super) capabilities: ProcessCapabilities,
}

/// Whether a change was allowed: `EPERM`, or `EINVAL` for an invalid id.
type Changed = Result<(), Errno>;

impl ProcessIds {
    fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, filesystem: id }
    }

    /// setuid(2), setgid(2).
    fn set(&mut self, id: u32, privileged: bool) -> Changed {
        if id == UNCHANGED {
            return Err(Errno::INVAL);
        }
        if privileged {
            *self = Self::all(id);
        } else if id == self.real || id == self.saved {
            (self.effective, self.filesystem) = (id, id);
        } else {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    /// setreuid(2), setregid(2).
    fn set_two(&mut self, real: u32, effective: u32, privileged: bool) -> Changed {
        let old = *self;
        let may_real = [UNCHANGED, old.real, old.effective].contains(&real);
        let may_effective = [UNCHANGED, old.real, old.effective, old.saved].contains(&effective);
        let allowed = privileged || (may_real && may_effective);
        if !allowed {
            return Err(Errno::PERM);
        }
        assign(&mut self.real, real);
        assign(&mut self.effective, effective);
        if real != UNCHANGED || (effective != UNCHANGED && effective != old.real) {
            self.saved = self.effective;
        }
        self.filesystem = self.effective;
        Ok(())
    }

    /// setresuid(2), setresgid(2).
    fn set_three(&mut self, [real, effective, saved]: [u32; 3], privileged: bool) -> Changed {
        let old = *self;
        let wanted = [(real, old.real), (effective, old.effective), (effective, old.filesystem), (saved, old.saved)];
        if wanted.into_iter().all(|(wanted, now)| wanted == UNCHANGED || wanted == now) {
            return Ok(());
        }
        let own = [UNCHANGED, old.real, old.effective, old.saved];
        if !privileged && ![real, effective, saved].iter().all(|id| own.contains(id)) {
            return Err(Errno::PERM);
        }
        assign(&mut self.real, real);
        assign(&mut self.effective, effective);
        assign(&mut self.saved, saved);
        self.filesystem = self.effective;
        Ok(())
    }

    /// setfsuid(2), setfsgid(2): returns the previous one, also if the change is refused.
    fn set_filesystem(&mut self, id: u32, privileged: bool) -> u32 {
        let old = self.filesystem;
        let own = [self.real, self.effective, self.saved, old].contains(&id);
        if id != UNCHANGED && (own || privileged) {
            self.filesystem = id;
        }
        old
    }
}

fn assign(id: &mut u32, wanted: u32) {
    if wanted != UNCHANGED {
        *id = wanted;
    }
}

impl ProcessCredentials {
    /// Whether it is a member of a group for access to files.
    pub(super) fn is_member(&self, group: u32) -> bool {
        self.group.filesystem == group || self.groups.binary_search(&group).is_ok()
    }

    /// Changes the user's ids, and updates the capabilities.
    fn change_user(&mut self, change: impl FnOnce(&mut ProcessIds, bool) -> Changed) -> Changed {
        let old = self.user;
        change(&mut self.user, self.capabilities.has(capabilities::SETUID))?;
        self.capabilities.follow(old, self.user);
        Ok(())
    }

    pub(super) fn set_user(&mut self, id: u32) -> Changed {
        self.change_user(|user, privileged| user.set(id, privileged))
    }

    pub(super) fn set_users(&mut self, real: u32, effective: u32) -> Changed {
        self.change_user(|user, privileged| user.set_two(real, effective, privileged))
    }

    pub(super) fn set_all_users(&mut self, ids: [u32; 3]) -> Changed {
        self.change_user(|user, privileged| user.set_three(ids, privileged))
    }

    pub(super) fn set_filesystem_user(&mut self, id: u32) -> u32 {
        let old = self.user.set_filesystem(id, self.capabilities.has(capabilities::SETUID));
        self.capabilities.follow_filesystem(old, self.user.filesystem);
        old
    }

    pub(super) fn set_group(&mut self, id: u32) -> Changed {
        self.group.set(id, self.capabilities.has(capabilities::SETGID))
    }

    pub(super) fn set_two_groups(&mut self, real: u32, effective: u32) -> Changed {
        self.group.set_two(real, effective, self.capabilities.has(capabilities::SETGID))
    }

    pub(super) fn set_all_groups(&mut self, ids: [u32; 3]) -> Changed {
        self.group.set_three(ids, self.capabilities.has(capabilities::SETGID))
    }

    pub(super) fn set_filesystem_group(&mut self, id: u32) -> u32 {
        self.group.set_filesystem(id, self.capabilities.has(capabilities::SETGID))
    }

    /// setgroups(2).
    pub(super) fn set_groups(&mut self, mut groups: Vec<u32>) -> Changed {
        if !self.capabilities.has(capabilities::SETGID) {
            return Err(Errno::PERM);
        }
        if groups.len() > MOST_GROUPS || groups.contains(&UNCHANGED) {
            return Err(Errno::INVAL);
        }
        groups.sort_unstable();
        self.groups = groups;
        Ok(())
    }

    /// The credentials after execve(2) of a file with these owners; `None` without the set-id bit.
    pub(super) fn execute(&self, user: Option<u32>, group: Option<u32>) -> Self {
        let mut new = self.clone();
        for (ids, owner) in [(&mut new.user, user), (&mut new.group, group)] {
            ids.effective = owner.unwrap_or(ids.effective);
            (ids.saved, ids.filesystem) = (ids.effective, ids.effective);
        }
        new.capabilities = ProcessCapabilities::of_program(new.user);
        new
    }

    /// Whether it may change a file's owner (chown(2), `None` = unchanged).
    pub(super) fn may_chown(&self, from: (u32, u32), user: Option<u32>, group: Option<u32>) -> bool {
        let own = self.user.filesystem == from.0;
        let may_user = user.is_none_or(|user| own && user == from.0);
        let may_group = group.is_none_or(|group| own && (group == from.1 || self.is_member(group)));
        self.capabilities.has(capabilities::CHOWN) || (may_user && may_group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(real: u32, effective: u32, saved: u32) -> ProcessCredentials {
        let mut process = ProcessCredentials::default();
        process.set_all_users([real, effective, saved]).unwrap();
        process
    }

    fn ids(of: &ProcessCredentials) -> [u32; 4] {
        [of.user.real, of.user.effective, of.user.saved, of.user.filesystem]
    }

    #[test]
    fn root_is_given_up_for_ever() {
        let mut apt = ProcessCredentials::default();
        apt.set_groups(vec![65534]).unwrap();
        apt.set_all_groups([65534; 3]).unwrap();
        apt.set_all_users([42; 3]).unwrap();
        assert_eq!(ids(&apt), [42; 4]);
        assert_eq!(apt.set_user(0), Err(Errno::PERM));
        assert_eq!(apt.set_all_users([UNCHANGED, 0, UNCHANGED]), Err(Errno::PERM));
        assert_eq!(apt.set_users(UNCHANGED, 0), Err(Errno::PERM));
        assert_eq!(apt.set_group(0), Err(Errno::PERM));
        assert_eq!(apt.set_groups(vec![]), Err(Errno::PERM));
        assert_eq!((apt.set_filesystem_user(0), apt.set_filesystem_user(UNCHANGED)), (42, 42));
        assert_eq!(apt.set_user(UNCHANGED), Err(Errno::INVAL));
    }

    #[test]
    fn what_is_saved_comes_back() {
        let mut process = ProcessCredentials::default();
        process.set_all_users([UNCHANGED, 7, UNCHANGED]).unwrap();
        assert_eq!(ids(&process), [0, 7, 0, 7]);
        assert!(process.set_groups(vec![]).is_err() && process.set_group(3).is_err());
        process.set_user(0).unwrap();
        assert_eq!(ids(&process), [0; 4], "setuid of the saved one by somebody changes the effective one alone");
        process.set_users(UNCHANGED, 7).unwrap();
        assert_eq!(ids(&process), [0, 7, 7, 7], "setreuid saves an effective id that isn't the real one");
        process.set_users(UNCHANGED, 0).unwrap();
        assert_eq!(ids(&process), [0, 0, 7, 0]);
        process.set_user(9).unwrap();
        assert_eq!(ids(&process), [9; 4]);
    }

    #[test]
    fn ids_are_swapped_as_often_as_threads_ask() {
        let mut process = user(1000, 0, 0);
        for _ in 0..3 {
            process.set_users(0, 1000).unwrap();
            assert_eq!(ids(&process), [0, 1000, 1000, 1000]);
        }
        process.set_users(1000, 0).unwrap();
        assert_eq!(ids(&process), [1000, 0, 0, 0]);
        let mut other = user(5, 6, 7);
        assert_eq!(other.set_users(7, UNCHANGED), Err(Errno::PERM), "the saved one can't become the real one");
        other.set_users(UNCHANGED, 7).unwrap();
        assert_eq!(ids(&other), [5, 7, 7, 7]);
    }

    #[test]
    fn files_follow_the_effective_id() {
        let mut process = ProcessCredentials::default();
        assert_eq!(process.set_filesystem_user(33), 0);
        assert!(!process.may_chown((33, 33), Some(0), None));
        process.set_all_users([UNCHANGED; 3]).unwrap();
        assert_eq!(ids(&process), [0, 0, 0, 33], "nothing was asked for");
        process.set_all_users([UNCHANGED, 0, UNCHANGED]).unwrap();
        assert_eq!(ids(&process), [0; 4]);
    }

    #[test]
    fn programs_with_owners() {
        let sudo = user(1000, 1000, 1000).execute(Some(0), None);
        assert_eq!(ids(&sudo), [1000, 0, 0, 0]);
        assert_eq!(ids(&user(1000, 0, 0).execute(None, None)), [1000, 0, 0, 0]);
        assert_eq!(ids(&user(0, 7, 0).execute(None, None)), [0, 7, 7, 7]);
        assert_eq!(ProcessCredentials::default().execute(None, Some(8)).group.effective, 8);
    }

    #[test]
    fn files_are_given_away_by_root_alone() {
        let mut owner = user(5, 5, 5);
        owner.group = ProcessIds::all(5);
        owner.groups = vec![20, 30];
        assert!(owner.may_chown((5, 5), None, Some(30)) && owner.may_chown((5, 6), Some(5), Some(6)));
        assert!(!owner.may_chown((5, 5), Some(0), None) && !owner.may_chown((5, 5), None, Some(31)));
        assert!(!owner.may_chown((6, 5), None, Some(5)) && owner.may_chown((6, 5), None, None));
        assert!(ProcessCredentials::default().may_chown((5, 5), Some(9), Some(9)));
    }

    #[test]
    fn groups_are_sorted_and_few() {
        let mut root = ProcessCredentials::default();
        root.set_groups(vec![9, 3, 4]).unwrap();
        assert_eq!(root.groups, [3, 4, 9]);
        assert!(root.is_member(4) && root.is_member(0) && !root.is_member(5));
        assert_eq!(root.set_groups(vec![1; MOST_GROUPS + 1]), Err(Errno::INVAL));
    }
}
