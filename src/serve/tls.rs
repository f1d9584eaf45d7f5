//! HTTPS.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::Explain;

/// The timeout of a TLS handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// The certificate that a server shows, and its key.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// Why there can be no HTTPS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no certificate in PEM.
    #[error("{path} has no certificate")]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// The file is no key in PEM.
    #[error("{path} has no private key")]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The key is another certificate's.
    #[error("the key in {key} does not match the certificate in {certificate}")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate or the key is damaged or of an unsupported kind.
    #[error("cannot use the certificate in {certificate} with the key in {key}")]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl Explain for TlsError {
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Read { .. } | Self::Unusable { .. } => return None,
            Self::Certificate { .. } => {
                "use PEM (-----BEGIN CERTIFICATE-----): the server's certificate first, then its issuers"
            }
            Self::Key { .. } => "use PEM without a password (`openssl pkey` removes it)",
            Self::Mismatch { .. } => "put the server's certificate first in the file",
        };
        Some(text.into())
    }
}

impl Tls {
    /// Reads a chain of certificates, the server's own first, and its key, both in PEM.
    ///
    /// # Errors
    /// When they cannot be read or used, or do not match.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
        let none = || TlsError::Certificate { path: certificate.to_owned() };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(certificate)?).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(none)?;
        let private = PrivateKeyDer::from_pem_slice(&read(key)?);
        let private = private.map_err(|_| TlsError::Key { path: key.to_owned() })?;
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
        match config {
            Ok(mut config) => {
                config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
                Ok(Self(Arc::new(config)))
            }
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch { certificate, key }),
            Err(source) => Err(TlsError::Unusable { certificate, key, source }),
        }
    }
}

impl Tls {
    /// Performs the TLS handshake with a client; `None` if it fails or takes too long.
    pub(super) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        timeout(PATIENCE, TlsAcceptor::from(Arc::clone(&self.0)).accept(stream)).await.ok()?.ok()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
