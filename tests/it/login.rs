//! `login` and `logout`, against a registry that wants a password, with skopeo as the second opinion.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::json;

use super::support::{OCIFORGE, Place, Proxy, Ran, Registry, Tokens, files, json_of, run};

/// A program in the environment of `place`, as it is where nobody moved docker's files.
fn wrapped<'a>(place: &Place, program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = place.wrapped(program, arguments);
    // Nothing of the user's own is to be forgotten here.
    command.env_remove("DOCKER_CONFIG").env("XDG_CONFIG_HOME", place.path("config"));
    command
}

fn ociforge<'a>(place: &Place, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    wrapped(place, OCIFORGE, arguments)
}

/// Runs a command that reads `input`.
fn typed(command: &mut Command, input: &str) -> Ran {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Ran::of(format!("{command:?}"), child.wait_with_output().unwrap())
}

fn login(place: &Place, registry: &str, password: &str) -> Ran {
    typed(&mut ociforge(place, ["login", "-u", "user", "--password-stdin", registry]), &format!("{password}\nmore"))
}

/// Where skopeo has it too.
const AUTH_FILE: &str = "home/run/containers/auth.json";

#[test]
fn a_login_is_checked_and_kept_and_forgotten() {
    let place = Place::new();
    let registry = Registry::locked(&place, "registry");
    let (address, image) = (registry.address.as_str(), registry.name("a:1"));
    let inspect = || run(&mut ociforge(&place, ["inspect", &image]));
    inspect().fails(1, &["401 Unauthorized", &format!("log in with `ociforge login {address}`")]);

    let error = login(&place, address, "hunter2");
    let error = error.fails(1, &[&format!("cannot log in to {address} as user"), "401 Unauthorized", "access token"]);
    assert!(!error.contains("hunter2") && !place.path("home/run").exists(), "{error}");
    run(&mut ociforge(&place, ["login", "--get-login", address])).fails(1, &["not logged in"]);

    let ran = login(&place, address, "secret");
    assert!(ran.stderr.contains(&format!("logged in to {address} as user")), "{}", ran.stderr);
    assert!(ran.stderr.contains(&place.at(AUTH_FILE)), "{}", ran.stderr);
    ran.ok();
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(AUTH_FILE), mode("home/run/containers")), (0o600, 0o700));
    assert_eq!(run(&mut ociforge(&place, ["login", "--get-login", address])).ok(), "user\n");
    place.small_base(&image, "x");
    inspect().ok();
    // skopeo reads what was written, here and where it looks by itself.
    for more in [vec!["--authfile", &place.at(AUTH_FILE)], vec![]] {
        let words = [&["inspect", "--tls-verify=false", image.as_str()], &more[..]].concat();
        run(&mut wrapped(&place, "skopeo", words)).ok();
    }

    // A login with a wrong password leaves the good one.
    login(&place, address, "wrong").fails(1, &["401"]);
    inspect().ok();
    // docker's file is searched too.
    place.write("home/.docker/config.json", json!({"auths": {address: {"auth": "eDp5"}}, "x": 1}).to_string());
    let ran = run(&mut ociforge(&place, ["logout", address]));
    assert_eq!(ran.stderr.matches("logged out of").count(), 2, "{}", ran.stderr);
    assert_eq!(json_of(place.path("home/.docker/config.json")), json!({"auths": {}, "x": 1}));
    inspect().fails(1, &["401"]);
    let ran = run(&mut ociforge(&place, ["logout", address]));
    assert!(ran.stderr.contains("not logged in to"), "{}", ran.stderr);
    ran.ok();
}

#[test]
fn skopeos_logins_count_and_are_forgotten() {
    let place = Place::new();
    let registry = Registry::locked(&place, "registry");
    fs::create_dir_all(place.path("home/run")).unwrap();
    let skopeo = ["login", "--tls-verify=false", "-u", "user", "--password-stdin", &registry.address];
    typed(&mut wrapped(&place, "skopeo", skopeo), "secret").ok();
    let user = || run(&mut ociforge(&place, ["login", "--get-login", &registry.address]));
    assert_eq!(user().ok(), "user\n");
    place.small_base(&registry.name("a:1"), "x");
    run(&mut ociforge(&place, ["logout", "--all"])).ok();
    user().fails(1, &[]);
    // And those written here are skopeo's to forget.
    login(&place, &format!("{}/ml", registry.address), "secret").ok();
    login(&place, &registry.address, "secret").ok();
    run(&mut wrapped(&place, "skopeo", ["logout", &registry.address])).ok();
    assert_eq!(json_of(place.path(AUTH_FILE))["auths"].as_object().unwrap().len(), 1);
    user().fails(1, &[]);
}

#[test]
fn the_file_is_where_the_user_wants_it() {
    let place = Place::new();
    let registry = Registry::locked(&place, "registry");
    let arguments = ["login", "-u", "user", "-p", "secret", &registry.address];
    let ran = run(ociforge(&place, arguments).args(["--authfile", "mine.json"]));
    assert!(ran.stderr.contains("warning: a password on the command line"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("secret"), "{}", ran.stderr);
    run(ociforge(&place, arguments).env("REGISTRY_AUTH_FILE", place.path("new/env.json"))).ok();
    run(ociforge(&place, arguments).env_remove("XDG_RUNTIME_DIR")).ok();
    for name in ["mine.json", "new/env.json", "config/containers/auth.json"] {
        assert!(json_of(place.path(name))["auths"][registry.address.as_str()].is_object(), "{name}");
    }
    run(&mut ociforge(&place, ["logout", &registry.address, "--authfile", "mine.json"])).ok();
    assert_eq!(json_of(place.path("mine.json")), json!({"auths": {}}));
    // Where docker's file is moved by name it is used, as skopeo does; what is searched before it still counts.
    login(&place, &registry.address, "secret").ok();
    let ran = run(ociforge(&place, arguments).env("DOCKER_CONFIG", place.path("docker")));
    assert!(ran.stderr.contains(&format!("is in {}", place.at("docker/config.json"))), "{}", ran.stderr);
    let hint = format!("--authfile {}`", place.at(AUTH_FILE));
    assert!(ran.stderr.contains("warning: ") && ran.stderr.contains(&hint), "{}", ran.stderr);
    // What can't be written is an error that keeps the file there.
    place.write("directory/x", "");
    let arguments = [&arguments[..], &["--authfile", "directory"]].concat();
    run(&mut ociforge(&place, arguments)).fails(1, &["cannot read the credentials in directory", "--authfile"]);
}

#[test]
fn calls_that_make_no_sense_are_refused() {
    let place = Place::new();
    for (arguments, said) in [
        (&["https://r.example", "-u", "a"][..], "has a scheme"),
        (&["r.example/ml:1"], "names an image"),
        (&["r.example", "--password-stdin"], "--username"),
        (&["r.example", "-u", "a", "-p", "hunter2", "--password-stdin"], "cannot be used with"),
        (&["r.example", "-u", "a:b", "-p", "hunter2"], "has a `:`"),
        (&["r.example", "-u", "a", "-p", ""], "the password is empty"),
        (&["a:hunter2@r.example"], "the registry's name has an @"),
    ] {
        let ran = run(&mut ociforge(&place, [&["login", "--progress", "json"], arguments].concat()));
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    run(&mut ociforge(&place, ["logout"])).refused("required");
    let mut alone = wrapped(&place, "setsid", ["-w", OCIFORGE, "login", "r.example", "-u", "a"]);
    run(&mut alone).fails(2, &["there is no terminal", "hint: use --username with --password-stdin"]);
    assert!(!place.path("home/run").exists());
}

#[test]
fn a_helper_keeps_the_secret() {
    let place = Place::new();
    let registry = Registry::locked(&place, "registry");
    let address = registry.address.as_str();
    let script = "#!/bin/sh\ncd \"$HOME\" || exit 1\necho \"$1\" >>calls\ncase $1 in\n\
                  store) cat >kept;;\n\
                  get) [ -f kept ] || { echo 'credentials not found in native keychain'; exit 1; }; cat kept;;\n\
                  erase) rm kept;;\nesac\n";
    place.write_program("bin/docker-credential-test", script);
    let path = format!("{}:{}", place.at("bin"), std::env::var("PATH").unwrap());
    let old = json!({"credsStore": "test", "auths": {address: {"auth": "eDp5", "email": "e"}}, "other": 1});
    place.write(AUTH_FILE, old.to_string());

    login(&place, address, "secret").fails(1, &["docker-credential-test", "hint: install or repair it"]);
    assert_eq!(json_of(place.path(AUTH_FILE)), old);
    let login = |name: &str| {
        let mut command = ociforge(&place, ["login", "-u", "user", "--password-stdin", name]);
        typed(command.env("PATH", &path), "secret")
    };
    let ran = login(address);
    assert!(ran.stderr.contains("the password is in docker-credential-test, which"), "{}", ran.stderr);
    ran.ok();
    assert_eq!(json_of(place.path("home/kept")), json!({"ServerURL": address, "Username": "user", "Secret": "secret"}));
    let bare = json!({"credsStore": "test", "auths": {address: {"email": "e"}}, "other": 1});
    assert_eq!(json_of(place.path(AUTH_FILE)), bare);
    login(&format!("{address}/ml")).fails(1, &["stores them for whole registries only", "omit the path"]);
    run(ociforge(&place, ["inspect", &registry.name("a:1")]).env("PATH", &path)).fails(1, &["404"]);

    let ran = run(ociforge(&place, ["logout", address]).env("PATH", &path));
    assert!(ran.stderr.contains("removed from docker-credential-test"), "{}", ran.stderr);
    ran.ok();
    assert!(!place.path("home/kept").exists());
    assert_eq!(json_of(place.path(AUTH_FILE))["auths"], json!({}));
    run(ociforge(&place, ["logout", address]).env("PATH", &path)).ok();
    for file in files(&place.path("home")) {
        assert!(!fs::read_to_string(&file).unwrap().contains("c2VjcmV0"), "{}", file.display());
    }
}

/// What a terminal showed while `answers` were typed, each after the text that stands before it was there.
fn at_terminal(place: &Place, script: &str, answers: &[(&str, &str)]) -> String {
    let mut command = wrapped(place, "script", ["-qec", script, "/dev/null"]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("script must be installed (Debian: bsdutils)");
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = String::new();
    let mut part = [0; 4096];
    for (question, answer) in answers {
        while !shown.contains(question) {
            let read = stdout.read(&mut part).unwrap();
            assert!(read > 0, "no `{question}` in {shown}");
            shown += &String::from_utf8_lossy(&part[..read]);
        }
        stdin.write_all(answer.as_bytes()).unwrap();
    }
    stdout.read_to_string(&mut shown).unwrap();
    child.wait().unwrap();
    shown
}

#[test]
fn the_terminal_is_asked_and_does_not_show_the_password() {
    let place = Place::new();
    let registry = Registry::locked(&place, "registry");
    let ask = format!("trap : INT; {} login {}; echo code $?; stty -a", OCIFORGE, registry.address);
    let (user, password) = ("User name for", format!("Password for {}: ", registry.address));
    let shown = at_terminal(&place, &ask, &[(user, "user\n"), (&password, "secret\n")]);
    assert!(shown.contains("code 0") && shown.contains("logged in to") && shown.contains(" echo "), "{shown}");
    assert!(!shown.contains("secret") && shown.contains("user\r\n"), "{shown}");
    assert!(place.path(AUTH_FILE).exists());
    for (end, code) in [("\x03", "code 130"), ("\x04", "code 1")] {
        fs::remove_file(place.path(AUTH_FILE)).ok();
        let shown =
            at_terminal(&place, &ask, &[(user, "user\n"), (&password, "secr"), (&password, end), (&password, end)]);
        assert!(shown.contains(code) && shown.contains(" echo ") && !shown.contains("secr"), "{shown}");
        assert!(!place.path(AUTH_FILE).exists());
    }
}

#[test]
fn what_is_public_needs_no_credential_helper() {
    let place = Place::new();
    let registry = Registry::serve(&place, "registry");
    place.small_base(&format!("{}/public:v1", registry.address), "public");
    let proxy = Proxy::before(&registry.address);
    Tokens { service: ",service=\"s\"", uses: usize::MAX, realm_lasts: usize::MAX }.guard(&proxy);
    let from = format!("docker://{}/public:v1", proxy.address);
    for config in
        [json!({"credsStore": "desktop.none"}), json!({"credHelpers": {proxy.address.as_str(): "desktop.none"}})]
    {
        place.write("home/docker/config.json", config.to_string());
        let ran = run(&mut place.ociforge(["copy", &from, "oci:copied:x", "--progress", "plain"]));
        let said = "the credential helper docker-credential-desktop.none, which ";
        assert_eq!(ran.stderr.matches(said).count(), 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("config.json names, is not installed"), "{}", ran.stderr);
        ran.ok();
    }
    // To keep a password, the helper has to be there.
    let login = ["login", "-u", "me", "-p", "secret", &proxy.address];
    run(&mut place.ociforge(login)).fails(1, &["docker-credential-desktop.none", "is not installed", "hint: install"]);
}
