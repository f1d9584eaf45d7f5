//! What the tests of the program share: a place of their own, registries that end with them, and the Debian base.

mod client;
mod engines;
mod exchange;
mod gate;
mod layered;
mod layouts;
mod liar;
mod mounted;
pub(crate) mod process;
#[path = "../../../manifests/tests/support/program.rs"]
mod program;
mod proxy;
mod python_index;
mod registry;
pub(crate) mod served;
mod steps;
mod tls;
mod tokens;
mod tools;
mod tree;
mod user;
mod waiting;
mod wheel;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use program::write_program;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) use client::{client, copy, impatient, push, quick, remote, signed_in, upload};
pub(crate) use engines::{Containerd, Docker};
pub(crate) use layered::{Layered, Packing, Tar};
pub(crate) use layouts::{noise_image, noise_layer, one_layer, put, put_blob, put_image, put_manifest, sound};
pub(crate) use liar::{Answer, Liar};
pub(crate) use mounted::Mounted;
pub(crate) use proxy::{End, Fault, Proxy, Request};
pub(crate) use python_index::python_index;
pub(crate) use registry::Registry;
pub(crate) use steps::{Builds, digests, said};
pub(crate) use tls::{authority, certificate, openssl, speechless};
pub(crate) use tokens::Tokens;
pub(crate) use tools::{chroot, curl, curl_status, is_root, skopeo, skopeo_copy, skopeo_raw, tool, unpack};
pub(crate) use tree::{assert_same, tree};
pub(crate) use user::User;
pub(crate) use waiting::{cpu_time, wait_until};
pub(crate) use wheel::{Wheel, digest_of};

/// The program.
pub(crate) const OCIFORGE: &str = env!("CARGO_BIN_EXE_ociforge");

/// A directory with a store, a home and files of one test.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        // As the examples have it: /tmp is often memory, and images are large.
        let parent = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let place = Self { directory: tempfile::Builder::new().prefix("ociforge-it-").tempdir_in(parent).unwrap() };
        place.write("home/registries.conf", "");
        place
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The path as text.
    pub(crate) fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file and the directories above it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Writes a script that can be executed, and the directories above it.
    pub(crate) fn write_program(&self, name: &str, script: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_program(&path, script);
        path
    }

    /// The program with this place's store and home, and nothing of the user's but what reaches the Python packages.
    pub(crate) fn ociforge<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        self.wrapped(OCIFORGE, arguments)
    }

    /// Another program in the same environment, which may run ociforge in turn.
    pub(crate) fn wrapped<'a>(&self, program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["OCIFORGE_", "REGISTRY_", "DOCKER_", "SOURCE_DATE"].iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        if let (None, Some(home)) = (std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME")) {
            command.env("XDG_CONFIG_HOME", Path::new(&home).join(".config"));
        }
        command
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("home/run"))
            .env("DOCKER_CONFIG", self.path("home/docker"))
            .env("CONTAINERS_REGISTRIES_CONF", self.path("home/registries.conf"))
            .env("CONTAINERS_REGISTRIES_CONF_DIR", self.path("home/registries.conf.d"))
            .env("UV_CACHE_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/uv"))
            .env("OCIFORGE_STORE", self.path("store"));
        command
    }

    /// `ociforge build RECIPE`, silent but for what goes wrong.
    pub(crate) fn build(&self, recipe: &str, arguments: &[&str]) -> Command {
        self.ociforge([&["build", recipe, "--progress", "none"], arguments].concat())
    }

    /// Builds and gives what `--metadata-file` says.
    pub(crate) fn built(&self, recipe: &str, arguments: &[&str]) -> Value {
        let file = self.at("metadata.json");
        run(&mut self.build(recipe, &[&["--metadata-file", &file], arguments].concat())).ok();
        json_of(&file)
    }

    /// Puts a small image at `name`, with the text `content` in the only file of its only layer.
    pub(crate) fn small_base(&self, name: &str, content: &str) {
        let recipe = "base = 'scratch'\n[config.env]\nPATH = '/bin'\n[[layer]]\ncopy = {from = 'file', to = '/base'}\n";
        self.write("small/ociforge.toml", recipe);
        self.write("small/file", content);
        let destination = if name.contains(":/") { name.to_owned() } else { format!("docker://{name}") };
        run(&mut self.build("small", &["-o", &destination])).ok();
    }

    /// Asserts that neither the store nor the directory of temporary files has anything half-written.
    pub(crate) fn assert_clean(&self) {
        let left: Vec<_> = files(&self.path("store"))
            .into_iter()
            .filter(|path| {
                path.file_name().unwrap().to_string_lossy().starts_with(".tmp")
                    || path.to_string_lossy().contains("/store/tmp/")
            })
            .collect();
        assert!(left.is_empty(), "{left:?}");
        for blob in files(&self.path("store/layout/blobs/sha256")) {
            let name = blob.file_name().unwrap().to_string_lossy().into_owned();
            assert_eq!(digest_of(&fs::read(&blob).unwrap()), format!("sha256:{name}"), "a damaged blob in the store");
        }
    }
}

/// All files below `directory`.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let below = entries.map(|entry| entry.unwrap().path());
    below.flat_map(|path| if path.is_dir() && !path.is_symlink() { files(&path) } else { vec![path] }).collect()
}

pub(crate) fn json_of(file: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    what: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ran {
    let output =
        command.output().unwrap_or_else(|error| panic!("cannot run {command:?} (does tests/run say so?): {error}"));
    Ran::of(format!("{command:?}"), output)
}

impl Ran {
    /// How the command that is shown as `what` ended.
    pub(crate) fn of(what: String, output: Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { what, code: output.status.code(), stdout: String::from_utf8(output.stdout).unwrap(), stderr }
    }

    /// What it printed; it must have done its work.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}\n{}", self.what, self.stdout, self.stderr);
        self.stdout
    }

    /// Asserts that ociforge failed with this exit code and an error in the form that all have: `error:`, then causes,
    /// then at most one hint. `parts` are looked for in it.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, parts: &[&str]) -> String {
        let Self { what, stdout, stderr, .. } = &self;
        assert_eq!(self.code, Some(code), "{what}\n{stdout}\n{stderr}");
        assert_eq!(stdout, "", "{what} printed a result");
        let at = stderr.find("error: ").unwrap_or_else(|| panic!("{what}: no error in\n{stderr}"));
        // What a step said is indented below its cause.
        let lines: Vec<_> = stderr[at..].lines().skip(1).filter(|line| !line.starts_with("    ")).collect();
        let causes = lines.iter().take_while(|line| line.starts_with("  cause: ")).count();
        let form = lines[causes..].iter().all(|line| line.starts_with("  hint: ")) && lines.len() <= causes + 1;
        assert!(form, "not the form of an error:\n{stderr}");
        for part in parts {
            assert!(stderr[at..].contains(part), "{what}: no `{part}` in\n{stderr}");
        }
        stderr[at..].to_owned()
    }

    /// Asserts that the call was refused for what is said in `part`.
    #[track_caller]
    pub(crate) fn refused(self, part: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(2), ""), "{}\n{}", self.what, self.stderr);
        assert!(self.stderr.starts_with("error: ") && self.stderr.contains(part), "{}", self.stderr);
    }
}

/// The Debian base.
pub(crate) struct Debian {
    /// `oci:DIR:base`
    pub(crate) image: String,
    /// Of its Python, such as `3.11`.
    pub(crate) python: String,
    /// The manifest.
    pub(crate) manifest: Value,
}

impl Debian {
    /// The digest and size of its only layer.
    pub(crate) fn layer(&self) -> (&str, u64) {
        let layer = &self.manifest["layers"][0];
        (layer["digest"].as_str().unwrap(), layer["size"].as_u64().unwrap())
    }

    pub(crate) fn site_packages(&self) -> String {
        format!("/usr/local/lib/python{}/dist-packages", self.python)
    }

    /// The recipe's table that states the Python.
    pub(crate) fn stated(&self) -> String {
        let (version, site) = (&self.python, self.site_packages());
        format!("[python]\nversion = '{version}'\nsite-packages = '{site}'\nexecutable = '/usr/bin/python3'\n")
    }
}

/// A small Debian with Python, made into a layout once for all tests.
pub(crate) static DEBIAN: LazyLock<Debian> = LazyLock::new(|| {
    let tar = std::env::var("OCIFORGE_TEST_BASE_TAR")
        .expect("OCIFORGE_TEST_BASE_TAR is not set: start the tests with tests/run, which makes the base");
    let listed = run(Command::new("tar").args(["-tf", &tar]).env("LC_ALL", "C.UTF-8")).ok();
    let python = listed.lines().find_map(|line| line.strip_prefix("./usr/bin/python3.")).expect("a Python in the base");

    let place = Place::new();
    let recipe = format!(
        "base = 'scratch'\n[config]\ncmd = ['bash']\n[config.env]\nPATH = '/usr/bin:/bin'\n[[layer]]\ntar = '{tar}'\n"
    );
    place.write("ociforge.toml", recipe);
    // Statics are not dropped: this is in the build's directory, and made anew each time.
    let directory = concat!(env!("CARGO_TARGET_TMPDIR"), "/debian");
    fs::remove_dir_all(directory).ok();
    let image = format!("oci:{directory}:base");
    run(&mut place.build(".", &["--compression-level", "1", "-o", &image])).ok();
    let manifest = serde_json::from_str(&skopeo_raw(&image)).unwrap();
    Debian { image, python: format!("3.{python}"), manifest }
});
