//! Challenges of registries (RFC 9110, section 11; distribution's token specification).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use http_auth::ChallengeParser;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use url::Url;

/// A challenge of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token of a token server.
    Bearer {
        /// The token server's address.
        realm: Url,
        /// The name of the registry at the token server. nvcr.io, for example, has no name.
        service: Option<String>,
        /// The scope that the registry requests.
        scopes: Scopes,
    },
    /// User name and password.
    Basic,
}

impl Challenge {
    /// The challenge in an answer of the registry at `base`: a token where both ways are offered.
    pub(super) fn read(headers: &HeaderMap, base: &Url) -> Option<Self> {
        let mut basic = None;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            // An invalid value may be beside a valid one.
            for challenge in ChallengeParser::new(value.to_str().unwrap_or_default()).map_while(Result::ok) {
                let parameter = |name: &str| {
                    let mut named = challenge.params.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
                    named.next().map(|(_, value)| value.to_unescaped()).filter(|value| !value.is_empty())
                };
                if challenge.scheme.eq_ignore_ascii_case("Basic") {
                    basic = Some(Self::Basic);
                } else if challenge.scheme.eq_ignore_ascii_case("Bearer") {
                    let realm = parameter("realm").and_then(|realm| base.join(&realm).ok());
                    if let Some(realm) = realm.filter(|realm| matches!(realm.scheme(), "https" | "http")) {
                        let mut scopes = Scopes::default();
                        scopes.add(&parameter("scope").unwrap_or_default());
                        return Some(Self::Bearer { realm, service: parameter("service"), scopes });
                    }
                }
            }
        }
        basic
    }
}

/// The scopes of a token: actions by resource, such as `pull` by `repository:ml/train`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// Reading from a repository.
    pub(super) fn pull(repository: &str) -> Self {
        let mut scopes = Self::default();
        scopes.add(&format!("repository:{repository}:pull"));
        scopes
    }

    /// Writing to a repository, which includes reading from it.
    pub(super) fn push(repository: &str) -> Self {
        let mut scopes = Self::default();
        scopes.add(&format!("repository:{repository}:pull,push"));
        scopes
    }

    /// Deletion from a repository, which also requires pull.
    pub(super) fn delete(repository: &str) -> Self {
        let mut scopes = Self::push(repository);
        scopes.add(&format!("repository:{repository}:delete"));
        scopes
    }

    /// Both of them.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.merge(other);
        self
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (resource, actions) in other.0 {
            self.0.entry(resource).or_default().extend(actions);
        }
    }

    /// One text per resource, in the form of token servers.
    pub(super) fn texts(&self) -> impl Iterator<Item = String> {
        let joined = |actions: &BTreeSet<String>| actions.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        self.0.iter().map(move |(resource, actions)| format!("{resource}:{}", joined(actions)))
    }

    /// Adds scopes that are written as in a challenge, with spaces between them.
    fn add(&mut self, text: &str) {
        for (resource, actions) in text.split_whitespace().filter_map(|scope| scope.rsplit_once(':')) {
            let known = self.0.entry(resource.to_owned()).or_default();
            known.extend(actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned));
        }
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts().collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::read(&headers, &"https://r.example/v2/".parse().unwrap())
    }

    #[test]
    fn challenges_are_read() {
        let Some(Challenge::Bearer { realm, service, scopes }) =
            read(&[r#"Bearer realm="https://nvcr.io/proxy_auth",scope="repository:nvidia/pytorch:pull,push""#])
        else {
            panic!("no bearer challenge");
        };
        assert_eq!((realm.as_str(), service), ("https://nvcr.io/proxy_auth", None));
        assert_eq!(scopes, Scopes::push("nvidia/pytorch"));
        assert_eq!(read(&[r#"Basic realm="Registry Realm""#]), Some(Challenge::Basic));
        let both =
            read(&[r#"Basic realm="x""#, r#"bearer Realm="/token",service="s e",scope="a:b:* repository:c:pull""#]);
        let Some(Challenge::Bearer { realm, service, scopes }) = both else { panic!("no bearer challenge") };
        assert_eq!((realm.as_str(), service.as_deref()), ("https://r.example/token", Some("s e")));
        assert_eq!(scopes.to_string(), "a:b:* repository:c:pull");
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        for bad in
            ["", "Bearer", "Negotiate", r#"Bearer realm="ftp://a/b""#, r#"Bearer service="s""#, "Bearer realm=\"x"]
        {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn scopes_join() {
        let mut scopes = Scopes::push("a/b").and(Scopes::pull("c"));
        scopes.merge(Scopes::pull("a/b"));
        assert_eq!(scopes.to_string(), "repository:a/b:pull,push repository:c:pull");
    }
}
