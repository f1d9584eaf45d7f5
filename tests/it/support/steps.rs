//! Builds of recipes whose steps run something.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::Value;

use super::{Layered, Place, Ran, User, json_of, run, tool, tree};

/// Somebody who builds the recipe of a place.
pub(crate) struct Builds {
    pub(crate) place: Place,
    user: Option<User>,
}

impl Builds {
    /// Root.
    pub(crate) fn as_root() -> Self {
        Self { place: Place::new(), user: None }
    }

    /// A user with ranges of ids.
    pub(crate) fn with_ranges() -> Self {
        Self { place: Place::new(), user: Some(User::with_ranges()) }
    }

    /// A user with one id.
    pub(crate) fn with_one_id() -> Self {
        Self { place: Place::new(), user: Some(User::with_one_id()) }
    }

    /// Each of them.
    pub(crate) fn all() -> [Self; 3] {
        [Self::as_root(), Self::with_ranges(), Self::with_one_id()]
    }

    /// What comes of each of them, who work at the same time.
    pub(crate) fn each<T: Send>(work: impl Fn(Self) -> T + Sync) -> [T; 3] {
        let work = &work;
        thread::scope(|scope| {
            Self::all().map(|builds| scope.spawn(move || work(builds))).map(|thread| thread.join().unwrap())
        })
    }

    /// Writes the recipe: these layers on the image `base`.
    pub(crate) fn recipe_on(&self, base: &str, layers: &str) {
        self.place.write("r/ociforge.toml", format!("base = '{base}'\n{layers}"));
    }

    /// The same on busybox.
    pub(crate) fn recipe(&self, layers: &str) {
        let base = format!("oci:{}:x", self.place.at("base"));
        if !self.place.path("base").exists() {
            Layered::busybox().write(&self.place, "base");
        }
        self.recipe_on(&base, layers);
    }

    /// The name of the image that is built.
    pub(crate) fn image(&self) -> String {
        format!("oci:{}:x", self.place.at("image"))
    }

    /// `ociforge build` of the recipe, which says what it does in lines.
    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        let (image, metadata) = (self.image(), self.place.at("metadata.json"));
        let call = ["build", "r", "-o", &image, "--metadata-file", &metadata, "--progress", "plain"];
        let words = [&call[..], flags].concat();
        match &self.user {
            None => self.place.ociforge(words),
            Some(user) => {
                // Once: the files of the store have owners of their own.
                if !self.place.path("ociforge").exists() {
                    user.move_in(&self.place);
                }
                user.ociforge(&self.place, &words)
            }
        }
    }

    pub(crate) fn build(&self, flags: &[&str]) -> Ran {
        run(&mut self.command(flags))
    }

    /// Builds with programs of another `PATH`.
    pub(crate) fn build_with_path(&self, path: &str, flags: &[&str]) -> Ran {
        run(self.command(flags).env("PATH", path))
    }

    /// Builds, and gives the new layers.
    #[track_caller]
    pub(crate) fn built(&self, flags: &[&str]) -> Vec<NewLayer> {
        self.build(flags).ok();
        self.layers()
    }

    /// The new layers of the last build.
    pub(crate) fn layers(&self) -> Vec<NewLayer> {
        let metadata = json_of(self.place.path("metadata.json"));
        metadata["layers"].as_array().unwrap().iter().map(NewLayer::of).collect()
    }

    /// Builds, and gives what the steps wrote.
    #[track_caller]
    pub(crate) fn said(&self, flags: &[&str]) -> String {
        let ran = self.build(flags);
        let said = said(&ran.stderr);
        ran.ok();
        said
    }

    /// What is in a layer, as tar(1) unpacks it: whiteouts are files.
    pub(crate) fn tree(&self, layer: &NewLayer) -> BTreeMap<PathBuf, String> {
        let root = self.place.path(format!("layer-{}", &layer.digest[7..19]));
        fs::create_dir_all(&root).unwrap();
        let words = [
            "--extract",
            "--numeric-owner",
            "--same-permissions",
            "--delay-directory-restore",
            "--xattrs",
            "--xattrs-include=*",
            "--file",
        ];
        let (blob, into) = (self.blob(layer), root.to_str().unwrap());
        tool("tar", &[&words[..], &[&blob, "--directory", into]].concat());
        // Directories above are not the layer's.
        let mut tree = tree(&root);
        let paths = self.paths(layer);
        tree.retain(|path, what| !what.starts_with('4') || paths.iter().any(|listed| Path::new(listed) == path));
        tree
    }

    fn blob(&self, layer: &NewLayer) -> String {
        self.place.at(&format!("image/blobs/{}", layer.digest.replace(':', "/")))
    }

    /// The paths in a layer.
    pub(crate) fn paths(&self, layer: &NewLayer) -> Vec<String> {
        tool("tar", &["-tf", &self.blob(layer)]).lines().map(str::to_owned).collect()
    }
}

/// A layer that a build has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewLayer {
    pub(crate) digest: String,
    pub(crate) cached: bool,
}

impl NewLayer {
    fn of(layer: &Value) -> Self {
        Self { digest: layer["digest"].as_str().unwrap().to_owned(), cached: layer["cached"].as_bool().unwrap() }
    }
}

/// The digests of layers.
pub(crate) fn digests(layers: &[NewLayer]) -> Vec<&str> {
    layers.iter().map(|layer| layer.digest.as_str()).collect()
}

/// What the steps of a build wrote, of what the build wrote.
pub(crate) fn said(stderr: &str) -> String {
    let lines = stderr.lines().filter_map(|line| line.strip_prefix("[run ")?.split_once("] "));
    lines.map(|(_, said)| said.to_owned() + "\n").collect()
}
