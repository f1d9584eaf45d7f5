//! Real builds with real backends, in namespaces of their own.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;

use ociforge_layers::{Content, LayerTree, NodeKind};
use ociforge_manifests::Digest;
use ociforge_manifests::lint::Finding;

use super::*;
use crate::cancel::Cancel;
use crate::error::Failure;
use crate::layer::{Pip, Step, StepConfig, StepKind};
use crate::lock::Lock;
use crate::plan;
use crate::progress::{Progress, Reporter};
use crate::python::build::{archive as archive_of, targz};
use crate::python::{Location, LockedSource, LockedWheel, SourceLocation};
use crate::registry::{Client, Settings};
use crate::store::Store;
use testbed::{PYTHON, Testbed};

mod testbed;

/// A recipe's directory, a store, and an isolated runner.
struct Place {
    directory: tempfile::TempDir,
    bed: Arc<Testbed>,
    notes: Arc<Notes>,
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Reporter for Notes {
    fn task(&self, _: &str, _: Option<u64>) -> Box<dyn Progress> {
        Box::new(())
    }
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
    fn warn(&self, _: &str) {}
    fn finding(&self, _: &Finding) {}
}

impl Place {
    fn new() -> Self {
        Self::with(Testbed::default())
    }

    fn with(bed: Testbed) -> Self {
        Self { directory: tempfile::tempdir_in("/var/tmp").unwrap(), bed: Arc::new(bed), notes: Arc::default() }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.directory.path().join("recipe").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn builder(&self) -> Builder {
        Builder {
            store: Store::open(&self.directory.path().join("store")).unwrap(),
            client: Client::new(Settings::from_env()).unwrap(),
            reporter: self.notes.clone(),
            cancel: Cancel::default(),
            compression: Default::default(),
            use_cache: true,
            epoch: Epoch::default(),
            sandbox: Err(Arc::new(ociforge_sandbox::SandboxError::Outside)),
            isolated: Some(self.bed.clone()),
            check_base: false,
            state: Arc::default(),
        }
    }

    /// A plan with one layer of packages.
    fn plan(&self, pip: Pip) -> Plan {
        let version = std::process::Command::new(PYTHON).arg("-V").output().unwrap().stdout;
        let version = String::from_utf8(version).unwrap().trim().replace("Python ", "");
        let minor = version.rsplit_once('.').unwrap().0;
        let site = format!("/usr/local/lib/python{minor}/dist-packages");
        let python = format!("version = '{version}'\nsite-packages = '{site}'\nexecutable = '{PYTHON}'");
        self.write("ociforge.toml", format!("base = 'scratch'\n[python]\n{python}\n"));
        let mut plan = plan::read(&self.directory.path().join("recipe"), &BTreeMap::new()).unwrap();
        let kind = StepKind::Pip(pip);
        let (config, description) = (StepConfig::default(), "pip x".into());
        plan.stages[0].steps.push(Step { kind, config, line: 7, description, bytecode: true });
        plan
    }

    async fn lock(&self, plan: &Plan) -> Result<Lock, Failure> {
        Ok(lock_file(&self.builder(), plan, &[Platform::default()]).await?)
    }

    /// The wheels of the plan's only layer.
    async fn wheels(&self, builder: &Builder, plan: &Plan, lock: &Lock) -> Result<Vec<LocalWheel>, Failure> {
        let pins = Pins::find(
            builder,
            StageInput { plan, index: 0, platform: &Platform::default(), lock: Some(lock), earlier: &BTreeMap::new() },
        )
        .await?;
        Ok(pins.fetch(builder, plan, 0, &pins.build_context).await?)
    }

    fn jobs(&self) -> Vec<String> {
        std::mem::take(&mut *self.bed.labels.lock().unwrap())
    }
}

fn requirements(list: &[&str]) -> Pip {
    Pip::Requirements(list.iter().map(|text| (*text).to_owned()).collect())
}

fn names(wheels: &[LockedWheel]) -> Vec<&str> {
    wheels.iter().map(|wheel| wheel.name.as_str()).collect()
}

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

/// A project whose backend is its own, in Python.
fn own_backend(place: &Place, hooks: &str) -> Plan {
    let table = "[build-system]\nrequires = []\nbuild-backend = 'own'\nbackend-path = ['.']\n\
                 [project]\nname = 'app'\nversion = '1'\n";
    place.write("pyproject.toml", table);
    place.write("own.py", hooks);
    place.plan(Pip::Project { directory: ".".into(), extras: vec![] })
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

const EXTENSION: &str = "#include <Python.h>\nstatic struct PyModuleDef m = {PyModuleDef_HEAD_INIT, \"fast\", 0, -1, \
    0};\n\
                         PyMODINIT_FUNC PyInit_fast(void) { return PyModule_Create(&m); }\n";
const SETUP: &str = "from setuptools import setup, Extension\n\
                     setup(name='fast', version='1', ext_modules=[Extension('fast', ['fast.c'])])\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_in_c_is_compiled_the_same_twice() {
    let place = Place::new();
    place.write("setup.py", SETUP);
    place.write("fast.c", EXTENSION);
    let plan = place.plan(Pip::Project { directory: ".".into(), extras: vec![] });
    let lock = place.lock(&plan).await.unwrap();
    let builder = Builder { use_cache: false, ..place.builder() };
    let first = place.wheels(&builder, &plan, &lock).await.unwrap();
    assert!(
        first[0].locked.file.starts_with("fast-1-cp3") && first[0].locked.file.contains("linux"),
        "{:?}",
        first[0].locked
    );
    let second = place.wheels(&builder, &plan, &lock).await.unwrap();
    assert_eq!(first[0].locked.sha256, second[0].locked.sha256);
    let blind = Testbed { path: Some("/nonexistent"), ..Testbed::default() };
    let builder = Builder { isolated: Some(Arc::new(blind)), ..builder };
    let failure = place.wheels(&builder, &plan, &lock).await.err().unwrap();
    assert!(
        failure.hint.as_deref().unwrap_or_default().contains("needs a compiler: install it in an earlier layer"),
        "{failure}"
    );
    let builder = Builder { isolated: None, ..builder };
    let failure = place.wheels(&builder, &plan, &lock).await.err().unwrap();
    assert!(failure.causes.iter().any(|cause| cause == "no isolation is available for the step"), "{failure}");
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

/// A backend that writes the same files in another order and at another time whenever it is called.
const UNSTEADY: &str = "import base64, hashlib, os, random, zipfile\n\
        FILES = {'good.py': 'x = {1, None, \"a\", \"b\"}\\ndef f(y): return y in {\"c\", \"d\", None}\\n', 'bad.py': \
            'print \"x\"\\n',\n\
            'pkg/__init__.py': 'import good\\n', 'pkg/data.txt': '',\n\
            'app-1.dist-info/METADATA': 'Metadata-Version: 2.1\\nName: app\\nVersion: 1\\n',\n\
            'app-1.dist-info/WHEEL': 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'}\n\
        def build_wheel(d, *a):\n    name = 'app-1-py3-none-any.whl'\n    rows = ''\n\
        \x20   with zipfile.ZipFile(os.path.join(d, name), 'w') as z:\n        for f, t in random.SystemRandom().sample(sorted(FILES.items()), len(FILES)):\n\
        \x20           z.writestr(f, t)\n            h = hashlib.sha256(t.encode()).digest()\n\
        \x20           rows += '{},sha256={},{}\\n'.format(f, base64.urlsafe_b64encode(h).decode().rstrip('='), len(t))\n\
        \x20       z.writestr('app-1.dist-info/RECORD', rows + 'app-1.dist-info/RECORD,,\\n')\n    return name\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_same_files_are_the_same_wheel() {
    let place = Place::new();
    let plan = own_backend(&place, UNSTEADY);
    let lock = place.lock(&plan).await.unwrap();
    let builder = Builder { use_cache: false, ..place.builder() };
    let first = place.wheels(&builder, &plan, &lock).await.unwrap();
    for _ in 0..3 {
        let again = place.wheels(&builder, &plan, &lock).await.unwrap();
        assert_eq!(again[0].locked.sha256, first[0].locked.sha256);
    }
}

/// The bytecode layer of wheels, by path.
async fn compiled(place: &Place, plan: &Plan, lock: &Lock) -> BTreeMap<String, Vec<u8>> {
    let builder = place.builder();
    let pins = Pins::find(
        &builder,
        StageInput { plan, index: 0, platform: &Platform::default(), lock: Some(lock), earlier: &BTreeMap::new() },
    )
    .await
    .unwrap();
    let wheels = pins.fetch(&builder, plan, 0, &pins.build_context).await.unwrap();
    let scheme = &pins.interpreter.as_ref().unwrap().scheme;
    let work = bytecode(
        &builder.store,
        &builder.reporter,
        builder.epoch,
        &pins.build_context,
        &plan.target().steps[0],
        &wheels,
        scheme,
    )
    .unwrap();
    assert!(work.ingredients.is_some());
    let mut work = work;
    let part = work.parts.remove(0);
    let tree: LayerTree = tokio::task::spawn_blocking(move || part.tree.make().unwrap()).await.unwrap();
    let files = tree.iter().filter_map(|(path, node)| match &node.kind {
        NodeKind::File(Content::Bytes(bytes)) => Some((path.to_string(), bytes.clone())),
        _ => None,
    });
    files.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bytecode_is_the_same_twice_and_never_checked() {
    let place = Place::new();
    let plan = own_backend(&place, UNSTEADY);
    let lock = place.lock(&plan).await.unwrap();
    let files = compiled(&place, &plan, &lock).await;
    let shown: Vec<_> = files.keys().map(|path| path.rsplit("dist-packages").next().unwrap()).collect();
    let tag = shown[0].split('.').nth(1).unwrap();
    assert_eq!(shown, [format!("/__pycache__/good.{tag}.pyc"), format!("/pkg/__pycache__/__init__.{tag}.pyc")]);
    for bytes in files.values() {
        // PEP 552: the flags say that it has a hash of the source (1) and that this is not checked (2).
        assert_eq!(bytes[4..8], [1, 0, 0, 0]);
    }
    assert!(String::from_utf8_lossy(files.values().next().unwrap()).contains("/usr/local/lib/python3"));
    let notes = place.notes.0.lock().unwrap().clone();
    assert!(notes.iter().any(|note| note.contains("bad.py has no bytecode: ")), "{notes:?}");
    assert_eq!(compiled(&place, &plan, &lock).await, files);
}
