//! Builds with steps that are ended at some moment: nothing of them goes on, and what is in the store is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::support::process::{handles_signals, wait_for_end};
use super::support::{Layered, Packing, Place, Ran, Tar, User, digest_of, files, json_of, run, tree, wait_until};

/// How a build is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// ^C, which all of the foreground get.
    Keys,
    Terminate,
    Kill,
    /// SIGKILL to the process that watches the step.
    KillSupervisor,
}

const BLOWS: [Blow; 4] = [Blow::Keys, Blow::Terminate, Blow::Kill, Blow::KillSupervisor];

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u128) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (u128::from(self.0 >> 16) % most.max(1)).try_into().unwrap()
    }
}

/// A build that takes its time in unpacking, running, capturing and packing.
struct Scene {
    place: Place,
    user: Option<User>,
    arguments: Vec<String>,
    /// In the command line of all that the step runs.
    token: String,
    digest: String,
    /// The unpacked layers of a build that was left in peace.
    roots: BTreeMap<PathBuf, BTreeMap<PathBuf, String>>,
    lasts: Duration,
}

impl Scene {
    fn new(user: Option<User>, arguments: &[&str]) -> Self {
        let place = Place::new();
        let token = format!("token{}", place.path("").file_name().unwrap().to_string_lossy());
        let layer =
            |n: u8| (0..80).fold(Tar::new().dir("many"), |tar, m| tar.file(&format!("many/{n}-{m}"), [n; 9000]));
        let image =
            (0..3).fold(Layered::busybox(), |image, n| image.layer(Packing::Gzip, layer(n))).write(&place, "image");
        let script = format!(
            "# {token}\n(sleep 1000 # {token}\n) & n=0; while [ $n -lt 80 ]; do seq 1 9000 > /out-$n; n=$((n + 1)); \
                done; \
             rm /many/0-*; chown 33:33 /out-1*"
        );
        let recipe = format!(
            "base = '{image}'\n[config.env]\nPATH = '/bin'\n[[layer]]\nrun = '''{script}'''\n\
             mounts = [{{ cache = '/cache' }}, {{ tmpfs = '/t' }}]\n[[layer]]\nrun = 'echo x > /last'\n"
        );
        place.write("recipe/ociforge.toml", recipe);
        if let Some(user) = &user {
            user.move_in(&place);
        }
        let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
        let (digest, roots, lasts) = (String::new(), BTreeMap::new(), Duration::ZERO);
        let mut scene = Self { place, user, arguments, token, digest, roots, lasts };
        let begun = Instant::now();
        scene.digest = scene.built();
        scene.lasts = begun.elapsed();
        scene.roots = scene.unpacked().into_iter().map(|root| (root.clone(), facts(&root))).collect();
        scene
    }

    fn command(&self) -> Command {
        let output = format!("oci:{}", self.place.at("out"));
        let own = self.arguments.iter().map(String::as_str);
        let words = ["build", "recipe", "--progress", "none", "--no-cache", "--compression-level", "1", "-o", &output];
        let words: Vec<&str> = words.into_iter().chain(own).collect();
        match &self.user {
            Some(user) => user.ociforge(&self.place, &words),
            None => self.place.ociforge(words),
        }
    }

    /// Builds in peace.
    fn built(&self) -> String {
        let digest = run(&mut self.command()).ok();
        let steps: Vec<_> = fs::read_dir(self.place.path("store/steps")).unwrap().collect();
        assert!(steps.is_empty(), "{steps:?}");
        digest
    }

    /// The directories of unpacked layers that pass for whole.
    fn unpacked(&self) -> Vec<PathBuf> {
        let below = |path: PathBuf| fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
        let kinds = below(self.place.path("store/roots"));
        kinds.flat_map(below).filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.')).collect()
    }

    /// Ends a build after `delay`, and looks at what is left.
    fn end(&self, blow: Blow, delay: Duration) {
        fs::remove_dir_all(self.place.path("store/roots")).ok();
        let mut child = self.command().process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() && !handles_signals(child.id()) {
            sleep(Duration::from_millis(1));
        }
        sleep(delay);
        let pid = Pid::from_child(&child);
        let family = family(child.id());
        let struck = match blow {
            Blow::Keys => kill_process_group(pid, Signal::INT).is_ok(),
            Blow::Terminate => kill_process(pid, Signal::TERM).is_ok(),
            Blow::Kill => kill_process(pid, Signal::KILL).is_ok(),
            Blow::KillSupervisor => {
                supervisor(&family).is_some_and(|supervisor| kill_process(supervisor, Signal::KILL).is_ok())
            }
        };
        wait_for_end(&child);
        let ran = Ran::of(format!("{blow:?} after {delay:?}"), child.wait_with_output().unwrap());
        self.assert_end(blow, struck, &ran, delay);
        self.assert_nothing_runs(&family);
        self.assert_whole(blow != Blow::Kill);
    }

    fn assert_end(&self, blow: Blow, struck: bool, ran: &Ran, delay: Duration) {
        let told = format!("{blow:?} after {delay:?}: {:?} {}", ran.code, ran.stderr);
        match (blow, ran.code) {
            // It was done already, or had no step just then.
            (_, Some(0)) => assert_eq!(ran.stdout, self.digest, "{told}"),
            (Blow::Keys | Blow::Terminate, code) => assert_eq!(code, Some(130), "{told}"),
            (Blow::Kill, code) => assert_eq!(code, None, "{told}"),
            (Blow::KillSupervisor, code) => {
                assert!(struck && code == Some(1) && ran.stderr.contains("the supervisor of the step"), "{told}");
            }
        }
    }

    /// Asserts that all processes are gone, soon, and that there are no mounts.
    fn assert_nothing_runs(&self, family: &BTreeSet<(u32, String)>) {
        let is_left = |(pid, _, began): &(u32, u32, String)| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            family.contains(&(*pid, began.clone())) || String::from_utf8_lossy(&command).contains(&self.token)
        };
        wait_until("its processes are gone", || !processes().iter().any(is_left));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.place.path("").to_str().unwrap()), "{mounts}");
    }

    /// Asserts that what is in the store is what it says it is.
    fn assert_whole(&self, clean: bool) {
        let half_written = |path: &PathBuf| path.to_string_lossy().contains("/.tmp");
        let left: Vec<_> = files(&self.place.path("store")).into_iter().filter(half_written).collect();
        assert!(!clean || left.is_empty(), "{left:?}");
        // After SIGKILL it lies there for a day.
        left.iter().for_each(|path| fs::remove_file(path).unwrap());
        let blobs = self.place.path("store/layout/blobs/sha256");
        for blob in files(&blobs) {
            assert_eq!(digest_of(&fs::read(&blob).unwrap())[7..], *blob.file_name().unwrap().to_str().unwrap());
        }
        let layers = files(&self.place.path("store/layers"));
        for file in layers.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
            for known in json_of(file).as_array().unwrap() {
                let blob = blobs.join(&known["descriptor"]["digest"].as_str().unwrap()[7..]);
                assert_eq!(
                    fs::metadata(&blob).unwrap().len(),
                    known["descriptor"]["size"].as_u64().unwrap(),
                    "{known}"
                );
            }
        }
        for root in self.unpacked() {
            super::support::assert_same(&facts(&root), &self.roots[&root]);
        }
    }

    /// Ends builds at moments all over their time.
    fn play(&self, rounds: usize, seed: u64) {
        let mut dice = Dice(seed);
        for round in 0..rounds {
            let blow = BLOWS[round % BLOWS.len()];
            let delay = Duration::from_millis(dice.below(self.lasts.as_millis()));
            self.end(blow, delay);
            if round % 6 == 5 {
                assert_eq!(self.built(), self.digest, "after {blow:?} at {delay:?}");
            }
        }
        assert_eq!(self.built(), self.digest);
        self.assert_whole(false);
    }
}

/// How `tree` shows what is gone, before its time.
const WHITEOUT: &str = "20000 ";

/// An unpacked layer, without what overlayfs notes for itself.
fn facts(root: &Path) -> BTreeMap<PathBuf, String> {
    let notes = ["overlay.uuid=", "overlay.origin=", "overlay.impure="];
    let without = |text: String| {
        if text.starts_with(WHITEOUT) {
            return WHITEOUT.to_owned();
        }
        let words: Vec<_> = text.split(' ').filter(|word| !notes.iter().any(|note| word.contains(note))).collect();
        words.join(" ")
    };
    tree(root).into_iter().map(|(path, text)| (path, without(text))).collect()
}

/// All processes but dead ones: number, parent, and when they began.
fn processes() -> Vec<(u32, u32, String)> {
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let stat = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat[stat.rfind(')')? + 2..].split(' ').collect();
        (!["Z", "X"].contains(&fields[0])).then(|| (pid, fields[1].parse().unwrap(), fields[19].to_owned()))
    };
    numbers.filter_map(stat).collect()
}

/// A process and all below it, by number and beginning.
fn family(pid: u32) -> BTreeSet<(u32, String)> {
    let all = processes();
    let mut found: BTreeSet<_> =
        all.iter().filter(|process| process.0 == pid).map(|(pid, _, began)| (*pid, began.clone())).collect();
    loop {
        let parents: BTreeSet<u32> = found.iter().map(|(pid, _)| *pid).collect();
        let before = found.len();
        found.extend(
            all.iter().filter(|(_, parent, _)| parents.contains(parent)).map(|(pid, _, began)| (*pid, began.clone())),
        );
        if found.len() == before {
            return found;
        }
    }
}

fn supervisor(family: &BTreeSet<(u32, String)>) -> Option<Pid> {
    let is_supervisor = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.ends_with(b"--ociforge-supervisor\0"))
    };
    let pid = family.iter().map(|(pid, _)| *pid).find(is_supervisor)?;
    Pid::from_raw(pid.try_into().unwrap())
}

#[test]
fn roots_builds_end_at_any_moment() {
    Scene::new(None, &["--isolation", "root"]).play(12, 1);
}

#[test]
fn a_users_builds_end_at_any_moment() {
    Scene::new(Some(User::with_ranges()), &[]).play(4, 2);
    Scene::new(Some(User::with_one_id()), &[]).play(8, 3);
}

#[test]
fn builds_without_mounts_end_at_any_moment() {
    Scene::new(None, &["--isolation", "chroot"]).play(8, 4);
}
