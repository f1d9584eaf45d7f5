//! Who a scenario is played as.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Root, a user with ranges of ids, and one without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Root,
    Ranges,
    OneId,
}

pub(crate) const EVERYBODY: [Who; 3] = [Who::Root, Who::Ranges, Who::OneId];

/// The ids of the user with ranges, which no system gives away by itself.
const RANGE: &str = "1900000000-1900065535";

/// Users that exist as long as this, and a directory where they can run this program.
pub(crate) struct Machine {
    directory: tempfile::TempDir,
    ranges: User,
    one_id: User,
}

impl Machine {
    pub(crate) fn new() -> Self {
        assert!(is_root(), "these tests make users: they need root");
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // The place where it was built need not be open to others.
        fs::copy(std::env::current_exe().unwrap(), directory.path().join("scenario")).unwrap();
        let (ranges, one_id) = (User::new("many"), User::new("one"));
        // usermod locks the files that it edits, and userdel takes the ranges away again.
        run(Command::new("usermod").args(["--add-subuids", RANGE, "--add-subgids", RANGE, &ranges.name]));
        Self { directory, ranges, one_id }
    }

    fn user(&self, who: Who) -> Option<&User> {
        match who {
            Who::Root => None,
            Who::Ranges => Some(&self.ranges),
            Who::OneId => Some(&self.one_id),
        }
    }

    /// The user and group of the one without ranges.
    pub(crate) fn one_id(&self) -> (u32, u32) {
        (self.one_id.uid, self.one_id.gid)
    }

    /// A directory of their own.
    pub(crate) fn directory(&self, who: Who) -> tempfile::TempDir {
        let directory = tempfile::tempdir_in(self.directory.path()).unwrap();
        self.give(who, directory.path());
        directory
    }

    /// Makes a file theirs, and everything in it.
    pub(crate) fn give(&self, who: Who, path: &Path) {
        if let Some(user) = self.user(who) {
            chown(path, Some(user.uid), Some(user.gid)).unwrap();
            run(Command::new("chown").args(["-hR", &format!("{}:{}", user.uid, user.gid)]).arg(path));
        }
    }

    /// The words that play a scenario as somebody.
    pub(crate) fn words(&self, who: Who, scenario: &[&str]) -> Vec<String> {
        let mut words: Vec<String> = self.user(who).map_or_else(Vec::new, |user| {
            let ids = [format!("--reuid={}", user.uid), format!("--regid={}", user.gid)];
            ["setpriv".into(), "--clear-groups".into()].into_iter().chain(ids).collect()
        });
        words.push(self.program().to_str().unwrap().into());
        words.push("--scenario".into());
        words.extend(scenario.iter().map(|word| (*word).to_owned()));
        words
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.directory.path().join("scenario")
    }

    pub(crate) fn command(&self, who: Who, scenario: &[&str]) -> Command {
        let words = self.words(who, scenario);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command
    }

    /// Plays a scenario to its end.
    pub(crate) fn play(&self, who: Who, scenario: &[&str]) -> Played {
        Played::of(&self.command(who, scenario).output().unwrap())
    }
}

/// How a scenario went.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Played {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

struct User {
    name: String,
    uid: u32,
    gid: u32,
}

impl User {
    fn new(kind: &str) -> Self {
        let name = format!("ociforge-{kind}-{}", std::process::id());
        run(Command::new("useradd").args(["--system", "--no-create-home", &name]));
        let id = |flag: &str| run(Command::new("id").args([flag, &name])).trim().parse().unwrap();
        Self { uid: id("-u"), gid: id("-g"), name }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.name).status();
    }
}

fn is_root() -> bool {
    run(Command::new("id").arg("-u")).trim() == "0"
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
