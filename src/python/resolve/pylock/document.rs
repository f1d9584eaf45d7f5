//! The structure of `pylock.toml`, and of files that users confuse with it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::python::error::ResolveError;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Pylock {
    lock_version: String,
    #[serde(default)]
    pub(super) environments: Vec<String>,
    pub(super) requires_python: Option<String>,
    #[serde(default)]
    pub(super) extras: Vec<String>,
    #[serde(default)]
    pub(super) dependency_groups: Vec<String>,
    #[serde(default)]
    pub(super) default_groups: Vec<String>,
    #[serde(default)]
    pub(super) packages: Vec<PylockPackage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "a table")]
pub(super) struct PylockPackage {
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) marker: Option<String>,
    pub(super) requires_python: Option<String>,
    pub(super) vcs: Option<toml::Table>,
    pub(super) directory: Option<Directory>,
    pub(super) archive: Option<PylockFile>,
    pub(super) sdist: Option<PylockFile>,
    #[serde(default)]
    pub(super) wheels: Vec<PylockFile>,
}

#[derive(Deserialize)]
pub(super) struct Directory {
    pub(super) path: String,
    pub(super) subdirectory: Option<String>,
}

#[derive(Deserialize)]
#[serde(expecting = "a table")]
pub(super) struct PylockFile {
    pub(super) name: Option<String>,
    pub(super) url: Option<String>,
    pub(super) path: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) subdirectory: Option<String>,
    #[serde(default)]
    pub(super) hashes: BTreeMap<String, String>,
}

/// Parses the text of the lock at `path`.
pub(super) fn parse(text: &str, path: &Path) -> Result<Pylock, ResolveError> {
    let failed = |at: usize, message: String| {
        let line = 1 + text.get(..at).unwrap_or_default().matches('\n').count();
        ResolveError::Pylock { path: path.to_path_buf(), line, message, hint: None }
    };
    if let Some((message, hint)) = other_format(text) {
        let (path, message) = (path.to_path_buf(), message.to_owned());
        return Err(ResolveError::Pylock { path, line: 1, message, hint: Some(hint.to_owned()) });
    }
    let read: Result<Pylock, _> = toml::from_str(text);
    let lock = read.map_err(|error| failed(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    if lock.lock_version == "1.0" || lock.lock_version.starts_with("1.") {
        Ok(lock)
    } else {
        let at = text.find("lock-version").unwrap_or(0);
        let line = 1 + text[..at].matches('\n').count();
        let message = format!("lock-version is `{}`; only 1.0 is supported", lock.lock_version);
        let hint = "create the lock with a program that writes version 1.0, such as `uv export --format pylock.toml`";
        Err(ResolveError::Pylock { path: path.to_path_buf(), line, message, hint: Some(hint.into()) })
    }
}

/// The error for a lock that is given as a requirements file; `None` if the file is not a lock.
pub(in crate::python) fn as_requirements(text: &str, path: &Path) -> Option<ResolveError> {
    let table: toml::Table = text.parse().ok()?;
    let (message, hint) = match table.contains_key("lock-version") {
        true => ("the file is a PEP 751 lock, not a requirements file", "write pip = { lock = \"FILE\" }"),
        false => other_format(text).filter(|_| table.contains_key("package"))?,
    };
    let (message, hint) = (message.to_owned(), Some(hint.to_owned()));
    Some(ResolveError::Pylock { path: path.to_path_buf(), line: 1, message, hint })
}

/// The kind of another file, and the hint for it.
fn other_format(text: &str) -> Option<(&'static str, &'static str)> {
    let Ok(table) = text.parse::<toml::Table>() else {
        let requirement = |line: &str| {
            let line = line.split([';', '#']).next().unwrap_or_default().trim_end_matches(['\\', ' ']);
            line.starts_with("-r ") || line.starts_with("--") || (line.contains("==") && !line.contains(['"', '{']))
        };
        return text
            .lines()
            .any(requirement)
            .then_some(("the file is a requirements file", "write pip = { requirements = \"FILE\" }"));
    };
    if table.contains_key("lock-version") {
        return None;
    }
    let metadata = |key: &str| table.get("metadata").is_some_and(|metadata| metadata.get(key).is_some());
    if table.contains_key("package") && table.get("version").is_some_and(toml::Value::is_integer) {
        return Some((
            "the file is a uv.lock; only PEP 751 locks are supported",
            "run `uv export --format pylock.toml -o pylock.toml`, and write pip = { lock = \"pylock.toml\" }",
        ));
    }
    let export =
        "export it as pylock.toml or as requirements: pip = { lock = \"pylock.toml\" }, { requirements = \"FILE\" }";
    if metadata("content-hash") || metadata("content_hash") {
        return Some(("the file is a lock of Poetry or PDM; only PEP 751 locks are supported", export));
    }
    (table.contains_key("project") || table.contains_key("build-system"))
        .then_some(("the file describes a project and is not a lock", "write pip = { project = \"DIR\" }"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Explain;

    #[test]
    fn files_that_are_mistaken_for_it_are_named() {
        let uv = "version = 1\nrevision = 3\n[[package]]\nname = 'a'\n";
        let poetry = "[[package]]\nname = 'a'\n[metadata]\nlock-version = '2.1'\ncontent-hash = '00'\n";
        let requirements = "# made by\na==1.0 \\\n    --hash=sha256:00\n";
        for (text, said, hint) in [
            (uv, "pylock.toml:1: the file is a uv.lock", "`uv export --format pylock.toml -o pylock.toml`"),
            (poetry, "pylock.toml:1: the file is a lock of Poetry or PDM", "export it"),
            (requirements, "pylock.toml:1: the file is a requirements file", "pip = { requirements = "),
            (
                "[project]\nname = 'a'\n",
                "pylock.toml:1: the file describes a project and is not a lock",
                "pip = { project = ",
            ),
        ] {
            let error = parse(text, Path::new("pylock.toml")).err().unwrap();
            assert!(error.to_string().starts_with(said), "{error}");
            assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        }
        let as_requirements = |text: &str| as_requirements(text, Path::new("r.txt")).map(|error| error.to_string());
        assert!(as_requirements(uv).unwrap().starts_with("r.txt:1: the file is a uv.lock"));
        assert!(as_requirements("lock-version = '1.0'").unwrap().starts_with("r.txt:1: the file is a PEP 751 lock"));
        assert_eq!(
            (as_requirements(requirements), as_requirements("[project]\n"), as_requirements("")),
            (None, None, None)
        );
        let newer = parse("lock-version = \"2.0\"", Path::new("pylock.toml")).err().unwrap();
        assert!(newer.hint().unwrap().contains("uv export"), "{newer}");
        for other in ["", "[a\n", "version = 1"] {
            assert_eq!(parse(other, Path::new("pylock.toml")).err().unwrap().hint(), None, "{other}");
        }
    }
}
