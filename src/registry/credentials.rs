//! The user's credentials: docker's `config.json`, containers-auth.json(5), and credential helpers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use crate::content::Cause;

/// What proves who the user is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// Nothing is known.
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

/// Credentials that are there, but can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialError {
    #[error("cannot read the credentials in {}: {reason}", file.display())]
    File { file: PathBuf, reason: String },
    #[error("cannot read the credentials for {key} in {}: `auth` is not base64 of user and password", file.display())]
    Auth { file: PathBuf, key: String },
    #[error("cannot run the credential helper {program}, which {} names: {reason}", file.display())]
    Helper { file: PathBuf, program: String, reason: String },
    #[error("the credential helper {program} gave nothing that can be read")]
    HelperAnswer { program: String },
}

impl From<CredentialError> for Cause {
    fn from(error: CredentialError) -> Self {
        let hint = match &error {
            CredentialError::Helper { .. } | CredentialError::HelperAnswer { .. } => {
                "install or repair it, or name another file of credentials with --authfile"
            }
            _ => "repair the file, or name another with --authfile",
        };
        Self::Other { message: error.to_string(), hint: Some(hint.into()) }
    }
}

/// The files that credentials are looked up in, in this order.
#[derive(Debug, Clone)]
pub(super) struct CredentialFiles(pub Vec<PathBuf>);

impl CredentialFiles {
    /// What is known for a repository. Reads files and may run a helper: call it where blocking is allowed.
    pub(super) fn find(&self, registry: &str, repository: &str) -> Result<Credential, CredentialError> {
        for path in &self.0 {
            let found = AuthFile::read(path)?.find(path, registry, repository)?;
            if found != Credential::Anonymous {
                return Ok(found);
            }
        }
        Ok(Credential::Anonymous)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuthFile {
    auths: Option<BTreeMap<String, Entry>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

impl AuthFile {
    /// The file's content; nothing where there is no file.
    fn read(path: &Path) -> Result<Self, CredentialError> {
        let error = |reason: String| CredentialError::File { file: path.to_owned(), reason };
        match fs::read(path) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => Ok(Self::default()),
            // serde's messages quote values, which may be secret; the place is enough.
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|bad| error(format!("not valid at line {}, column {}", bad.line(), bad.column()))),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(bad) => Err(error(bad.to_string())),
        }
    }

    /// A helper for this registry, then an entry of the file's own, then the helper for all registries.
    fn find(&self, file: &Path, registry: &str, repository: &str) -> Result<Credential, CredentialError> {
        let names = names(registry, repository);
        let helpers = self.cred_helpers.iter().flatten().filter(|(_, helper)| !helper.is_empty());
        if let Some((key, helper)) = best(&names, helpers) {
            return run_helper(file, helper, key);
        }
        let auths = self.auths.iter().flatten().filter(|(_, entry)| !entry.is_empty());
        if let Some((key, entry)) = best(&names, auths) {
            let credential = entry.credential();
            return credential.ok_or_else(|| CredentialError::Auth { file: file.to_owned(), key: key.clone() });
        }
        match self.creds_store.as_deref().filter(|helper| !helper.is_empty()) {
            Some(helper) if normal(registry) == "docker.io" => run_helper(file, helper, "https://index.docker.io/v1/"),
            Some(helper) => run_helper(file, helper, registry),
            None => Ok(Credential::Anonymous),
        }
    }
}

impl Entry {
    fn is_empty(&self) -> bool {
        let fields = [&self.auth, &self.username, &self.password, &self.identitytoken];
        fields.into_iter().all(|field| field.as_deref().unwrap_or_default().is_empty())
    }

    fn credential(&self) -> Option<Credential> {
        let filled = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&self.identitytoken) {
            return Some(Credential::Identity(token));
        }
        if let Some(auth) = filled(&self.auth) {
            let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
            let decoded = GeneralPurpose::new(&alphabet::STANDARD, config).decode(auth.trim()).ok()?;
            let text = String::from_utf8(decoded).ok()?;
            let (user, password) = text.trim_end_matches('\0').split_once(':')?;
            return Some(Credential::Password { user: user.to_owned(), password: password.to_owned() });
        }
        Some(Credential::Password { user: filled(&self.username)?, password: filled(&self.password)? })
    }
}

/// The names that an entry for this repository may have, the most particular first.
fn names(registry: &str, repository: &str) -> Vec<String> {
    let host = normal(registry);
    let ends = repository.match_indices('/').map(|(index, _)| index).chain([repository.len()]);
    let mut names: Vec<String> = ends.map(|end| format!("{host}/{}", &repository[..end])).collect();
    names.reverse();
    names.push(host);
    names
}

/// The entry with the most particular name.
fn best<'a, V>(names: &[String], entries: impl Iterator<Item = (&'a String, V)>) -> Option<(&'a String, V)> {
    let ranked = entries.filter_map(|entry| {
        let normal = normal(entry.0);
        Some((names.iter().position(|name| *name == normal)?, entry))
    });
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
}

/// A key as it is compared: without the scheme and the `/v1/` that docker once wrote, and one name for Docker Hub.
fn normal(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = bare.unwrap_or(key).split_once('/').unwrap_or((bare.unwrap_or(key), ""));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    let path = path.trim_end_matches('/');
    if path.is_empty() || bare.is_some() || matches!(path, "v1" | "v2") {
        host.to_owned()
    } else {
        format!("{host}/{path}")
    }
}

/// Asks `docker-credential-<helper>` for what it has under `server`.
fn run_helper(file: &Path, helper: &str, server: &str) -> Result<Credential, CredentialError> {
    let program = format!("docker-credential-{helper}");
    let answer = if helper.contains('/') { Err("its name holds a slash".into()) } else { ask(&program, server) };
    let output =
        answer.map_err(|reason| CredentialError::Helper { file: file.to_owned(), program: program.clone(), reason })?;
    let Some(output) = output else { return Ok(Credential::Anonymous) };
    let answer = serde_json::from_slice::<HelperAnswer>(&output);
    let HelperAnswer { username, secret } = answer.map_err(|_| CredentialError::HelperAnswer { program })?;
    Ok(match username.as_str() {
        "<token>" => Credential::Identity(secret),
        "" if secret.is_empty() => Credential::Anonymous,
        _ => Credential::Password { user: username, password: secret },
    })
}

/// Runs a helper; what it wrote, or nothing when it knows nothing of `server`. The error is its first line.
fn ask(program: &str, server: &str) -> Result<Option<Vec<u8>>, String> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input still has its say.
        let _ = stdin.write_all(server.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(Some(output.stdout));
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if said.contains("credentials not found") {
        return Ok(None);
    }
    Err(said.lines().next().unwrap_or("it failed without a word").trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(json: &str, registry: &str, repository: &str) -> Result<Credential, CredentialError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("auth.json");
        fs::write(&file, json).unwrap();
        CredentialFiles(vec![directory.path().join("missing"), file]).find(registry, repository)
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
    fn a_missing_helper_is_named() {
        let error = find(r#"{"credsStore": "no-such-helper"}"#, "a", "b").unwrap_err().to_string();
        assert!(error.contains("docker-credential-no-such-helper") && error.contains("auth.json"), "{error}");
        assert!(find(r#"{"credHelpers": {"a": "../../bin/sh"}}"#, "a", "b").is_err());
        assert_eq!(find(r#"{"credHelpers": {"other": "none"}}"#, "a", "b").unwrap(), Credential::Anonymous);
    }

    #[test]
    fn helpers_answer_or_do_not() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("helper");
        let script = "#!/bin/sh\nread -r server\ncase $server in\nknown) echo \"$1 $server\";;\n\
                      new) echo 'credentials not found in native keychain'; exit 1;;\n*) echo locked >&2; exit 1;;\nesac\n";
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let program = path.to_str().unwrap();
        assert_eq!(ask(program, "known"), Ok(Some(b"get known\n".to_vec())));
        assert_eq!(ask(program, "new"), Ok(None));
        assert_eq!(ask(program, "other"), Err("locked".into()));
    }
}
