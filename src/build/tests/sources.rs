//! Source distributions and projects that are built into wheels.

use ociforge_manifests::Digest;

use super::*;
use crate::python::build::targz;
use crate::python::{Location, LockedSource, SourceLocation};

#[tokio::test(flavor = "multi_thread")]
async fn a_package_without_a_wheel_is_locked_built_once_and_installed() {
    let place = Place::new();
    let plan = place.plan(requirements(&["docopt==0.6.2", "six"]));
    let lock = place.lock(&plan).await.unwrap();
    assert_eq!((lock.wheels.len(), lock.sources.len()), (1, 1));
    let source = &lock.sources[0].source;
    let SourceLocation::Sdist(archive) = &source.origin else { panic!("no sdist") };
    assert_eq!((archive.file.as_str(), archive.requested, archive.size.is_some()), ("docopt-0.6.2.tar.gz", true, true));
    assert!(names(&source.requires).contains(&"setuptools"), "{:?}", source.requires);
    let path = place.directory.path().join("recipe/ociforge.lock");
    lock.write(&path).unwrap();
    assert_eq!(Lock::read(&path).unwrap().unwrap(), Lock { bases: Vec::new(), ..lock.clone() });
    place.jobs();

    let builder = place.builder();
    let wheels = place.wheels(&builder, &plan, &lock).await.unwrap();
    assert_eq!(place.jobs(), ["build docopt 0.6.2"]);
    let built = wheels.iter().find(|wheel| wheel.locked.name == "docopt").unwrap();
    assert_eq!((built.locked.version.as_str(), built.locked.requested), ("0.6.2", true));
    // Once more it comes from the store; built anew it is the same.
    let again = place.wheels(&builder, &plan, &lock).await.unwrap();
    assert_eq!((place.jobs().len(), &again[1].locked), (0, &wheels[1].locked));
    let anew = place.wheels(&Builder { use_cache: false, ..builder }, &plan, &lock).await.unwrap();
    assert_eq!((place.jobs().len(), &anew[1].locked.sha256), (1, &wheels[1].locked.sha256));
    assert_eq!(fs::read_dir(place.directory.path().join("store/tmp")).unwrap().count(), 0);
}

const PYPROJECT: &str = "[build-system]\nrequires = ['setuptools>=61']\nbuild-backend = 'setuptools.build_meta'\n\
                         [project]\nname = 'My.App'\ndynamic = ['version']\ndependencies = ['docopt']\n\
                         [project.optional-dependencies]\nextra = ['tabulate']\n\
                         [tool.setuptools.dynamic]\nversion = {attr = 'my_app.VERSION'}\n\
                         [project.scripts]\nmy-app = 'my_app:main'\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_built_with_what_it_requires() {
    let place = Place::new();
    place.write("app/pyproject.toml", PYPROJECT);
    place.write("app/src/my_app/__init__.py", "VERSION = '1.2'\ndef main():\n    pass\n");
    place.write("app/junk.bin", "");
    let plan = place.plan(Pip::Project { directory: "app".into(), extras: vec!["extra".into()] });
    let lock = place.lock(&plan).await.unwrap();
    let sources: Vec<_> = lock.sources.iter().map(|entry| entry.source.name()).collect();
    assert_eq!(sources, ["my-app", "docopt"]);
    let wheels: Vec<_> = lock.wheels.iter().map(|entry| (entry.wheel.name.as_str(), entry.wheel.requested)).collect();
    assert_eq!(wheels, [("tabulate", false)]);
    let builder = place.builder();
    let wheels = place.wheels(&builder, &plan, &lock).await.unwrap();
    let built = wheels.iter().find(|wheel| wheel.locked.name == "my-app").unwrap();
    assert_eq!((built.locked.version.as_str(), built.locked.requested), ("1.2", true));
    place.jobs();
    // A file of the project that changes makes another wheel; one that is ignored doesn't.
    place.write(".dockerignore", "app/junk.bin\n");
    place.wheels(&builder, &plan, &lock).await.unwrap();
    assert_eq!(place.jobs().len(), 1);
    place.write("app/junk.bin", "other");
    place.write("app/ociforge.lock", "other");
    place.wheels(&builder, &plan, &lock).await.unwrap();
    assert_eq!(place.jobs().len(), 0);
    // What a project requires is part of what a lock belongs to.
    assert!(lock.fits(&crate::build::recipe_digest(&plan).unwrap()));
    place.write("app/pyproject.toml", PYPROJECT.replace("docopt", "six"));
    assert!(!lock.fits(&crate::build::recipe_digest(&plan).unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_users_lock_has_no_wheel_of_is_pinned_and_built() {
    let place = Place::new();
    let bytes = targz(&[
        ("old-1.0/setup.py", "from setuptools import setup\nsetup(name='old', version='1.0')\n"),
        ("old-1.0/PKG-INFO", "Metadata-Version: 1.0\nName: old\nVersion: 1.0\n"),
    ]);
    place.write("locks/old-1.0.tar.gz", &bytes);
    place.write("locks/app/pyproject.toml", PYPROJECT);
    place.write("locks/app/src/my_app/__init__.py", "VERSION = '1.2'\n");
    let hash = Digest::of(&bytes).hex().to_owned();
    let text = format!(
        "lock-version = '1.0'\ncreated-by = 'test'\n[[packages]]\nname = 'old'\nversion = '1.0'\nsdist = {{path = \
         'old-1.0.tar.gz', hashes = {{sha256 = '{hash}'}}}}\n[[packages]]\nname = 'my-app'\ndirectory = {{path = './app'}}\n"
    );
    place.write("locks/pylock.toml", &text);
    let plan = place.plan(Pip::Lock("locks/pylock.toml".into(), Default::default()));
    let lock = place.lock(&plan).await.unwrap();
    assert!(lock.wheels.is_empty());
    let sources: Vec<_> =
        lock.sources.iter().map(|entry| (entry.source.name(), !entry.source.requires.is_empty())).collect();
    assert_eq!(sources, [("old", true), ("my-app", true)]);
    let SourceLocation::Project { directory, .. } = &lock.sources[1].source.origin else { panic!("no project") };
    assert_eq!(directory, Path::new("locks/app"));
    place.jobs();
    let wheels = place.wheels(&place.builder(), &plan, &lock).await.unwrap();
    let shown: Vec<_> = wheels.iter().map(|wheel| (wheel.locked.file.as_str(), wheel.locked.requested)).collect();
    assert_eq!(shown, [("my_app-1.2-py3-none-any.whl", true), ("old-1.0-py3-none-any.whl", true)]);
    assert_eq!(place.jobs(), ["build old 1.0", "build the project locks/app"]);
    // A lock of ours that was made before the archive was in the user's.
    let older = Lock { sources: lock.sources[1..].to_vec(), ..lock.clone() };
    let failure = place.wheels(&place.builder(), &plan, &older).await.err().unwrap();
    assert_eq!(failure.message, "cannot install old");
    assert!(
        failure.hint.unwrap().contains("ociforge lock")
            && failure.causes[0].contains("ociforge.lock has no build requirements")
    );
    // A project elsewhere is not looked at.
    place.write("locks/pylock.toml", text.replace("./app", "../../elsewhere"));
    fs::create_dir_all(place.directory.path().join("elsewhere")).unwrap();
    let failure = place.lock(&plan).await.unwrap_err();
    assert!(failure.causes[0].contains("leads out of the recipe's directory"), "{failure}");
}

async fn failure(place: &Place, plan: &Plan) -> Failure {
    match place.lock(plan).await {
        Ok(lock) => place.wheels(&place.builder(), plan, &lock).await.err().unwrap(),
        Err(failure) => failure,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_that_fail_say_why() {
    let wheel = "import os, zipfile\ndef make(d, n):\n    zipfile.ZipFile(os.path.join(d, n), 'w').writestr('x', \
        'y')\n    return n\n";
    for (hooks, cause, hint) in [
        ("def build_wheel(*a):\n    print('one')\n    raise SystemExit('no luck')\n", "no luck", ""),
        ("import nonexistent", "cannot import the build backend own", "not in its build requirements"),
        ("def build_wheel(*a):\n    return 'app-1-py3-none-any.whl'\n", "and created none", "PEP 517"),
        (
            &format!(
                "{wheel}def build_wheel(d, *a):\n    make(d, 'app-1-py2-none-any.whl')\n    return make(d, \
                    'app-1-py3-none-any.whl')\n"
            ),
            "and created app-1-py2-none-any.whl, app-1-py3-none-any.whl",
            "PEP 517",
        ),
        (
            &format!("{wheel}def build_wheel(d, *a):\n    return make(d, 'other-1-py3-none-any.whl')\n"),
            "its metadata names other 1",
            "",
        ),
        (
            &format!("{wheel}def build_wheel(d, *a):\n    return make(d, 'app-1-py2-none-any.whl')\n"),
            "no wheel runs on",
            "",
        ),
        (&format!("{wheel}def build_wheel(d, *a):\n    return make(d, 'app-1-py3-none-any.whl')\n"), ".dist-info", ""),
        ("def build_wheel(d, *a):\n    open('/ociforge/frontend/x', 'w')\n", "", ""),
        (
            "import urllib.request\ndef build_wheel(*a):\n    urllib.request.urlopen('http://192.0.2.1/')\n",
            "Network is unreachable",
            "no network",
        ),
    ] {
        let place = Place::new();
        let plan = own_backend(&place, hooks);
        let failure = failure(&place, &plan).await;
        assert!(failure.causes.iter().any(|text| text.contains(cause)), "{cause}: {failure}");
        assert!(failure.hint.as_deref().unwrap_or_default().contains(hint), "{hint}: {failure}");
        assert!(failure.message.starts_with("cannot build "), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_source_gets_what_it_does_not_name() {
    let place = Place::new();
    place.write("setup.py", "import six\nfrom setuptools import setup\nsetup(name='old', version='1')\n");
    let plan = place.plan(Pip::Project { directory: ".".into(), extras: vec![] });
    let lock = place.lock(&plan).await.unwrap();
    assert_eq!(names(&lock.sources[0].source.requires), ["setuptools", "six"]);
    let wheels = place.wheels(&place.builder(), &plan, &lock).await.unwrap();
    assert_eq!(wheels[0].locked.file, "old-1-py3-none-any.whl");
    // A source that names what it needs gets that and nothing else.
    place.write("pyproject.toml", "[build-system]\nrequires = ['setuptools']\n");
    let failure = place.lock(&plan).await.unwrap_err();
    assert!(failure.hint.as_deref().unwrap_or_default().contains("not in its build requirements"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_another_one_is_not_built() {
    let place = Place::new();
    place.write("x-1.tar.gz", targz(&[("x-1/setup.py", "import os\n")]));
    let plan = place.plan(requirements(&["x"]));
    let archive =
        |bytes: &[u8]| LockedWheel { location: Location::Path("x-1.tar.gz".into()), ..archive_of("x-1.tar.gz", bytes) };
    let source = LockedSource { origin: SourceLocation::Sdist(archive(b"other")), requires: vec![] };
    let entry = crate::lock::SourceEntry { platform: Platform::default().to_string(), stage: None, layer: 0, source };
    let recipe = crate::build::recipe_digest(&plan).unwrap();
    let lock = Lock { recipe, bases: vec![], images: vec![], wheels: vec![], sources: vec![entry] };
    let failure = place.wheels(&place.builder(), &plan, &lock).await.err().unwrap();
    assert!(failure.causes.iter().any(|cause| cause.contains("as in the lock")), "{failure}");
    assert!(place.jobs().is_empty());
}
