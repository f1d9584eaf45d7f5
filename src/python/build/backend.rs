//! Calls the build backend of a source in the sandbox.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ociforge_layers::materialize::materialize;
use ociforge_layers::source::wheel::{FileName, InstallOptions, Scheme};
use ociforge_layers::{LayerPath, LayerTree};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tempfile::TempDir;

use super::error::{JobPurpose, SourceError};
use super::metadata::BuildSystem;
use super::tree::SourceTree;
use crate::python::install::LocalWheel;
use crate::python::install::correction;
use crate::python::{IsolatedCommand, IsolatedRunner, OUT};

/// The script that calls the backend. Its digest is part of cache keys.
pub(super) const FRONTEND: &str = include_str!("frontend.py");
/// The directory of the script in the sandbox.
const FRONTEND_AT: &str = "/ociforge/frontend";
/// The directory of the build requirements in the sandbox.
const REQUIREMENTS_AT: &str = "/ociforge/requirements";
/// The maximum size of a job's result, which is read into memory.
const MAX_RESULT: u64 = 64 << 20;

/// A source, its build requirements, and an output directory. Dropping this removes all of them.
pub(super) struct BackendCall {
    /// The name of the source, for messages.
    what: String,
    directory: TempDir,
    isolated: Arc<dyn IsolatedRunner>,
    command: Vec<String>,
    env: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Answer<T> {
    result: T,
}

/// The wheel that the hook reports, and the files that it created.
#[derive(Deserialize)]
struct Made {
    said: String,
    found: Vec<String>,
}

impl BackendCall {
    pub(super) fn set_up(
        directory: TempDir,
        tree: &SourceTree,
        system: &BuildSystem,
        requires: &[LocalWheel],
        scheme: &Scheme,
        isolated: Arc<dyn IsolatedRunner>,
        epoch: i64,
    ) -> Result<Self, SourceError> {
        let at = |name: &str| directory.path().join(name);
        tree.write(&at("out/source"))?;
        install(requires, scheme, &at("requirements"))?;
        let job = json!({"backend": system.backend, "backend_path": system.path}).to_string();
        for (name, text) in [("frontend.py", FRONTEND), ("job.json", &job)] {
            write(&at("frontend"), name, text)?;
        }
        open_up(directory.path())?;
        let variables = [
            ("SOURCE_DATE_EPOCH", epoch.to_string()),
            ("PYTHONPATH", REQUIREMENTS_AT.to_owned()),
            ("HOME", format!("{OUT}/home")),
            ("TMPDIR", format!("{OUT}/tmp")),
            ("LC_ALL", "C.UTF-8".to_owned()),
        ];
        let mut env: Vec<(String, String)> = variables.map(|(name, value)| (name.to_owned(), value)).into();
        env.extend(python_env());
        // `-S` disables `site`, which hides the base's own packages. Not `-I`: it would ignore PYTHONPATH.
        let command = [&scheme.executable, "-s", "-S", &format!("{FRONTEND_AT}/frontend.py")].map(str::to_owned).into();
        Ok(Self { what: tree.what.clone(), directory, isolated, command, env })
    }

    /// The build requirements that the backend reports, in addition to those of the source.
    pub(super) async fn requires(&self) -> Result<Vec<String>, SourceError> {
        self.call("requires", &format!("query the build requirements of {}", self.what), JobPurpose::Query).await
    }

    /// The metadata, if the backend knows it without a build.
    pub(super) async fn metadata(&self) -> Result<Option<String>, SourceError> {
        self.call("metadata", &format!("query the metadata of {}", self.what), JobPurpose::Query).await
    }

    /// Builds the wheel, in the output directory of this call.
    pub(super) async fn wheel(&self) -> Result<PathBuf, SourceError> {
        let Made { said, found } = self.call("wheel", &format!("build {}", self.what), JobPurpose::Build).await?;
        if FileName::parse(&said).is_err() || found != [said.clone()] {
            return Err(SourceError::Wheels { said, found });
        }
        result_file(&self.out(), &["wheel", &said])
    }

    async fn call<T: DeserializeOwned>(&self, hook: &str, label: &str, doing: JobPurpose) -> Result<T, SourceError> {
        let at = |name: &str| self.directory.path().join(name);
        let job = IsolatedCommand {
            label: label.to_owned(),
            command: [&self.command[..], &[hook.to_owned()]].concat(),
            env: self.env.clone(),
            binds: vec![(at("frontend"), FRONTEND_AT.to_owned()), (at("requirements"), REQUIREMENTS_AT.to_owned())],
            out: self.out(),
        };
        self.isolated.run(job).await.map_err(|source| SourceError::Run { doing, source })?;
        let Answer { result } = read_result(&self.out())?;
        Ok(result)
    }

    fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }
}

/// The variables of every Python in the sandbox, so that the same input gives the same output.
pub(super) fn python_env() -> impl Iterator<Item = (String, String)> {
    let variables = [
        ("PYTHONHASHSEED", "0"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONNOUSERSITE", "1"),
        ("PYTHONUNBUFFERED", "1"),
        ("PYTHONUTF8", "1"),
    ];
    variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// Installs wheels into a directory, as `pip install --target` does.
fn install(wheels: &[LocalWheel], scheme: &Scheme, directory: &Path) -> Result<(), SourceError> {
    let place = LayerPath::new(REQUIREMENTS_AT)?;
    let own = Scheme::new(place.clone(), scheme.python, scheme.executable.clone())?;
    let mut all = LayerTree::new();
    for LocalWheel { locked, path } in wheels {
        let wheel = correction::verify(path, &locked.file)?;
        wheel.supports(scheme.python)?;
        let options = InstallOptions { mtime: super::OLDEST, requested: false };
        all.extend(wheel.install(&own, options)?)?;
    }
    Ok(materialize(&all, &place, directory)?)
}

/// Writes a file, and creates its directory.
pub(super) fn write(directory: &Path, name: &str, text: &str) -> Result<(), SourceError> {
    let path = directory.join(name);
    let written = fs::create_dir_all(directory).and_then(|()| fs::write(&path, text));
    written.map_err(|source| SourceError::File { path, source })
}

/// Makes a private temporary directory readable for the root user of the sandbox, which may have another id.
pub(super) fn open_up(directory: &Path) -> Result<(), SourceError> {
    let opened = fs::set_permissions(directory, fs::Permissions::from_mode(0o755));
    opened.map_err(|source| SourceError::File { path: directory.to_path_buf(), source })
}

/// The path of a file in the output directory of a job. The job is not trusted: links are not followed.
pub(super) fn result_file(out: &Path, path: &[&str]) -> Result<PathBuf, SourceError> {
    let mut at = out.to_path_buf();
    for (n, component) in path.iter().enumerate() {
        at.push(component);
        let metadata = fs::symlink_metadata(&at).map_err(|source| SourceError::File { path: at.clone(), source })?;
        let right = if n + 1 == path.len() { metadata.is_file() } else { metadata.is_dir() };
        if !right {
            return Err(SourceError::Result(format!("{component} is of the wrong type")));
        }
    }
    Ok(at)
}

/// Reads the `result.json` of a job.
pub(super) fn read_result<T: DeserializeOwned>(out: &Path) -> Result<T, SourceError> {
    let path = result_file(out, &["result.json"])?;
    let unreadable = |source| SourceError::File { path: path.clone(), source };
    if fs::metadata(&path).map_err(unreadable)?.len() > MAX_RESULT {
        return Err(SourceError::Result("result.json is too large".into()));
    }
    let bytes = fs::read(&path).map_err(unreadable)?;
    serde_json::from_slice(&bytes).map_err(|error| SourceError::Result(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_job_leaves_leads_elsewhere() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out");
        fs::create_dir_all(out.join("wheel")).unwrap();
        fs::write(place.path().join("secret"), "{\"result\": []}").unwrap();
        std::os::unix::fs::symlink("../secret", out.join("result.json")).unwrap();
        assert!(read_result::<Answer<Vec<String>>>(&out).is_err());
        fs::remove_file(out.join("result.json")).unwrap();
        assert!(read_result::<Answer<Vec<String>>>(&out).is_err());
        fs::write(out.join("result.json"), "{\"result\": [\"a\"]}").unwrap();
        assert_eq!(read_result::<Answer<Vec<String>>>(&out).unwrap().result, ["a"]);
        std::os::unix::fs::symlink("..", out.join("up")).unwrap();
        assert!(result_file(&out, &["up", "secret"]).is_err() && result_file(&out, &["wheel"]).is_err());
        fs::write(out.join("wheel/x"), "").unwrap();
        assert!(result_file(&out, &["wheel", "x"]).is_ok());
    }
}
