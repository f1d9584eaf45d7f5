//! Steps that mean harm, or no sense: the layer is what a layer can be, or there is an error and nothing is left.

mod escapes;
mod files;
mod processes;

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::support::{DEBIAN, Layered, OCIFORGE, Packing, Place, Ran, Tar, User, json_of, run, tool};

/// Who builds, and in what isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Root,
    Ranges,
    OneId,
    Chroot,
}

impl Who {
    /// An account of the scene's own, where it is not root who builds.
    fn account(self) -> Option<User> {
        match self {
            Self::Ranges => Some(User::with_ranges()),
            Self::OneId => Some(User::with_one_id()),
            Self::Root | Self::Chroot => None,
        }
    }
}

const ALL: [Who; 4] = [Who::Root, Who::Ranges, Who::OneId, Who::Chroot];

/// A store and recipes of somebody, and something outside that must stay as it is.
struct Scene {
    place: Place,
    who: Who,
    user: Option<User>,
    base: String,
}

impl Scene {
    /// On busybox.
    fn new(who: Who) -> Self {
        Self::on(who, Layered::busybox().config(json!({"Env": ["PATH=/bin"]})))
    }

    fn on(who: Who, image: Layered) -> Self {
        let place = Place::new();
        let base = image.write(&place, "image");
        Self { place, who, user: who.account(), base }
    }

    /// On Debian, for what only a Python can do.
    fn debian(who: Who) -> Self {
        Self { place: Place::new(), who, user: who.account(), base: DEBIAN.image.clone() }
    }

    fn command(&self, steps: &[&str], mounts: &str, arguments: &[&str]) -> Command {
        let layer = |step: &&str| format!("[[layer]]\nrun = '''{step}'''\n{mounts}\n");
        let layers: String = steps.iter().map(layer).collect();
        self.place.write("recipe/ociforge.toml", format!("base = '{}'\n{layers}", self.base));
        let image = format!("oci:{}:x", self.place.at("built"));
        let isolation = match self.who {
            Who::Root => "root",
            Who::Ranges => "subuid",
            Who::OneId => "one-uid",
            Who::Chroot => "chroot",
        };
        let words = ["build", "recipe", "--progress", "none", "-o", &image, "--isolation", isolation];
        let words = [&words, arguments].concat();
        match self.who {
            Who::Root => self.place.ociforge(words),
            // What has root's rights and sees the machine's processes sees only its own here.
            Who::Chroot => self.place.wrapped(
                "unshare",
                [&["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", OCIFORGE], &words[..]].concat(),
            ),
            Who::Ranges | Who::OneId => self.as_user(self.user.as_ref().unwrap(), &words),
        }
    }

    fn as_user(&self, user: &User, words: &[&str]) -> Command {
        user.move_in(&self.place);
        user.ociforge(&self.place, words)
    }

    /// Builds, and looks whether anything is left that should not be.
    fn play(&self, steps: &[&str], mounts: &str) -> Ran {
        let ran = run(&mut self.command(steps, mounts, &[]));
        assert!(!ran.stderr.contains("panicked"), "{:?}: {}", self.who, ran.stderr);
        self.place.assert_clean();
        let left: Vec<_> = fs::read_dir(self.place.path("store/steps")).into_iter().flatten().collect();
        assert!(left.is_empty(), "{:?}: {left:?}", self.who);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.place.at("")), "{mounts}");
        ran
    }

    /// The same for steps that must succeed: what the last layer has, by tar.
    fn layer(&self, steps: &[&str], mounts: &str) -> String {
        self.play(steps, mounts).ok();
        let layout = self.place.path("built");
        let json = |digest: &str| json_of(layout.join("blobs").join(digest.replace(':', "/")));
        let index = json_of(layout.join("index.json"));
        let manifest = json(index["manifests"][0]["digest"].as_str().unwrap());
        let layer = manifest["layers"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap().to_owned();
        let blob = layout.join("blobs").join(layer.replace(':', "/"));
        tool("tar", &["-tvf", blob.to_str().unwrap(), "--full-time", "--xattrs", "--xattrs-include=*", "-z"])
    }
}
