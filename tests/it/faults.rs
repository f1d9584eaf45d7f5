//! What goes wrong is said clearly, and leaves nothing behind.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use super::support::process::{ended, has_ended, send, start, wait_for_end};
use super::support::{DEBIAN, OCIFORGE, Place, Proxy, Registry, Wheel, cpu_time, files, is_root, run, wait_until};

const PYTHON: &str =
    "[python]\nversion = '3.11'\nsite-packages = '/usr/lib/python3/site-packages'\nexecutable = '/usr/bin/python3'\n";

/// A recipe that installs the wheels in `dist/` on nothing, and is pushed to `app` in `registry`.
fn wheels_recipe(place: &Place, registry: &Registry) {
    let name = format!("{}/app", registry.address);
    let recipe = format!("name = '{name}'\nbase = 'scratch'\n{PYTHON}[[layer]]\npip = {{ wheels = 'dist/*.whl' }}\n");
    place.write("recipe/ociforge.toml", recipe);
}

#[test]
fn wheels_that_are_not_what_they_should_be() {
    let place = Place::new();
    let registry = Registry::serve(&place, "registry");
    wheels_recipe(&place, &registry);
    let good = || Wheel::new("demo", "x = 1\n");
    // Bytes of the wheel changed after it was made; the texts are of the same length.
    let patched = |wheel: Wheel, from: &[u8], to: &[u8]| {
        let mut bytes = wheel.bytes();
        let at: Vec<_> = (0..bytes.len() - from.len()).filter(|n| bytes[*n..].starts_with(from)).collect();
        assert!(!at.is_empty());
        at.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
        bytes
    };
    // The length of the first member, as the archive's headers have it, is four bytes more than what there is: in the
    // central directory alone, then in both places.
    let lying = |headers: &[(&[u8; 4], usize)]| {
        let mut bytes = good().bytes();
        for (magic, field) in headers {
            let at = bytes.windows(4).position(|window| window == *magic).unwrap();
            bytes[at + field] += 4;
        }
        bytes
    };
    let (local, central) = ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24));
    let cases: [(&str, Vec<u8>); 7] = [
        ("`demo/../../../etc/evil`", good().file("demo/../../../etc/evil", "x").bytes()),
        ("`/etc/evil`", patched(good().file("+etc/evil", "x"), b"+etc/evil", b"/etc/evil")),
        ("symbolic link", good().member("demo/link", "/etc/passwd", 0o120_777, Some(b"/etc/passwd")).bytes()),
        ("size mismatch", lying(&[central])),
        ("`demo/__init__.py` is damaged: it inflates to fewer bytes than it says", lying(&[local, central])),
        ("zip", good().bytes()[..300].to_vec()),
        ("zip", Vec::new()),
    ];
    for (said, bytes) in cases {
        place.write("recipe/dist/demo-1.0-py3-none-any.whl", bytes);
        run(&mut place.build("recipe", &["--push"])).fails(1, &["demo-1.0-py3-none-any.whl", "cause: ", said]);
        place.assert_clean();
        registry.assert_no_tag("app");
    }
    fs::remove_file(place.path("recipe/dist/demo-1.0-py3-none-any.whl")).unwrap();
    run(&mut place.build("recipe", &["--push"])).fails(1, &["`dist/*.whl` matches no file", "hint: "]);
}

#[test]
fn wheels_for_something_else() {
    let place = Place::new();
    let registry = Registry::serve(&place, "registry");
    wheels_recipe(&place, &registry);
    for (wheel, said) in [
        (Wheel::new("demo", "").tag("cp39-cp39-manylinux_2_17_x86_64"), "cp39"),
        (Wheel::new("demo", "").tag("cp311-cp311-manylinux_2_17_aarch64"), "aarch64"),
        (Wheel::new("demo", "").tag("py3-none-win_amd64"), "win_amd64"),
        (Wheel::new("demo", "").requires_python(">=3.13"), "3.13"),
    ] {
        fs::remove_dir_all(place.path("recipe/dist")).ok();
        wheel.write(&place, "recipe/dist");
        run(&mut place.build("recipe", &["--push"])).fails(1, &["demo", said, "hint: "]);
        registry.assert_no_tag("app");
    }
}

#[test]
fn a_wheel_with_another_hash_than_the_lock_says() {
    let place = Place::new();
    let registry = Registry::serve(&place, "registry");
    let recipe = format!("name = '{}/app'\nbase = 'scratch'\n{PYTHON}[[layer]]\npip = ['colored']\n", registry.address);
    place.write("recipe/ociforge.toml", recipe);
    run(&mut place.ociforge(["lock", "recipe", "--progress", "none"])).ok();
    let path = place.path("recipe/ociforge.lock");
    let lock = fs::read_to_string(&path).unwrap();
    let (before, rest) = lock.split_once("sha256 = \"").unwrap();
    fs::write(&path, format!("{before}sha256 = \"{}{}", "0".repeat(64), &rest[64..])).unwrap();
    let parts = ["colored", "cause: ", "SHA-256", "0000000000"];
    run(&mut place.build("recipe", &["--locked", "--push"])).fails(1, &parts);
    place.assert_clean();
    assert_eq!(
        files(&place.path("store/wheels")).iter().filter(|path| path.extension().is_some_and(|e| e == "whl")).count(),
        0
    );
    registry.assert_no_tag("app");

    fs::write(&path, lock.replace("sha256", "sha257")).unwrap();
    let ran = run(&mut place.build("recipe", &["--locked"]));
    assert!(ran.code != Some(0) && ran.stderr.contains("ociforge.lock"), "{}", ran.stderr);
    fs::write(&path, &lock).unwrap();
    run(&mut place.build("recipe", &["--locked", "--push"])).ok();
}

#[test]
fn recipes_that_are_wrong() {
    let place = Place::new();
    for (recipe, code, parts) in [
        ("base = 'scratch'\ncmdd = ['x']\n", 1, &["unknown key `cmdd`", ":2", "hint: "][..]),
        ("base = 'scratch'\n[config]\nworkdirr = '/x'\n", 1, &["unknown key `workdirr`", "`workdir`"]),
        ("base = 'scratch'\n[[layer]]\ncopy = { from = 'a', too = '/b' }\n", 1, &["unknown key `too`", "`to`"]),
        ("base = 'scratch'\n[[layer]]\napt = ['ffmpeg']\n", 1, &["`apt`", "not supported yet"]),
        ("base = \n", 1, &[":1"]),
        ("name = 'x/y'\n", 1, &["has no `base`"]),
        ("base = 'scratch'\n[[layer]]\ncopy = { from = 'missing', to = '/b' }\n", 1, &["missing", "line 3", "hint: "]),
        ("base = 'scratch'\n[[layer]]\ncopy = { from = '../x', to = '/b' }\n", 1, &["../x"]),
        ("base = 'scratch'\n[[layer]]\ntar = 'missing.tar'\n", 1, &["missing.tar", "hint: "]),
        ("base = 'scratch'\n[[layer]]\ntar = 'ociforge.toml'\n", 1, &["ociforge.toml", "cause: "]),
        ("base = 'scratch'\n[[layer]]\npip = ['tqdm']\n", 1, &["has no Python", "hint: "]),
    ] {
        place.write("recipe/ociforge.toml", recipe);
        run(&mut place.build("recipe", &[])).fails(code, parts);
    }
    place.assert_clean();
    assert!(files(&place.path("store/layout/blobs")).is_empty());
}

#[test]
fn calls_that_are_wrong() {
    let place = Place::new();
    let ran = |arguments: &[&str]| run(&mut place.build("recipe", arguments));
    run(&mut place.build("nowhere", &[])).fails(2, &["no recipe at nowhere"]);
    ran(&["-f", "missing"]).fails(2, &["no recipe at missing"]);
    place.write("recipe/ociforge.toml", "base = 'scratch'\n");
    run(&mut place.build("recipe/ociforge.toml", &["-f", "recipe/ociforge.toml"]))
        .fails(2, &["recipe/ociforge.toml is not a directory", "hint: with -f, the argument is the directory"]);
    ran(&["--jobs", "0"]).refused("0 is not in 1..");
    ran(&["--iidfile", "nowhere/id"]).fails(2, &["cannot write nowhere/id", "the directory nowhere does not exist"]);
    ran(&["--metadata-file", "recipe"]).fails(2, &["cannot write recipe", "it is a directory"]);
    ran(&["--push"]).fails(2, &["no name to push", "hint: "]);
    ran(&["-t", "oci:x"]).fails(2, &["`oci:x`", "hint: "]);
    ran(&["-t", "UPPER case"]).refused("UPPER case");
    ran(&["--platform", "nonsense"]).refused("nonsense");
    ran(&["--no-such-flag"]).refused("--no-such-flag");
    ran(&["--build-arg", "A=b"]).fails(2, &["`A`"]);
    ran(&["-t", "127.0.0.1:1/x", "--push"])
        .fails(1, &["127.0.0.1:1", "cause: ", "hint: check that the registry is running"]);
    place.write("file", "");
    ran(&["--store", "file/store"]).fails(1, &["file/store", "cause: ", "hint: choose another directory with --store"]);
    ran(&["-o", "oci:file/layout"]).fails(1, &["oci:file/layout", "cause: "]);
    place.write("recipe/ociforge.toml", "base = 'oci:nowhere:x'\n");
    ran(&[]).fails(1, &["oci:recipe/nowhere:x", "cause: "]);
    let registry = Registry::serve(&place, "registry");
    place.write("recipe/ociforge.toml", format!("base = '{}/none:x'\n", registry.address));
    ran(&[]).fails(1, &["none", "404", "hint: check the repository's name and the tag"]);
}

#[test]
fn the_paths_of_a_recipe_of_another_name_count_from_the_directory_given() {
    let place = Place::new();
    place.write("context/file", "of the context");
    place.write("recipes/other.toml", "base = 'scratch'\n[[layer]]\ncopy = { from = 'file', to = '/file' }\n");
    run(&mut place.build("context", &["-f", "recipes/other.toml", "-o", "oci:out:x"])).ok();
    run(&mut place.ociforge(["build", "-f", "recipes/other.toml"])).fails(1, &["recipes/file"]);
    // The lock is beside what it pins, and a link to it stays.
    place.write("locks/real.lock", "");
    std::os::unix::fs::symlink("../locks/real.lock", place.path("context/ociforge.lock")).unwrap();
    run(&mut place.ociforge(["lock", "context", "-f", "recipes/other.toml"])).ok();
    assert!(fs::symlink_metadata(place.path("context/ociforge.lock")).unwrap().is_symlink());
    assert!(fs::read_to_string(place.path("locks/real.lock")).unwrap().contains("recipe = \"sha256:"));
    // A recipe from a pipe counts from where the caller is.
    fs::copy(place.path("context/file"), place.path("file")).unwrap();
    let piped = place.write("piped.toml", fs::read(place.path("recipes/other.toml")).unwrap());
    let input = std::process::Command::new("cat").arg(piped).stdout(Stdio::piped()).spawn().unwrap().stdout.unwrap();
    run(place.ociforge(["build", "-f", "/dev/stdin", "-o", "oci:out:y"]).stdin(input)).ok();
}

#[test]
fn recipes_are_files_of_some_size() {
    let place = Place::new();
    fs::create_dir(place.path("recipe")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", place.path("recipe/ociforge.toml")).unwrap();
    run(&mut place.build("recipe", &[])).fails(1, &["cannot read the recipe", "it is a pipe or a device, not a file"]);
    run(&mut place.build("/dev/zero", &[])).fails(1, &["cannot read the recipe /dev/zero", "it has more than 16 MiB"]);
    fs::remove_file(place.path("recipe/ociforge.toml")).unwrap();
    fs::File::create(place.path("recipe/ociforge.toml")).unwrap().set_len(3 << 30).unwrap();
    run(&mut place.build("recipe", &[])).fails(1, &["cannot read the recipe", "it has more than 16 MiB"]);
}

#[test]
fn documents_do_not_steer_the_terminal() {
    let place = Place::new();
    place.write("recipe/ociforge.toml", "base = 'scratch'\n[config.labels]\nevil = \"a\\u001b[2Jb\\nc\"\n");
    run(&mut place.build("recipe", &["-o", "oci:out:x"])).ok();
    let shown = run(&mut place.ociforge(["inspect", "oci:out:x"])).ok();
    assert!(shown.contains("evil=a\\u{1b}[2Jb\\nc\n"), "{shown}");
    place.write("text.tar", "secret text\n".repeat(200));
    for transport in ["oci-archive", "docker-archive"] {
        let failed = run(&mut place.ociforge(["inspect", &format!("{transport}:text.tar")]));
        assert!(!failed.stderr.contains("secret"), "{}", failed.stderr);
        failed.fails(1, &["it is not a valid tar archive"]);
    }
}

#[test]
fn uv_that_is_missing_or_finds_nothing() {
    let place = Place::new();
    place.write("recipe/ociforge.toml", format!("base = 'scratch'\n{PYTHON}[[layer]]\npip = ['tabulate']\n"));
    let mut command = place.build("recipe", &[]);
    command.env("PATH", place.path("empty"));
    run(&mut command).fails(1, &["uv is not installed", "hint: install uv"]);
    let recipe = format!("base = 'scratch'\n{PYTHON}[[layer]]\npip = ['tabulate==0.9.0', 'tabulate==0.8.9']\n");
    place.write("recipe/ociforge.toml", recipe);
    run(&mut place.build("recipe", &[])).fails(1, &["cannot resolve the Python packages", "cause: ", "tabulate"]);
    place.assert_clean();
}

/// A recipe `NAME` that copies one file of that many bytes, which do not compress.
fn recipe_of_noise(place: &Place, name: &str, len: usize) {
    let recipe = format!("name = '{name}'\nbase = 'scratch'\n[[layer]]\ncopy = {{ from = 'noise', to = '/noise' }}\n");
    place.write("recipe/ociforge.toml", recipe);
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    place.write("recipe/noise", bytes);
}

#[test]
fn a_full_disk() {
    let place = Place::new();
    let registry = Registry::serve(&place, "registry");
    recipe_of_noise(&place, &format!("{}/app", registry.address), 20 << 20);
    fs::create_dir(place.path("small-disk")).unwrap();
    // A filesystem of its own for the store, which others than root may have in a namespace of their own.
    let script = "mount -t tmpfs -o size=8m none small-disk && \"$@\"; code=$?; \
                  find small-disk -type f -size +4k | grep -v '/layout/.partial/' && code=99; df -k --output=used small-disk >&2; exit $code";
    let namespace: &[&str] = if is_root() { &["--mount"] } else { &["--mount", "--map-root-user"] };
    let build = [OCIFORGE, "build", "recipe", "--push", "--progress", "none"];
    let store = ["--store", "small-disk/store"];
    let ran = run(&mut place.wrapped("unshare", [namespace, &["sh", "-c", script, "sh"], &build, &store].concat()));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    for part in ["error: cannot pack the layer", "  cause: ", "No space left", "  hint: free some space"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    registry.assert_no_tag("app");
    // The same for the place that the image is written to.
    let output = ["-o", "oci:small-disk/layout"];
    let ran = run(&mut place
        .wrapped("unshare", [namespace, &["sh", "-c", script, "sh"], &build[..3], &build[4..], &output].concat()));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    for part in ["error: cannot write the image to oci:small-disk/layout", "  cause: ", "No space left"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    place.assert_clean();
}

/// Starts a build, waits until it has `begun`, sends it SIGINT, and asserts that it ends as it should. `false` where it was
/// done before that.
fn interrupted(place: &Place, arguments: &[&str], begun: impl Fn() -> bool) -> bool {
    let child = start(&mut place.build("recipe", arguments));
    wait_until("it begins", || begun() || has_ended(&child));
    send(&child, Signal::INT);
    let before = cpu_time(child.id());
    wait_for_end(&child);
    let used = cpu_time(child.id()) - before;
    let ran = ended("build", child);
    if ran.code == Some(0) {
        return false;
    }
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("interrupted"), "{}", ran.stderr);
    // It drops its work, instead of doing it and dropping what comes of it.
    assert!(used < Duration::from_secs(1), "{used:?}");
    place.assert_clean();
    true
}

/// Makes attempts with a file of more and more bytes until one is not done before it is caught in the middle.
fn with_enough(attempt: impl Fn(usize) -> bool) {
    assert!([64, 256, 1024].into_iter().any(|megabytes| attempt(megabytes << 20)), "each was done too early");
}

/// Whether something below `store` has begun to be written that is no blob yet.
fn half_written(store: &Path) -> bool {
    let large = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.len() > 1 << 20);
    let blob = |path: &Path| path.file_name().is_some_and(|name| name.len() == 64);
    files(store).iter().any(|path| !blob(path) && large(path))
}

#[test]
fn a_build_that_is_interrupted_while_it_packs() {
    with_enough(|len| {
        let place = Place::new();
        let registry = Registry::serve(&place, "registry");
        recipe_of_noise(&place, &format!("{}/app", registry.address), len);
        let packs = || half_written(&place.path("store"));
        let caught = interrupted(&place, &["--push", "--compression-level", "9"], packs);
        if caught {
            registry.assert_no_tag("app");
        }
        caught
    });
}

#[test]
fn a_build_that_is_interrupted_while_it_pushes() {
    let place = Place::new();
    let registry = Registry::serve(&place, "registry");
    let proxy = Proxy::before(&registry.address);
    recipe_of_noise(&place, &format!("{}/app", proxy.address), 32 << 20);
    run(&mut place.build("recipe", &["--compression", "none"])).ok();
    // It cannot end: the registry takes no more than this.
    proxy.hold_after("* /blobs/uploads/", 4 << 20);
    let pushes = || proxy.is_holding() && half_written(&place.path("registry"));
    assert!(interrupted(&place, &["--push", "--compression", "none"], pushes));
    registry.assert_no_tag("app");
    proxy.release();
    run(&mut place.build("recipe", &["--push", "--compression", "none"])).ok();
}

#[test]
fn a_build_that_is_interrupted_while_it_writes_a_layout() {
    with_enough(|len| {
        let place = Place::new();
        let registry = Registry::serve(&place, "registry");
        recipe_of_noise(&place, &format!("{}/app", registry.address), len);
        run(&mut place.build("recipe", &["--compression", "none"])).ok();
        let output = format!("oci:{}", place.at("layout"));
        let writes = || half_written(&place.path("layout"));
        let caught = interrupted(&place, &["-o", &output, "--compression", "none"], writes);
        if caught {
            // The next one goes on with what was begun.
            assert_eq!(files(&place.path("layout/.partial")).len(), 1);
            run(&mut place.build("recipe", &["-o", &output, "--push", "--compression", "none"])).ok();
            assert!(!place.path("layout/.partial").exists() && !writes());
        }
        caught
    });
}

#[test]
fn a_registry_that_goes_away() {
    with_enough(|len| {
        let place = Place::new();
        let mut registry = Registry::docker(&place, "registry");
        recipe_of_noise(&place, &format!("{}/app", registry.address), len);
        run(&mut place.build("recipe", &["--compression", "none"])).ok();
        let child = start(&mut place.build("recipe", &["--push", "--compression", "none"]));
        wait_until("it pushes", || half_written(&place.path("registry")) || has_ended(&child));
        registry.stop();
        let ran = ended("build", child);
        if ran.code == Some(0) {
            return false;
        }
        let stderr = &ran.stderr;
        assert_eq!((ran.code, ran.stdout.len()), (Some(1), 0), "{stderr}");
        for part in ["error: cannot write the image to", &registry.address, "  cause: "] {
            assert!(stderr.contains(part), "{stderr}");
        }
        assert!(!place.path("registry/docker/registry/v2/repositories/app/_manifests/tags").exists());
        place.assert_clean();
        true
    });
}

#[test]
fn a_base_that_has_no_python() {
    let place = Place::new();
    let image = format!("oci:{}:base", place.at("layout"));
    place.small_base(&image, "no Python here");
    place.write("recipe/ociforge.toml", format!("base = '{image}'\n[[layer]]\npip = ['tqdm']\n"));
    run(&mut place.build("recipe", &[])).fails(1, &["has no Python", "hint: ", "[python]"]);
    // A base that is not an image for this platform at all.
    place.write("recipe/ociforge.toml", format!("base = '{}'\n[[layer]]\npip = ['tqdm']\n", DEBIAN.image));
    run(&mut place.build("recipe", &["--platform", "linux/s390x"]))
        .fails(1, &["linux/s390x", "hint: the name has images for linux/amd64"]);
}
