//! TLS with Debian's docker-registry: whom the client trusts, and who it says that it is.

use std::fs;
use std::path::Path;

use ociforge::content::{Cause, Source, Target};
use ociforge::error::Explain;
use ociforge::registry::{Client, Settings};
use tempfile::TempDir;

use crate::support::{
    Answer, Liar, Place, Registry, authority, certificate, client, one_layer, push, quick, remote, signed_in,
    speechless,
};

/// A directory with an [`authority`].
fn with_authority() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    authority(directory.path());
    directory
}

/// The configuration of a registry that such an authority vouches for, with more settings of its TLS.
fn tls(directory: &Path, more: &str) -> String {
    let at = directory.display();
    format!("  tls: {{certificate: {at}/server.crt, key: {at}/server.key{more}}}\n")
}

/// The same that wants clients which the authority vouches for, too.
fn closed(authority: &Path) -> String {
    tls(authority, &format!(", clientcas: [{}/ca.crt]", authority.display()))
}

/// The configuration of a storage that sends clients elsewhere for blobs.
fn redirect(url: &str) -> String {
    format!("middleware: {{storage: [{{name: redirect, options: {{baseurl: '{url}'}}}}]}}\n")
}

fn with_certificates(directory: &Path) -> Client {
    Client::new(Settings { certs_d: vec!["/none".into(), directory.to_owned()], ..quick() }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn certs_d_says_whom_to_trust_and_who_to_be() {
    let (place, authority) = (Place::new(), with_authority());
    let closed = closed(authority.path());
    let other = Registry::docker_with(&place, "other", &closed);
    let leading = closed + &redirect(&format!("https://{}", other.address));
    let registry = Registry::docker_with(&place, "registry", &leading);
    let (_directory, layout, layer, manifest) = one_layer(1_000_000);
    let certificates = tempfile::tempdir().unwrap();
    let host = certificates.path().join(&registry.address);
    let give = |host: &Path, files: &[&str]| {
        fs::create_dir_all(host).unwrap();
        for file in files {
            fs::copy(authority.path().join(file), host.join(file)).unwrap();
        }
    };

    let error = remote(&client(), &registry.address, "a:1").resolve().await.unwrap_err();
    assert!(error.hint().unwrap().contains(&format!("certs.d/{}/ca.crt", registry.address)), "{error:?}");
    give(&host, &["ca.crt"]);
    let error = remote(&with_certificates(certificates.path()), &registry.address, "a:1").resolve().await.unwrap_err();
    assert!(error.hint().unwrap().contains("NAME.cert and NAME.key"), "{error:?}");
    give(&host, &["client.cert"]);
    let error = remote(&with_certificates(certificates.path()), &registry.address, "a:1").resolve().await.unwrap_err();
    assert!(error.cause.to_string().contains("client.cert is a certificate without a key"), "{error:?}");

    give(&host, &["client.key"]);
    let client = with_certificates(certificates.path());
    push(&remote(&client, &registry.address, "a"), &layout, &manifest, "1").await.unwrap();
    assert_eq!(remote(&client, &registry.address, "a:1").resolve().await.unwrap().0, manifest);

    // The host that a redirect leads to is shown no certificate, and is not trusted more than before.
    let fetch =
        async || remote(&with_certificates(certificates.path()), &registry.address, "a").fetch(&layer, 0).await.err();
    let hint = fetch().await.unwrap().hint().unwrap();
    assert!(hint.contains("ca.crt"), "{hint}");
    give(&certificates.path().join(&other.address), &["ca.crt"]);
    let hint = fetch().await.unwrap().hint().unwrap();
    assert!(hint.contains(&format!("that {} accepts, NAME.cert and NAME.key", other.address)), "{hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_hangs_up_on_clients_without_a_certificate_is_known() {
    let (authority, certificates) = (with_authority(), tempfile::tempdir().unwrap());
    let address = speechless(authority.path());
    let host = certificates.path().join(&address);
    fs::create_dir(&host).unwrap();
    fs::copy(authority.path().join("ca.crt"), host.join("ca.crt")).unwrap();
    let client = with_certificates(certificates.path());
    let error = remote(&client, &address, "a:1").resolve().await.unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.contains(&format!("that {address} accepts, NAME.cert and NAME.key")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_do_not_follow_a_redirect_out_of_tls() {
    let (place, plain) = (Place::new(), Liar::answering(|_| Answer::status(404)));
    let (authority, certificates) = (with_authority(), tempfile::tempdir().unwrap());
    let leading = tls(authority.path(), "") + &redirect(&format!("http://{}", plain.address));
    let registry = Registry::locked_with(&place, "registry", &leading);
    let host = certificates.path().join(&registry.address);
    fs::create_dir(&host).unwrap();
    fs::copy(authority.path().join("ca.crt"), host.join("ca.crt")).unwrap();
    let settings = Settings { certs_d: vec![certificates.path().to_owned()], ..signed_in(&place, &registry, "secret") };
    let (_directory, layout, layer, _) = one_layer(1000);
    let remote = remote(&Client::new(settings).unwrap(), &registry.address, "a");
    remote.push(&layer, &layout, &()).await.unwrap();
    remote.fetch(&layer, 0).await.err().unwrap();
    let seen = &plain.asked()[0];
    assert!(seen.method == "GET" && seen.path.starts_with("/docker/registry/v2/blobs/"), "{seen:?}");
    assert!(!format!("{seen:?}").to_ascii_lowercase().contains("authorization"), "{seen:?}");
}

/// What a certificate for the loopback says.
const NAMES: &str = "-subj /CN=test -addext subjectAltName=IP:127.0.0.1";

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_verified_unless_the_user_says_otherwise() {
    let (place, certificates) = (Place::new(), tempfile::tempdir().unwrap());
    certificate(certificates.path(), "server.crt", NAMES);
    let registry = Registry::docker_with(&place, "registry", &tls(certificates.path(), ""));
    let (_directory, layout, _, manifest) = one_layer(1_000_000);

    let error = remote(&client(), &registry.address, "a:1").resolve().await.unwrap_err();
    assert!(matches!(error.cause, Cause::Network { .. }), "{}", error.cause);
    assert!(error.hint().unwrap().contains("--tls-verify=false"), "{error:?}");

    let careless = Client::new(Settings { tls_verify: false, ..quick() }).unwrap();
    push(&remote(&careless, &registry.address, "a"), &layout, &manifest, "1").await.unwrap();

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
        let (place, certificates) = (Place::new(), tempfile::tempdir().unwrap());
        certificate(certificates.path(), "server.crt", &format!("{NAMES}{extra}"));
        let registry = Registry::docker_with(&place, "registry", &tls(certificates.path(), ""));
        let host = certificates.path().join(&registry.address);
        fs::create_dir(&host).unwrap();
        fs::copy(certificates.path().join("server.crt"), host.join("ca.crt")).unwrap();
        let remote = remote(&with_certificates(certificates.path()), &registry.address, "a:1");
        let error = remote.resolve().await.unwrap_err();
        assert!(error.cause.to_string().contains(expected), "{}", error.cause);
        assert_eq!(error.hint().unwrap().contains("basicConstraints"), expected.contains("Ca"), "{error:?}");
    }
}
