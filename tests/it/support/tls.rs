//! Certificates by openssl, and a host that wants them.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::run;

/// Runs openssl in a directory; spaces separate the arguments.
pub(crate) fn openssl(directory: &Path, arguments: &str) {
    run(Command::new("openssl").args(arguments.split(' ')).current_dir(directory)).ok();
}

/// Makes a certificate as the file `name`, and its key beside it as `.key`. It signs itself unless `arguments` name an
/// authority.
pub(crate) fn certificate(directory: &Path, name: &str, arguments: &str) {
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    let key = Path::new(name).with_extension("key");
    openssl(directory, &format!("{new} {arguments} -keyout {} -out {name}", key.display()));
}

/// Puts an authority into a directory, `ca.crt`, and what it has signed: `server.crt`, for the loopback, and
/// `client.cert`, each with its key.
pub(crate) fn authority(directory: &Path) {
    certificate(directory, "ca.crt", "-subj /CN=authority");
    for (name, what) in [("server.crt", "subjectAltName=IP:127.0.0.1"), ("client.cert", "extendedKeyUsage=clientAuth")]
    {
        let signed = "-CA ca.crt -CAkey ca.key -addext basicConstraints=CA:FALSE";
        certificate(directory, name, &format!("{signed} -subj /CN={name} -addext {what}"));
    }
}

/// A host that `authority` vouches for and that wants clients which it vouches for. It hangs up on others without a word.
pub(crate) fn speechless(authority: &Path) -> String {
    let certificates = |name: &str| CertificateDer::pem_file_iter(authority.join(name)).unwrap().map(Result::unwrap);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates("ca.crt"));
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.join("server.key")).unwrap();
    let config = config.with_client_cert_verifier(clients).with_single_cert(certificates("server.crt").collect(), key);
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            // What goes wrong is not told: the connection just ends.
            while tls.read_tls(&mut stream).is_ok_and(|read| read > 0) && tls.process_new_packets().is_ok() {
                while tls.wants_write() && tls.write_tls(&mut stream).is_ok() {}
            }
        }
    });
    address
}
