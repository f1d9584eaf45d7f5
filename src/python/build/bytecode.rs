//! Compiles the modules of a step's wheels with the base's Python, into another layer.
//!
//! Python does not check the bytecode against its source (PEP 552, unchecked hash), so file times do not invalidate it.
//! Unlike with pip, RECORD does not list the bytecode: the rows would change the layers of the wheels. So an
//! uninstallation with pip leaves these files.

use std::collections::BTreeMap;
use std::sync::Arc;

use ociforge_layers::{Content, LayerPath, LayerTree, Metadata, NodeKind, TreeNode};
use ociforge_manifests::Digest;
use serde::Deserialize;
use serde_json::json;

use super::backend::{open_up, python_env, read_result, result_file, write};
use super::error::JobPurpose;
use super::{BuildContext, SourceError, scratch};
use crate::error::Explain;
use crate::layer::{Epoch, LayerError, LayerPart, LayerWork, Step, TreeSource};
use crate::progress::Reporter;
use crate::python::install::{self, LocalWheel};
use crate::python::{IsolatedCommand, IsolatedRunner};
use crate::store::Store;
use ociforge_layers::source::wheel::Scheme;

/// The script that compiles. Its digest is part of cache keys.
const SCRIPT: &str = include_str!("bytecode.py");
/// The directories of the script and of the modules in the sandbox.
const SCRIPT_AT: &str = "/ociforge/frontend";
const FILES_AT: &str = "/ociforge/files";

#[derive(Deserialize)]
struct Compiled {
    /// The tag of the interpreter, such as `cpython-311`.
    tag: String,
    /// The indexes of modules that do not compile, with the reasons.
    skipped: Vec<(usize, String)>,
}

/// The bytecode layer of one step; `None` if the step installs nothing. The modules are compiled when the layer is
/// packed, unless the store has the layer.
pub(crate) fn bytecode(
    store: &Store,
    reporter: &Arc<dyn Reporter>,
    epoch: Epoch,
    build_context: &BuildContext,
    step: &Step,
    wheels: &[LocalWheel],
    scheme: &Scheme,
) -> Option<LayerWork> {
    if wheels.is_empty() {
        return None;
    }
    let what = || format!("the bytecode of `{}`", step.description);
    let mtime = epoch.seconds();
    let ingredients = json!({
        "bytecode": Digest::of(SCRIPT.as_bytes()),
        "wheels": install::ingredients(wheels, scheme, mtime),
        "ground": build_context.digest,
    });
    let size = wheels.iter().map(|wheel| wheel.locked.size.unwrap_or_default()).sum();
    let job = Compilation {
        what: what(),
        store: store.clone(),
        reporter: reporter.clone(),
        isolated: build_context.isolated.clone(),
        wheels: wheels.to_vec(),
        scheme: scheme.clone(),
        mtime,
    };
    let (handle, what) = (tokio::runtime::Handle::current(), what());
    let tree = move || {
        handle.block_on(job.run()).map_err(|error| LayerError::Process {
            what,
            hint: error.hint(),
            source: Box::new(error),
        })
    };
    let parts = vec![LayerPart { tree: TreeSource::Later(Box::new(tree)), rules: Some(install::rules(mtime)) }];
    let (step, description) = (step.clone(), format!("bytecode of {}", step.description));
    Some(LayerWork { step, ingredients: Some(ingredients), description, size, parts, joinable: false })
}

struct Compilation {
    /// The description, for messages.
    what: String,
    store: Store,
    reporter: Arc<dyn Reporter>,
    isolated: Arc<dyn IsolatedRunner>,
    wheels: Vec<LocalWheel>,
    scheme: Scheme,
    mtime: i64,
}

impl Compilation {
    async fn run(&self) -> Result<LayerTree, SourceError> {
        let modules = self.modules()?;
        if modules.is_empty() {
            return Ok(LayerTree::new());
        }
        let scratch = scratch(&self.store.temporary())?;
        let at = |name: &str| scratch.path().join(name);
        let out = at("out");
        let names: Vec<String> = modules.keys().map(ToString::to_string).collect();
        write(&at("files"), "list.json", &json!(names).to_string())?;
        write(&at("frontend"), "bytecode.py", SCRIPT)?;
        std::fs::create_dir_all(&out).map_err(|source| SourceError::File { path: out.clone(), source })?;
        for (place, content) in modules.values().enumerate() {
            let path = at("files").join(place.to_string());
            let bytes = content.read(u64::MAX);
            let written = bytes.and_then(|bytes| std::fs::write(&path, bytes.unwrap_or_default()));
            written.map_err(|source| SourceError::File { path, source })?;
        }
        open_up(scratch.path())?;
        let command = [&self.scheme.executable, "-s", "-S", &format!("{SCRIPT_AT}/bytecode.py")];
        let job = IsolatedCommand {
            label: format!("compile {}", self.what),
            command: command.map(str::to_owned).into(),
            // These variables of a base would change the compilation. An empty value is the same as no value.
            env: python_env()
                .chain(["PYTHONOPTIMIZE", "PYTHONPATH"].map(|name| (name.into(), String::new())))
                .collect(),
            binds: vec![(at("frontend"), SCRIPT_AT.to_owned()), (at("files"), FILES_AT.to_owned())],
            out: out.clone(),
        };
        let ran = self.isolated.run(job).await;
        ran.map_err(|source| SourceError::Run { doing: JobPurpose::Compile, source })?;
        let Compiled { tag, skipped } = read_result(&out)?;
        if tag.is_empty() || !tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(SourceError::Result(format!("`{tag}` is not a Python tag")));
        }
        let skipped: BTreeMap<usize, String> = skipped.into_iter().collect();
        let mut tree = LayerTree::new();
        for (place, module) in modules.keys().enumerate() {
            if let Some(why) = skipped.get(&place) {
                let why = why.lines().map(str::trim).collect::<Vec<_>>().join(" ");
                self.reporter.note(&format!("{module} has no bytecode: {why}"));
                continue;
            }
            let path = result_file(&out, &[&format!("{place}.pyc")])?;
            let bytes = std::fs::read(&path).map_err(|source| SourceError::File { path, source })?;
            self.insert(&mut tree, module, &tag, bytes)?;
        }
        Ok(tree)
    }

    /// The installed modules of the wheels with their content.
    fn modules(&self) -> Result<BTreeMap<LayerPath, Content>, SourceError> {
        let installed = install::install(&self.wheels, &self.scheme, self.mtime);
        let tree = installed.map_err(|error| SourceError::Result(error.to_string()))?;
        let modules = tree.iter().filter_map(|(path, node)| match &node.kind {
            NodeKind::File(content) if path.file_name().ends_with(b".py") => Some((path.clone(), content.clone())),
            _ => None,
        });
        Ok(modules.collect())
    }

    fn insert(&self, tree: &mut LayerTree, module: &LayerPath, tag: &str, bytes: Vec<u8>) -> Result<(), SourceError> {
        let directory = module.parent().unwrap_or_default().join("__pycache__")?;
        let stem = module.file_name().strip_suffix(b".py").unwrap_or_default();
        let path = directory.join([stem, format!(".{tag}.pyc").as_bytes()].concat())?;
        let kind = NodeKind::Directory { opaque: false };
        tree.insert(directory, TreeNode { metadata: Metadata::root(0o755, self.mtime), kind })?;
        let node =
            TreeNode { metadata: Metadata::root(0o644, self.mtime), kind: NodeKind::File(Content::Bytes(bytes)) };
        Ok(tree.insert(path, node)?)
    }
}
