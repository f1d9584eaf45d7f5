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

/// How long a client may take to agree on keys.
const PATIENCE: Duration = Duration::from_secs(10);

/// The certificate that a server shows, and its key.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// Why there can be no HTTPS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no certificate in PEM.
    #[error("there is no certificate in {path}")]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// The file is no key in PEM.
    #[error("there is no private key in {path}")]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The key is another certificate's.
    #[error("the key in {key} does not fit the certificate in {certificate}")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate or the key is of a kind that can't be used, or damaged.
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
                "it has to be in PEM (-----BEGIN CERTIFICATE-----), the server's own first, then those that signed it"
            }
            Self::Key { .. } => "it has to be in PEM, without a password (`openssl pkey` takes one away)",
            Self::Mismatch { .. } => "the server's own certificate has to be the first in its file",
        };
        Some(text.into())
    }
}

impl Tls {
    /// Reads a chain of certificates, the server's own first, and its key, both in PEM.
    ///
    /// # Errors
    /// When they can't be read or used, or don't fit each other.
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
    /// Agrees on keys with a client. Nothing comes of it when the client can't, or takes too long.
    pub(super) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        timeout(PATIENCE, TlsAcceptor::from(Arc::clone(&self.0)).accept(stream)).await.ok()?.ok()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
