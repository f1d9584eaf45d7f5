//! The rootless form.

use super::*;

fn map(container: u32, host: u32, size: u32) -> IdMap {
    IdMap { container, host, size }
}

/// Somebody with uid 1000 and a range of other ids, or without.
fn mappings(with_range: bool) -> IdMappings {
    let maps = if with_range { vec![map(0, 1000, 1), map(1, 100_000, 65_536)] } else { vec![map(0, 1000, 1)] };
    IdMappings { uids: maps.clone(), gids: maps }
}

fn rootless(
    mappings: Option<IdMappings>,
    edit: impl Fn(&mut ContainerRequest, &mut Host),
) -> Result<Emitted, SpecError> {
    let mut request = ContainerRequest { rootless: true, ..ContainerRequest::default() };
    let mut host = Host { mappings, ..host() };
    edit(&mut request, &mut host);
    runtime_spec(&image(json!({"Cmd": ["sh"]})), &BTreeMap::new(), &request, &host)
}

#[test]
fn a_user_namespace_and_what_it_cannot_have() {
    let Emitted { json: spec, warnings } = rootless(Some(mappings(false)), |_, _| {}).unwrap();
    assert_eq!(warnings, [] as [&str; 0]);
    assert_eq!(namespaces(&spec), ["mount", "uts", "pid", "network", "ipc", "cgroup", "user"]);
    assert_eq!(spec["linux"]["uidMappings"], json!([{"containerID": 0, "hostID": 1000, "size": 1}]));
    assert_eq!(spec["linux"]["gidMappings"], spec["linux"]["uidMappings"]);
    assert!(spec["linux"].get("resources").is_none());
    assert_eq!(spec["linux"]["sysctl"], json!({"net.ipv4.ip_unprivileged_port_start": "0"}));
    let options = json!(["rbind", "rprivate", "nosuid", "noexec", "nodev", "ro"]);
    assert_eq!(
        mount(&spec, "/sys").unwrap(),
        &json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": options})
    );
    assert!(!mount(&spec, "/dev/pts").unwrap()["options"].to_string().contains("gid="));
    assert!(spec["linux"]["maskedPaths"].is_array() && spec["linux"]["seccomp"].is_object());

    // With a range of ids the terminal's group is there.
    let spec = rootless(Some(mappings(true)), |_, _| {}).unwrap().json;
    assert!(mount(&spec, "/dev/pts").unwrap()["options"].to_string().contains("gid=5"));
    assert_eq!(spec["linux"]["uidMappings"][1], json!({"containerID": 1, "hostID": 100_000, "size": 65_536}));
}

#[test]
fn inside_of_a_user_namespace_none_is_made() {
    for (mappings, known) in [(None, false), (Some(mappings(true)), true)] {
        let spec = rootless(mappings, |_, host| host.inside_user_namespace = known).unwrap().json;
        assert!(!namespaces(&spec).contains(&"user") && spec["linux"].get("uidMappings").is_none());
        assert_eq!(mount(&spec, "/sys").unwrap()["type"], "bind");
        assert_eq!(mount(&spec, "/dev/pts").unwrap()["options"].to_string().contains("gid=5"), known);
        assert!(spec["linux"].get("resources").is_none());
    }
}

#[test]
fn users_and_groups_must_be_mapped() {
    for (user, with_range, error) in [
        ("0", false, None),
        ("1", false, Some("no user 1")),
        ("0:5", false, Some("no group 5")),
        ("65536:65536", true, None),
        ("65537", true, Some("no user 65537")),
        ("1000:65537", true, Some("no group 65537")),
    ] {
        let result = rootless(Some(mappings(with_range)), |request, _| request.user = Some(user.into()));
        match (result, error) {
            (Ok(_), None) => {}
            (Err(found), Some(said)) => {
                assert!(found.to_string().contains(said), "{user}: {found}");
                assert!(found.hint().unwrap().contains("ociforge doctor"));
            }
            (result, _) => panic!("{user}: {result:?}"),
        }
    }
}

#[test]
fn further_groups_stay_out_where_they_cannot_be() {
    let groups_of = |user: &str, mappings: Option<IdMappings>, inside: bool| {
        let emitted = rootless(mappings, |request, host| {
            request.user = Some(user.into());
            let group = "a:x:5:root\nb:x:70000:root\nc:x:6:root".into();
            host.users = Some(UserDatabase { passwd: "root:x:0:0::/:".into(), group });
            host.inside_user_namespace = inside;
        });
        let Emitted { json: spec, warnings } = emitted.unwrap();
        (spec["process"]["user"].get("additionalGids").cloned(), warnings.join(";"))
    };
    let groups = |mappings: Option<IdMappings>, inside: bool| groups_of("root", mappings, inside);
    // Nobody has asked for the groups of a number.
    assert_eq!(groups_of("0", Some(mappings(false)), false), (None, String::new()));
    let none = "the user is not in the groups 5, 70000, 6: a rootless container has no supplementary groups";
    for (with_range, inside) in [(false, false), (false, true), (true, false)] {
        assert_eq!(groups(Some(mappings(with_range)), inside), (None, none.to_owned()));
    }
    let some = "the user is not in the groups 70000: they are not mapped";
    assert_eq!(groups(Some(mappings(true)), true), (Some(json!([0, 5, 6])), some.to_owned()));
    assert_eq!(groups(None, false), (Some(json!([0, 5, 70000, 6])), String::new()));
}

#[test]
fn limits_need_a_delegated_controller() {
    let emitted = |delegated: &[&str]| {
        rootless(Some(mappings(false)), |request, host| {
            request.settings.cpuset_cpus = Some("0".parse().unwrap());
            request.memory = Some("64m".parse().unwrap());
            request.pids_limit = Some("9".parse().unwrap());
            host.delegated = delegated.iter().map(|&name| name.to_owned()).collect();
        })
        .unwrap()
    };
    let Emitted { json: spec, warnings } = emitted(&[]);
    assert!(spec["linux"].get("resources").is_none());
    assert_eq!(warnings.len(), 3);
    assert!(warnings[0].starts_with("--cpuset-cpus has no effect: the cgroup controller `cpuset`"));
    let Emitted { json: spec, warnings } = emitted(&["memory", "pids"]);
    assert_eq!(
        spec["linux"]["resources"],
        json!({"memory": {"limit": 64 << 20, "swap": 128 << 20}, "pids": {"limit": 9}})
    );
    assert_eq!(warnings.len(), 1);
}

#[test]
fn what_else_a_user_cannot_do() {
    let Emitted { json: spec, warnings } = rootless(Some(mappings(false)), |request, host| {
        request.settings = settings(json!({"ipc": "host", "ulimits": ["nofile=8192"]}));
        request.tmpfs = vec!["/a:uid=0,gid=0".parse().unwrap(), "/b:uid=7,gid=8,size=1m".parse().unwrap()];
        request.privileged = true;
        host.limits = BTreeMap::from([("nofile".into(), 4096)]);
        // A new user namespace has them all.
        host.capabilities = Some(0);
    })
    .unwrap();
    assert!(mount(&spec, "/dev/mqueue").is_none());
    assert_eq!(spec["process"]["rlimits"], json!([{"type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096}]));
    assert!(warnings[0].contains("the container gets nofile=4096:4096"));
    assert!(mount(&spec, "/a").unwrap()["options"].to_string().contains("uid=0"));
    assert_eq!(mount(&spec, "/b").unwrap()["options"], json!(["noexec", "nosuid", "nodev", "size=1m"]));
    assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 41);
    assert!(!mount(&spec, "/sys").unwrap()["options"].as_array().unwrap().contains(&json!("ro")));
}

#[test]
fn bind_mounts_keep_the_locked_flags_of_their_source() {
    let mut emitted = rootless(Some(mappings(false)), |request, _| {
        request.volumes = ["/t:/t:ro", "/u:/u:rw", "/v:/v"].iter().map(|text| text.parse().unwrap()).collect();
    })
    .unwrap();
    assert_eq!(emitted.bind_sources().into_iter().collect::<Vec<_>>(), ["/sys", "/t", "/u", "/v"]);
    let flags =
        [("/t", vec!["nosuid", "nodev"]), ("/u", vec!["ro", "noexec"]), ("/sys", vec!["nosuid"]), ("/no", vec!["ro"])];
    emitted.keep_locked(&flags.map(|(source, flags)| (source.to_owned(), flags)).into());
    let options = |place: &str| {
        let options = mount(&emitted.json, place).unwrap()["options"].as_array().unwrap();
        options.iter().map(|option| option.as_str().unwrap()).collect::<Vec<_>>().join(",")
    };
    assert_eq!(options("/t"), "rbind,rprivate,ro,nosuid,nodev");
    assert_eq!(options("/u"), "rbind,rprivate,ro,noexec");
    assert_eq!(options("/v"), "rbind,rprivate");
    assert_eq!(options("/sys"), "rbind,rprivate,nosuid,noexec,nodev,ro");
}
