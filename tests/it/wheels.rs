//! Packages in an image against what pip makes of the same wheels in the same root.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::support::{DEBIAN, Place, Wheel, chroot, digest_of, files, run, tool, unpack};

/// What pip is compared with: its scripts differ a little from one version to the next, and a base without a pip gets
/// those of this one.
const PIP: &str = "pip==23.*";

/// Puts real wheels into `directory`, named as they are in their index.
fn download(place: &Place, directory: &str, requirements: &[&str]) {
    let recipe = format!("base = 'scratch'\n{}[[layer]]\npip = {requirements:?}\n", DEBIAN.stated());
    place.write("get/ociforge.toml", recipe);
    run(&mut place.ociforge(["lock", "get", "--progress", "none"])).ok();
    run(&mut place.build("get", &["--locked"])).ok();
    let lock: toml::Table = fs::read_to_string(place.path("get/ociforge.lock")).unwrap().parse().unwrap();
    let stored = files(&place.path("store/wheels"));
    for wheel in lock["wheel"].as_array().unwrap() {
        let file = wheel["file"].as_str().unwrap();
        let found = stored.iter().find(|path| path.ends_with(file)).unwrap();
        place.write(&format!("{directory}/{file}"), fs::read(found).unwrap());
    }
}

/// Kind and mode, owner, and content or target of all below `root`.
type Entries = BTreeMap<String, (u32, (u32, u32), Vec<u8>)>;

fn entries(root: &Path, directory: &Path, found: &mut Entries) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_symlink() {
            fs::read_link(&path).unwrap().to_str().unwrap().into()
        } else if metadata.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        found.insert(name, (metadata.mode(), (metadata.uid(), metadata.gid()), content));
        if metadata.is_dir() {
            entries(root, &path, found);
        }
    }
}

/// Where packages go, and where the base has none of its own.
fn installed(root: &Path) -> Entries {
    let mut found = Entries::new();
    entries(root, &root.join("usr/local"), &mut found);
    found
}

#[test]
fn an_image_has_what_pip_installs() {
    let place = Place::new();
    let real = ["colored", "tabulate", "fire", "markupsafe", "tqdm", "packaging", "six", "pygments", "wrapt", "attrs"];
    download(&place, "recipe/dist", &real);
    tool("/usr/bin/python3", &[concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wheels/odd.py"), &place.at("recipe/dist")]);
    let recipe =
        format!("base = '{}'\n{}[[layer]]\npip = {{ wheels = 'dist/*.whl' }}\n", DEBIAN.image, DEBIAN.stated());
    place.write("recipe/ociforge.toml", recipe);
    let image = format!("oci:{}:x", place.at("image"));
    run(&mut place.build("recipe", &["-o", &image])).ok();
    let ours = unpack(&place, &image);

    let theirs = unpack(&place, &DEBIAN.image);
    let target = theirs.join("srv");
    let uv = ["pip", "install", "-q", "--python", "/usr/bin/python3", "--target", target.to_str().unwrap(), PIP];
    run(&mut place.wrapped("uv", uv)).ok();
    let mut names = Vec::new();
    for wheel in fs::read_dir(place.path("recipe/dist")).unwrap() {
        let wheel = wheel.unwrap();
        let file = wheel.file_name().into_string().unwrap();
        fs::copy(wheel.path(), theirs.join("mnt").join(&file)).unwrap();
        let mut parts = file.split('-');
        names.push(format!("{}=={}", parts.next().unwrap().replace('_', "-"), parts.next().unwrap()));
    }
    names.sort();
    let pip = "cd /; umask 022; PYTHONPATH=/srv PYTHONDONTWRITEBYTECODE=1 exec python3 -m pip install -q \
               --root-user-action=ignore --break-system-packages --disable-pip-version-check --no-index --no-deps \
               --no-compile --no-cache-dir --find-links /mnt \"$@\"";
    // pip opens the null device now and then; the base has none.
    fs::write(theirs.join("dev/null"), "").ok();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    chroot(&theirs, &[&["sh", "-c", pip, "sh"], &names[..]].concat());

    let (ours, theirs) = (installed(&ours), installed(&theirs));
    assert!(theirs.len() > 500, "{}", theirs.len());
    for (path, theirs) in &theirs {
        let ours = ours.get(path).unwrap_or_else(|| panic!("only pip has {path}"));
        assert_eq!((format!("{:o}", ours.0), ours.1), (format!("{:o}", theirs.0), theirs.1), "{path}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned();
        assert!(ours.2 == theirs.2, "{path}\n{}\n---\n{}", text(&ours.2), text(&theirs.2));
    }
    let more: Vec<_> = ours.keys().filter(|path| !theirs.contains_key(*path)).collect();
    assert!(more.is_empty(), "only the image has {more:?}");
}

#[test]
fn requirements_and_locks_lead_to_the_same_packages() {
    let place = Place::new();
    let recipe = |pip: &str| format!("base = 'scratch'\n{}[[layer]]\npip = {pip}\n", DEBIAN.stated());
    let digest = |name: &str, pip: &str| {
        place.write(&format!("{name}/ociforge.toml"), recipe(pip));
        let told = place.built(name, &[]);
        told["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone()).collect::<Vec<_>>()
    };
    place.write("file/requirements.txt", "tabulate==0.9.0  # a comment\n");
    let listed = digest("list", "['tabulate==0.9.0']");
    assert_eq!(digest("file", "{ requirements = 'requirements.txt' }"), listed);
    let lock = place.at("lock/pylock.toml");
    fs::create_dir(place.path("lock")).unwrap();
    let python = ["--python-version", &DEBIAN.python, "--python-platform", "linux"];
    let uv =
        [&["pip", "compile", "-q", "--format", "pylock.toml", "-o", &lock][..], &python, &["file/requirements.txt"]];
    run(&mut place.wrapped("uv", uv.concat())).ok();
    assert_eq!(digest("lock", "{ lock = 'pylock.toml' }"), listed);

    // Paths in a lock are relative to it, wherever the command is called.
    Wheel::new("demo", "").write(&place, "paths");
    let hash = digest_of(&fs::read(place.path("paths/demo-1.0-py3-none-any.whl")).unwrap()).replace("sha256:", "");
    let lock = format!(
        "lock-version = '1.0'\ncreated-by = 'test'\n[[packages]]\nname = 'demo'\nversion = '1.0'\n[[packages.wheels]]\n\
         name = 'demo-1.0-py3-none-any.whl'\npath = 'demo-1.0-py3-none-any.whl'\nhashes = {{ sha256 = '{hash}' }}\n"
    );
    place.write("paths/pylock.toml", lock);
    let by_lock = digest("paths", "{ lock = 'pylock.toml' }");
    assert_eq!(digest("paths", "{ wheels = '*.whl' }"), by_lock);
}

/// A recipe with the wheels of `dist`.
fn local_wheels() -> String {
    format!("base = 'scratch'\n{}[[layer]]\npip = {{ wheels = 'dist/*.whl' }}\n", DEBIAN.stated())
}

/// The files named `*.whl` below `directory` with their inodes.
fn inodes(directory: &Path) -> Vec<u64> {
    let wheels =
        files(directory).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "whl"));
    wheels.map(|path| fs::metadata(path).unwrap().ino()).collect()
}

#[test]
fn wheels_on_disk_are_linked_and_noticed_when_they_change() {
    let place = Place::new();
    place.write("r/ociforge.toml", local_wheels());
    let digest = || place.built("r", &[])["layers"][0]["digest"].as_str().unwrap().to_owned();
    Wheel::new("demo", "first").write(&place, "r/dist");
    let first = digest();
    // A clone has another inode, on filesystems that have clones.
    let own = inodes(&place.path("r/dist"));
    let shared = fs::metadata(place.path("r/dist/demo-1.0-py3-none-any.whl")).unwrap().nlink();
    assert!(shared == 1 || inodes(&place.path("store/wheels")) == own);

    // Written in place, the store's link changes, too.
    let before = fs::read(place.path("r/dist/demo-1.0-py3-none-any.whl")).unwrap();
    let second = {
        place.write("r/dist/demo-1.0-py3-none-any.whl", Wheel::new("demo", "second").bytes());
        digest()
    };
    assert_ne!(first, second);
    place.write("r/dist/demo-1.0-py3-none-any.whl", &before);
    run(&mut place.ociforge(["cache", "prune", "--layers"])).ok();
    assert_eq!(digest(), first);

    // The store keeps the wheel and the image when the directory is emptied.
    let image = format!("oci:{}:x", place.at("image"));
    fs::remove_file(place.path("r/dist/demo-1.0-py3-none-any.whl")).unwrap();
    place.write("r/dist/demo-1.0-py3-none-any.whl", &before);
    run(&mut place.build("r", &["-o", &image])).ok();
    assert!(files(&place.path("store/wheels")).iter().any(|path| fs::read(path).unwrap() == before));
}

#[test]
fn a_record_that_is_wrong_is_found_while_packing() {
    let place = Place::new();
    place.write("r/ociforge.toml", local_wheels());
    let big = "x".repeat(300_000);
    Wheel::new("good", "").write(&place, "r/dist");
    Wheel::new("stale", "").member("stale/data", &big, 0o100_644, Some(b"other")).write(&place, "r/dist");
    let image = format!("oci:{}:x", place.at("image"));
    let built = run(&mut place.build("r", &["-o", &image]));
    assert!(built.stderr.contains("the RECORD of stale-1.0-py3-none-any.whl is wrong"), "{}", built.stderr);
    assert_eq!(built.stderr.matches("the RECORD of").count(), 1, "{}", built.stderr);
    built.ok();
    let root = unpack(&place, &image);
    let record = files(&root).into_iter().find(|path| path.ends_with("stale-1.0.dist-info/RECORD")).unwrap();
    let hash = digest_of(big.as_bytes());
    let row =
        fs::read_to_string(record).unwrap().lines().find(|line| line.starts_with("stale/data,")).unwrap().to_owned();
    let python = "import sys,base64; print(base64.urlsafe_b64decode(sys.argv[1]+'=').hex())";
    let stated = row.split("sha256=").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let hex = tool("/usr/bin/python3", &["-c", python, &stated]);
    assert_eq!(format!("sha256:{}", hex.trim()), hash);
    // From now on it is known.
    let again = run(&mut place.build("r", &["--no-cache"]));
    assert!(again.stderr.contains("the RECORD of stale"), "{}", again.stderr);
    again.ok();
}
