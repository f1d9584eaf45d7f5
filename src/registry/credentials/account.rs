//! Accounts, and the names of their entries.

use std::fmt;
use std::str::FromStr;

use ociforge_manifests::reference::is_host;

use crate::error::Explain;

/// A registry or a namespace in it, the scope of one entry of containers-auth.json(5). As text `HOST[:PORT]` or
/// `HOST[:PORT]/NAMESPACE`; all names of Docker Hub are `docker.io`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account(String);

/// Text that names no registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// It starts with `https://` or another scheme.
    #[error("`{0}` has a scheme")]
    Scheme(String),
    /// It has a tag or a digest.
    #[error("`{0}` names an image")]
    Image(String),
    /// It has an `@`. The text before it may be a password, so it is not repeated.
    #[error("the registry's name has an @")]
    At,
    /// It is invalid in another way.
    #[error("`{0}` is not the name of a registry")]
    Name(String),
}

impl Explain for AccountError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::At => "give the user name with --username".into(),
            _ => "write HOST, HOST:PORT or HOST/NAMESPACE, such as nvcr.io".into(),
        })
    }

    fn is_usage(&self) -> bool {
        true
    }
}

impl Account {
    /// Host and port.
    #[must_use]
    pub fn registry(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(host, _)| host)
    }

    /// The path; empty for the complete registry.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, path)| path)
    }

    /// The account of an entry's key.
    pub(super) fn of_key(key: &str) -> Self {
        Self(normal(key))
    }

    /// Whether this key of an entry is exactly this account.
    pub(super) fn has_key(&self, key: &str) -> bool {
        normal(key) == self.0
    }

    /// The possible keys of entries for this account, the most specific first.
    pub(super) fn names(&self) -> Vec<String> {
        names(self.registry(), self.namespace())
    }
}

impl FromStr for Account {
    type Err = AccountError;

    fn from_str(text: &str) -> Result<Self, AccountError> {
        if text.contains('@') {
            return Err(AccountError::At);
        }
        if text.contains("://") {
            return Err(AccountError::Scheme(text.to_owned()));
        }
        let account = Self(normal(text));
        if account.namespace().contains(':') {
            return Err(AccountError::Image(text.to_owned()));
        }
        let port = account.registry().rsplit_once(':').filter(|_| !account.registry().ends_with(']'));
        let port = port.map_or("0", |(_, port)| port);
        let is_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        let mut parts = account.0.split('/').skip(1);
        let sound = is_host(account.registry())
            && port.parse::<u16>().is_ok()
            && parts.all(|part| !part.is_empty() && part.chars().all(is_path));
        if sound { Ok(account) } else { Err(AccountError::Name(text.to_owned())) }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The possible keys of entries for this repository, the most specific first.
pub(super) fn names(registry: &str, repository: &str) -> Vec<String> {
    let host = normal(registry);
    let ends = repository.match_indices('/').map(|(index, _)| index).chain([repository.len()]);
    let ends = ends.filter(|_| !repository.is_empty());
    let mut names: Vec<String> = ends.map(|end| format!("{host}/{}", &repository[..end])).collect();
    names.reverse();
    names.push(host);
    names
}

/// The entry with the most specific key.
pub(super) fn best<'a, V>(names: &[String], entries: impl Iterator<Item = (&'a String, V)>) -> Option<(&'a String, V)> {
    let ranked = entries.filter_map(|entry| {
        let normal = normal(entry.0);
        Some((names.iter().position(|name| *name == normal)?, entry))
    });
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
}

/// A normalised key: without the scheme and the `/v1/` of older dockers, and with one name for Docker Hub.
pub(super) fn normal(key: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_have_names() {
        for (text, registry, namespace) in [
            ("r.example", "r.example", ""),
            ("r.example:5000/", "r.example:5000", ""),
            ("localhost/ml/train", "localhost", "ml/train"),
            ("index.docker.io", "docker.io", ""),
            ("index.docker.io/v1/", "docker.io", ""),
            ("docker.io/me", "docker.io", "me"),
            ("[::1]:5000/ml", "[::1]:5000", "ml"),
            ("[2001:db8::7]", "[2001:db8::7]", ""),
        ] {
            let account: Account = text.parse().unwrap();
            assert_eq!((account.registry(), account.namespace()), (registry, namespace), "{text}");
        }
        assert_eq!("r.example/a/b".parse::<Account>().unwrap().names(), ["r.example/a/b", "r.example/a", "r.example"]);
        assert_eq!("r.example".parse::<Account>().unwrap().names(), ["r.example"]);
        let error = |text: &str| text.parse::<Account>().unwrap_err();
        assert!(matches!(error("https://r.example"), AccountError::Scheme(_)));
        assert!(matches!(error("r.example/ml:1"), AccountError::Image(_)));
        assert!(!error("https://me:hunter2@r.example").to_string().contains("hunter2"));
        for bad in [
            "",
            "/",
            "r.example:",
            "r.example:99999",
            "[::1]:",
            "[::1",
            "r example",
            "r.example//a",
            "r.example/A",
            "a:b:c",
        ] {
            assert!(matches!(error(bad), AccountError::Name(_)), "{bad}");
        }
    }
}
