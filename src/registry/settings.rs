//! The settings of registries from the user and the environment.

use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Explain;
use crate::http::{RetryPolicy, Timeouts};

/// Long enough to make the pause between chunks negligible, short enough for proxies with a limit of 100 MB.
const CHUNK: u64 = 64 << 20;

/// The settings of registries. The default has no files; [`Settings::from_env`] has the user's.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The only file of credentials (`--authfile`, `$REGISTRY_AUTH_FILE`). It must exist.
    pub authfile: Option<PathBuf>,
    /// The default files of credentials; the first file with an entry for the registry has precedence.
    pub auth_search: Vec<PathBuf>,
    /// The default file for new logins; `None` selects the first of `auth_search`.
    pub auth_kept: Option<PathBuf>,
    /// Files in the format of containers-registries.conf(5), and directories of such files (`*.conf`, by name). Later
    /// entries replace earlier ones of the same prefix. They must exist.
    pub registries_conf: Vec<PathBuf>,
    /// Directories in the format of containers-certs.d(5): in each, `HOST[:PORT]/` has `*.crt` (authorities to trust
    /// besides the system's) and one `NAME.cert` with `NAME.key` (the client's certificate). The first directory with a
    /// host has precedence.
    pub certs_d: Vec<PathBuf>,
    /// Whether certificates are verified. `false` also permits plain HTTP.
    pub tls_verify: bool,
    /// Directory of notes of unfinished uploads, which a later run resumes; created on demand. Without it, uploads are
    /// resumed only in the same run.
    pub journal: Option<PathBuf>,
    /// The maximum number of simultaneous downloads, of uploads, and of other requests per host; at least one of each.
    pub connections: usize,
    /// Size in bytes of upload chunks; a blob up to this size is sent in a single request. A host that requires other
    /// sizes gets those.
    pub chunk: u64,
    /// How often requests are repeated.
    pub retry: RetryPolicy,
    /// The timeouts.
    pub timeouts: Timeouts,
    /// The receiver of warnings.
    pub warn: Warn,
}

type Tell = dyn Fn(&str) + Send + Sync;

/// The receiver of warnings; none by default.
#[derive(Clone, Default)]
pub struct Warn(Option<Arc<Tell>>);

impl Warn {
    /// Calls `tell` with each warning, a sentence without a full stop.
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
    /// The settings of the environment and of the files in the usual directories: containers-auth.json(5),
    /// containers-registries.conf(5), containers-certs.d(5), and docker's `config.json` and `certs.d`. The proxy
    /// variables (`HTTPS_PROXY`, `NO_PROXY`, …) apply, too, except to loopback addresses.
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

/// The main file, then the directories of drop-ins. One variable replaces the main file, another one the directories.
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

/// Invalid settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file that cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An invalid file in the format of containers-registries.conf(5).
    #[error("{}:{line}: {message}", file.display())]
    Conf {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The fault.
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

/// Fails when `file` cannot be read.
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
