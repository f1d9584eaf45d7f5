//! Files with credentials for registries. The credentials themselves are not kept.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::said;

/// A credential file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthFileStatus {
    /// The path.
    pub path: PathBuf,
    /// The state.
    pub state: AuthState,
}

/// The state of a credential file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthState {
    /// The file does not exist.
    Absent,
    /// The file cannot be read.
    Unreadable(String),
    /// The file is not valid JSON from this line on, counted from 1.
    Invalid(usize),
    /// The file is valid.
    Good {
        /// The number of registries.
        registries: usize,
        /// Whether users other than its owner can read it.
        exposed: bool,
    },
}

impl AuthFileStatus {
    pub(super) fn gather(path: &Path) -> Self {
        Self { path: path.to_owned(), state: state(path) }
    }
}

fn state(path: &Path) -> AuthState {
    let bytes = match fs::read(path) {
        Ok(bytes) if bytes.trim_ascii().is_empty() => b"{}".to_vec(),
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return AuthState::Absent,
        Err(error) => return AuthState::Unreadable(said(&error)),
    };
    let exposed = path.metadata().is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
    match serde_json::from_slice::<serde_json::Value>(&bytes) {
        Ok(json) => {
            let count = |key: &str| json.get(key).and_then(|entries| entries.as_object()).map_or(0, |map| map.len());
            AuthState::Good { registries: count("auths") + count("credHelpers"), exposed }
        }
        // serde's message quotes the contents.
        Err(error) => AuthState::Invalid(error.line()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_form_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("auth.json");
        assert_eq!(state(&path), AuthState::Absent);
        assert!(matches!(state(directory.path()), AuthState::Unreadable(_)));
        for (text, mode, expected) in [
            (r#"{"auths": {"a": {"auth": "hunter2"}}, "credHelpers": {"b": "x"}}"#, 0o600, (2, false)),
            (r#"{"auths": {"a": {}}}"#, 0o644, (1, true)),
            ("", 0o600, (0, false)),
            ("[]", 0o600, (0, false)),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(state(&path), AuthState::Good { registries: expected.0, exposed: expected.1 }, "{text}");
        }
        fs::write(&path, "{\n\"hunter2").unwrap();
        assert_eq!(state(&path), AuthState::Invalid(2));
    }
}
