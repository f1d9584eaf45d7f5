//! What is called like a file and is none: links out of a layout, pipes that nobody writes to, directories. Nothing outside
//! is read or written, and no command waits where nobody will come.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::process::{ended, send, start, wait_for_end, wait_until_idle};
use crate::support::{Layered, Packing, Place, Ran, Tar, run, tree};

fn image(place: &Place) -> String {
    Layered::busybox().layer(Packing::Gzip, Tar::new().file("file", "content")).write(place, "layout")
}

fn fifo(path: &Path) {
    let _ = fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Runs a command, which must end by itself soon.
#[track_caller]
fn soon(mut command: Command) -> Ran {
    let (what, child) = (format!("{command:?}"), start(&mut command));
    wait_for_end(&child);
    ended(&what, child)
}

/// The commands that read an image, each with what comes after its name.
const READERS: [(&str, &[&str]); 5] = [
    ("inspect", &[]),
    ("spec", &[]),
    ("copy", &["oci:copied:x"]),
    ("copy", &["oci-archive:copied.tar:x"]),
    ("bundle", &["bundled"]),
];

#[test]
fn a_pipe_in_a_layout_or_in_place_of_an_archive_is_an_error_at_once() {
    let place = Place::new();
    let image = image(&place);
    let fails = |name: &str, part: &str| {
        for (command, rest) in READERS {
            let words = [&[command, name], rest].concat();
            soon(place.ociforge(words)).fails(1, &[part, "hint: "]);
        }
    };
    let layer = fs::read_dir(place.path("layout/blobs/sha256"))
        .unwrap()
        .max_by_key(|entry| entry.as_ref().unwrap().metadata().unwrap().len());
    let layer = layer.unwrap().unwrap().path();
    let sound = fs::read(&layer).unwrap();
    fifo(&layer);
    let shown = format!("blobs/sha256/{} is a named pipe", layer.file_name().unwrap().to_str().unwrap());
    for (command, rest) in &READERS[2..] {
        soon(place.ociforge([&[*command, image.as_str()], *rest].concat())).fails(1, &[&shown]);
    }
    fs::remove_file(&layer).unwrap();
    fs::write(&layer, sound).unwrap();
    fifo(&place.path("layout/index.json"));
    for (command, rest) in READERS {
        soon(place.ociforge([&[command, image.as_str()], rest].concat())).fails(1, &["index.json is a named pipe"]);
    }
    soon(place.ociforge(["gc", "layout"])).fails(1, &["index.json is a named pipe"]);
    soon(place.ociforge(["serve", "--listen", "127.0.0.1:0", "layout"])).fails(1, &["index.json is a named pipe"]);
    place.write("recipe/ociforge.toml", "base = 'oci:../layout:x'\n");
    soon(place.build("recipe", &["-o", "oci:out:x"])).fails(1, &["index.json is a named pipe"]);

    fifo(&place.path("pipe"));
    for transport in ["oci-archive", "docker-archive"] {
        fails(&format!("{transport}:pipe"), "it is a pipe or a device");
        fails(&format!("{transport}:home"), "it is a directory");
        fails(&format!("{transport}:/dev/zero"), "it is a pipe or a device");
    }
    fifo(&place.path("copied.tar.partial"));
    fs::remove_file(place.path("layout/index.json")).unwrap();
    fs::remove_dir_all(place.path("layout")).unwrap();
    let image = self::image(&place);
    soon(place.ociforge(["copy", &image, "oci-archive:copied.tar:x"]))
        .fails(1, &["copied.tar.partial is a named pipe"]);
}

#[test]
fn an_archive_may_be_on_stdin_as_long_as_it_is_a_file() {
    let place = Place::new();
    let image = image(&place);
    for transport in ["oci-archive", "docker-archive"] {
        run(&mut place.ociforge(["copy", &image, &format!("{transport}:archive.tar")])).ok();
        let inspect = || place.ociforge(["inspect", "--raw", &format!("{transport}:/dev/stdin")]);
        let direct = run(&mut place.ociforge(["inspect", "--raw", &format!("{transport}:archive.tar")])).ok();
        let file = fs::File::open(place.path("archive.tar")).unwrap();
        assert_eq!(run(inspect().stdin(file)).ok(), direct);
        let mut piped = inspect();
        piped.stdin(Stdio::piped());
        soon(piped).fails(1, &["it is a pipe or a device", "hint: write the archive to a regular file"]);
    }
}

#[test]
fn links_in_a_layout_lead_nowhere() {
    for (name, is_directory) in [
        (".lock", false),
        (".writers", false),
        (".partial", true),
        (".uploads", true),
        ("index.json", false),
        ("blobs", true),
    ] {
        let place = Place::new();
        let image = image(&place);
        fs::create_dir_all(place.path("outside/sha256")).unwrap();
        fs::create_dir_all(place.path("outside/sha512")).unwrap();
        place.write("outside/file", "precious");
        let link = place.path("layout").join(name);
        let _ = fs::remove_file(&link).or_else(|_| fs::remove_dir_all(&link));
        symlink(place.path(if is_directory { "outside" } else { "outside/file" }), &link).unwrap();
        let before = tree(&place.path("outside"));
        place.write("recipe/ociforge.toml", "base = 'scratch'\n[[layer]]\ndirectories = ['/a']\n");
        let part = format!("{name} is a symbolic link");
        soon(place.ociforge(["inspect", &image])).fails(1, &[&part]);
        soon(place.ociforge(["copy", &image, "oci:copied"])).fails(1, &[&part]);
        soon(place.build("recipe", &["-o", "oci:layout:new"])).fails(1, &[&part]);
        soon(place.ociforge(["gc", "layout", "--keep-for", "0s"])).fails(1, &[&part]);
        soon(place.ociforge(["serve", "--listen", "127.0.0.1:0", "layout"])).fails(1, &[&part]);
        assert_eq!(tree(&place.path("outside")), before, "{name}");
    }
    // The layout itself is where the user says, over whatever links.
    let place = Place::new();
    image(&place);
    symlink("layout", place.path("link")).unwrap();
    run(&mut place.ociforge(["inspect", "oci:link"])).ok();
    run(&mut place.ociforge(["copy", "oci:link", "oci:link:again"])).ok();
    run(&mut place.ociforge(["gc", "link"])).ok();
}

/// Commands that wait in open(2) of a pipe end when they are told to.
#[test]
fn who_waits_for_a_pipe_ends_when_told_to() {
    let place = Place::new();
    image(&place);
    place.write("recipe/ociforge.toml", "base = 'oci:../layout'\n");
    fifo(&place.path("pipe"));
    for (signal, words) in [
        (Signal::TERM, &["build", "-f", "pipe"][..]),
        (Signal::INT, &["lock", "-f", "pipe"]),
        (Signal::TERM, &["mirror", "-f", "pipe", "--to", "oci:out"]),
        (Signal::TERM, &["serve", "served", "--listen", "127.0.0.1:0", "--htpasswd", "pipe"]),
        (Signal::TERM, &["build", "recipe", "-o", "oci-archive:pipe"]),
        (Signal::TERM, &["inspect", "--authfile", "pipe", "127.0.0.1:1/a/b:c"]),
    ] {
        let mut command = place.ociforge(words.iter().copied());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until_idle(&mut child);
        send(&child, signal);
        wait_for_end(&child);
        let status = child.wait().unwrap();
        let expected = if words[0] == "serve" { 0 } else { 130 };
        assert_eq!((status.code(), status.signal()), (Some(expected), None), "{words:?}");
    }
}

#[test]
fn what_a_recipe_names_lies_in_its_directory() {
    let place = Place::new();
    let wheel = crate::support::Wheel::new("demo", "x = 1\n").bytes();
    place.write("outside/demo-1.0-py3-none-any.whl", &wheel);
    place.write("outside/data.tar", Tar::new().file("secret", "s").bytes());
    place.write("outside/requirements.txt", "");
    place.write("outside/pylock.toml", "lock-version = '1.0'\ncreated-by = 'x'\npackages = []\n");
    place.write("outside/project/setup.py", "");
    fs::create_dir(place.path("recipe")).unwrap();
    symlink("../outside", place.path("recipe/link")).unwrap();
    symlink("../outside/data.tar", place.path("recipe/data.tar")).unwrap();
    let python = "[python]\nversion = '3.11'\nsite-packages = '/usr/lib/python3/site-packages'\nexecutable = \
        '/usr/bin/python3'\n";
    let outside = place.at("outside");
    for layer in [
        "tar = 'OUT/data.tar'",
        "tar = 'data.tar'",
        "copy = { from = 'OUT/data.tar', to = '/x' }",
        "pip = { wheels = 'OUT/*.whl' }",
        "pip = { requirements = 'OUT/requirements.txt' }",
        "pip = { lock = 'OUT/pylock.toml' }",
        "pip = { project = 'OUT/project' }",
    ] {
        for out in ["../outside", &outside, "link", "link/../outside"] {
            let layer = layer.replace("OUT", out);
            place.write(
                "recipe/ociforge.toml",
                format!("base = 'scratch'\n{python}[[layer]]\ndirectories = ['/x']\n[[layer]]\n{layer}\n"),
            );
            run(&mut place.build("recipe", &["-o", "oci:built:x"]))
                .fails(1, &["leads out of the recipe's directory", "hint: "]);
        }
    }
    assert!(!place.path("built").exists());
    // A path that comes back, and one that is absolute, are fine.
    place.write("recipe/sub/data.tar", Tar::new().file("file", "s").bytes());
    for tar in ["sub/../sub/data.tar", &place.at("recipe/sub/data.tar")] {
        place.write("recipe/ociforge.toml", format!("base = 'scratch'\n[[layer]]\ntar = '{tar}'\n"));
        run(&mut place.build("recipe", &["-o", "oci:built:x"])).ok();
    }
    // What takes the place of a base may be anywhere, as a base may, but no link says where.
    for (tar, right) in [("../outside/data.tar", true), (&*place.at("outside/data.tar"), true), ("data.tar", false)] {
        place.write("recipe/ociforge.toml", format!("base = 'scratch'\n[[layer]]\ntar = '{tar}'\n"));
        let outcome = run(&mut place.build("recipe", &["-o", "oci:built:x"]));
        if right { drop(outcome.ok()) } else { drop(outcome.fails(1, &["leads out of the recipe's directory"])) }
    }
    fifo(&place.path("recipe/pipe"));
    place.write("recipe/ociforge.toml", "base = 'scratch'\n[[layer]]\ntar = 'pipe'\n");
    soon(place.build("recipe", &[])).fails(1, &["recipe/pipe", "it is a pipe or a device, not a file"]);
}

#[test]
fn pipes_in_a_recipes_directory_keep_nobody_waiting() {
    let place = Place::new();
    let python = "[python]\nversion = '3.11'\nsite-packages = '/usr/lib/python3/dist-packages'\nexecutable = \
        '/usr/bin/python3'\nlibc = 'glibc 2.36'\n";
    for (pipe, pip) in [
        ("requirements.txt", "requirements = 'requirements.txt'"),
        ("pylock.toml", "lock = 'pylock.toml'"),
        ("a-1-py3-none-any.whl", "wheels = '*.whl'"),
        ("lib/pyproject.toml", "project = 'lib'"),
    ] {
        place.write("recipe/ociforge.toml", format!("base = 'scratch'\n{python}[[layer]]\npip = {{ {pip} }}\n"));
        fs::create_dir_all(place.path("recipe/lib")).unwrap();
        fifo(&place.path(format!("recipe/{pipe}")));
        let lock = place.ociforge(["lock", "recipe"]);
        for command in [place.build("recipe", &[]), lock] {
            soon(command).fails(1, &[pipe, "it is a pipe or a device, not a file"]);
        }
        fs::remove_file(place.path(format!("recipe/{pipe}"))).unwrap();
    }
    place.write("recipe/ociforge.toml", "base = 'scratch'\n[[layer]]\ncopy = { from = 'lib', to = '/lib' }\n");
    for pipe in ["ociforge.lock", ".dockerignore"] {
        fifo(&place.path(format!("recipe/{pipe}")));
        soon(place.build("recipe", &[])).fails(1, &[pipe, "it is a pipe or a device, not a file"]);
        fs::remove_file(place.path(format!("recipe/{pipe}"))).unwrap();
    }
}
