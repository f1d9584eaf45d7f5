//! Resolution by the real uv, against an index that is a directory.

use super::*;
use crate::error::{Explain, Failure};
use crate::plan::Libc;
use crate::python::Location;
use crate::python::resolve::stubs::tests::facts;

/// A directory of wheels: name, version, further metadata.
struct Index(tempfile::TempDir);

impl Index {
    fn new(wheels: &[(&str, &str, &str)]) -> Self {
        let index = Self(tempfile::tempdir().unwrap());
        for (name, version, more) in wheels {
            index.add(name, version, "py3-none-any", more);
        }
        index
    }

    fn add(&self, name: &str, version: &str, tag: &str, more: &str) {
        let stem = format!("{}-{version}", name.replace('-', "_"));
        let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}");
        stubs::write_wheel(&self.0.path().join(format!("{stem}-{tag}.whl")), &stem, &metadata).unwrap();
    }

    fn resolve(&self, requirements: &[&str], base: Option<&BaseFacts>) -> Result<Resolution, Failure> {
        let index = format!("--find-links {}", self.0.path().display());
        let all = ["--no-index", &index].into_iter().chain(requirements.iter().copied());
        let requirements = Requirements::List(all.map(str::to_owned).collect());
        self.resolve_any(&requirements, base)
    }

    fn resolve_any(&self, requirements: &Requirements, base: Option<&BaseFacts>) -> Result<Resolution, Failure> {
        let target = WheelTarget::for_tests("3.11", Libc::Glibc(2, 36));
        resolve(requirements, &target, base, self.0.path(), &mut Sources::default()).map_err(Failure::from)
    }
}

/// `name version`, with a `*` after what was requested.
fn shown(resolution: &Resolution) -> Vec<String> {
    let star = |wheel: &LockedWheel| if wheel.requested { "*" } else { "" };
    resolution.wheels.iter().map(|wheel| format!("{} {}{}", wheel.name, wheel.version, star(wheel))).collect()
}

fn like_an_index() -> Index {
    Index::new(&[
        ("timm", "1.0", "Requires-Dist: torch>=1.7\nRequires-Dist: tqdm\n"),
        ("torch", "2.6", "Requires-Dist: nvidia-cuda\n"),
        ("nvidia-cuda", "13", ""),
        ("tqdm", "4.66", ""),
        ("tqdm", "5.1", ""),
        ("new-thing", "1", "Requires-Dist: tqdm>=5\n"),
        ("newest-thing", "1", "Requires-Dist: torch>=2.6\n"),
    ])
}

const OWN_TORCH: (&str, &str, &str) = ("torch", "2.5.0a0+872d972e41", "Requires-Dist: nvidia-cuda\n");

#[test]
fn without_a_base_everything_is_drawn() {
    let resolution = like_an_index().resolve(&["TIMM"], None).unwrap();
    assert_eq!(shown(&resolution), ["nvidia-cuda 13", "timm 1.0*", "torch 2.6", "tqdm 5.1"]);
    // The index is inside the directory that paths are relative to.
    assert_eq!(resolution.wheels[1].location, Location::Path("timm-1.0-py3-none-any.whl".into()));
}

#[test]
fn the_bases_own_build_stays() {
    let base = facts(&[OWN_TORCH, ("tqdm", "4.66", "")], "");
    let index = like_an_index();
    assert_eq!(shown(&index.resolve(&["timm", "torch>=2"], Some(&base)).unwrap()), ["timm 1.0*"]);
    let failure = index.resolve(&["newest-thing"], Some(&base)).unwrap_err();
    assert!(failure.causes[0].contains("torch"), "{failure}");
    assert!(failure.hint.as_ref().unwrap().contains("ociforge keeps the base's torch 2.5.0a0+872d972e41"), "{failure}");
    // Whoever asks for another one gets it, with all that comes with it.
    let resolution = index.resolve(&["newest-thing", "torch==2.6"], Some(&base)).unwrap();
    assert_eq!(shown(&resolution), ["newest-thing 1*", "nvidia-cuda 13", "torch 2.6*"]);
    assert_eq!(resolution.replaced[0].old, "2.5.0a0+872d972e41");
}

#[test]
fn what_the_base_has_is_preferred_and_replaced_at_need() {
    let base = facts(&[("tqdm", "4.66", "")], "");
    let index = like_an_index();
    for fits in ["tqdm", "tqdm>=4"] {
        assert!(index.resolve(&[fits], Some(&base)).unwrap().wheels.is_empty());
    }
    assert_eq!(shown(&index.resolve(&["tqdm>=5"], Some(&base)).unwrap()), ["tqdm 5.1*"]);
    let resolution = index.resolve(&["new-thing"], Some(&base)).unwrap();
    assert_eq!(shown(&resolution), ["new-thing 1*", "tqdm 5.1"]);
    let replaced = Replaced { name: "tqdm".into(), old: "4.66".into(), new: "5.1".into() };
    assert_eq!(resolution.replaced, [replaced]);
}

#[test]
fn the_bases_constraints_hold_unless_the_user_says_otherwise() {
    let base = facts(&[("tqdm", "4.66", "")], "tqdm==4.66\n");
    let index = like_an_index();
    assert!(index.resolve(&["new-thing"], Some(&base)).is_err());
    assert_eq!(shown(&index.resolve(&["tqdm>=5"], Some(&base)).unwrap()), ["tqdm 5.1*"]);
}

#[test]
fn requirements_files_include_each_other() {
    let index = like_an_index();
    std::fs::create_dir(index.0.path().join("sub")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(index.0.path().join(name), text).unwrap();
    write("r.txt", "--no-index\n--find-links .\n-r sub/more.txt\n");
    write("sub/more.txt", "new_thing # this\n");
    let resolution = index.resolve_any(&Requirements::File("r.txt".into()), None).unwrap();
    assert_eq!(shown(&resolution), ["new-thing 1*", "tqdm 5.1"]);
}

#[test]
fn a_wheel_by_its_path_and_one_for_the_platform() {
    let index = Index::new(&[("a", "1", "Requires-Dist: b\n")]);
    index.add("b", "1", "cp311-cp311-manylinux_2_36_x86_64", "");
    index.add("b", "2", "cp311-cp311-manylinux_2_37_x86_64", "");
    let resolution = index.resolve(&["./a-1-py3-none-any.whl"], None).unwrap();
    assert_eq!(shown(&resolution), ["a 1*", "b 1"]);
    assert!(
        resolution.wheels.iter().all(|wheel| matches!(&wheel.location, Location::Path(path) if path.is_relative()))
    );
    // Asked for by path it replaces even the same version.
    let base = facts(&[("a", "1", "")], "");
    assert_eq!(shown(&index.resolve(&["./a-1-py3-none-any.whl"], Some(&base)).unwrap())[0], "a 1*");
}

#[test]
fn what_uv_refuses_is_told() {
    let index = like_an_index();
    let failure = index.resolve(&["no-such-thing>3"], None).unwrap_err();
    assert!(failure.causes[0].contains("no-such-thing"), "{failure}");
    assert!(!failure.causes[0].contains("Resolved"), "{failure}");
    let failure = index.resolve(&["???"], None).unwrap_err();
    assert!(!failure.causes.is_empty(), "{failure}");
    assert!(index.resolve_any(&Requirements::File("missing.txt".into()), None).is_err());
}

#[test]
fn a_users_lock_is_taken_as_it_stands() {
    let index = like_an_index();
    let hash = "0".repeat(64);
    let package = |name: &str, version: &str| {
        let file = format!("{name}-{version}-py3-none-any.whl");
        let wheel = format!("{{path = \"{file}\", hashes = {{sha256 = \"{hash}\"}}}}");
        format!("[[packages]]\nname = \"{name}\"\nversion = \"{version}\"\nwheels = [{wheel}]\n")
    };
    let text = format!("lock-version = \"1.0\"\n{}{}", package("timm", "1.0"), package("tqdm", "4.66"));
    std::fs::write(index.0.path().join("pylock.toml"), text).unwrap();
    let lock = Requirements::Lock("pylock.toml".into(), PylockSelection::default());
    assert_eq!(shown(&index.resolve_any(&lock, None).unwrap()), ["timm 1.0*", "tqdm 4.66*"]);
    let base = facts(&[("tqdm", "4.66.0", "")], "");
    assert_eq!(shown(&index.resolve_any(&lock, Some(&base)).unwrap()), ["timm 1.0*"]);
}

#[test]
fn a_missing_uv_is_explained() {
    assert!(ResolveError::NoUv.hint().unwrap().contains("pip install uv"));
}

/// An sdist that can't be asked for its metadata without running it, and tells if that happens.
fn hostile_sdist(index: &Index, name: &str, version: &str) -> std::path::PathBuf {
    let trap = index.0.path().join("ran");
    let unpacked = index.0.path().join(name);
    std::fs::create_dir_all(&unpacked).unwrap();
    let file = index.0.path().join(format!("{name}-{version}.tar.gz"));
    let code = format!("open({:?}, 'w').close()\nimport backend_that_is_not_there\n", trap.to_str().unwrap());
    let gzip = flate2::write::GzEncoder::new(std::fs::File::create(&file).unwrap(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    let pyproject = "[build-system]\nrequires = []\nbuild-backend = \"trap\"\nbackend-path = [\".\"]\n";
    for (member, text) in [
        ("PKG-INFO", format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")),
        ("pyproject.toml", pyproject.to_owned()),
        ("setup.py", code.clone()),
        ("trap.py", code),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, format!("{name}-{version}/{member}"), text.as_bytes()).unwrap();
        std::fs::write(unpacked.join(member), text).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
    trap
}

#[test]
fn a_source_archive_stands_in_for_a_wheel_and_is_not_run() {
    let index = Index::new(&[("user", "1", "Requires-Dist: only-source==1.*\n"), ("six", "1", "")]);
    let traps = ["1.0", "1.5", "2.0"].map(|version| hostile_sdist(&index, "only_source", version));
    let target = WheelTarget::for_tests("3.11", Libc::Glibc(2, 36));
    let options = ["--no-index".to_owned(), format!("--find-links {}", index.0.path().display())];
    let mut sources = Sources::default();
    let resolve_once = |requirement: &str, sources: &mut Sources| {
        let list = [&options[..], &[requirement.to_owned()]].concat();
        resolve(&Requirements::List(list), &target, None, index.0.path(), sources).map_err(Failure::from)
    };
    let resolution = resolve_once("user", &mut sources).unwrap();
    assert_eq!(shown(&resolution), ["user 1*"]);
    let archive = &resolution.sdists[0];
    assert_eq!((archive.name.as_str(), archive.file.as_str()), ("only-source", "only_source-1.5.tar.gz"));
    assert_eq!(archive.location, Location::Path("only_source-1.5.tar.gz".into()));
    assert!(!archive.requested && !sources.knows(archive));
    // What it requires counts once it is known.
    sources.learn(archive, "Requires-Dist: six\n");
    let resolution = resolve_once("user", &mut sources).unwrap();
    assert_eq!(
        (shown(&resolution), sources.knows(&resolution.sdists[0])),
        (vec!["six 1".into(), "user 1*".into()], true)
    );
    // The newest is taken where nothing else is said, and the hash is that of the archive.
    let resolution = resolve_once("only_source", &mut Sources::default()).unwrap();
    assert_eq!((resolution.sdists[0].version.as_str(), resolution.sdists[0].requested), ("2.0", true));
    let bytes = std::fs::read(index.0.path().join("only_source-2.0.tar.gz")).unwrap();
    assert_eq!(resolution.sdists[0].sha256, ociforge_manifests::Digest::of(&bytes));
    let hashed = |hash: &str| format!("only_source==2.0 --hash={hash}");
    assert!(resolve_once(&hashed(resolution.sdists[0].sha256.as_str()), &mut Sources::default()).is_ok());
    let other = hashed(ociforge_manifests::Digest::of(b"other").as_str());
    let failure = resolve_once(&other, &mut Sources::default()).unwrap_err();
    assert!(failure.causes[0].contains("no hash that matches only_source-2.0.tar.gz"), "{failure}");
    // Nor is it run where it is named by its path, or uv is made to read what was not looked at before.
    assert!(resolve_once("./only_source-2.0.tar.gz", &mut Sources::default()).is_err());
    assert!(resolve_once("-e ./only_source", &mut Sources::default()).is_err());
    let failure = resolve_once("only-source>3", &mut Sources::default()).unwrap_err();
    assert!(failure.causes[0].contains("only-source"), "{failure}");
    assert!(traps.iter().all(|trap| !trap.exists()));
}

#[test]
fn a_project_brings_what_it_requires_and_not_itself() {
    let index = like_an_index();
    let mut sources = Sources::default();
    let metadata = "Requires-Dist: tqdm<5\nProvides-Extra: gpu\nRequires-Dist: torch ; extra == 'gpu'\n";
    sources.add_project("My_App", &"1.0.dev1".parse().unwrap(), metadata);
    let target = WheelTarget::for_tests("3.11", Libc::Glibc(2, 36));
    let options = ["--no-index".to_owned(), format!("--find-links {}", index.0.path().display())];
    let base = facts(&[("my-app", "1.0.dev1", "Requires-Dist: timm\n")], "");
    for (requirement, expected) in [
        ("my-app==1.0.dev1", &["tqdm 4.66"][..]),
        ("my-app[gpu]==1.0.dev1", &["nvidia-cuda 13", "torch 2.6", "tqdm 4.66"]),
    ] {
        let list = Requirements::List([&options[..], &[requirement.to_owned()]].concat());
        let resolution = resolve(&list, &target, Some(&base), index.0.path(), &mut sources).unwrap();
        assert_eq!(shown(&resolution), expected);
        assert!(resolution.sdists.is_empty());
    }
}
