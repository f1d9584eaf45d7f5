//! Packages that are not quite as they should be, and what is chosen of them.

use std::fs;
use std::path::Path;

use super::support::{DEBIAN, Place, Registry, Wheel, chroot, digest_of, run, skopeo_copy, unpack};

const PYTHON: &str =
    "[python]\nversion = '3.11'\nsite-packages = '/usr/lib/python3/site-packages'\nexecutable = '/usr/bin/python3'\n";

/// Writes a recipe with layers on nothing.
fn recipe(place: &Place, layers: &str) {
    place.write("recipe/ociforge.toml", format!("base = 'scratch'\n{PYTHON}{layers}"));
}

fn unpacked(place: &Place) -> std::path::PathBuf {
    let image = format!("oci:{}:x", place.at("image"));
    fs::remove_dir_all(place.path("image")).ok();
    run(&mut place.build("recipe", &["-o", &image])).ok();
    unpack(place, &image)
}

/// The rows of a RECORD, each with what should be there of the file that it names.
fn rows(root: &Path, record: &str) -> Vec<(String, String)> {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use sha2::{Digest, Sha256};
    let text = fs::read_to_string(root.join(record)).unwrap();
    let library = Path::new(record).parent().unwrap().parent().unwrap();
    let right = |row: &str| {
        let path = row.split(',').next().unwrap();
        let content = fs::read(root.join(library).join(path)).unwrap();
        let hash = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&content));
        if row.ends_with(",,") { row.to_owned() } else { format!("{path},sha256={hash},{}", content.len()) }
    };
    text.lines().map(|row| (row.to_owned(), right(row))).collect()
}

#[test]
fn a_stale_record_is_told_and_put_right() {
    let place = Place::new();
    let regular = 0o100_644;
    let good = || Wheel::new("demo", "x = 1\n");
    let cases = [
        ("the hash of `demo/a.py` differs from RECORD", good().member("demo/a.py", "x = 1", regular, Some(b"x = 2"))),
        (
            "`demo/a.py` is not in RECORD, and 1 more",
            good().member("demo/a.py", "x = 1", regular, None).member("demo/b.py", "", regular, None),
        ),
    ];
    recipe(&place, "[[layer]]\npip = { wheels = 'dist/*.whl' }\n");
    for (said, wheel) in cases {
        wheel.write(&place, "recipe/dist");
        let lock = run(&mut place.ociforge(["lock", "recipe", "--progress", "none"]));
        lock.ok();
        // Told each time, whether or not the wheel is in the store.
        let digests: Vec<String> = (0..2)
            .map(|_| {
                let ran = run(&mut place.build("recipe", &["--no-cache"]));
                let warning = format!("warning: the RECORD of demo-1.0-py3-none-any.whl is wrong: {said}; ");
                assert!(ran.stderr.contains(&warning), "{}", ran.stderr);
                ran.ok()
            })
            .collect();
        assert_eq!(digests[0], digests[1]);
        let root = unpacked(&place);
        let rows = rows(&root, "usr/lib/python3/site-packages/demo-1.0.dist-info/RECORD");
        assert!(rows.iter().all(|(row, right)| row == right), "{rows:?}");
        assert!(rows.iter().any(|(row, _)| row.starts_with("demo/a.py,sha256=")), "{rows:?}");
        fs::remove_dir_all(place.path("recipe/dist")).unwrap();
    }
}

#[test]
fn of_two_packages_one_has_a_file_where_the_other_has_a_directory() {
    let place = Place::new();
    let write = |layers: &str, a: Wheel, b: Wheel| {
        for name in ["a", "b"] {
            fs::remove_dir_all(place.path(format!("recipe/{name}"))).ok();
        }
        a.write(&place, "recipe/a");
        b.write(&place, "recipe/b");
        recipe(&place, layers);
    };
    let one = "[[layer]]\npip = { wheels = '[ab]/*.whl' }\n";
    let two = "[[layer]]\npip = { wheels = 'a/*.whl' }\n[[layer]]\npip = { wheels = 'b/*.whl' }\n";
    let turned = "[[layer]]\npip = { wheels = 'b/*.whl' }\n[[layer]]\npip = { wheels = 'a/*.whl' }\n";
    // Small wheels share layers by their names, large ones have layers of their own: the check knows no layers.
    let large = vec![b'x'; 5 << 20];
    for layers in [one, two, turned] {
        for (first, second) in [(&b""[..], &b""[..]), (&large, &large)] {
            let a = Wheel::new("alpha", "").file("common", "file").member("alpha/big", first, 0o100_644, Some(first));
            let b = Wheel::new("beta", "").file("common/__init__.py", "").member(
                "beta/big",
                second,
                0o100_644,
                Some(second),
            );
            write(layers, a, b);
            let parts = [
                "alpha 1.0 has a file where beta 1.0 has a directory: /usr/lib/python3/site-packages/common",
                "hint: ",
            ];
            run(&mut place.build("recipe", &[])).fails(1, &parts);
            place.assert_clean();
        }
    }
    // A script and a directory of scripts.
    let script =
        Wheel::new("alpha", "").file("alpha-1.0.dist-info/entry_points.txt", "[console_scripts]\ntool = alpha:main\n");
    write(two, script, Wheel::new("beta", "").file("beta-1.0.data/scripts/tool/x", ""));
    run(&mut place.build("recipe", &[]))
        .fails(1, &["alpha 1.0 has a file where beta 1.0 has a directory", "/bin/tool"]);
    // The same file in both is what pip takes, too.
    write(one, Wheel::new("alpha", "").file("common/x.py", "1"), Wheel::new("beta", "").file("common/x.py", "2"));
    let root = unpacked(&place);
    assert_eq!(fs::read_to_string(root.join("usr/lib/python3/site-packages/common/x.py")).unwrap(), "2");
}

#[test]
fn a_lock_s_groups_and_extras() {
    let place = Place::new();
    let package = |name: &str, set: &str| {
        let wheel = Wheel::new(name, "");
        wheel.write(&place, "recipe");
        let (file, hash) = (wheel.file_name(), digest_of(&wheel.bytes()).replace("sha256:", ""));
        format!(
            "[[packages]]\nname = '{name}'\nversion = '1.0'\nmarker = \"'{name}' in \
                {set}\"\n[[packages.wheels]]\nname = '{file}'\n\
             path = '{file}'\nhashes = {{ sha256 = '{hash}' }}\n"
        )
    };
    let packages =
        [package("default", "dependency_groups"), package("dev", "dependency_groups"), package("gpu", "extras")];
    let head = "lock-version = '1.0'\ncreated-by = 'pdm'\nextras = ['gpu']\ndependency-groups = ['default', 'dev']\n";
    place.write("recipe/pylock.toml", format!("{head}default-groups = ['default']\n{}", packages.concat()));
    for (more, expected) in [
        ("", &["default"][..]),
        (", extras = ['gpu']", &["default", "gpu"]),
        (", groups = ['default', 'dev']", &["default", "dev"]),
        (", groups = []", &[]),
    ] {
        recipe(
            &place,
            &format!("[[layer]]\npip = {{ lock = 'pylock.toml'{more} }}\n[[layer]]\ndirectories = ['/d']\n"),
        );
        let library = unpacked(&place).join("usr/lib/python3/site-packages");
        let there = ["default", "dev", "gpu"].into_iter().filter(|name| library.join(name).exists());
        assert_eq!(there.collect::<Vec<_>>(), expected, "{more}");
    }
    recipe(&place, "[[layer]]\npip = { lock = 'pylock.toml', groups = ['docs'] }\n");
    let parts = ["pylock.toml has no group `docs`", "hint: its groups are default, dev"];
    run(&mut place.build("recipe", &[])).fails(1, &parts);
}

/// What `uv export` writes of a project goes into an image, in one way or the other.
#[test]
fn what_uv_exports_of_a_project() {
    let place = Place::new();
    let pyproject = "[build-system]\nrequires = ['setuptools>=61']\nbuild-backend = \
        'setuptools.build_meta'\n[project]\nname = \
                     'demo-app'\nversion = '1.0'\nrequires-python = '>=3.9'\ndependencies = ['six']\n";
    place.write("recipe/pyproject.toml", pyproject);
    place.write("recipe/src/demo_app/__init__.py", "import six\n");
    let uv = |arguments: &[&str]| {
        let at = ["--directory", &place.at("recipe"), "--quiet"];
        run(&mut place.wrapped("uv", [arguments, &at].concat())).ok()
    };
    uv(&["lock"]);
    uv(&["export", "-o", "requirements.txt"]);
    uv(&["export", "--format", "pylock.toml", "-o", "pylock.toml"]);
    let write = |pip: &str| {
        place.write("recipe/ociforge.toml", format!("base = '{}'\n[[layer]]\npip = {pip}\n", DEBIAN.image));
    };
    write("{ lock = 'uv.lock' }");
    let hint = "hint: run `uv export --format pylock.toml -o pylock.toml`, and write pip = { lock = \"pylock.toml\" }";
    run(&mut place.build("recipe", &[])).fails(1, &["uv.lock:1: the file is a uv.lock", hint]);
    write("{ requirements = 'requirements.txt' }");
    let parts = ["cannot install .", "the package is a directory", "pip = { project = \"DIR\" }", "uv export"];
    run(&mut place.build("recipe", &[])).fails(1, &parts);
    write("{ lock = 'pylock.toml' }");
    run(&mut place.ociforge(["lock", "recipe", "--progress", "none"])).ok();
    let lock = fs::read_to_string(place.path("recipe/ociforge.lock")).unwrap();
    assert!(lock.contains("[[project]]\nname = \"demo-app\"") && !lock.contains("[[wheel]]"), "{lock}");
    let image = format!("oci:{}:x", place.at("image"));
    run(&mut place.build("recipe", &["--locked", "-o", &image])).ok();
    let root = unpack(&place, &image);
    assert_eq!(chroot(&root, &["python3", "-c", "import demo_app; print(demo_app.six.__name__)"]).trim(), "six");
}

#[test]
fn the_c_library_is_stated_asked_for_or_warned_of() {
    let place = Place::new();
    let mut registry = Registry::serve(&place, "registry");
    skopeo_copy(&DEBIAN.image, &registry.name("base/debian:12"));
    let tag = |libc: &str| format!("cp{}-abi3-{libc}_x86_64", DEBIAN.python.replace('.', ""));
    let write = |base: &str, libc: &str, wheel: &str| {
        fs::remove_dir_all(place.path("recipe/dist")).ok();
        Wheel::new("demo", "").tag(&tag(wheel)).write(&place, "recipe/dist");
        let stated = DEBIAN.stated();
        place.write(
            "recipe/ociforge.toml",
            format!("base = '{base}'\n{stated}{libc}[[layer]]\npip = {{ wheels = 'dist/*.whl' }}\n"),
        );
    };
    let debian = format!("{}/base/debian:12", registry.address);
    let (layer, _) = DEBIAN.layer();
    let read = |registry: &mut Registry| registry.requests().iter().any(|r| r.starts_with("GET") && r.contains(layer));
    // Stated, and what every base has: nothing of the base is read.
    for (libc, wheel) in
        [("libc = 'glibc 2.39'\n", "manylinux_2_39"), ("libc = 'musl 1.2'\n", "musllinux_1_2"), ("", "manylinux_2_28")]
    {
        write(&debian, libc, wheel);
        run(&mut place.build("recipe", &[])).ok();
        assert!(!read(&mut registry), "{libc}");
    }
    for (libc, wheel) in [
        ("libc = 'glibc 2.39'\n", "manylinux_2_40"),
        ("libc = 'glibc 2.39'\n", "musllinux_1_2"),
        ("libc = 'musl 1.2'\n", "manylinux_2_17"),
    ] {
        write(&debian, libc, wheel);
        run(&mut place.build("recipe", &[])).fails(
            1,
            &["no wheel runs on", &format!("with {}: ", &libc[8..].trim_end().trim_matches('\'')), " needs "],
        );
    }
    // Not stated: the base is asked, and once.
    write(&debian, "", "manylinux_2_34");
    run(&mut place.build("recipe", &[])).ok();
    assert!(read(&mut registry));
    run(&mut place.build("recipe", &["--no-cache"])).ok();
    assert!(!read(&mut registry));
    write(&debian, "", "manylinux_2_99");
    run(&mut place.build("recipe", &[]))
        .fails(1, &["no wheel runs on", "with glibc 2.", "manylinux_2_99_x86_64.whl needs glibc 2.99"]);
    // Nobody knows: what the user gives is taken.
    write("scratch", "", "manylinux_2_34");
    let ran = run(&mut place.build("recipe", &[]));
    for part in ["the C library of scratch is unknown", "libc = \"glibc", "manylinux_2_34_x86_64.whl is installed, but"]
    {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    ran.ok();
}

#[test]
fn the_c_library_counts_where_packages_are_resolved() {
    let place = Place::new();
    let mut registry = Registry::serve(&place, "registry");
    skopeo_copy(&DEBIAN.image, &registry.name("base/debian:12"));
    let tag = |libc: &str| format!("cp{}-abi3-{libc}_x86_64", DEBIAN.python.replace('.', ""));
    Wheel::new("plain", "").write(&place, "recipe/dist");
    Wheel::new("usual", "").tag(&tag("manylinux_2_17")).write(&place, "recipe/dist");
    Wheel::new("newer", "").tag(&tag("manylinux_2_34")).write(&place, "recipe/dist");
    Wheel::new("newer", "").tag(&tag("musllinux_1_2")).write(&place, "recipe/dist");
    let debian = format!("{}/base/debian:12", registry.address);
    let (layer, _) = DEBIAN.layer();
    let mut lock = |base: &str, libc: &str, packages: &str| {
        let (stated, lines) = (DEBIAN.stated(), packages.replace(' ', "\n"));
        place.write("recipe/r.txt", format!("--no-index\n--find-links dist\n{lines}\n"));
        let layer_of = "[[layer]]\npip = { requirements = 'r.txt' }\n";
        place.write("recipe/ociforge.toml", format!("base = '{base}'\n{stated}{libc}{layer_of}"));
        let ran = run(&mut place.ociforge(["lock", "recipe", "--progress", "none"]));
        let read = registry.requests().iter().any(|request| request.starts_with("GET") && request.contains(layer));
        (ran, read, fs::read_to_string(place.path("recipe/ociforge.lock")).unwrap_or_default())
    };
    // What runs everywhere, and what is stated, is what it is whatever the base says.
    for (libc, packages, expected) in [
        ("", "plain usual", "manylinux_2_17"),
        ("libc = 'glibc 2.36'\n", "plain newer", "manylinux_2_34"),
        ("libc = 'musl 1.2'\n", "plain newer", "musllinux_1_2"),
    ] {
        let (ran, _, text) = lock(&debian, libc, packages);
        ran.ok();
        assert!(text.contains(expected), "{libc}{packages}: {text}");
    }
    let (ran, ..) = lock("scratch", "", "newer");
    assert!(ran.stderr.contains("the C library of scratch is unknown"), "{}", ran.stderr);
    ran.fails(1, &["cannot resolve the Python packages", "with glibc 2.28"]);
    fs::remove_dir_all(place.path("store/facts")).unwrap();
    let (ran, read, text) = lock(&debian, "", "plain newer");
    ran.ok();
    assert!(read && text.contains("manylinux_2_34"), "{text}");
    // From here on it is known.
    let (ran, read, text) = lock(&debian, "", "newer usual");
    ran.ok();
    assert!(!read && text.contains("manylinux_2_34"), "{text}");
}
