//! Indexes that let only those in who have a user and a password, which come from where pip and uv look for them.

use std::fs;
use std::process::Command;

use super::support::{DEBIAN, Liar, Place, Wheel, digest_of, files, python_index, run};

const USER: &str = "maker";
const PASSWORD: &str = "s3cret/word";

/// An index with the package `demo`, for `USER` with `PASSWORD`.
fn index() -> Liar {
    python_index("demo", &Wheel::new("demo", "x = 1\n"), USER, PASSWORD)
}

/// Locks and builds with these requirements, and looks for the password where it must not be.
fn works(place: &Place, requirements: &str, prepare: &dyn Fn(&mut Command)) {
    let recipe = format!("base = 'scratch'\n{}[[layer]]\npip = {{ requirements = 'r.txt' }}\n", DEBIAN.stated());
    place.write("recipe/ociforge.toml", recipe);
    place.write("recipe/r.txt", requirements);
    for directory in ["store", "recipe/ociforge.lock"] {
        fs::remove_dir_all(place.path(directory)).or_else(|_| fs::remove_file(place.path(directory))).ok();
    }
    let image = format!("oci:{}:x", place.at("image"));
    for call in [&["lock", "recipe"][..], &["build", "recipe", "--locked", "-o", &image], &["build", "recipe"]] {
        if call.len() == 2 && call[0] == "build" {
            fs::remove_file(place.path("recipe/ociforge.lock")).unwrap();
            fs::remove_dir_all(place.path("store")).unwrap();
        }
        let mut command = place.ociforge([call, &["--progress", "plain"]].concat());
        command.env_remove("UV_KEYRING_PROVIDER").env("UV_NO_CACHE", "1").env_remove("NETRC");
        prepare(&mut command);
        let ran = run(&mut command);
        assert!(!ran.stderr.contains(PASSWORD) && !ran.stderr.contains("s3cret"), "{}", ran.stderr);
        ran.ok();
        let lock = fs::read_to_string(place.path("recipe/ociforge.lock")).unwrap_or_default();
        assert!(call.len() == 2 && call[0] == "build" || lock.contains("/files/demo-1.0-py3-none-any.whl"), "{lock}");
        assert!(!lock.contains("s3cret") && !lock.contains(USER), "{lock}");
    }
    let config = run(&mut place.ociforge(["inspect", "--config", &image])).ok();
    assert!(config.contains("pip demo==1.0") && !config.contains("s3cret"), "{config}");
}

#[test]
fn credentials_are_found_for_locking_and_for_building() {
    let place = Place::new();
    let index = index();
    let at = &index.address;
    let encoded = PASSWORD.replace('/', "%2F");
    // In the URL; in variables of the environment; in another file; in quotes.
    works(&place, &format!("--index-url http://{USER}:{encoded}@{at}/simple\ndemo\n"), &|_| ());
    place.write("recipe/more.txt", format!("--index-url=\"http://${{MY_USER}}:${{MY_TOKEN}}@{at}/simple\" # why\n"));
    works(&place, "-r more.txt\ndemo\n", &|command| {
        command.env("MY_USER", USER).env("MY_TOKEN", &encoded);
    });
    // In the URL of the wheel itself.
    let wheel = "files/demo-1.0-py3-none-any.whl";
    works(&place, &format!("--no-index\ndemo @ http://{USER}:{encoded}@{at}/{wheel}\n"), &|_| ());
    // In uv's variables and configuration.
    let plain = format!("--index-url http://{at}/simple\ndemo\n");
    let url = format!("http://{USER}:{encoded}@{at}/simple");
    works(&place, "demo\n", &|command| {
        command.env("UV_INDEX_URL", &url);
    });
    let named = format!("mine=http://{at}/simple");
    works(&place, "demo\n", &|command| {
        command
            .env("UV_DEFAULT_INDEX", &named)
            .env("UV_INDEX_MINE_USERNAME", USER)
            .env("UV_INDEX_MINE_PASSWORD", PASSWORD);
    });
    place.write("recipe/uv.toml", format!("[[index]]\nurl = \"{url}\"\ndefault = true\n"));
    works(&place, "demo\n", &|_| ());
    fs::remove_file(place.path("recipe/uv.toml")).unwrap();
    // In .netrc, at its usual place or another.
    let netrc = format!("machine 127.0.0.1 login {USER} password {PASSWORD}\n");
    let elsewhere = place.write("elsewhere", &netrc);
    works(&place, &plain, &|command| {
        command.env("NETRC", &elsewhere);
    });
    place.write("home/.netrc", &netrc);
    works(&place, &plain, &|_| ());
    fs::remove_file(place.path("home/.netrc")).unwrap();
    // In the keyring, which is asked by a program.
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] && [ \"$3\" = {USER} ] && case \"$2\" in *{at}*) echo '{PASSWORD}' ;; *) exit 1 ;; esac\n"
    );
    place.write_program("bin/keyring", script);
    let path = format!("{}:{}", place.at("bin"), std::env::var("PATH").unwrap());
    let user = format!("--index-url http://{USER}@{at}/simple\ndemo\n");
    works(&place, &user, &|command| {
        command.env("PATH", &path);
    });
    works(&place, &user, &|command| {
        command.env("PATH", &path).env("UV_KEYRING_PROVIDER", "subprocess");
    });
}

#[test]
fn without_credentials_it_is_said_where_they_are_looked_for() {
    let place = Place::new();
    let index = index();
    let recipe = format!("base = 'scratch'\n{}[[layer]]\npip = {{ requirements = 'r.txt' }}\n", DEBIAN.stated());
    place.write("recipe/ociforge.toml", recipe);
    let write = |user: &str| {
        place.write("recipe/r.txt", format!("--index-url http://{user}{}/simple\ndemo\n", index.address));
    };
    let call = |arguments: &[&str]| {
        let mut command = place.ociforge([arguments, &["--progress", "none"]].concat());
        command.env_remove("NETRC").env("UV_NO_CACHE", "1").env("UV_KEYRING_PROVIDER", "disabled");
        run(&mut command)
    };
    for user in ["", "maker:wrong-s3cret@", "maker:a/s3cret@"] {
        write(user);
        let said = call(&["lock", "recipe"]).fails(1, &["cannot resolve the Python packages"]);
        assert!(!said.contains("s3cret"), "{said}");
    }
    write(&format!("{USER}:{}@", PASSWORD.replace('/', "%2F")));
    call(&["lock", "recipe"]).ok();
    // The lock is there, but whoever builds has no password.
    write("");
    let digest = |text: &str| text.lines().find(|line| line.starts_with("recipe = ")).map(str::to_owned);
    let lock = fs::read_to_string(place.path("recipe/ociforge.lock")).unwrap();
    let ran = call(&["build", "recipe"]);
    assert!(digest(&lock).is_some() && ran.code == Some(1), "{}", ran.stderr);
    let pylock = format!(
        "lock-version = '1.0'\n[[packages]]\nname = 'demo'\nversion = '1.0'\nwheels = [{{url = 'http://{}/files/demo-1.0-py3-none-any.whl', \
         hashes = {{sha256 = '{}'}}}}]\n",
        index.address,
        digest_of(&Wheel::new("demo", "x = 1\n").bytes()).replace("sha256:", "")
    );
    place.write("recipe/pylock.toml", pylock);
    let recipe = format!("base = 'scratch'\n{}[[layer]]\npip = {{ lock = 'pylock.toml' }}\n", DEBIAN.stated());
    place.write("recipe/ociforge.toml", recipe);
    call(&["build", "recipe"]).fails(1, &["cannot fetch demo 1.0", "401", ".netrc", "keyring"]);
    assert!(files(&place.path("store/wheels")).iter().all(|file| file.extension().is_none_or(|end| end != "whl")));
}
