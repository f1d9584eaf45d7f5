//! Owners that a step gives to its files where there is one id only, against the same step of root.

mod files;
mod programs;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ociforge_layers::owner::{ATTRIBUTE, FileIdentity, OwnershipRecord, OwnershipTable};
use rustix::fs::{AtFlags, CWD, StatxFlags, XattrFlags, lgetxattr, setxattr, statx};

use super::Case;
use super::identity::{Machine, Played, Who, run};

pub(crate) const CASES: &[Case] = &[
    ("owners::files_belong_to_whom_they_are_given", files::files_belong_to_whom_they_are_given),
    ("owners::archives_keep_their_owners", files::archives_keep_their_owners),
    ("owners::root_is_given_up_as_the_kernel_has_it", files::root_is_given_up),
    ("owners::new_files_belong_to_their_makers", files::new_files_belong_to_their_makers),
    ("owners::users_are_added_and_become_each_other", programs::users_are_added),
    ("owners::other_roots_have_their_own_files", programs::other_roots),
    ("owners::odd_calls_are_answered", programs::odd_calls),
    ("owners::packages_are_as_root_installs_them", programs::packages),
];

/// A Debian with Python, unpacked: by root, and by the user with one id, with attributes for what isn't his.
struct Base {
    _directory: tempfile::TempDir,
    roots: PathBuf,
    users: PathBuf,
}

fn base(machine: &Machine) -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let tar = std::env::var("OCIFORGE_TEST_BASE_TAR").expect("OCIFORGE_TEST_BASE_TAR is not set: use tests/run");
        let directory = machine.directory(Who::Root);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (roots, users) = (directory.path().join("roots"), directory.path().join("users"));
        for path in [&roots, &users] {
            fs::create_dir(path).unwrap();
            run(Command::new("tar").args(["-xpf", &tar, "--same-owner", "--numeric-owner", "-C"]).arg(path));
            for name in ["/etc/resolv.conf", "/etc/hosts"] {
                fs::copy(name, path.join(&name[1..])).unwrap();
            }
            let settings = run(Command::new("apt-config").arg("dump"));
            let kept = settings.lines().filter(|line| line.starts_with("Acquire::") && !line.contains("Languages"));
            let kept = kept.collect::<Vec<_>>().join("\n");
            fs::write(path.join("etc/apt/apt.conf.d/99test"), kept + "\n").unwrap();
        }
        give_away(machine, &users);
        Base { _directory: directory, roots, users }
    })
}

/// Makes a tree the user's, with attributes that remember whose it was.
fn give_away(machine: &Machine, root: &Path) {
    let (uid, gid) = machine.one_id();
    for path in walk(root) {
        let found = fs::symlink_metadata(&path).unwrap();
        lchown(&path, Some(uid), Some(gid)).unwrap();
        if found.is_symlink() {
            continue;
        }
        if (found.uid(), found.gid()) != (0, 0) {
            let record = OwnershipRecord { uid: found.uid(), gid: found.gid(), device: None };
            setxattr(&path, ATTRIBUTE, record.to_string().as_bytes(), XattrFlags::empty()).unwrap();
        }
        fs::set_permissions(&path, found.permissions()).unwrap();
    }
}

fn walk(root: &Path) -> Vec<PathBuf> {
    let (mut all, mut left) = (vec![root.to_owned()], vec![root.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            left.extend(entry.file_type().unwrap().is_dir().then(|| entry.path()));
            all.push(entry.path());
        }
    }
    all
}

/// What a step has done.
struct Step {
    directory: tempfile::TempDir,
    played: Played,
    time: Duration,
}

impl Step {
    fn new(machine: &Machine, who: Who, script: &str) -> Self {
        let base = base(machine);
        let lower = if who == Who::Root { &base.roots } else { &base.users };
        let directory = machine.directory(who);
        for name in ["upper", "work", "merged"] {
            fs::create_dir(directory.path().join(name)).unwrap();
            fs::set_permissions(directory.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
            machine.give(who, &directory.path().join(name));
        }
        let words = [lower.to_str().unwrap(), directory.path().to_str().unwrap(), "/bin/sh", "-euc", script];
        let begun = Instant::now();
        let played = machine.play(who, &[&["launch"], &words[..]].concat());
        Self { time: begun.elapsed(), directory, played }
    }

    fn ok(&self) -> &str {
        assert_eq!(self.played.code, Some(0), "{}\n{}", self.played.out, self.played.err);
        &self.played.out
    }

    /// Every file that it has written, with what the layer will say of it.
    fn files(&self) -> BTreeMap<String, String> {
        let upper = self.directory.path().join("upper");
        let table = fs::read_to_string(self.directory.path().join("table")).unwrap_or_default();
        let table: OwnershipTable = table.parse().unwrap();
        let describe = |path: PathBuf| {
            let name = path.strip_prefix(&upper).unwrap().to_string_lossy().into_owned();
            let described = if self.directory.path().join("table").exists() {
                remembered(&path, &table)
            } else {
                let found = fs::symlink_metadata(&path).unwrap();
                described(&path, found.uid(), found.gid(), found.mode(), found.rdev())
            };
            (name, described)
        };
        walk(&upper).into_iter().map(describe).collect()
    }
}

fn remembered(path: &Path, table: &OwnershipTable) -> String {
    let found = fs::symlink_metadata(path).unwrap();
    let mut value = [0; 64];
    let attribute = lgetxattr(path, ATTRIBUTE, &mut value).ok();
    let attribute = attribute.map(|length| std::str::from_utf8(&value[..length]).unwrap().parse().unwrap());
    let seen = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO | StatxFlags::BTIME).unwrap();
    let identity = FileIdentity { inode: seen.stx_ino, born: (seen.stx_btime.tv_sec, seen.stx_btime.tv_nsec) };
    let record = attribute.or_else(|| table.0.get(&identity).copied());
    let record = record.unwrap_or(OwnershipRecord { uid: 0, gid: 0, device: None });
    let (mut mode, mut rdev) = (found.mode(), found.rdev());
    if let Some(device) = record.device {
        assert_eq!(found.len(), 0);
        mode = mode & 0o7777 | if device.block { 0o60_000 } else { 0o20_000 };
        rdev = rustix::fs::makedev(device.major, device.minor);
    }
    described(path, record.uid, record.gid, mode, rdev)
}

fn described(path: &Path, uid: u32, gid: u32, mode: u32, rdev: u64) -> String {
    let mut value = [0; 64];
    // Its revision, and the namespace's root that comes at the end, depend on who made it.
    let capabilities =
        lgetxattr(path, "security.capability", &mut value).map(|length| value[4..length.min(20)].to_vec());
    // An overlay's sign that a file is gone is nobody's.
    if (mode & 0o170_000, rdev) == (0o20_000, 0) {
        return "gone".into();
    }
    format!("{mode:o} {uid}:{gid} {rdev:x} {capabilities:?}")
}

/// Plays it as root and as the user with one id: both say the same, and leave the same files.
fn same(machine: &Machine, script: &str) -> (Step, Step) {
    let roots = Step::new(machine, Who::Root, script);
    let users = Step::new(machine, Who::OneId, script);
    assert_eq!(roots.ok(), users.ok());
    assert_eq!(differences(&roots, &users), [] as [String; 0]);
    (roots, users)
}

fn differences(roots: &Step, users: &Step) -> Vec<String> {
    let (roots, users) = (roots.files(), users.files());
    let names: std::collections::BTreeSet<_> = roots.keys().chain(users.keys()).collect();
    let differing = names.into_iter().filter(|name| roots.get(*name) != users.get(*name));
    differing.map(|name| format!("{name}: {:?} {:?}", roots.get(name), users.get(name))).collect()
}
