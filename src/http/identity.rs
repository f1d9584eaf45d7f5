//! Whether a host requests client certificates. A host that requires one may close the connection without an alert.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

/// Timeout of the handshake.
const TIME: Duration = Duration::from_secs(5);

/// Whether the host in `url` requests a certificate in the TLS handshake. Sends no application data.
pub(super) async fn requests_certificate(url: &Url) -> bool {
    let asked = Arc::new(CertificateRequest(AtomicBool::new(false)));
    let shake_hands = async {
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let stream = TcpStream::connect((host.as_str(), url.port_or_known_default()?)).await.ok()?;
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let verifier = Arc::new(AcceptAnyCertificate(provider.signature_verification_algorithms.supported_schemes()));
        let config = config.ok()?.dangerous().with_custom_certificate_verifier(verifier);
        let config = config.with_client_cert_resolver(Arc::clone(&asked) as Arc<dyn ResolvesClientCert>);
        let name = ServerName::try_from(host).ok()?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()
    };
    // The host may request a certificate and then close the connection.
    let _ = tokio::time::timeout(TIME, shake_hands).await;
    asked.0.load(Ordering::Relaxed)
}

/// Records the request for a certificate, and has none.
#[derive(Debug)]
struct CertificateRequest(AtomicBool);

impl ResolvesClientCert for CertificateRequest {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Accepts any server certificate: the connection carries no data.
#[derive(Debug)]
struct AcceptAnyCertificate(Vec<SignatureScheme>);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
