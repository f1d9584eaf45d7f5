//! Check of credentials by a registry.

use std::sync::Arc;

use reqwest::{Method, StatusCode};

use super::auth::TokenSession;
use super::challenge::{Challenge, Scopes};
use super::client::Client;
use super::credentials::{Account, Credential, Login};
use super::endpoint::Endpoint;
use super::fault::{Fault, Subject};
use crate::content::{Cause, ContentError};
use crate::http::{Authorization, HttpRequest};

impl Client {
    /// Checks `login` with the registry of `account`: by `GET /v2/` (distribution-spec, end-1), with the password or
    /// with a token of the registry's token server. `false` means that the registry accepts anonymous requests, so the
    /// login is not checked. Nothing is stored.
    ///
    /// # Errors
    /// When the credentials are refused, or the registry cannot be reached.
    pub async fn check(&self, account: &Account, login: &Login) -> Result<bool, ContentError> {
        let endpoint = self.endpoint(account.registry());
        let attempt = || async {
            let checked = check(&endpoint, account.registry(), login).await;
            checked.map_err(|fault| explained(fault, account.registry(), &login.user))
        };
        let operation = || format!("log in to {} as {}", account.registry(), login.user);
        endpoint.retries().run(attempt).await.map_err(|fault| fault.cause.of(operation()))
    }
}

async fn check(endpoint: &Arc<Endpoint>, registry: &str, login: &Login) -> Result<bool, Fault> {
    let base = endpoint.base().await?;
    let ask = async |auth: &Authorization| {
        let mut call = HttpRequest::new(Method::GET, base.clone());
        call.authorization = auth;
        endpoint.call(call).await
    };
    let open = ask(&Authorization::Anonymous).await?;
    let challenge = Challenge::read(open.headers(), base).filter(|_| open.status() == StatusCode::UNAUTHORIZED);
    let challenge = match challenge {
        Some(Challenge::Basic) => Challenge::Basic,
        // Some registries name the scope of an example repository that nobody can read.
        Some(Challenge::Bearer { realm, service, .. }) => {
            Challenge::Bearer { realm, service, scopes: Scopes::default() }
        }
        None if open.status().is_success() => return Ok(false),
        None => return Err(Fault::refused(open, registry, Subject::Token).await),
    };
    let Login { user, password } = login;
    let credential = Credential::Password { user: user.clone(), password: password.0.clone() };
    let (session, scopes) = (TokenSession::of(registry, credential), Scopes::default());
    session.challenged(challenge, &scopes, &Authorization::Anonymous).await;
    let auth = session.authorization(&endpoint.http, base, &scopes, false).await?;
    let answer = ask(&auth).await?;
    if answer.status().is_success() { Ok(true) } else { Err(Fault::refused(answer, registry, Subject::Token).await) }
}

/// The fault with a hint for a user who is logging in.
fn explained(mut fault: Fault, registry: &str, user: &str) -> Fault {
    let better = match fault.status.map(|status| status.as_u16()) {
        Some(401 | 403) if registry == "nvcr.io" && user != "$oauthtoken" => {
            "the user of this registry is always $oauthtoken, and the password is an NGC API key: use -u '$oauthtoken'"
        }
        Some(401 | 403) => {
            "check the user's name and the password; many registries want an access token in place of the password"
        }
        Some(404) => "check the registry's host and port: the server there is not a registry",
        _ => return fault,
    };
    if let Cause::Status { hint, .. } = &mut fault.cause {
        *hint = Some(better.into());
    }
    fault
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Explain;

    #[test]
    fn hints_are_for_who_logs_in_already() {
        let hint = |status: StatusCode, registry: &str, user: &str| {
            let fault = Fault::refusal(registry, Subject::Token, status, b"");
            explained(fault, registry, user).cause.of("x").hint()
        };
        assert!(hint(StatusCode::UNAUTHORIZED, "nvcr.io", "me").unwrap().ends_with("use -u '$oauthtoken'"));
        assert!(hint(StatusCode::FORBIDDEN, "nvcr.io", "$oauthtoken").unwrap().starts_with("check the user's name"));
        assert!(!hint(StatusCode::UNAUTHORIZED, "r.example", "me").unwrap().contains("ociforge login"));
        assert_eq!(hint(StatusCode::CONFLICT, "r.example", "me"), None);
    }
}
