//! The faults of an exchange with a registry, and their messages.

use std::time::Duration;

use oci_client::errors::OciEnvelope;
use reqwest::StatusCode;

use crate::content::{Cause, cause_of};
use crate::http::{
    HttpError, HttpResponse, RetryAdvice, RetryableError, TransportError, TransportProblem, in_words, is_transient,
};

/// The maximum size in bytes of a refusal's body.
const MAX_REFUSAL: u64 = 64 << 10;
/// The timeout for a refusal's body.
const REFUSAL_TIME: Duration = Duration::from_secs(10);

/// A try that failed, and whether another may not.
#[derive(Debug)]
pub(super) struct Fault {
    pub cause: Cause,
    /// Whether the same may work in a while.
    pub transient: bool,
    /// The pause that the registry requests.
    pub after: Option<Duration>,
    /// The HTTP status, where there was an answer.
    pub status: Option<StatusCode>,
    /// The host speaks TLS, but one side rejected the other's certificate.
    pub speaks_tls: bool,
}

/// The subject of a request, which determines the meaning of a 404.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Manifest,
    Blob,
    Upload,
    Token,
}

impl From<Cause> for Fault {
    /// A fault that stays one, however often it is tried.
    fn from(cause: Cause) -> Self {
        Self { cause, transient: false, after: None, status: None, speaks_tls: false }
    }
}

impl From<TransportError> for Fault {
    fn from(error: TransportError) -> Self {
        use TransportProblem as Problem;
        let speaks_tls = matches!(error.problem, Problem::Certificate | Problem::Authority | Problem::Identity);
        let (hint, transient) = (remedy(error.problem, &error.host), error.transient);
        let cause = Cause::Network { registry: error.host, reason: error.reason, hint };
        Self { transient, speaks_tls, ..Self::from(cause) }
    }
}

impl From<HttpError> for Fault {
    fn from(error: HttpError) -> Self {
        let other = |message: String, hint: &str| Cause::Other { message, hint: Some(hint.to_owned()) };
        Self::from(match error {
            HttpError::Transport(error) => return error.into(),
            HttpError::BadAnswer(message) => Cause::Other { message, hint: None },
            HttpError::TooLarge { size, limit } => Cause::TooLarge { size, limit },
            HttpError::Io(error) => cause_of(error),
            HttpError::Tls { .. } => other(
                error.to_string(),
                "install the system's certificates (package ca-certificates), or use --tls-verify=false",
            ),
            HttpError::Certificates(message) => {
                other(message, "the format of the directory is that of containers-certs.d(5)")
            }
        })
    }
}

impl Fault {
    /// A broken connection or a missing answer.
    pub(super) fn broken(registry: &str, reason: impl Into<String>) -> Self {
        TransportError::broken(registry, reason).into()
    }

    /// Whether the registry answered that the content does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        self.status == Some(StatusCode::NOT_FOUND)
    }

    /// Something wrong about an answer.
    pub(super) fn wrong(message: impl Into<String>) -> Self {
        Self::from(Cause::Other { message: message.into(), hint: None })
    }

    /// The answer as a refusal by `registry`. Its body is read only for a limited time.
    pub(super) async fn refused(mut answer: HttpResponse, registry: &str, subject: Subject) -> Self {
        let body = answer.beginning(MAX_REFUSAL, REFUSAL_TIME).await;
        Self { after: answer.retry_after(), ..Self::refusal(registry, subject, answer.status(), &body) }
    }

    /// A refusal: `registry` is the host, `body` the beginning of the answer's body.
    pub(super) fn refusal(registry: &str, subject: Subject, status: StatusCode, body: &[u8]) -> Self {
        let said = registry_message(body);
        let reason = status.canonical_reason().unwrap_or_default();
        let cause = Cause::Status {
            registry: registry.to_owned(),
            status: format!("{} {reason}", status.as_u16()).trim_end().to_owned(),
            detail: if said.is_empty() { said } else { format!(": {said}") },
            hint: hint(registry, subject, status),
        };
        Self { transient: is_transient(status), status: Some(status), ..Self::from(cause) }
    }
}

impl RetryableError for Fault {
    fn retry_advice(&self) -> Option<RetryAdvice> {
        let whole_host = self.status == Some(StatusCode::TOO_MANY_REQUESTS);
        self.transient.then_some(RetryAdvice { after: self.after, whole_host })
    }

    fn postponed(mut self, after: Duration) -> Self {
        if let Cause::Status { hint, .. } = &mut self.cause {
            let also = hint.take().map(|hint| format!("; {hint}")).unwrap_or_default();
            *hint = Some(format!("the registry asks to wait {}{also}", in_words(after)));
        }
        self
    }
}

/// The hint for a failed connection to a registry.
fn remedy(problem: TransportProblem, registry: &str) -> Option<String> {
    Some(match problem {
        TransportProblem::Certificate => format!(
            "put the certificate of its issuer in /etc/containers/certs.d/{registry}/ca.crt, or add it to the \
             system's (update-ca-certificates), or, if you trust the network, use --tls-verify=false or \
             `insecure = true` for {registry} in registries.conf"
        ),
        TransportProblem::Authority => format!(
            "{registry} uses the certificate of an authority as its own; create a server certificate \
                (basicConstraints=CA:FALSE) for it and put it in /etc/containers/certs.d/{registry}/ca.crt, or, if \
                you trust the network, use --tls-verify=false or `insecure = true` for {registry} in registries.conf"
        ),
        TransportProblem::Identity => format!(
            "put a certificate and its key that {registry} accepts, NAME.cert and NAME.key, in \
             /etc/containers/certs.d/{registry}/"
        ),
        TransportProblem::Protocol => format!(
            "{registry} seems to speak plain HTTP: use --tls-verify=false or `insecure = true` in registries.conf"
        ),
        TransportProblem::Refused => format!("check that the registry is running at {registry}"),
        TransportProblem::NoSuchHost => "check the registry's name, and the network".into(),
        TransportProblem::Tls | TransportProblem::Broken => return None,
    })
}

/// The message in the body of a refusal, in one line: the registry's errors (distribution-spec, "Error Codes"), a token
/// server's message, or plain text. Web pages are ignored.
fn registry_message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut message = if let Ok(envelope) = serde_json::from_str::<OciEnvelope>(&text) {
        let messages = envelope.errors.iter().map(|error| {
            let code = serde_json::to_value(&error.code).unwrap_or_default();
            if error.message.is_empty() { code.as_str().unwrap_or_default().to_owned() } else { error.message.clone() }
        });
        messages.collect::<Vec<_>>().join("; ")
    } else if let Ok(json) = serde_json::from_str::<serde_json::Value>(&text) {
        let field = |name: &str| json.get(name).and_then(|value| value.as_str());
        let known = ["error_description", "details", "message", "error", "errors"].into_iter().find_map(field);
        known.unwrap_or_default().to_owned()
    } else if text.trim_start().starts_with('<') {
        String::new()
    } else {
        text.lines().next().unwrap_or_default().to_owned()
    };
    message.retain(|c| !c.is_control() && c != char::REPLACEMENT_CHARACTER);
    if let Some((end, _)) = message.char_indices().nth(300) {
        message.truncate(end);
        message.push('…');
    }
    message.trim().to_owned()
}

fn hint(registry: &str, subject: Subject, status: StatusCode) -> Option<String> {
    Some(match (status.as_u16(), subject) {
        (401, _) | (403, Subject::Token) => {
            format!("log in with `ociforge login {registry}`, or name a file of credentials with --authfile")
        }
        (403, Subject::Upload) => {
            format!("check that you can push to this repository of {registry}, or log in as another user")
        }
        (403, _) => format!("check the repository's name, or log in to {registry} as a user who can read it"),
        (404, Subject::Manifest) => "check the repository's name and the tag".into(),
        (404, Subject::Upload) => "check the repository's name; some registries need an existing repository".into(),
        (413, _) => "the registry, or a proxy in front of it, limits the size of a request; raise that limit".into(),
        (429, _) => format!("try again later; a login to {registry} may raise the limit"),
        (500..=599, _) => "the registry failed: see its log".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Explain;

    fn text(status: u16, body: &str) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        Fault::refusal("r.example", Subject::Manifest, status, body.as_bytes()).cause.to_string()
    }

    #[test]
    fn the_registry_speaks_for_itself_in_one_line() {
        let envelope = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest\nunknown"},{"code":"ODD"}]}"#;
        assert_eq!(text(404, envelope), "r.example answered 404 Not Found: manifestunknown; ODD");
        assert_eq!(text(401, r#"{"details":"wrong password"}"#), "r.example answered 401 Unauthorized: wrong password");
        assert_eq!(text(502, "<html><body>Bad gateway</body></html>"), "r.example answered 502 Bad Gateway");
        assert_eq!(text(500, "oops\nstack trace"), "r.example answered 500 Internal Server Error: oops");
        assert_eq!(text(503, "\u{1b}[31mred"), "r.example answered 503 Service Unavailable: [31mred");
        assert_eq!(text(599, "[1"), "r.example answered 599: [1");
        assert!(text(500, &"é".repeat(5000)).chars().count() < 400);
        assert_eq!(text(500, r#"{"errors":[]}"#), "r.example answered 500 Internal Server Error");
    }

    #[test]
    fn a_registry_that_asks_for_a_long_pause_is_quoted() {
        for (seconds, said) in [(90, "90 seconds; try again later"), (21_601, "361 minutes; try again later")] {
            let refused = Fault::refusal("r.example", Subject::Blob, StatusCode::TOO_MANY_REQUESTS, b"");
            let hint = refused.postponed(Duration::from_secs(seconds)).cause.of("x").hint().unwrap();
            assert!(hint.starts_with(&format!("the registry asks to wait {said}")), "{hint}");
        }
    }
}
