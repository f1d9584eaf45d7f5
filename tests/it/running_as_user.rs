//! `run` by users without privileges.

use super::support::{Layered, Packing, Place, Tar, User, run};

#[test]
fn with_ranges_files_have_owners() {
    let (user, place) = (User::with_ranges(), Place::new());
    let image = Layered::busybox()
        .layer(Packing::Gzip, Tar::new().dir("srv").owner(33, 33).mode(0o700).file("srv/x", "seen").owner(33, 34))
        .layer(
            Packing::Gzip,
            Tar::new().file("etc/.wh.group", "").file("srv/.wh..wh..opq", "").file("srv/y", "y").owner(5, 6),
        )
        .write(&place, "image");
    user.move_in(&place);
    // As apt does: files for others, and a process of another user.
    let script = "ls /srv; stat -c %u:%g /srv /srv/y; test ! -e /etc/group; touch /new; chown 42:43 /new && stat -c \
        %u:%g /new; mkdir /var; chown 100:65534 /var && id -u; exit 5";
    let flags = ["run", "--rm", "--progress", "none"];
    let ran = run(&mut user.ociforge(&place, &[&flags[..], &[&image, "--", "sh", "-c", script]].concat()));
    assert_eq!(ran.stdout, "y\n33:33\n5:6\n42:43\n0\n", "{}", ran.stderr);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(5), ""));
    let script = "id -u; echo mine > /tmp/x; stat -c %u:%g /tmp/x; stat -c %a /tmp";
    for runtime in ["runc", "crun"] {
        let call = [&flags[..], &["--runtime", runtime, "-u", "nobody", &image, "--", "sh", "-c", script]].concat();
        let ran = run(&mut user.ociforge(&place, &call));
        assert_eq!(ran.stdout, "65534\n65534:65534\n1777\n", "{runtime} {}", ran.stderr);
    }
    let left = std::fs::read_dir(place.path("store/containers")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn with_one_id_everything_belongs_to_it() {
    let (user, place) = (User::with_one_id(), Place::new());
    let image = Layered::busybox()
        .layer(Packing::Gzip, Tar::new().dir("srv").owner(33, 33).mode(0o700).file("srv/x", "seen\n").owner(33, 34))
        .layer(Packing::Gzip, Tar::new().file("etc/.wh.group", ""))
        .write(&place, "image");
    user.move_in(&place);
    let flags = ["run", "--rm", "--progress", "none"];
    let script = "id -u; cat /srv/x; test ! -e /etc/group && touch /new && exit 6";
    let call = [&flags[..], &[&image, "--", "sh", "-c", script]].concat();
    let ran = run(&mut user.ociforge(&place, &call));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(6), "0\nseen\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("2 files belong to your user instead of their owners in the image"), "{}", ran.stderr);
    let ran = run(&mut user.ociforge(&place, &[&flags[..], &["-u", "nobody", &image, "--", "id"]].concat()));
    ran.fails(125, &["no user 65534", "hint: ", "ociforge doctor"]);
    // Unpacked with ranges and with one id are two things.
    assert!(place.path("store/roots/one").is_dir());
}

#[test]
fn gpus_of_a_user_without_privileges() {
    let (user, place) = (User::with_ranges(), Place::new());
    let image = Layered::busybox().write(&place, "image");
    super::running_gpus::cdi(&place);
    user.move_in(&place);
    let script = "echo x > /dev/nvidia1 && ls /dev/nvidia*; echo $STAND_IN";
    let directory = place.at("cdi");
    let call = ["run", "--rm", "--progress", "none", "--gpus", "device=1", "--cdi-spec-dir", &directory, &image, "--"];
    let ran = run(&mut user.ociforge(&place, &[&call[..], &["sh", "-c", script]].concat()));
    assert_eq!((ran.stdout.as_str(), ran.code), ("/dev/nvidia1\n/dev/nvidiactl\nyes\n", Some(0)), "{}", ran.stderr);
}
