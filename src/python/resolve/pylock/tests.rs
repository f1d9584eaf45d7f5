use super::*;
use crate::plan::Libc;

const HASH: &str = "0f343b0457d1bd2bd6d0d3a4a3f8a0b0f3a1f1c0e6e1d7c8b9a0f1e2d3c4b5a6";

fn read_for(target: &WheelTarget, packages: &str) -> Result<Vec<LockedWheel>, ResolveError> {
    let text = format!("lock-version = \"1.0\"\ncreated-by = \"test\"\n{packages}");
    read(&text, Path::new("/recipe/pylock.toml"), target)
}

fn target() -> WheelTarget {
    WheelTarget::for_tests("3.11.4", Libc::Glibc(2, 31))
}

fn package(name: &str, more: &str) -> String {
    format!("[[packages]]\nname = \"{name}\"\nversion = \"1.0\"\n{more}\n")
}

fn wheels(files: &[&str]) -> String {
    let wheel = |file: &&str| format!("{{url = \"https://h/{file}\", hashes = {{sha256 = \"{HASH}\"}}}}");
    format!("wheels = [{}]", files.iter().map(wheel).collect::<Vec<_>>().join(","))
}

fn problem(packages: &str) -> String {
    let error = read_for(&target(), packages).unwrap_err();
    std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
}

#[test]
fn the_best_wheel_is_chosen() {
    let files = [
        "A_a-1.0-py3-none-any.whl",
        "A_a-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "A_a-1.0-cp311-cp311-manylinux_2_35_x86_64.whl",
    ];
    let found = read_for(&target(), &package("A.a", &wheels(&files))).unwrap();
    assert_eq!((found[0].name.as_str(), found[0].file.as_str()), ("a-a", files[1]));
    let newer = WheelTarget::for_tests("3.11", Libc::Glibc(2, 36));
    assert_eq!(read_for(&newer, &package("A.a", &wheels(&files))).unwrap()[0].file, files[2]);
    let other = WheelTarget::for_tests("3.12", Libc::Musl(1, 2));
    assert_eq!(read_for(&other, &package("A.a", &wheels(&files))).unwrap()[0].file, files[0]);
}

#[test]
fn markers_leave_packages_out() {
    for (marker, stays) in [("sys_platform == 'linux'", true), ("sys_platform == 'win32'", false)] {
        let more = format!("marker = \"{marker}\"\n{}", wheels(&["a-1.0-py3-none-any.whl"]));
        assert_eq!(read_for(&target(), &package("a", &more)).unwrap().len(), usize::from(stays), "{marker}");
    }
    let unreadable = package("a", "marker = \"é in == (\"");
    assert!(problem(&unreadable).contains("cannot parse"), "{}", problem(&unreadable));
}

fn chosen(text: &str, selection: &PylockSelection) -> Result<Vec<Choice>, ResolveError> {
    choose(&format!("lock-version = \"1.0\"\n{text}"), Path::new("/recipe/pylock.toml"), &target(), selection)
}

#[test]
fn extras_and_groups() {
    let of = |name: &str, set: &str| {
        package(
            name,
            &format!("marker = \"'{name}' in {set}\"\n{}", wheels(&[&format!("{name}-1.0-py3-none-any.whl")])),
        )
    };
    let head = "extras = ['gpu', 'cpu']\ndependency-groups = ['dev', 'docs']\ndefault-groups = ['default', 'dev']\n";
    let packages = ["gpu", "cpu"].map(|name| of(name, "extras")).concat()
        + &["default", "dev", "docs"].map(|name| of(name, "dependency_groups")).concat();
    let names = |extras: &[&str], groups: Option<&[&str]>| {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let selection = PylockSelection { extras: owned(extras), groups: groups.map(owned) };
        let chosen = chosen(&format!("{head}{packages}"), &selection)?;
        Ok(chosen.iter().map(|choice| choice.name().to_owned()).collect::<Vec<_>>())
    };
    let told = |result: Result<Vec<String>, ResolveError>| {
        let error = result.unwrap_err();
        (error.to_string(), crate::error::Explain::hint(&error).unwrap())
    };
    assert_eq!(names(&[], None).unwrap(), ["default", "dev"]);
    assert_eq!(names(&["GPU"], None).unwrap(), ["gpu", "default", "dev"]);
    assert_eq!(names(&["cpu", "gpu"], Some(&["docs", "default"])).unwrap(), ["gpu", "cpu", "default", "docs"]);
    assert_eq!(names(&[], Some(&[])).unwrap(), [""; 0]);
    let no_extra = ("/recipe/pylock.toml has no extra `tpu`".to_owned(), "its extras are cpu, gpu".to_owned());
    assert_eq!(told(names(&["tpu"], None)), no_extra);
    let hint = "its groups are default, dev, docs".to_owned();
    assert_eq!(told(names(&[], Some(&["x"]))), ("/recipe/pylock.toml has no group `x`".to_owned(), hint));
    let none = chosen("", &PylockSelection { extras: vec!["x".into()], groups: None }).map(|_| Vec::new());
    assert_eq!(told(none).1, "the lock has no extras");
}

#[test]
fn what_has_no_wheel_is_built() {
    let hashes = format!("hashes = {{sha256 = \"{HASH}\"}}");
    let text = [
        package(
            "both",
            &format!(
                "{}\nsdist = {{url = 'https://h/both-1.0.zip', {hashes}}}",
                wheels(&["both-1.0-cp39-cp39-win32.whl"])
            ),
        ),
        package("source", &format!("sdist = {{path = 'dist/x.tar.gz', {hashes}}}")),
        format!("[[packages]]\nname = 'ar-chive'\narchive = {{url = 'https://h/Ar_chive-2.1.tar.gz', {hashes}}}\n"),
        "[[packages]]\nname = 'Own_app'\ndirectory = {path = '.', editable = true}\n".to_owned(),
        "[[packages]]\nname = 'sub'\ndirectory = {path = 'lib', subdirectory = 'py'}\n".to_owned(),
    ];
    let chosen = chosen(&text.concat(), &PylockSelection::default()).unwrap();
    let shown: Vec<String> = chosen
        .iter()
        .map(|choice| match choice {
            Choice::Wheel(file) => format!("wheel {}", file.file),
            Choice::Sdist(file) => format!("{} {} {} {:?}", file.name, file.version, file.file, file.location),
            Choice::Project { name, directory } => format!("{name} in {}", directory.display()),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "both 1.0 both-1.0.zip https://h/both-1.0.zip",
            "source 1.0 x.tar.gz \"/recipe/dist/x.tar.gz\"",
            "ar-chive 2.1 Ar_chive-2.1.tar.gz https://h/Ar_chive-2.1.tar.gz",
            "own-app in /recipe/.",
            "sub in /recipe/lib/py",
        ]
    );
}

#[test]
fn paths_and_archives() {
    let local = package(
        "a",
        &format!(
            "wheels = [{{path = \"dist/a-1.0-py3-none-any.whl\", url = \"https://h/x\", size = 7, hashes = {{sha256 = \
                \"{}\"}}}}]",
            HASH.to_uppercase()
        ),
    );
    let found = read_for(&target(), &local).unwrap();
    assert_eq!(found[0].location, Location::Path("/recipe/dist/a-1.0-py3-none-any.whl".into()));
    assert_eq!((found[0].size, found[0].sha256.hex()), (Some(7), HASH));
    let archive = format!("archive = {{url = \"https://h/a-2.0-py3-none-any.whl\", hashes = {{sha256 = \"{HASH}\"}}}}");
    let found = read_for(&target(), &format!("[[packages]]\nname = \"a\"\n{archive}")).unwrap();
    assert_eq!(found[0].version, "2.0");
}

#[test]
fn what_can_not_be_installed() {
    let good = wheels(&["a-1.0-py3-none-any.whl"]);
    for (more, expected) in [
        ("sdist = {url = \"https://h/a.tar.gz\"}", "a.tar.gz has no SHA-256"),
        ("", "a has no usable URL or path"),
        ("vcs = {type = \"git\", url = \"https://h/a\"}", "the package is a repository"),
        ("directory = {path = \".\", editable = true}", "the package is a directory"),
        ("archive = {url = \"https://h/a-1.rpm\"}", "the package is a source archive of an unknown format"),
        (
            "archive = {url = \"https://h/a-1.zip\", subdirectory = \"b\"}",
            "the package is a directory in a source archive",
        ),
        (&format!("archive = {{url = \"https://h/a-1.zip\", hashes = {{sha256 = \"{HASH}\"}}}}"), "no wheel runs on"),
        (&wheels(&["a-1.0-cp312-cp312-win32.whl"]), "no wheel runs on Python 3.11.4 on linux/amd64"),
        (
            &wheels(&["a-1.0-cp311-cp311-manylinux_2_99_x86_64.whl", "a-1.0-cp311-cp311-musllinux_1_2_x86_64.whl"]),
            "with glibc 2.31: a-1.0-cp311-cp311-manylinux_2_99_x86_64.whl needs glibc 2.99, \
             a-1.0-cp311-cp311-musllinux_1_2_x86_64.whl needs musl 1.2",
        ),
        ("wheels = [{url = \"https://h/a-1.0-py3-none-any.whl\", hashes = {md5 = \"0\"}}]", "has no SHA-256"),
        ("wheels = [{url = \"https://h/a-1.0-py3-none-any.whl\", hashes = {sha256 = \"0\"}}]", "has no SHA-256"),
        ("wheels = [{url = \"ftp://h/a-1.0-py3-none-any.whl\"}]", "no usable URL"),
        ("wheels = [{name = \"../a-1-py3-none-any.whl\", url = \"https://h/x\"}]", "is not a wheel's file name"),
        (&format!("requires-python = \">=3.12\"\n{good}"), "the package needs Python >=3.12"),
        (&format!("{good}\n{}", package("A", &good)), "the package occurs twice"),
    ] {
        let problem = problem(&package("a", more));
        assert!(problem.contains(expected), "{more}: {problem}");
    }
}

#[test]
fn a_lock_for_something_else() {
    for head in ["requires-python = \"<3.11\"", "environments = [\"sys_platform == 'darwin'\"]"] {
        assert!(problem(head).contains("is not for Python 3.11.4"), "{head}");
    }
    assert!(read_for(&target(), "environments = [\"sys_platform == 'darwin'\", \"os_name == 'posix'\"]").is_ok());
    let broken = |text: &str| read(text, Path::new("pylock.toml"), &target()).unwrap_err().to_string();
    assert_eq!(broken("lock-version = \"2.0\""), "pylock.toml:1: lock-version is `2.0`; only 1.0 is supported");
    assert!(broken("lock-version = \"1.0\"\n\npackages = 3").starts_with("pylock.toml:3: "));
}
