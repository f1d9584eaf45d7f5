//! Files with credentials for registries. What is in them is read and forgotten.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::said;

/// A file that credentials are looked up in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthFileStatus {
    /// Where it is.
    pub path: PathBuf,
    /// Of what use it is.
    pub state: AuthState,
}

/// Of what use such a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthState {
    /// There is none.
    Absent,
    /// It can't be read.
    Unreadable(String),
    /// It is not JSON from that line on, counted from 1.
    Invalid(usize),
    /// It is of use.
    Good {
        /// How many registries it knows.
        registries: usize,
        /// Whether others than its owner can read it.
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
        // serde's own words quote what is there.
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
