//! What went wrong in one exchange with a registry, and what is said about it.

use std::error::Error;
use std::io;
use std::time::Duration;

use oci_client::errors::OciEnvelope;
use reqwest::StatusCode;
use rustls::{AlertDescription, CertificateError};

use crate::content::Cause;

/// A try that failed, and whether another may not.
#[derive(Debug)]
pub(super) struct Fault {
    pub cause: Cause,
    /// Whether the same may work in a while.
    pub transient: bool,
    /// How long the registry asks to wait.
    pub after: Option<Duration>,
    /// The HTTP status, where there was an answer.
    pub status: Option<StatusCode>,
    /// The host speaks TLS, but one of the two did not accept what the other showed.
    pub speaks_tls: bool,
}

/// What a request was about; a 404 means something else each time.
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

impl Fault {
    /// A connection that broke or an answer that did not come.
    pub(super) fn broken(registry: &str, reason: impl Into<String>) -> Self {
        let cause = Cause::Network { registry: registry.to_owned(), reason: reason.into(), hint: None };
        Self { transient: true, ..Self::from(cause) }
    }

    /// Whether the registry says that it is not there.
    pub(super) fn is_not_found(&self) -> bool {
        self.status == Some(StatusCode::NOT_FOUND)
    }

    /// Something wrong about an answer.
    pub(super) fn wrong(message: impl Into<String>) -> Self {
        Self::from(Cause::Other { message: message.into(), hint: None })
    }

    /// An error of the HTTP client. `known` says that this registry has answered before.
    pub(super) fn transport(registry: &str, error: &reqwest::Error, known: bool) -> Self {
        let trouble = Trouble::of(error);
        let cause =
            Cause::Network { registry: registry.to_owned(), reason: reason(error), hint: trouble.hint(registry) };
        let transient = match trouble {
            Trouble::Certificate | Trouble::Authority | Trouble::Identity | Trouble::Protocol | Trouble::Tls => false,
            Trouble::Refused | Trouble::NoSuchHost => known,
            Trouble::Broken => !error.is_builder(),
        };
        let speaks_tls = matches!(trouble, Trouble::Certificate | Trouble::Authority | Trouble::Identity);
        Self { transient, speaks_tls, ..Self::from(cause) }
    }

    /// The same fault, of a host that is known to want the client's certificate.
    pub(super) fn for_identity(mut self, registry: &str) -> Self {
        if let Cause::Network { hint, .. } = &mut self.cause {
            *hint = Trouble::Identity.hint(registry);
        }
        Self { transient: false, speaks_tls: true, ..self }
    }

    /// An answer that is a refusal: `registry` is the host, `body` the beginning of what it said.
    pub(super) fn refusal(registry: &str, subject: Subject, status: StatusCode, body: &[u8]) -> Self {
        let said = registry_message(body);
        let reason = status.canonical_reason().unwrap_or_default();
        let cause = Cause::Status {
            registry: registry.to_owned(),
            status: format!("{} {reason}", status.as_u16()).trim_end().to_owned(),
            detail: if said.is_empty() { said } else { format!(": {said}") },
            hint: hint(registry, subject, status),
        };
        Self { transient: super::retry::is_transient(status), status: Some(status), ..Self::from(cause) }
    }
}

/// The kinds of trouble with a connection that have different remedies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The host's certificate was not accepted.
    Certificate,
    /// The host's certificate is an authority's own, as one that signs itself is unless it is told not to be.
    Authority,
    /// The host does not accept the client's certificate, or wants one and got none.
    Identity,
    /// What answered speaks no TLS.
    Protocol,
    /// The two sides agree on no way to speak TLS.
    Tls,
    /// Nothing listens there.
    Refused,
    /// The name is not known.
    NoSuchHost,
    /// Everything that time may heal.
    Broken,
}

impl Trouble {
    pub(super) fn of(error: &reqwest::Error) -> Self {
        for cause in causes(error) {
            if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
                return match tls {
                    // That kind is known by its text only.
                    rustls::Error::InvalidCertificate(CertificateError::Other(other))
                        if format!("{other:?}").contains("CaUsedAsEndEntity") =>
                    {
                        Self::Authority
                    }
                    rustls::Error::InvalidCertificate(_) => Self::Certificate,
                    rustls::Error::InvalidMessage(_) => Self::Protocol,
                    rustls::Error::AlertReceived(alert) if wants_identity(*alert) => Self::Identity,
                    _ => Self::Tls,
                };
            }
            if cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
                return Self::Refused;
            }
            if cause.to_string().starts_with("dns error") {
                return Self::NoSuchHost;
            }
        }
        Self::Broken
    }

    fn hint(self, registry: &str) -> Option<String> {
        Some(match self {
            Self::Certificate => format!(
                "put the certificate of its issuer in /etc/containers/certs.d/{registry}/ca.crt, or add it to the \
                 system's (update-ca-certificates), or, if you trust the network, use --tls-verify=false or \
                 `insecure = true` for {registry} in registries.conf"
            ),
            Self::Authority => format!(
                "{registry} shows the certificate of an authority as its own; make one for it that is none \
                 (basicConstraints=CA:FALSE) and put it in /etc/containers/certs.d/{registry}/ca.crt, or, if you trust the network, use --tls-verify=false or \
                 `insecure = true` for {registry} in registries.conf"
            ),
            Self::Identity => format!(
                "put a certificate and its key that {registry} accepts, NAME.cert and NAME.key, in \
                 /etc/containers/certs.d/{registry}/"
            ),
            Self::Protocol => format!(
                "{registry} seems to speak plain HTTP: use --tls-verify=false or `insecure = true` in registries.conf"
            ),
            Self::Refused => format!("check that the registry is running at {registry}"),
            Self::NoSuchHost => "check the registry's name, and the network".into(),
            Self::Tls | Self::Broken => return None,
        })
    }
}

/// Whether this is what a host says (RFC 8446, section 6.2) to a client whose certificate it misses or does not like.
fn wants_identity(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
    )
}

/// The error and its causes, outermost first. What an [`io::Error`] wraps is no source of it, but counts here.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    fn next<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    }
    std::iter::successors(Some(error), |error| next(*error))
}

/// What is said about an error of the HTTP client: its innermost cause. The outermost is left out, for it names the
/// address, which may have been signed for the user.
pub(super) fn reason(error: &reqwest::Error) -> String {
    // Of an error of TLS the whole is worth more than its innermost part.
    let tls = causes(error).find(|cause| cause.is::<rustls::Error>());
    let said = tls.or_else(|| causes(error).skip(1).last());
    said.map_or_else(|| "the request can't be made".to_owned(), ToString::to_string)
}

/// What the body of a refusal says, in one line: the registry's messages (distribution-spec, "Error Codes"), a token
/// server's, or plain text. Web pages are left out.
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
            format!("check that you may push to {registry} there, or log in as somebody who may")
        }
        (403, _) => format!("check the repository's name, or log in to {registry} as somebody who may read it"),
        (404, Subject::Manifest) => "check the repository's name and the tag".into(),
        (404, Subject::Upload) => {
            "check the repository's name; some registries want it to be created before the first push".into()
        }
        (413, _) => "the registry, or a proxy in front of it, limits the size of a request; raise that limit".into(),
        (429, _) => format!("wait a while; logging in to {registry} may raise the limit"),
        (500..=599, _) => "the fault is on the registry's side; its log says more".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
