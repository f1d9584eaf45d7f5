use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;
use crate::store::temporary::TEMPORARY;

/// A directory with one of each kind, and a directory beside it that nothing may reach.
struct Scene {
    top: tempfile::TempDir,
    dir: Dir,
}

impl Scene {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        let [inside, outside] = ["inside", "outside"].map(|name| top.path().join(name));
        for directory in [&inside, &outside, &inside.join("directory")] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(outside.join("victim"), "precious").unwrap();
        fs::write(inside.join("file"), "content").unwrap();
        symlink("../outside/victim", inside.join("link")).unwrap();
        symlink("../outside", inside.join("link-to-directory")).unwrap();
        symlink("file", inside.join("link-to-file")).unwrap();
        symlink("nowhere", inside.join("dangling")).unwrap();
        fs::hard_link(outside.join("victim"), inside.join("hard")).unwrap();
        rustix::fs::mknodat(CWD, inside.join("fifo"), FileType::Fifo, 0o666.into(), 0).unwrap();
        UnixListener::bind(inside.join("socket")).unwrap();
        let dir = Dir::open(&inside).unwrap();
        Self { top, dir }
    }

    fn assert_untouched(&self) {
        let outside = self.top.path().join("outside");
        assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "precious");
        assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
    }
}

const NO_FILES: [(&str, &str); 7] = [
    ("directory", "a directory"),
    ("link", "a symbolic link"),
    ("link-to-file", "a symbolic link"),
    ("link-to-directory", "a symbolic link"),
    ("dangling", "a symbolic link"),
    ("fifo", "a named pipe"),
    ("socket", "a socket"),
];

#[test]
fn only_regular_files_are_opened_and_nothing_is_waited_for() {
    let scene = Scene::new();
    let opens: [fn(&Dir, &str) -> io::Result<File>; 3] =
        [|dir, name| dir.open_file(name), |dir, name| dir.edit_file(name), |dir, name| dir.make_file(name)];
    for (name, is) in NO_FILES {
        for open in opens {
            let error = open(&scene.dir, name).unwrap_err();
            assert_eq!(error.to_string(), format!("{name} is {is}; expected a regular file"));
        }
        assert_eq!(scene.dir.facts(name).unwrap(), None);
        assert!(scene.dir.is_taken(name).unwrap() && scene.dir.new_file(name, 0o600).is_err());
        assert!(scene.dir.expect(name, false).is_err());
    }
    // A name that is one of several may be read.
    let mut content = String::new();
    scene.dir.open_file("hard").unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "precious");
    for open in &opens[1..] {
        assert!(open(&scene.dir, "hard").unwrap_err().to_string().contains("several names"));
    }
    assert!(opens.iter().all(|open| open(&scene.dir, "file").is_ok()));
    assert_eq!(scene.dir.open_file("missing").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(scene.dir.make_file("made").is_ok());
    scene.assert_untouched();
}

#[test]
fn only_directories_are_entered() {
    let scene = Scene::new();
    for name in ["file", "link", "link-to-directory", "dangling", "fifo", "socket"] {
        for opened in [scene.dir.directory(name), scene.dir.make_directory(name)] {
            assert!(opened.unwrap_err().to_string().contains("expected a directory"), "{name}");
        }
    }
    let below = scene.dir.make_directory("directory").unwrap().make_directory("below").unwrap();
    symlink("/", scene.top.path().join("inside/directory/below/root")).unwrap();
    let error = below.directory("root").unwrap_err();
    assert!(error.to_string().starts_with("directory/below/root is a symbolic link"), "{error}");
    scene.assert_untouched();
}

#[test]
fn names_are_no_paths() {
    let scene = Scene::new();
    for name in ["", ".", "..", "../outside/victim", "directory/x", "/etc/passwd"] {
        assert_eq!(scene.dir.open_file(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        assert!(
            scene.dir.directory(name).is_err() && scene.dir.remove(name).is_err() && scene.dir.touch(name).is_err()
        );
        assert!(scene.dir.rename("file", &scene.dir, name).is_err() && scene.dir.facts(name).is_err());
        assert!(scene.dir.write(name, b"", false).is_err());
    }
    scene.assert_untouched();
}

#[test]
fn links_are_replaced_and_not_written_through() {
    let scene = Scene::new();
    for name in ["link", "hard", "fifo", "socket", "dangling", "file"] {
        scene.dir.write(name, b"new", name == "file").unwrap();
        assert_eq!(fs::read_to_string(scene.top.path().join("inside").join(name)).unwrap(), "new");
    }
    let error = scene.dir.write("directory", b"new", false).unwrap_err();
    assert_eq!(error.to_string(), "directory is a directory; expected a regular file");
    scene.dir.touch("link-to-directory").unwrap();
    scene.dir.remove("link-to-directory").unwrap();
    assert!(scene.dir.names().unwrap().iter().all(|name| !name.as_bytes().starts_with(TEMPORARY.as_bytes())));
    scene.assert_untouched();
}

#[test]
fn a_temporary_file_has_its_name_in_the_end_or_is_gone() {
    let scene = Scene::new();
    let before = scene.dir.names().unwrap();
    let mut temporary = scene.dir.temporary().unwrap();
    temporary.file().write_all(b"x").unwrap();
    assert_eq!(scene.dir.names().unwrap().len(), before.len() + 1);
    drop(temporary);
    assert_eq!(scene.dir.names().unwrap(), before);
    scene.dir.temporary().unwrap().persist("file").unwrap();
    assert_eq!(scene.dir.names().unwrap(), before);
    use std::os::unix::fs::PermissionsExt;
    let mode = scene.dir.open_file("file").unwrap().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}
