//! Accounts of the tests' own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{OCIFORGE, Place, tool};

/// An account, removed at the end.
pub(crate) struct User {
    name: String,
    pub(crate) id: u32,
}

/// The files of accounts are locked by name, and who finds them locked waits for a whole second.
static ACCOUNTS: Mutex<()> = Mutex::new(());

impl User {
    /// One with ranges of ids, as people have.
    pub(crate) fn with_ranges() -> Self {
        Self::new("many", &["--no-create-home"])
    }

    /// One without, as system accounts are.
    pub(crate) fn with_one_id() -> Self {
        Self::new("one", &["--no-create-home", "--system"])
    }

    fn new(kind: &str, flags: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("oci-{kind}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let _locked = ACCOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        tool("useradd", &[flags, &["--user-group", &name]].concat());
        let id = tool("id", &["-u", &name]).trim().parse().unwrap();
        Self { name, id }
    }

    /// The first id of the range.
    pub(crate) fn range(&self) -> u32 {
        let ranges = fs::read_to_string("/etc/subuid").unwrap();
        let range = ranges.lines().find_map(|line| line.strip_prefix(&format!("{}:", self.name))).unwrap();
        range.split(':').next().unwrap().parse().unwrap()
    }

    /// Makes the place theirs, with a copy of the program: the build's directory may be closed to others.
    pub(crate) fn move_in(&self, place: &Place) {
        fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        if !place.path("ociforge").exists() {
            // By another process, as for `write_program`.
            tool("cp", &[OCIFORGE, &place.at("ociforge")]);
        }
        tool("chown", &["-R", &format!("{0}:{0}", self.id), &place.at("")]);
    }

    /// A command as this user.
    pub(crate) fn command(&self, place: &Place, words: &[&str]) -> Command {
        let ids = [format!("--reuid={}", self.id), format!("--regid={}", self.id), "--clear-groups".to_owned()];
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        place.wrapped("setpriv", [&ids, words].concat())
    }

    /// The program as this user, who has moved in.
    pub(crate) fn ociforge(&self, place: &Place, arguments: &[&str]) -> Command {
        let program = place.at("ociforge");
        self.command(place, &[&[program.as_str()], arguments].concat())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _locked = ACCOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = Command::new("userdel").arg(&self.name).output();
    }
}
