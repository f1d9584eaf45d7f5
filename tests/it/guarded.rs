//! `serve` with passwords and TLS, for the tools that people use.

use std::fs;
use std::process::Command;

use base64::Engine;

use crate::support::{Layered, OCIFORGE, Place, Registry, authority, certificate, cpu_time, curl_status, openssl, run};

/// A line for `name`, whose password is `secret`.
fn line(name: &str, cost: u32) -> String {
    format!("{name}:{}\n", bcrypt::hash("secret", cost).unwrap())
}

/// The program with options for its server.
fn serve(place: &Place, name: &str, options: &[&str]) -> Registry {
    Registry::serve_with(place, name, Command::new(OCIFORGE), options)
}

fn image(place: &Place) -> String {
    Layered::of_file("content").write(place, "image")
}

#[test]
fn a_password_is_asked_for_everywhere() {
    let place = Place::new();
    let image = image(&place);
    let users = place.write("users", format!("# people\n{}", line("me", 4)));
    let registry = serve(&place, "served", &["--htpasswd", users.to_str().unwrap()]);
    let (url, name) = (format!("http://{}/v2/", registry.address), registry.name("a:t"));

    for path in ["", "_catalog", "a/tags/list", "no/such", "a/blobs/uploads/"] {
        let url = format!("{url}{path}");
        assert_eq!(
            curl_status(&["-w", "%{http_code} %header{www-authenticate}", &url]),
            "401 Basic realm=\"ociforge\", charset=\"UTF-8\""
        );
        assert_eq!(curl_status(&["-X", "POST", "-d", "x", &url]), "401");
    }
    for wrong in ["me:Secret", "me:", "you:secret", ":"] {
        assert_eq!(curl_status(&["-u", wrong, &url]), "401", "{wrong}");
    }
    assert_eq!(curl_status(&["-H", "Authorization: Bearer secret", &url]), "401");
    assert_eq!(curl_status(&["-u", "me:secret", &url]), "200");

    let skopeo = |credentials: &[&str]| {
        let copy = ["--insecure-policy", "copy", "--dest-tls-verify=false"];
        run(&mut place.wrapped("skopeo", [&copy, credentials, &[&image, &name]].concat()))
    };
    assert_ne!(skopeo(&[]).code, Some(0));
    assert_ne!(skopeo(&["--dest-creds", "me:hunter2"]).code, Some(0));
    skopeo(&["--dest-creds", "me:secret"]).ok();

    // Ours finds the password where docker keeps it.
    run(&mut place.ociforge(["inspect", &name])).fails(1, &["401", "ociforge login"]);
    let auth = base64::engine::general_purpose::STANDARD.encode("me:secret");
    let text = format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, registry.address);
    place.write("home/docker/config.json", text);
    run(&mut place.ociforge(["inspect", &name])).ok();

    let said = registry.said();
    assert!(said.contains("\"me\" PUT /v2/a/manifests/t 201") && said.contains("GET /v2/ 401"), "{said}");
    for secret in ["secret", "Secret", "hunter2", &auth, "Basic"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[test]
fn sixty_requests_cost_one_hash() {
    let place = Place::new();
    // A quarter of a second each, or more.
    let users = place.write("users", line("me", 12));
    let registry = serve(&place, "served", &["--htpasswd", users.to_str().unwrap()]);
    let url = format!("http://{}/v2/", registry.address);
    let work = |password: &str, requests: usize, answers: &str| {
        let before = cpu_time(registry.id());
        let urls = format!("{url}?[1-{requests}]");
        assert_eq!(curl_status(&["-u", &format!("me:{password}"), "--parallel", &urls]), answers.repeat(requests));
        cpu_time(registry.id()) - before
    };
    let (one, sixty) = (work("wrong", 1, "401"), work("secret", 60, "200"));
    assert!(sixty < one * 10, "one request: {one:?}, sixty: {sixty:?}");
}

#[test]
fn the_users_may_change() {
    let place = Place::new();
    let users = place.write("users", line("me", 4));
    let registry = serve(&place, "served", &["--htpasswd", users.to_str().unwrap()]);
    let url = format!("http://{}/v2/", registry.address);
    let status = |name: &str| curl_status(&["-u", &format!("{name}:secret"), &url]);
    assert_eq!([status("me"), status("you")], ["200", "401"]);
    fs::write(&users, line("me", 4) + &line("you", 4)).unwrap();
    assert_eq!([status("me"), status("you")], ["200", "200"]);
    // By renaming, as editors do.
    fs::rename(place.write("new", line("you", 4)), &users).unwrap();
    assert_eq!([status("me"), status("you")], ["401", "200"]);
    // While nobody can tell who may come in, nobody does.
    fs::write(&users, line("you", 4) + "hunter2\n").unwrap();
    assert_eq!([status("me"), status("you")], ["503", "503"]);
    fs::remove_file(&users).unwrap();
    assert_eq!(status("you"), "503");
    fs::write(&users, line("you", 4)).unwrap();
    assert_eq!([status("me"), status("you")], ["401", "200"]);
    let said = registry.said();
    assert!(said.contains("line 2 of") && !said.contains("hunter2"), "{said}");
}

/// An authority and a certificate for the loopback below `tls`, and a certificate that signs itself.
fn certificates(place: &Place) {
    let directory = place.path("tls");
    fs::create_dir(&directory).unwrap();
    authority(&directory);
    certificate(&directory, "other.pem", "-subj /CN=other");
}

#[test]
fn a_registry_with_a_certificate() {
    let place = Place::new();
    let image = image(&place);
    certificates(&place);
    let users = place.write("users", line("me", 4));
    let (certificate, key) = (place.at("tls/server.crt"), place.at("tls/server.key"));
    let options = ["--tls-cert", &certificate, "--tls-key", &key, "--htpasswd", users.to_str().unwrap()];
    let registry = serve(&place, "served", &options);
    let (url, name) = (format!("https://{}/v2/", registry.address), registry.name("a:t"));

    // Who does not get on with the handshake holds up nobody.
    let idle: Vec<_> = (0..400).map(|_| std::net::TcpStream::connect(&registry.address).unwrap()).collect();
    let authority = place.at("tls/ca.crt");
    let trusting = ["--cacert", &authority, "-u", "me:secret"];
    assert_eq!(curl_status(&[&trusting[..], &["-w", "%{http_version} %{http_code}", &url]].concat()), "2 200");
    assert_eq!(curl_status(&[&trusting[..], &["--http1.1", &url]].concat()), "200");
    assert_ne!(run(Command::new("curl").args(["--silent", "--noproxy", "*", &url])).code, Some(0));

    place.write("trusted/ca.crt", fs::read(&authority).unwrap());
    let trusted = place.at("trusted");
    let copy = ["--insecure-policy", "copy", "--dest-cert-dir", &trusted, "--dest-creds", "me:secret", &image, &name];
    run(&mut place.wrapped("skopeo", copy)).ok();
    let auth = base64::engine::general_purpose::STANDARD.encode("me:secret");
    let text = format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, registry.address);
    place.write("home/docker/config.json", text);
    run(place.ociforge(["inspect", &name]).env("SSL_CERT_FILE", &authority)).ok();
    run(&mut place.ociforge(["inspect", &name])).fails(1, &["certificate"]);
    drop(idle);
}

#[test]
fn what_can_not_be_used_is_said_at_the_start() {
    let place = Place::new();
    certificates(&place);
    let users = place.write("users", line("me", 4) + "you:$apr1$hunter2$hunter2\n");
    place.write("tls/damaged.pem", "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n");
    openssl(&place.path("tls"), "pkey -in server.key -aes256 -passout pass:x -out locked.pem");
    let serve = |options: &[&str]| {
        let usual = ["serve", "served", "--listen", "127.0.0.1:0"];
        run(&mut place.wrapped("timeout", [&["120", OCIFORGE], &usual[..], options].concat()))
    };
    let error = serve(&["--htpasswd", users.to_str().unwrap()]).fails(1, &["line 2 of", "bcrypt", "htpasswd -B"]);
    assert!(!error.contains("hunter2"), "{error}");
    serve(&["--htpasswd", "nowhere"]).fails(1, &["cannot read the users in nowhere"]);
    let tls = |certificate: &str, key: &str| serve(&["--tls-cert", certificate, "--tls-key", key]);
    tls("nowhere", "tls/server.key").fails(1, &["cannot read nowhere"]);
    tls("tls/server.key", "tls/server.key").fails(1, &["tls/server.key has no certificate", "PEM"]);
    tls("tls/damaged.pem", "tls/server.key").fails(1, &["damaged.pem"]);
    tls("tls/server.crt", "tls/server.crt").fails(1, &["tls/server.crt has no private key"]);
    tls("tls/server.crt", "tls/locked.pem").fails(1, &["has no private key", "without a password"]);
    tls("tls/server.crt", "tls/other.key")
        .fails(1, &["tls/other.key does not match the certificate in tls/server.crt"]);
    serve(&["--tls-cert", "tls/server.crt"]).refused("--tls-key");
    serve(&["--tls-key", "tls/server.key"]).refused("--tls-cert");
    serve(&["--read-only", "--gc-every", "1h"]).refused("--gc-every");
}
