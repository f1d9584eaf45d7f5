//! Credentials that are tried before they are kept.

use super::*;
use crate::registry::{Account, Login, Password};

fn login(user: &str, password: &str) -> Login {
    Login { user: user.into(), password: Password(password.into()) }
}

async fn check(server: &Server, login: &Login) -> Result<bool, ContentError> {
    let account: Account = format!("{}/a", server.address).parse().unwrap();
    Client::new(settings()).unwrap().check(&account, login).await
}

#[tokio::test]
async fn a_token_is_asked_for_without_scope() {
    let server = Server::start(|seen| match (seen.target.as_str(), seen.header("authorization")) {
        ("/token?service=s", BASIC) => Reply::new(200).body(r#"{"token": "good"}"#),
        ("/token?service=s", _) => Reply::new(403).body(r#"{"details": "no such user"}"#),
        ("/v2/", "Bearer good") => Reply::new(200),
        _ => {
            let realm = r#"Bearer realm="/token",service="s",scope="repository:user/image:pull""#;
            Reply::new(401).with("WWW-Authenticate", realm)
        }
    })
    .await;
    assert!(check(&server, &login("user", "secret")).await.unwrap());
    assert_eq!(server.lines(), ["GET /v2/", "GET /token?service=s", "GET /v2/"]);
    let error = check(&server, &login("user", "hunter2")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot log in to {} as user", server.address));
    assert!(error.cause.to_string().ends_with("answered 403 Forbidden: no such user"), "{}", error.cause);
    assert!(error.hint().unwrap().contains("access token"), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_token_must_open_the_registry() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/token" => Reply::new(200).body(r#"{"token": "for nobody"}"#),
        _ => Reply::new(401).with("WWW-Authenticate", r#"Bearer realm="/token""#),
    })
    .await;
    let error = check(&server, &login("user", "secret")).await.unwrap_err();
    assert!(error.cause.to_string().contains("401 Unauthorized"), "{}", error.cause);
}

#[tokio::test]
async fn a_registry_may_ask_for_nothing_or_be_none_or_fail_for_a_while() {
    let open = Server::start(|_| Reply::new(200)).await;
    assert!(!check(&open, &login("user", "secret")).await.unwrap());
    let none = Server::start(|_| Reply::new(404)).await;
    let error = check(&none, &login("user", "secret")).await.unwrap_err();
    assert!(error.hint().unwrap().contains("is not a registry"), "{error:?}");
    let asked = AtomicUsize::new(0);
    let busy = Server::start(move |seen| match (asked.fetch_add(1, Ordering::Relaxed), seen.header("authorization")) {
        (0, _) => Reply::new(503),
        (_, BASIC) => Reply::new(200),
        _ => Reply::new(401).with("WWW-Authenticate", r#"Basic realm="r""#),
    })
    .await;
    assert!(check(&busy, &login("user", "secret")).await.unwrap());
}
