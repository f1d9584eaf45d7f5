//! Installation: wheels become the trees of layers.

pub(crate) mod correction;
mod error;
mod group;
mod occupied;

use std::path::{Path, PathBuf};

use ociforge_layers::place::{DirectoryRule, FileRule};
use ociforge_layers::source::wheel::{InstallOptions, Scheme};
use ociforge_layers::{LayerTree, PlacementRules};
use serde_json::{Value, json};

use crate::layer::{LayerError, LayerPart, LayerWork, Step, TreeSource, stays_inside};
use crate::python::LockedWheel;
use group::group;

pub(crate) use error::InstallError;
pub(crate) use occupied::Occupied;

/// A wheel on this machine with verified content.
#[derive(Clone)]
pub(crate) struct LocalWheel {
    pub(crate) locked: LockedWheel,
    pub(crate) path: PathBuf,
}

/// The layers of one step's wheels.
pub(crate) fn work(step: &Step, wheels: Vec<LocalWheel>, scheme: &Scheme, mtime: i64) -> Vec<LayerWork> {
    let size = |wheel: &LocalWheel| wheel.locked.size.unwrap_or_else(|| wheel.path.metadata().map_or(0, |m| m.len()));
    let groups = group(wheels, |wheel| wheel.locked.name.as_str(), size);
    let work = groups.into_iter().map(|group| {
        let total = group.iter().map(size).sum();
        layer(step.clone(), group, scheme.clone(), mtime, total)
    });
    work.collect()
}

/// The inputs of an installation, for the cache key.
pub(crate) fn ingredients(wheels: &[LocalWheel], scheme: &Scheme, mtime: i64) -> Value {
    let wheels: Vec<_> = wheels.iter().map(|w| json!([w.locked.file, w.locked.sha256, w.locked.requested])).collect();
    json!({"wheels": wheels, "scheme": format!("{scheme:?}"), "mtime": mtime})
}

fn layer(step: Step, group: Vec<LocalWheel>, scheme: Scheme, mtime: i64, size: u64) -> LayerWork {
    let names: Vec<_> = group.iter().map(|w| format!("{}=={}", w.locked.name, w.locked.version)).collect();
    let ingredients = Some(ingredients(&group, &scheme, mtime));
    let tree = move || install(&group, &scheme, mtime);
    let parts = vec![LayerPart { tree: TreeSource::Later(Box::new(tree)), rules: Some(rules(mtime)) }];
    let description = format!("pip {}", names.join(" "));
    LayerWork { step, ingredients, description, size, parts, joinable: false }
}

/// The rules to place packages: existing directories keep their attributes.
pub(crate) fn rules(mtime: i64) -> PlacementRules {
    PlacementRules { files: FileRule::Replace, directories: DirectoryRule::KeepAll, mtime }
}

/// Installs the wheels into one tree.
pub(crate) fn install(wheels: &[LocalWheel], scheme: &Scheme, mtime: i64) -> Result<LayerTree, LayerError> {
    let mut all = LayerTree::new();
    for LocalWheel { locked, path } in wheels {
        let options = InstallOptions { mtime, requested: locked.requested };
        let wheel = correction::open(path, &locked.file)?;
        wheel.supports(scheme.python)?;
        // As with pip, if two wheels have the same file, the later one applies. The order is that of the names.
        all.extend(wheel.install(scheme, options)?)?;
    }
    Ok(all)
}

/// The wheels on disk that match `pattern`, relative to `directory`, sorted. A match outside of it is an error.
pub(crate) fn matching(pattern: &str, directory: &Path) -> Result<Vec<PathBuf>, InstallError> {
    let malformed = |error: glob::PatternError| InstallError::Glob { pattern: pattern.to_owned(), source: error };
    let whole = Path::new(&glob::Pattern::escape(&directory.to_string_lossy())).join(pattern);
    let mut found = Vec::new();
    for path in glob::glob(&whole.to_string_lossy()).map_err(malformed)? {
        let path = path.map_err(|e| LayerError::Read { path: e.path().to_owned(), source: e.into() })?;
        if path.extension().is_some_and(|extension| extension == "whl") {
            stays_inside(directory, &path)?;
            found.push(path.strip_prefix(directory).map(Path::to_path_buf).unwrap_or(path));
        }
    }
    if found.is_empty() { Err(InstallError::NoWheels(pattern.to_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_find_wheels_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("dist")).unwrap();
        for file in ["b.whl", "a.whl", "a.tar.gz"] {
            std::fs::write(directory.path().join("dist").join(file), "").unwrap();
        }
        let found = matching("dist/*", directory.path()).unwrap();
        assert_eq!(found, [Path::new("dist/a.whl"), Path::new("dist/b.whl")]);
        assert!(matches!(matching("dist/*.gz", directory.path()), Err(InstallError::NoWheels(_))));
        assert!(matches!(matching("dist/***", directory.path()), Err(InstallError::Glob { .. })));
        std::os::unix::fs::symlink("/", directory.path().join("dist/link")).unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("a.whl"), "").unwrap();
        let path = outside.path().display();
        for pattern in [format!("{path}/*.whl"), format!("dist/link/{path}/a.whl")] {
            assert!(
                matches!(matching(&pattern, directory.path()), Err(InstallError::Layer(LayerError::Outside(_)))),
                "{pattern}"
            );
        }
    }
}
