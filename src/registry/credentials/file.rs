//! Reading of credential files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::account::{Account, best, names, normal};
use super::helper::Helper;
use super::{Credential, CredentialError, Warn};

/// A helper, and its name for an account.
pub(super) type Keeper<'a> = (Helper<'a>, String);

/// The part of a file that is needed here. Other keys belong to others.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AuthFile {
    auths: Option<BTreeMap<String, AuthEntry>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl AuthFile {
    /// The file's content; empty if the file does not exist.
    pub(super) fn read(path: &Path) -> Result<Self, CredentialError> {
        read(path)
    }

    /// Queries the helper of this registry, then the entries of the file, then the helper of all registries. A helper
    /// that is not installed counts as empty, and `warn` receives a warning.
    pub(super) fn find(
        &self,
        file: &Path,
        registry: &str,
        repository: &str,
        warn: &Warn,
    ) -> Result<Credential, CredentialError> {
        let names = names(registry, repository);
        let helpers = self.cred_helpers.iter().flatten().filter(|(_, helper)| !helper.is_empty());
        if let Some((key, helper)) = best(&names, helpers)
            && let Some(found) = installed(Helper::new(file, helper)?.get(key), warn)?
        {
            return Ok(found);
        }
        let auths = self.auths.iter().flatten().filter(|(_, entry)| !entry.is_empty());
        if let Some((key, entry)) = best(&names, auths) {
            let credential = entry.credential();
            return credential.ok_or_else(|| CredentialError::Auth { file: file.to_owned(), key: key.clone() });
        }
        match self.store() {
            Some(helper) => {
                let found = installed(Helper::new(file, helper)?.get(server_of(registry)), warn)?;
                Ok(found.unwrap_or(Credential::Anonymous))
            }
            None => Ok(Credential::Anonymous),
        }
    }

    /// The helper that stores new credentials of `account`, and its name for it; `None` if the file stores them.
    pub(super) fn keeper<'a>(&self, file: &'a Path, account: &Account) -> Result<Option<Keeper<'a>>, CredentialError> {
        let named = self.cred_helpers.iter().flatten().filter(|(_, helper)| !helper.is_empty());
        let (helper, server, whole) = match (best(&account.names(), named), self.store()) {
            (Some((key, helper)), _) => (helper.as_str(), key.as_str(), account.has_key(key)),
            (None, Some(helper)) => (helper, server_of(account.registry()), account.namespace().is_empty()),
            (None, None) => return Ok(None),
        };
        let helper = Helper::new(file, helper)?;
        if whole {
            return Ok(Some((helper, server.to_owned())));
        }
        let (file, account) = (file.to_owned(), account.to_string());
        Err(CredentialError::WholeRegistry { file, program: helper.program, account })
    }

    /// All accounts with an entry or a helper.
    pub(super) fn accounts(&self) -> impl Iterator<Item = Account> {
        let entries = self.auths.iter().flatten().map(|(key, _)| key);
        entries.chain(self.cred_helpers.iter().flatten().map(|(key, _)| key)).map(|key| Account::of_key(key))
    }

    /// The helper for all registries.
    fn store(&self) -> Option<&str> {
        self.creds_store.as_deref().filter(|helper| !helper.is_empty())
    }
}

/// The answer of a helper; `None` if the program is missing, with a warning to `warn`.
fn installed(said: Result<Credential, CredentialError>, warn: &Warn) -> Result<Option<Credential>, CredentialError> {
    match said {
        Err(missing @ CredentialError::NoHelper { .. }) => {
            warn.tell(&format!("{missing}: its credentials are not used"));
            Ok(None)
        }
        said => said.map(Some),
    }
}

/// The content of a JSON file; `None` if it does not exist.
pub(super) fn read<T: Default + DeserializeOwned>(path: &Path) -> Result<T, CredentialError> {
    let error = |reason: String| CredentialError::File { file: path.to_owned(), reason };
    match fs::read(path) {
        Ok(bytes) if bytes.trim_ascii().is_empty() => Ok(T::default()),
        // serde's messages quote values, which may be secret; the place is enough.
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|bad| error(format!("not valid at line {}, column {}", bad.line(), bad.column()))),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(bad) => Err(error(bad.to_string())),
    }
}

/// Docker's name for a registry, in its file and for helpers.
pub(super) fn server_of(registry: &str) -> &str {
    if normal(registry) == "docker.io" { "https://index.docker.io/v1/" } else { registry }
}

impl AuthEntry {
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
