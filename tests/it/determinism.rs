//! The same input gives the same digest, whatever the machine is like.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use super::support::{OCIFORGE, Place, Wheel, run};

/// Of the recipe below. It changes only when the bytes of images change, which takes the layers of all users to their
/// registries again.
const GOLDEN: &str = "sha256:c1ece8e689a4e36b7ec44f728ac981c9b2fbc34fa47e144f4d2c06d0e2bd1df6";

const RECIPE: &str = r#"base = "scratch"

[config]
workdir = "/code"
cmd = ["bash"]
env = { B = "2", A = "1", PATH = "/bin" }
labels = { "org.example.b" = "2", "org.example.a" = "1" }
expose = ["8080", "53/udp"]
volumes = ["/data"]

[[layer]]
directories = ["/app/b", "/app/a"]
mode = "0777"

[[layer]]
copy = { from = "src", to = "/code" }
"#;

/// Writes recipe and sources, in this order or the other one.
fn sources(place: &Place, directory: &str, backwards: bool) {
    let mut files: Vec<(String, Vec<u8>)> = vec![(format!("{directory}/ociforge.toml"), RECIPE.into())];
    for n in 0..40u32 {
        let large = (0..n * 40_000).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 20).to_le_bytes());
        files.push((format!("{directory}/src/{}/file-{n}", ["a", "é", "Z", "b-"][n as usize % 4]), large.collect()));
    }
    if backwards {
        files.reverse();
    }
    for (name, content) in files {
        place.write(&name, content);
    }
    fs::set_permissions(place.path(format!("{directory}/src/a/file-0")), fs::Permissions::from_mode(0o711)).unwrap();
    std::os::unix::fs::symlink("file-0", place.path(format!("{directory}/src/a/link"))).unwrap();
}

/// Builds into a fresh store, through a shell line that ends with the call; gives the digest.
fn digest(place: &Place, recipe: &Path, store: &str, shell: &str, set_up: impl FnOnce(&mut Command)) -> String {
    let script = format!("{shell} \"$0\" build \"$1\" --progress none --store \"$2\"");
    let arguments = ["-c", &script, OCIFORGE, recipe.to_str().unwrap(), &place.at(store)];
    let mut command = place.wrapped("sh", arguments);
    set_up(&mut command);
    run(&mut command).ok().trim().to_owned()
}

#[test]
fn the_same_input_gives_the_same_digest() {
    let place = Place::new();
    sources(&place, "one", false);
    sources(&place, "two", true);
    let (one, two) = (place.path("one"), place.path("two/ociforge.toml"));
    let first = digest(&place, &one, "store-1", "", |_| {});
    assert_eq!(first, GOLDEN);
    let odd = digest(&place, &two, "store-2", "umask 077; exec taskset -c 0", |command| {
        command.env("TZ", "Pacific/Kiritimati").env("LANG", "tr_TR.UTF-8").env("LC_ALL", "C").env("USER", "other");
        command.current_dir(env::temp_dir()).env("RAYON_NUM_THREADS", "1").env("TOKIO_WORKER_THREADS", "7");
    });
    assert_eq!(odd, GOLDEN);
    let here = digest(&place, Path::new("."), "store-3", "umask 000; exec", |command| {
        command.current_dir(&one);
    });
    assert_eq!(here, GOLDEN);
    // In the same store, from the cache and not.
    assert_eq!(digest(&place, &two, "store-1", "exec", |_| {}), GOLDEN);
}

#[test]
fn a_stated_time_is_in_the_image() {
    let place = Place::new();
    sources(&place, "one", false);
    let at = |store: &str, epoch: &str| {
        digest(&place, &place.path("one"), store, "exec", |command| {
            command.env("SOURCE_DATE_EPOCH", epoch);
        })
    };
    let later = at("store-1", "1700000000");
    assert_eq!(later, at("store-2", "1700000000"));
    assert_ne!(later, GOLDEN);
    assert_eq!(at("store-1", "0"), GOLDEN);
    let mut command = place.build("one", &[]);
    command.env("SOURCE_DATE_EPOCH", "yesterday");
    run(&mut command).fails(1, &["SOURCE_DATE_EPOCH is `yesterday`", "hint: "]);

    let mut command = place.build("one", &["-t", "x.invalid/y"]);
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    run(&mut command).ok();
    let config = run(&mut place.ociforge(["inspect", "--config", "x.invalid/y"])).ok();
    assert!(config.contains("2023-11-14T22:13:20Z"), "{config}");
}

#[test]
fn packages_are_as_fixed_as_files() {
    let place = Place::new();
    let recipe = "base = 'scratch'\n[python]\nversion = '3.11'\nsite-packages = '/usr/lib/python3/site-packages'\n\
                  executable = '/usr/bin/python3'\n[[layer]]\npip = { wheels = 'dist/*.whl' }\n";
    for (directory, names) in [("one", ["alpha", "beta", "gamma"]), ("two", ["gamma", "beta", "alpha"])] {
        place.write(&format!("{directory}/ociforge.toml"), recipe);
        for name in names {
            Wheel::new(name, &format!("# {name}\n").repeat(5000)).write(&place, &format!("{directory}/dist"));
        }
    }
    let one = digest(&place, &place.path("one"), "store-1", "exec", |_| {});
    assert_eq!(one, digest(&place, &place.path("two"), "store-2", "umask 077; exec taskset -c 0", |_| {}));
}
