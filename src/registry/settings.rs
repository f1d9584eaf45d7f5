//! What the user and the environment say about registries.

use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Explain;
use crate::http::{RetryPolicy, Timeouts};

/// Long enough that the pause between two chunks is nothing beside them, short enough for proxies that take 100 MB.
const CHUNK: u64 = 64 << 20;

/// How registries are spoken to. The default knows no files at all; [`Settings::from_env`] knows the user's.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The only file that credentials are looked up in (`--authfile`, `$REGISTRY_AUTH_FILE`). It must be there.
    pub authfile: Option<PathBuf>,
    /// Where credentials are looked up otherwise; the first file that knows the registry counts.
    pub auth_search: Vec<PathBuf>,
    /// Where a login is kept then; the first of `auth_search` when there is none.
    pub auth_kept: Option<PathBuf>,
    /// Files in the format of containers-registries.conf(5), and directories of such files (`*.conf`, by name). What
    /// comes later replaces what an earlier file says about the same prefix. They must be there.
    pub registries_conf: Vec<PathBuf>,
    /// Directories in the form of containers-certs.d(5): in each, `HOST[:PORT]/` holds `*.crt` (authorities to trust
    /// besides the system's) and one `NAME.cert` with `NAME.key` (who the client is). The first directory that knows a
    /// host counts.
    pub certs_d: Vec<PathBuf>,
    /// Whether certificates are verified. `false` also lets a registry speak plain HTTP.
    pub tls_verify: bool,
    /// Directory in which unfinished uploads are noted, to be gone on with by a later run; made when it is needed.
    /// Without one they are only gone on with in the same run.
    pub journal: Option<PathBuf>,
    /// How many downloads, how many uploads, and how many other requests a host gets at a time; at least one of each.
    pub connections: usize,
    /// Length in bytes of the chunks that a blob is sent in; one that is not longer goes in a single request. A host
    /// that will have other lengths gets those.
    pub chunk: u64,
    /// How often requests are repeated.
    pub retry: RetryPolicy,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// Told of what the user should do something about, though it stops nothing.
    pub warn: Warn,
}

type Tell = dyn Fn(&str) + Send + Sync;

/// Who is told of warnings; nobody by default.
#[derive(Clone, Default)]
pub struct Warn(Option<Arc<Tell>>);

impl Warn {
    /// Has `tell` called with each warning, a sentence without a full stop.
    #[must_use]
    pub fn by(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(super) fn tell(&self, warning: &str) {
        if let Some(tell) = &self.0 {
            tell(warning);
        }
    }
}

impl fmt::Debug for Warn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Warn(…)" } else { "Warn" })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            authfile: None,
            auth_search: Vec::new(),
            auth_kept: None,
            registries_conf: Vec::new(),
            certs_d: Vec::new(),
            tls_verify: true,
            journal: None,
            connections: 8,
            chunk: CHUNK,
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
            warn: Warn::default(),
        }
    }
}

impl Settings {
    /// The settings that the environment and the files at their usual places give: containers-auth.json(5),
    /// containers-registries.conf(5), containers-certs.d(5), and docker's `config.json` and `certs.d`. The proxy variables (`HTTPS_PROXY`, `NO_PROXY`, …)
    /// are honoured besides, except for loopback addresses.
    #[must_use]
    pub fn from_env() -> Self {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            authfile: variable("REGISTRY_AUTH_FILE"),
            auth_search: auth_search(&variable),
            // As docker, podman and skopeo do.
            auth_kept: variable("DOCKER_CONFIG").map(|dir| dir.join("config.json")),
            registries_conf: registries_conf(&variable, Path::new("/etc/containers")),
            certs_d: certs_d(&variable),
            ..Self::default()
        }
    }
}

fn config_home(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")))
}

fn auth_search(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let runtime = variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    let config = config_home(variable).map(|dir| dir.join("containers/auth.json"));
    let docker = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")));
    [runtime, config, docker.map(|dir| dir.join("config.json"))].into_iter().flatten().collect()
}

/// The main file, then the directories of drop-ins. The variables stand for the one and for the others, each by itself.
fn registries_conf(variable: &dyn Fn(&str) -> Option<PathBuf>, system: &Path) -> Vec<PathBuf> {
    let file = |dir: &Path| dir.join("registries.conf");
    let drop_ins = |dir: &Path| dir.join("registries.conf.d");
    let existing = |paths: &[Option<PathBuf>]| -> Vec<PathBuf> {
        paths.iter().flatten().filter(|path| path.exists()).cloned().collect()
    };
    let user = config_home(variable).map(|dir| dir.join("containers"));
    let own = user.as_deref().filter(|dir| file(dir).is_file());
    let named = variable("CONTAINERS_REGISTRIES_CONF");
    let main = named.map_or_else(|| existing(&[Some(file(own.unwrap_or(system)))]), |file| vec![file]);
    let dirs = match (variable("CONTAINERS_REGISTRIES_CONF_DIR"), own) {
        (Some(dir), _) => existing(&[Some(dir)]),
        (None, Some(user)) => existing(&[Some(drop_ins(user))]),
        (None, None) => existing(&[Some(drop_ins(system)), user.as_deref().map(drop_ins)]),
    };
    main.into_iter().chain(dirs).collect()
}

fn certs_d(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let user = config_home(variable).map(|dir| dir.join("containers/certs.d"));
    user.into_iter().chain(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from)).collect()
}

/// Settings that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file that can't be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file in the format of containers-registries.conf(5) that is none.
    #[error("{}:{line}: {message}", file.display())]
    Conf {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
}

impl Explain for SettingsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => None,
            Self::Conf { .. } => Some("the format is that of containers-registries.conf(5), version 2".into()),
        }
    }
}

/// Fails when `file` can't be read.
pub(super) fn must_be_readable(file: &Path) -> Result<(), SettingsError> {
    let opened = fs::File::open(file).map(drop);
    opened.map_err(|source| SettingsError::Read { file: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_where_others_keep_them() {
        let variable = |name: &str| match name {
            "HOME" => Some(PathBuf::from("/h")),
            "XDG_RUNTIME_DIR" => Some(PathBuf::from("/run")),
            _ => None,
        };
        let expected = ["/run/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"];
        assert_eq!(auth_search(&variable), expected.map(PathBuf::from));
        let moved = |name: &str| Some(PathBuf::from(format!("/{name}")));
        assert_eq!(auth_search(&moved)[2], Path::new("/DOCKER_CONFIG/config.json"));
        assert_eq!(registries_conf(&moved, Path::new("/none")), [Path::new("/CONTAINERS_REGISTRIES_CONF")]);
        let places = ["/h/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"];
        assert_eq!(certs_d(&variable), places.map(PathBuf::from));
    }

    #[test]
    fn the_users_registries_conf_replaces_the_systems() {
        let directory = tempfile::tempdir().unwrap();
        let (home, system) = (directory.path().join("home"), directory.path().join("etc"));
        let user = home.join("containers");
        for dir in [&user, &system] {
            fs::create_dir_all(dir.join("registries.conf.d")).unwrap();
        }
        fs::write(system.join("registries.conf"), "").unwrap();
        let variable = |name: &str| (name == "XDG_CONFIG_HOME").then(|| home.clone());
        let files = registries_conf(&variable, &system);
        assert_eq!(
            files,
            [system.join("registries.conf"), system.join("registries.conf.d"), user.join("registries.conf.d")]
        );
        fs::write(user.join("registries.conf"), "").unwrap();
        assert_eq!(registries_conf(&variable, &system), [user.join("registries.conf"), user.join("registries.conf.d")]);
        let named = |name: &str| (name == "CONTAINERS_REGISTRIES_CONF").then(|| "/named".into()).or(variable(name));
        assert_eq!(registries_conf(&named, &system), [Path::new("/named"), &user.join("registries.conf.d")]);
        let drop_ins = |name: &str| (name == "CONTAINERS_REGISTRIES_CONF_DIR").then(|| home.clone()).or(named(name));
        assert_eq!(registries_conf(&drop_ins, &system), [Path::new("/named"), &home]);
    }
}
