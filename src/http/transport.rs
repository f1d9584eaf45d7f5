//! Connections that can't be made, or that break: the kinds of trouble that have different remedies.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// A connection that could not be made or broke, or an answer that did not come.
#[derive(Debug, thiserror::Error)]
#[error("no answer from {host}: {reason}")]
pub(crate) struct TransportError {
    /// Host and port.
    pub host: String,
    /// The innermost reason. It names no address: that may have been signed for the user.
    pub reason: String,
    pub problem: TransportProblem,
    /// Whether the same may work in a while.
    pub transient: bool,
}

/// The kinds of trouble with a connection that have different remedies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransportProblem {
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

impl TransportError {
    /// A connection that broke or an answer that did not come.
    pub(crate) fn broken(host: impl Into<String>, reason: impl Into<String>) -> Self {
        let (host, reason) = (host.into(), reason.into());
        Self { host, reason, problem: TransportProblem::Broken, transient: true }
    }

    /// The host let the longest time pass in which nothing came or went.
    pub(super) fn silence(host: impl Into<String>) -> Self {
        Self::broken(host, "the host sent no data before the timeout")
    }

    /// An error of the library. `known` says that the host has answered before.
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

    /// The same error, of a host that is known to want the client's certificate.
    pub(super) fn for_identity(self) -> Self {
        Self { problem: TransportProblem::Identity, transient: false, ..self }
    }
}

impl TransportProblem {
    fn of(error: &reqwest::Error) -> Self {
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

/// What is said about an error of the library: its innermost cause. The outermost is left out, for it names the
/// address, which may have been signed for the user.
pub(super) fn reason(error: &reqwest::Error) -> String {
    // Of an error of TLS the whole is worth more than its innermost part.
    let tls = causes(error).find(|cause| cause.is::<rustls::Error>());
    let said = tls.or_else(|| causes(error).skip(1).last());
    said.map_or_else(|| "the request is invalid".to_owned(), ToString::to_string)
}
