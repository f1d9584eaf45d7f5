//! Wheels and bytecode that are the same twice.

use ociforge_layers::{Content, LayerTree, NodeKind};

use super::*;

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
        StageInput {
            plan,
            index: 0,
            platform: &Platform::default(),
            lock: Some(lock),
            is_build: true,
            earlier: &BTreeMap::new(),
        },
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
