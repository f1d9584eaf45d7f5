//! Tokens: fetched on a challenge, cached while they are valid, renewed before they expire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use super::challenge::{Challenge, Scopes};
use super::credentials::{Credential, CredentialFiles};
use super::fault::{Fault, Subject};
use crate::content::Cause;
use crate::http::{Authorization, HttpClient, HttpRequest, Payload, host_of, is_loopback};

/// The default lifetime of a token (distribution's token specification).
const DEFAULT_LIFETIME: u64 = 60;
/// Longest answer of a token server that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// The authentication for one repository of one registry. The first challenge of the registry is kept: nvcr.io, for
/// example, later names a token server that does not work.
pub(super) struct TokenSession {
    registry: String,
    repository: String,
    files: CredentialFiles,
    credential: OnceCell<Credential>,
    challenge: Mutex<Option<Challenge>>,
    slots: Mutex<HashMap<Scopes, Arc<TokenSlot>>>,
}

/// The token for some scopes. The holder of the lock fetches it; the others wait and share it.
#[derive(Default)]
struct TokenSlot {
    token: tokio::sync::Mutex<Option<Token>>,
    /// Additional scopes that the registry requested.
    extra: Mutex<Scopes>,
}

#[derive(Clone)]
struct Token {
    text: String,
    from: Instant,
    lifetime: Duration,
}

/// A token server's answer. Some call the token by the one name, some by the other.
#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

impl Token {
    /// Whether the token is valid and, before a long upload, has at least half of its lifetime left.
    fn is_fresh(&self, long: bool) -> bool {
        let margin = if long { self.lifetime / 2 } else { (self.lifetime / 10).min(Duration::from_secs(5)) };
        self.from.elapsed() + margin < self.lifetime
    }
}

impl TokenSession {
    pub(super) fn new(registry: &str, repository: &str, files: CredentialFiles) -> Self {
        Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            files,
            credential: OnceCell::new(),
            challenge: Mutex::new(None),
            slots: Mutex::new(HashMap::new()),
        }
    }

    /// The authentication with this credential to a registry, without a repository.
    pub(super) fn of(registry: &str, credential: Credential) -> Self {
        Self { credential: credential.into(), ..Self::new(registry, "", CredentialFiles::default()) }
    }

    /// The authorization of a request to the registry at `base`, if the registry's challenge is known. `long` means a
    /// long request.
    pub(super) async fn authorization(
        &self,
        http: &HttpClient,
        base: &Url,
        scopes: &Scopes,
        long: bool,
    ) -> Result<Authorization, Fault> {
        let challenge = lock(&self.challenge).clone();
        match challenge {
            None => Ok(Authorization::Anonymous),
            Some(Challenge::Basic) => Ok(match self.credential().await? {
                Credential::Password { user, password } => Authorization::Basic(user.clone(), password.clone()),
                Credential::Anonymous | Credential::Identity(_) => Authorization::Anonymous,
            }),
            Some(Challenge::Bearer { realm, service, .. }) => {
                let slot = self.slot(scopes);
                let mut kept = slot.token.lock().await;
                if let Some(token) = kept.as_ref().filter(|token| token.is_fresh(long)) {
                    return Ok(Authorization::Bearer(token.text.clone()));
                }
                let wanted = scopes.clone().and(lock(&slot.extra).clone());
                let token = self.request_token(http, base, &realm, service.as_deref(), &wanted).await?;
                Ok(Authorization::Bearer(kept.insert(token).text.clone()))
            }
        }
    }

    /// Processes the challenge of a 401 answer to a request with `used`, which is dropped if it is a token.
    pub(super) async fn challenged(&self, challenge: Challenge, scopes: &Scopes, used: &Authorization) {
        if let Challenge::Bearer { scopes: asked, .. } = &challenge {
            let slot = self.slot(scopes);
            lock(&slot.extra).merge(asked.clone());
            let mut kept = slot.token.lock().await;
            if kept.as_ref().is_some_and(|token| matches!(used, Authorization::Bearer(text) if *text == token.text)) {
                *kept = None;
            }
        }
        let mut known = lock(&self.challenge);
        if !matches!(*known, Some(Challenge::Bearer { .. })) {
            *known = Some(challenge);
        }
    }

    fn slot(&self, scopes: &Scopes) -> Arc<TokenSlot> {
        Arc::clone(lock(&self.slots).entry(scopes.clone()).or_default())
    }

    async fn credential(&self) -> Result<&Credential, Cause> {
        let find = || async {
            let (files, registry, repository) = (self.files.clone(), self.registry.clone(), self.repository.clone());
            let search = tokio::task::spawn_blocking(move || files.find(&registry, &repository));
            Ok(search
                .await
                .map_err(|_| Cause::Io(std::io::Error::other("the search for credentials was interrupted")))??)
        };
        self.credential.get_or_try_init(find).await
    }

    async fn request_token(
        &self,
        http: &HttpClient,
        base: &Url,
        realm: &Url,
        service: Option<&str>,
        scopes: &Scopes,
    ) -> Result<Token, Fault> {
        let credential = self.credential().await?;
        if *credential != Credential::Anonymous && !may_have_credentials(realm, base) {
            let message =
                format!("{} asks to send the credentials over plain HTTP to {}", self.registry, host_of(realm));
            return Err(Fault::wrong(message));
        }
        let (mut url, mut form, mut auth) = (realm.clone(), None, Authorization::Anonymous);
        if let Credential::Identity(token) = credential {
            form = Some(refresh_form(service, scopes, token));
        } else {
            let scopes = scopes.texts().map(|text| ("scope", text));
            url.query_pairs_mut().extend_pairs(service.map(|name| ("service", name))).extend_pairs(scopes);
            if let Credential::Password { user, password } = credential {
                auth = Authorization::Basic(user.clone(), password.clone());
            }
        }
        let mut call = HttpRequest::new(if form.is_some() { Method::POST } else { Method::GET }, url);
        call.authorization = &auth;
        call.for_token = true;
        // The registry names it.
        call.known = true;
        if let Some(form) = &form {
            call.payload = Payload::Bytes(form);
            call.set("content-type", "application/x-www-form-urlencoded");
        }
        let from = Instant::now();
        let mut answer = http.send(&call).await?;
        if answer.status() != StatusCode::OK {
            return Err(Fault::refused(answer, &self.registry, Subject::Token).await);
        }
        // Not every server calls its JSON by that name: nvcr.io's was text for a while.
        let answer: Option<TokenResponse> = serde_json::from_slice(&answer.read(MAX_ANSWER).await?).ok();
        let text =
            answer.as_ref().and_then(|a| [&a.token, &a.access_token].into_iter().flatten().find(|t| !t.is_empty()));
        let text =
            text.ok_or_else(|| Fault::wrong(format!("the token server of {} returned no token", self.registry)))?;
        let seconds = answer.as_ref().and_then(|a| a.expires_in).filter(|seconds| *seconds > 0.0);
        let lifetime = seconds.map_or(DEFAULT_LIFETIME, |seconds| seconds.min(86_400.0) as u64);
        Ok(Token { text: text.clone(), from, lifetime: Duration::from_secs(lifetime) })
    }
}

/// Whether the user's credentials for the registry at `base` may be sent to `realm`: over plain HTTP only if the
/// registry uses plain HTTP itself, or is this machine.
fn may_have_credentials(realm: &Url, base: &Url) -> bool {
    realm.scheme() == "https" || base.scheme() == "http" || is_loopback(base.host_str().unwrap_or_default())
}

/// The request for a token by a refresh token (OAuth 2, RFC 6749, section 6).
fn refresh_form(service: Option<&str>, scopes: &Scopes, token: &str) -> bytes::Bytes {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token").append_pair("client_id", "ociforge");
    if let Some(service) = service {
        form.append_pair("service", service);
    }
    form.append_pair("scope", &scopes.to_string()).append_pair("refresh_token", token);
    form.finish().into()
}

/// The value, even after a panic of a thread that held it: each of these values is always consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_do_not_go_from_tls_to_plain_http() {
        for (base, realm, may) in [
            ("https://nvcr.io/v2/", "https://authn.example/token", true),
            ("https://nvcr.io/v2/", "http://nvcr.io/token", false),
            ("https://nvcr.io/v2/", "http://127.0.0.1:8080/token", false),
            ("http://r.example:5000/v2/", "http://auth.example/token", true),
            ("https://localhost:5000/v2/", "http://localhost:5001/token", true),
        ] {
            assert_eq!(may_have_credentials(&realm.parse().unwrap(), &base.parse().unwrap()), may, "{base} {realm}");
        }
    }

    #[test]
    fn tokens_age() {
        let token =
            |seconds| Token { text: String::new(), from: Instant::now(), lifetime: Duration::from_secs(seconds) };
        assert!(token(60).is_fresh(true) && !token(0).is_fresh(false));
        let mut old = token(60);
        old.from = old.from.checked_sub(Duration::from_secs(40)).unwrap();
        assert!(old.is_fresh(false) && !old.is_fresh(true));
    }
}
