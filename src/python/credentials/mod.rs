//! Users and passwords of indexes. Downloads use the same sources of credentials as uv in the resolution.
//!
//! The user and password in a URL have precedence, then those of an index of the same origin in the requirements, in
//! uv's environment variables or in uv's configuration. A server that refuses these gets those of `.netrc` and, for a
//! user without a password, that of the keyring.

mod keyring;
mod uv_settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use netrc::Netrc;
use tokio::sync::Mutex;
use url::Url;

use self::keyring::KeyringCommand;
use self::uv_settings::UvSettings;
use super::Requirements;
use super::resolve::requirements::urls_with_user;
use crate::http::Authorization;

pub(super) use keyring::PROVIDER;

/// Whether uv must query the keyring, so that it finds the same credentials.
pub(super) fn uses_keyring(directory: &Path) -> bool {
    UvSettings::read(directory).keyring
}

/// The sources of users and passwords.
pub struct IndexCredentials {
    /// URLs with a user and an optional password.
    indexes: Vec<Url>,
    netrc: Netrc,
    keyring: Option<KeyringCommand>,
    /// Credentials found after a refusal, by origin.
    asked: Mutex<BTreeMap<String, Option<IndexLogin>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct IndexLogin {
    user: String,
    password: String,
}

impl IndexCredentials {
    /// Reads the environment, uv's configuration for `directory` (the recipe's), and the requirements.
    #[must_use]
    pub fn find<'a>(requirements: impl IntoIterator<Item = &'a Requirements>, directory: &Path) -> Self {
        let UvSettings { mut indexes, keyring } = UvSettings::read(directory);
        indexes.extend(requirements.into_iter().flat_map(|requirements| urls_with_user(requirements, directory)));
        Self::new(indexes, netrc_file().as_deref(), keyring.then(KeyringCommand::default))
    }

    fn new(indexes: Vec<Url>, netrc: Option<&Path>, keyring: Option<KeyringCommand>) -> Self {
        // As in pip and uv, an unreadable file counts as missing.
        let netrc = netrc.and_then(|file| std::fs::read_to_string(file).ok()?.parse().ok());
        Self { indexes, netrc: netrc.unwrap_or_default(), keyring, asked: Mutex::default() }
    }

    /// `url` with its own credentials, or else with those of its server that are known without a query.
    pub(super) async fn complete(&self, url: &Url) -> Url {
        if has_user(url) {
            return url.clone();
        }
        let asked = self.asked.lock().await.get(&origin(url)).cloned().flatten();
        match (asked, self.index(url)) {
            (Some(login), _) => with(url, &login.user, Some(&login.password)),
            (None, Some(index)) => with(url, index.username(), index.password()),
            (None, None) => url.clone(),
        }
    }

    /// `url` with other credentials, after its server refused the first ones; `None` if there are none.
    pub(super) async fn other(&self, url: &Url) -> Option<Url> {
        let mut asked = self.asked.lock().await;
        let found = match asked.get(&origin(url)) {
            Some(found) => found.clone(),
            None => {
                let found = self.ask(url).await;
                asked.insert(origin(url), found.clone());
                found
            }
        };
        let completed = found.map(|login| with(url, &login.user, Some(&login.password)));
        completed.filter(|completed| completed != url)
    }

    async fn ask(&self, url: &Url) -> Option<IndexLogin> {
        let index = self.index(url);
        let user = [Some(url), index].into_iter().flatten().map(Url::username).find(|user| !user.is_empty());
        let user = user.map(decoded);
        let host = url.host_str()?;
        let entry = self.netrc.hosts.get(host).or_else(|| self.netrc.hosts.get("default"));
        let entry = entry.map(|entry| IndexLogin { user: entry.login.clone(), password: entry.password.clone() });
        if let Some(login) = entry.filter(|login| user.as_ref().is_none_or(|user| *user == login.user)) {
            return Some(login);
        }
        let (keyring, user) = (self.keyring.as_ref()?, user?);
        let password = keyring.password(index.unwrap_or(url), &user).await?;
        Some(IndexLogin { user, password })
    }

    /// The index of the same origin with the longest common path.
    fn index(&self, url: &Url) -> Option<&Url> {
        let common = |index: &Url| index.path().bytes().zip(url.path().bytes()).take_while(|(a, b)| a == b).count();
        let of_origin = self.indexes.iter().filter(|index| index.origin() == url.origin());
        // The first of several equal ones.
        of_origin.rev().max_by_key(|index| common(index))
    }
}

/// The path of `.netrc`.
fn netrc_file() -> Option<PathBuf> {
    let named = std::env::var_os("NETRC").filter(|file| !file.is_empty()).map(PathBuf::from);
    named.or_else(|| std::env::home_dir().map(|home| home.join(".netrc")))
}

/// The URL without its user and password, and the authorization of a request with them.
pub(super) fn authorization(url: &Url) -> (Url, Authorization) {
    if !has_user(url) {
        return (url.clone(), Authorization::Anonymous);
    }
    let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
    (with(url, "", None), Authorization::Basic(user, password))
}

fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The URL with this user and password.
fn with(url: &Url, user: &str, password: Option<&str>) -> Url {
    let mut url = url.clone();
    // These fail only for URLs without a host, which no request has. Percent-encoded characters stay.
    let _ = url.set_username(user);
    let _ = url.set_password(password);
    url
}

/// A percent-decoded user or password of a URL.
fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests;
