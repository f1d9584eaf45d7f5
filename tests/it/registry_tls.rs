//! TLS with Debian's docker-registry: whom the client trusts, and who it says that it is.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use ociforge::content::{Cause, Source, Target};
use ociforge::error::Explain;
use ociforge::registry::{Client, Settings};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::registry::{Registry, client, image, push, quick};

fn openssl(directory: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    command.args(arguments.split(' ')).current_dir(directory).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().expect("openssl must be installed (Debian: openssl)").success(), "{arguments}");
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";

/// A directory with an authority, `ca.crt`, and what it has signed: `server.crt`, for loopback, and `client.cert`, each
/// with its key.
fn authority() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    openssl(at, &format!("req -x509 {KEY} -subj /CN=authority -keyout ca.key -out ca.crt"));
    for (name, what) in [("server.crt", "subjectAltName=IP:127.0.0.1"), ("client.cert", "extendedKeyUsage=clientAuth")]
    {
        let key = Path::new(name).with_extension("key");
        let common =
            format!("-CA ca.crt -CAkey ca.key -subj /CN={name} -addext {what} -addext basicConstraints=CA:FALSE");
        openssl(at, &format!("req -x509 {KEY} {common} -keyout {} -out {name}", key.display()));
    }
    directory
}

/// A registry that such an authority vouches for, and that wants clients which it vouches for.
fn closed(authority: &Path, extra: &str) -> Registry {
    let at = authority.display();
    let tls = format!("{{certificate: {at}/server.crt, key: {at}/server.key, clientcas: [{at}/ca.crt]}}");
    Registry::start(&format!("  tls: {tls}\n{extra}"))
}

fn with_certificates(directory: &Path) -> Client {
    Client::new(Settings { certs_d: vec!["/none".into(), directory.to_owned()], ..quick() }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn certs_d_says_whom_to_trust_and_who_to_be() {
    let authority = authority();
    let other = closed(authority.path(), "");
    let redirect = format!("[{{name: redirect, options: {{baseurl: 'https://{}'}}}}]", other.address);
    let registry = closed(authority.path(), &format!("middleware: {{storage: {redirect}}}\n"));
    let (_directory, layout, layer, manifest) = image(1_000_000);
    let certificates = tempfile::tempdir().unwrap();
    let host = certificates.path().join(&registry.address);
    let give = |host: &Path, files: &[&str]| {
        fs::create_dir_all(host).unwrap();
        for file in files {
            fs::copy(authority.path().join(file), host.join(file)).unwrap();
        }
    };

    let error = registry.remote(&client(), "a:1").resolve().await.unwrap_err();
    assert!(error.hint().unwrap().contains(&format!("certs.d/{}/ca.crt", registry.address)), "{error:?}");
    give(&host, &["ca.crt"]);
    let error = registry.remote(&with_certificates(certificates.path()), "a:1").resolve().await.unwrap_err();
    assert!(error.hint().unwrap().contains("NAME.cert and NAME.key"), "{error:?}");
    give(&host, &["client.cert"]);
    let error = registry.remote(&with_certificates(certificates.path()), "a:1").resolve().await.unwrap_err();
    assert!(error.cause.to_string().contains("client.cert is a certificate without a key"), "{error:?}");

    give(&host, &["client.key"]);
    let client = with_certificates(certificates.path());
    push(&registry.remote(&client, "a"), &layout, &manifest, "1").await.unwrap();
    assert_eq!(registry.remote(&client, "a:1").resolve().await.unwrap().0, manifest);

    // The host that a redirect leads to is shown no certificate, and is not trusted more than before.
    let fetch = async || registry.remote(&with_certificates(certificates.path()), "a").fetch(&layer, 0).await.err();
    let hint = fetch().await.unwrap().hint().unwrap();
    assert!(hint.contains("ca.crt"), "{hint}");
    give(&certificates.path().join(&other.address), &["ca.crt"]);
    let hint = fetch().await.unwrap().hint().unwrap();
    assert!(hint.contains(&format!("that {} accepts, NAME.cert and NAME.key", other.address)), "{hint}");
}

/// A host that `authority` vouches for and that wants clients which it vouches for. It hangs up on others without a word.
fn speechless(authority: &Path) -> String {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_hangs_up_on_clients_without_a_certificate_is_known() {
    let (authority, certificates) = (authority(), tempfile::tempdir().unwrap());
    let address = speechless(authority.path());
    let host = certificates.path().join(&address);
    fs::create_dir(&host).unwrap();
    fs::copy(authority.path().join("ca.crt"), host.join("ca.crt")).unwrap();
    let client = with_certificates(certificates.path());
    let error = client.repository(&format!("{address}/a:1").parse().unwrap()).resolve().await.unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.contains(&format!("that {address} accepts, NAME.cert and NAME.key")), "{error:?}");
}

/// Answers every request with 404, for as long as the process lives, and passes on what it was.
fn plain_http() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            while lines.read_line(&mut head).is_ok_and(|length| length > 2) {}
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok();
            sender.send(head).ok();
        }
    });
    (address, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_do_not_follow_a_redirect_out_of_tls() {
    let (address, requests) = plain_http();
    let (authority, certificates) = (authority(), tempfile::tempdir().unwrap());
    let at = authority.path().display();
    let registry = Registry::start(&format!(
        "  tls: {{certificate: {at}/server.crt, key: {at}/server.key}}\n\
         auth: {{htpasswd: {{realm: r, path: DIR/htpasswd}}}}\n\
         middleware: {{storage: [{{name: redirect, options: {{baseurl: 'http://{address}'}}}}]}}\n"
    ));
    let host = certificates.path().join(&registry.address);
    fs::create_dir(&host).unwrap();
    fs::copy(authority.path().join("ca.crt"), host.join("ca.crt")).unwrap();
    let settings = Settings { certs_d: vec![certificates.path().to_owned()], ..registry.signed_in("secret") };
    let (_directory, layout, layer, _) = image(1000);
    let remote = registry.remote(&Client::new(settings).unwrap(), "a");
    remote.push(&layer, &layout, &()).await.unwrap();
    remote.fetch(&layer, 0).await.err().unwrap();
    let seen = requests.recv().unwrap().to_ascii_lowercase();
    assert!(seen.starts_with("get /docker/registry/v2/blobs/") && !seen.contains("authorization"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_verified_unless_the_user_says_otherwise() {
    let certificates = tempfile::tempdir().unwrap();
    let names = "-subj /CN=test -addext subjectAltName=IP:127.0.0.1";
    openssl(certificates.path(), &format!("req -x509 {KEY} {names} -keyout key.pem -out cert.pem"));
    let at = certificates.path().display();
    let registry = Registry::start(&format!("  tls: {{certificate: {at}/cert.pem, key: {at}/key.pem}}\n"));
    let (_directory, layout, _, manifest) = image(1_000_000);

    let error = registry.remote(&client(), "a:1").resolve().await.unwrap_err();
    assert!(matches!(error.cause, Cause::Network { .. }), "{}", error.cause);
    assert!(error.hint().unwrap().contains("--tls-verify=false"), "{error:?}");

    let careless = Client::new(Settings { tls_verify: false, ..quick() }).unwrap();
    push(&registry.remote(&careless, "a"), &layout, &manifest, "1").await.unwrap();

    let conf = certificates.path().join("registries.conf");
    let text = format!("[[registry]]\nprefix = 'r.example'\nlocation = '{}'\ninsecure = true\n", registry.address);
    fs::write(&conf, text).unwrap();
    let client = Client::new(Settings { registries_conf: vec![conf], ..quick() }).unwrap();
    let led = client.repository(&"r.example/a:1".parse().unwrap());
    assert_eq!(led.resolve().await.unwrap().0, manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_signs_itself_is_trusted_unless_it_is_an_authority() {
    for (extra, expected) in [(" -addext basicConstraints=CA:FALSE", "404 Not Found"), ("", "CaUsedAsEndEntity")] {
        let certificates = tempfile::tempdir().unwrap();
        let at = certificates.path();
        let names = "-subj /CN=test -addext subjectAltName=IP:127.0.0.1";
        openssl(at, &format!("req -x509 {KEY} {names}{extra} -keyout key.pem -out cert.pem"));
        let at = at.display();
        let registry = Registry::start(&format!("  tls: {{certificate: {at}/cert.pem, key: {at}/key.pem}}\n"));
        let host = certificates.path().join(&registry.address);
        fs::create_dir(&host).unwrap();
        fs::copy(certificates.path().join("cert.pem"), host.join("ca.crt")).unwrap();
        let remote = registry.remote(&with_certificates(certificates.path()), "a:1");
        let error = remote.resolve().await.unwrap_err();
        assert!(error.cause.to_string().contains(expected), "{}", error.cause);
        assert_eq!(error.hint().unwrap().contains("basicConstraints"), expected.contains("Ca"), "{error:?}");
    }
}
