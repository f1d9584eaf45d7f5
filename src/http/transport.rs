//! Failed connections, classified by remedy.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// A connection that failed or broke, or a missing response.
#[derive(Debug, thiserror::Error)]
#[error("no answer from {host}: {reason}")]
pub(crate) struct TransportError {
    /// Host and port.
    pub host: String,
    /// The innermost cause. It contains no address, which may be signed for the user.
    pub reason: String,
    pub problem: TransportProblem,
    /// Whether a later attempt may succeed.
    pub transient: bool,
}

/// Kinds of connection failures that have different remedies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransportProblem {
    /// The host's certificate was not accepted.
    Certificate,
    /// The host's certificate is a certificate authority's, which self-signed certificates are by default.
    Authority,
    /// The host does not accept the client's certificate, or requires one and got none.
    Identity,
    /// The server does not use TLS.
    Protocol,
    /// The two sides have no common TLS parameters.
    Tls,
    /// The connection was refused.
    Refused,
    /// The host name is unknown.
    NoSuchHost,
    /// All transient failures.
    Broken,
}

impl TransportError {
    /// A broken connection or a missing response.
    pub(crate) fn broken(host: impl Into<String>, reason: impl Into<String>) -> Self {
        let (host, reason) = (host.into(), reason.into());
        Self { host, reason, problem: TransportProblem::Broken, transient: true }
    }

    /// The host was silent until the timeout.
    pub(super) fn silence(host: impl Into<String>) -> Self {
        Self::broken(host, "the host sent no data before the timeout")
    }

    /// Classifies an error of the library. `known` says that the host has answered before.
    pub(super) fn of(host: impl Into<String>, error: &reqwest::Error, known: bool) -> Self {
        use TransportProblem as Problem;
        let problem = TransportProblem::of(error);
        let transient = match problem {
            Problem::Certificate | Problem::Authority | Problem::Identity | Problem::Protocol | Problem::Tls => false,
            Problem::Refused | Problem::NoSuchHost => known,
            Problem::Broken => !error.is_builder(),
        };
        Self { host: host.into(), reason: reason(error), problem, transient }
    }

    /// The same error, for a host that is known to require a client certificate.
    pub(super) fn for_identity(self) -> Self {
        Self { problem: TransportProblem::Identity, transient: false, ..self }
    }
}

impl TransportProblem {
    fn of(error: &reqwest::Error) -> Self {
        for cause in causes(error) {
            if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
                return match tls {
                    // Only the text identifies this kind.
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
}

/// Whether this is the alert (RFC 8446, section 6.2) for a missing or unacceptable client certificate.
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

/// The error and its causes, outermost first, including the error inside an [`io::Error`], which is not its source.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    fn next<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    }
    std::iter::successors(Some(error), |error| next(*error))
}

/// The innermost cause of an error of the library. The outermost contains the address, which may be signed for the
/// user.
pub(super) fn reason(error: &reqwest::Error) -> String {
    // For errors of TLS the whole message is more useful than its innermost part.
    let tls = causes(error).find(|cause| cause.is::<rustls::Error>());
    let said = tls.or_else(|| causes(error).skip(1).last());
    said.map_or_else(|| "the request is invalid".to_owned(), ToString::to_string)
}
