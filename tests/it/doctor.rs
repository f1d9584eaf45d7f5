//! `doctor`: what is said of the machine that the tests run on, and of images.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use super::support::{OCIFORGE, Place, Ran, files, is_root, run, tool};

/// The checks that a call with `--format json` prints, and its exit code.
fn checks(command: &mut Command) -> (Vec<Value>, Option<i32>) {
    let Ran { stdout, stderr, code, .. } = run(command);
    let json: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    let checks = json["checks"].as_array().unwrap().clone();
    let missing = checks.iter().filter(|check| check["status"] == "missing").count();
    assert_eq!(code, Some(i32::from(missing > 0)), "{checks:#?}");
    assert_eq!(stderr.contains("error: this machine cannot run containers"), missing > 0, "{stderr}");
    for check in &checks {
        assert!(check["status"] != "ok" || check["mend"].as_array().unwrap().is_empty(), "{check}");
    }
    (checks, code)
}

fn named<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {checks:#?}"))
}

#[test]
fn this_machine_can_run_containers() {
    let place = Place::new();
    let (checks, code) = checks(&mut place.ociforge(["doctor", "--format", "json"]));
    assert_eq!(code, Some(0), "{checks:#?}");
    for (name, found) in [("kernel", "x86_64"), ("runc", "/runc"), ("overlay", "mounted "), ("store", "free on")] {
        let check = named(&checks, name);
        assert!(check["found"].as_str().unwrap().contains(found) || cfg!(not(target_arch = "x86_64")), "{check}");
    }
    // Nothing was made, and nothing is left.
    assert!(!place.path("store").exists());
    assert!(files(&place.path("")).iter().all(|file| !file.to_string_lossy().contains("doctor")));
}

/// The program as a user who is nobody, from a place that everybody can reach.
fn as_nobody(place: &Place, wrap: &str) -> Command {
    let program = place.path("ociforge");
    tool("cp", &[OCIFORGE, program.to_str().unwrap()]);
    for (path, mode) in [("", 0o755), ("ociforge", 0o755)] {
        fs::set_permissions(place.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir_all(place.path("open")).unwrap();
    fs::set_permissions(place.path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    let user = if is_root() { "setpriv --reuid=12345 --regid=12345 --clear-groups" } else { "" };
    let line = format!("{wrap} {user} {} doctor --format json --store {}", program.display(), place.at("open/store"));
    place.wrapped("sh", ["-c", &line])
}

#[test]
fn an_unprivileged_user_is_told_what_to_ask_root_for() {
    let place = Place::new();
    let (found, _) = checks(&mut as_nobody(&place, "exec"));
    if is_root() {
        let ids = named(&found, "subordinate ids");
        assert_eq!(ids["status"], "warn", "{ids}");
        let mend = ids["mend"][0].as_str().unwrap();
        assert!(mend.starts_with("echo 12345:") && mend.contains("sudo tee -a /etc/subuid /etc/subgid"), "{mend}");
    }
    assert_eq!(fs::read_dir(place.path("open")).unwrap().count(), 0, "something was left");
    // How much is free there is the machine's affair.
    assert_ne!(named(&found, "store")["status"], "missing");
}

#[test]
fn where_the_kernel_refuses_user_namespaces_that_is_said() {
    // Nobody can make one in a chroot. Only root can make that; others have the unit tests.
    if !is_root() {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("root")).unwrap();
    let root = place.at("root");
    let wrap = format!("exec unshare --mount sh -c 'mount --rbind / {root} && exec \"$@\"' x chroot {root}");
    let (found, code) = checks(&mut as_nobody(&place, &wrap));
    let check = named(&found, "user namespaces");
    assert_eq!((&check["status"], code), (&"missing".into(), Some(1)));
    assert!(check["found"].as_str().unwrap().contains("as in a chroot"), "{check}");
    assert_eq!(named(&found, "overlay")["found"], "there is no user namespace to mount it in");
}

#[test]
fn credentials_are_looked_at_and_not_shown() {
    let place = Place::new();
    let file = place.write("auth.json", r#"{"auths": {"registry.invalid": {"auth": "aHVudGVyMg=="}}}"#);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let call = || place.ociforge(["doctor", "--format", "json", "--authfile", file.to_str().unwrap()]);
    let (found, _) = checks(&mut call());
    let check = named(&found, "credentials");
    assert_eq!(check["mend"][0], format!("chmod 600 {}", file.display()));
    assert!(!format!("{found:?}").contains("aHVudGVyMg") && !format!("{found:?}").contains("registry.invalid"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(named(&checks(&mut call()).0, "credentials")["found"].as_str().unwrap().ends_with("for 1 registry"));
    fs::write(&file, "{\n\"hunter2").unwrap();
    let (found, _) = checks(&mut call());
    assert!(named(&found, "credentials")["found"].as_str().unwrap().ends_with("is not JSON: see its line 2"));
}

#[test]
fn an_image_is_held_against_the_machine() {
    let place = Place::new();
    let image = format!("oci:{}:cuda", place.at("layout"));
    place.write(
        "cuda/ociforge.toml",
        "base = 'scratch'\n[config.env]\nCUDA_VERSION = '12.3.2.001'\nCUDA_DRIVER_VERSION = '545.23.08'\n\
         [[layer]]\ndirectories = ['/opt']\n[lint]\nallow = ['cuda-version']\n",
    );
    run(&mut place.build("cuda", &["-o", &image])).ok();
    // It requires its very version: without it `run` refuses.
    for (driver, status) in [("545.23.08", "ok"), ("530.30.02", "missing"), ("470.57.02", "missing")] {
        let call = ["doctor", &image, "--driver-version", driver, "--format", "json"];
        let (found, _) = checks(&mut place.ociforge(call));
        assert_eq!(named(&found, "CUDA")["status"], status, "{driver}");
        assert_eq!(named(&found, "cuda-version")["status"], "warn");
        assert_eq!(named(&found, "space")["status"], "ok");
    }
    run(&mut place.ociforge(["doctor", &image, "--driver-version", "new"])).refused("535.104.05");
    run(&mut place.ociforge(["doctor", "--driver-version", "545.23.08"])).refused("REF");
    run(&mut place.ociforge(["doctor", "oci:nowhere"])).fails(1, &["nowhere"]);
    // One for another machine.
    run(&mut place.build("cuda", &["-o", &image, "--platform", "linux/riscv64"])).ok();
    let (found, _) = checks(&mut place.ociforge(["doctor", &image, "--format", "json"]));
    assert_ne!(named(&found, "architecture")["status"], "ok");
}

#[test]
fn people_see_a_table_with_colours_only_on_a_terminal() {
    let place = Place::new();
    let plain = run(&mut place.ociforge(["doctor"])).ok();
    assert!(plain.starts_with("System\n  ok       kernel           "), "{plain}");
    assert!(!plain.contains('\u{1b}') && plain.contains("\n\nPrograms\n"), "{plain}");
    let terminal = |environment: &str| {
        let line = format!("env -u NO_COLOR TERM=xterm {environment} {OCIFORGE} doctor");
        run(&mut place.wrapped("script", ["-qec", &line, "/dev/null"])).ok().replace('\r', "")
    };
    assert!(!terminal("NO_COLOR=1").contains('\u{1b}'));
    let coloured = terminal("");
    assert!(coloured.contains("\u{1b}[32mok"), "{coloured}");
}
