//! `cache`: what was unpacked can be seen and removed, but not from under a container.

use ociforge::store::Caches;

use super::running::Running;
use super::support::{Layered, Packing, Place, Tar, User, run};

/// The number of files that `cache ls` has on the line `name`.
fn count(listed: &str, name: &str) -> u64 {
    let line = listed.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {listed}"));
    line[name.len()..].trim().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn unpacked_layers_go_and_running_containers_stay() {
    let place = Place::new();
    let image = Layered::busybox().write(&place, "image");
    let cache = |words: &[&str]| run(&mut place.ociforge([&["cache"], words].concat()));
    assert_eq!(count(&cache(&["ls"]).ok(), "unpacked layers"), 0);
    run(&mut place.ociforge(["run", &image, "--", "touch", "/kept"])).ok();
    let script = ["--", "sh", "-c", "echo ready; read line; cat /etc/group >/dev/null && echo alive"];
    let mut command = place.ociforge([&["run", "--rm", "-i", &image], &script[..]].concat());
    let mut running = Running::start(command.stdin(std::process::Stdio::piped()));
    let listed = cache(&["ls"]).ok();
    assert!(count(&listed, "unpacked layers") > 10 && count(&listed, "containers") > 3, "{listed}");
    // The many links of busybox are one file.
    assert!(listed.contains("files     2.") && listed.contains(" MB"), "{listed}");

    // What is not asked for stays.
    cache(&["prune", "--wheels"]).ok();
    assert_eq!(cache(&["ls"]).ok(), listed);
    let pruned = cache(&["prune", "--roots", "--progress", "plain"]);
    assert!(
        pruned.stderr.contains("ociforge keeps all unpacked layers, and the files of running containers: 1"),
        "{}",
        pruned.stderr
    );
    let containers = || std::fs::read_dir(place.path("store/containers")).map_or(0, Iterator::count);
    assert_eq!(containers(), 1, "the one that has ended is gone");
    drop(running.child.stdin.take());
    assert_eq!(running.rest(), ("alive\n".to_owned(), Some(0)));
    cache(&["prune"]).ok();
    assert_eq!((count(&cache(&["ls"]).ok(), "unpacked layers"), containers()), (0, 0));
    run(&mut place.ociforge(["run", "--rm", &image, "--", "true"])).ok();
}

#[test]
fn caches_of_steps_go_unless_a_build_uses_them() {
    let place = Place::new();
    let cache = |words: &[&str]| run(&mut place.ociforge([&["cache"], words].concat()));
    cache(&["prune", "--caches"]).ok();
    assert!(!place.path("store").exists());
    let caches = Caches::new(place.path("store/caches"));
    let open = |id: &str| caches.open("all", id, false, &|| {}, &|| false).unwrap();
    let used = open("/root/.cache/pip");
    for mount in [&used, &open("other")] {
        std::fs::write(mount.path().join("kept"), "x").unwrap();
    }
    let listed = cache(&["ls"]).ok();
    assert_eq!(count(&listed, "caches of steps"), 6, "{listed}");
    cache(&["prune", "--roots"]).ok();
    assert_eq!(cache(&["ls"]).ok(), listed);
    for words in [&["prune", "--caches", "--progress", "plain"][..], &["prune", "--progress", "plain"]] {
        let pruned = cache(words);
        assert!(pruned.stderr.contains("ociforge keeps the caches of running builds: 1"), "{}", pruned.stderr);
        assert!(used.path().join("kept").exists());
        assert_eq!(count(&cache(&["ls"]).ok(), "caches of steps"), 3);
    }
    drop(used);
    cache(&["prune"]).ok();
    assert_eq!(count(&cache(&["ls"]).ok(), "caches of steps"), 0);
}

#[test]
fn users_without_privileges_remove_what_belongs_to_their_ids() {
    for user in [User::with_ranges(), User::with_one_id()] {
        let place = Place::new();
        let closed = Tar::new().dir("srv").owner(33, 33).mode(0o700).file("srv/x", "x").owner(33, 33);
        let image = Layered::busybox().layer(Packing::Gzip, closed).write(&place, "image");
        user.move_in(&place);
        run(&mut user.ociforge(&place, &["run", &image, "--", "touch", "/kept"])).ok();
        let listed = run(&mut user.ociforge(&place, &["cache", "ls"])).ok();
        assert!(count(&listed, "unpacked layers") > 10 && count(&listed, "containers") > 0, "{listed}");
        run(&mut user.ociforge(&place, &["cache", "prune"])).ok();
        assert!(!place.path("store/roots").exists() && !place.path("store/containers").exists());
    }
}
