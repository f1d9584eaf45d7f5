//! The user's credentials: docker's `config.json`, containers-auth.json(5), and credential helpers.
//!
//! `file` reads such a file, `document` writes it, `helper` runs the programs that it names, `account` is the scope of
//! a login, and `keyring` stores and removes logins.

mod account;
mod document;
mod file;
mod helper;
mod keyring;

use std::path::PathBuf;

use super::settings::Warn;
use crate::content::Cause;

pub use account::{Account, AccountError};
pub use keyring::{CredentialLocation, Keyring, Login, Password};

use file::AuthFile;

/// The credentials of the user.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// No credentials.
    Anonymous,
    /// User name and password.
    Password {
        /// The user's name.
        user: String,
        /// The password.
        password: String,
    },
    /// A refresh token for the registry's token server.
    Identity(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Password { .. } => "Password(…)",
            Self::Identity(_) => "Identity(…)",
        })
    }
}

/// An error of reading or storing credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialError {
    #[error("cannot read the credentials in {}: {reason}", file.display())]
    File { file: PathBuf, reason: String },
    #[error("cannot read the credentials for {key} in {}: `auth` is not base64 of user and password", file.display())]
    Auth { file: PathBuf, key: String },
    #[error("cannot run the credential helper {program}, which {} names: {reason}", file.display())]
    Helper { file: PathBuf, program: String, reason: String },
    #[error("the credential helper {program}, which {} names, is not installed", file.display())]
    NoHelper { file: PathBuf, program: String },
    #[error("the output of the credential helper {program} is invalid")]
    HelperAnswer { program: String },
    #[error("cannot write {}: {reason}", file.display())]
    Write { file: PathBuf, reason: String },
    #[error("{} stores the credentials for {account} with {program}, which stores them for whole registries only", file.display())]
    WholeRegistry { file: PathBuf, program: String, account: String },
    #[error("cannot store credentials: neither $XDG_RUNTIME_DIR nor $HOME is set")]
    NoPlace,
}

impl From<CredentialError> for Cause {
    fn from(error: CredentialError) -> Self {
        let hint = match &error {
            CredentialError::Helper { .. }
            | CredentialError::NoHelper { .. }
            | CredentialError::HelperAnswer { .. } => {
                "install or repair it, or name another file of credentials with --authfile"
            }
            CredentialError::Write { .. } | CredentialError::NoPlace => "name another file with --authfile",
            CredentialError::WholeRegistry { .. } => {
                "omit the path, or name another file of credentials with --authfile"
            }
            _ => "repair the file, or name another with --authfile",
        };
        Self::Other { message: error.to_string(), hint: Some(hint.into()) }
    }
}

/// The files of credentials, in the order of precedence.
#[derive(Debug, Clone, Default)]
pub(super) struct CredentialFiles {
    pub files: Vec<PathBuf>,
    /// Receives warnings about missing helpers: public images need none.
    pub warn: Warn,
}

impl CredentialFiles {
    /// The credentials for a repository. Reads files and may run a helper, so it blocks.
    pub(super) fn find(&self, registry: &str, repository: &str) -> Result<Credential, CredentialError> {
        for path in &self.files {
            let found = AuthFile::read(path)?.find(path, registry, repository, &self.warn)?;
            if found != Credential::Anonymous {
                return Ok(found);
            }
        }
        Ok(Credential::Anonymous)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::{Arc, Mutex};

    use base64::Engine;

    use super::*;

    fn find(json: &str, registry: &str, repository: &str) -> Result<Credential, CredentialError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("auth.json");
        fs::write(&file, json).unwrap();
        let files = vec![directory.path().join("missing"), file];
        CredentialFiles { files, warn: Warn::default() }.find(registry, repository)
    }

    fn password(user: &str, password: &str) -> Credential {
        Credential::Password { user: user.into(), password: password.into() }
    }

    #[test]
    fn the_most_particular_entry_counts() {
        let auth = |text: &str| base64::engine::general_purpose::STANDARD_NO_PAD.encode(text);
        let json = serde_json::json!({"auths": {
            "r.example": {"auth": auth("host:a:b")},
            "r.example/ml": {"auth": auth("ml:c")},
            "r.example/ml/train": {"username": "train", "password": "d"},
            "r.example/empty": {},
            "https://index.docker.io/v1/": {"auth": auth("hub:e")},
            "nvcr.io": {"auth": auth("$oauthtoken:key")},
            "https://old.example/v2/": {"identitytoken": "refresh", "auth": auth("x:")},
        }})
        .to_string();
        for (registry, repository, expected) in [
            ("r.example", "other/x", password("host", "a:b")),
            ("r.example", "mlx", password("host", "a:b")),
            ("r.example", "ml/eval", password("ml", "c")),
            ("r.example", "ml/train", password("train", "d")),
            ("r.example", "ml/train/x", password("train", "d")),
            ("r.example", "empty", password("host", "a:b")),
            ("docker.io", "library/debian", password("hub", "e")),
            ("nvcr.io", "nvidia/pytorch", password("$oauthtoken", "key")),
            ("old.example", "a", Credential::Identity("refresh".into())),
            ("r.example:5000", "ml", Credential::Anonymous),
        ] {
            assert_eq!(find(&json, registry, repository).unwrap(), expected, "{registry}/{repository}");
        }
    }

    #[test]
    fn broken_files_are_errors_that_keep_secrets() {
        for bad in ["{", r#"{"auths": []}"#, r#"{"auths": {"a": {"auth": 5}}}"#, r#"{"auths":{"a":"hunter2"}}"#] {
            let error = find(bad, "a", "b").unwrap_err().to_string();
            assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
        }
        for bad in ["!", "aHVudGVyMg=="] {
            let error =
                find(&format!(r#"{{"auths": {{"a": {{"auth": "{bad}"}}}}}}"#), "a", "b").unwrap_err().to_string();
            assert!(error.contains("for a in") && !error.contains(bad) && !error.contains("hunter2"), "{error}");
        }
        assert_eq!(find("", "a", "b").unwrap(), Credential::Anonymous);
        assert_eq!(find(r#"{"auths": null}"#, "a", "b").unwrap(), Credential::Anonymous);
        assert!(!format!("{:?}", password("u", "hunter2")).contains("hunter2"));
    }

    #[test]
    fn a_missing_helper_is_a_warning_and_others_know_the_registry() {
        let directory = tempfile::tempdir().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let files = [
            r#"{"credsStore": "no-such-helper"}"#,
            r#"{"credHelpers": {"r.example": "none-either"}, "auths": {"s.example": {"auth": "dTpw"}}}"#,
            r#"{"auths": {"r.example": {"auth": "dTpw"}}}"#,
        ];
        let files = files.iter().enumerate().map(|(n, text)| {
            let file = directory.path().join(format!("{n}.json"));
            fs::write(&file, text).unwrap();
            file
        });
        let log = Arc::clone(&told);
        let warn = Warn::by(move |warning| log.lock().unwrap().push(warning.to_owned()));
        let files = CredentialFiles { files: files.collect(), warn };
        assert_eq!(files.find("r.example", "a").unwrap(), password("u", "p"));
        let told = std::mem::take(&mut *told.lock().unwrap());
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("docker-credential-no-such-helper") && told[0].contains("0.json"), "{told:?}");
        assert!(told[1].contains("docker-credential-none-either"), "{told:?}");
        assert_eq!(files.find("public.example", "a").unwrap(), Credential::Anonymous);
        assert_eq!(files.find("s.example", "a").unwrap(), password("u", "p"));
        assert!(find(r#"{"credHelpers": {"a": "../../bin/sh"}}"#, "a", "b").is_err());
        assert_eq!(find(r#"{"credHelpers": {"other": "none"}}"#, "a", "b").unwrap(), Credential::Anonymous);
    }
}
