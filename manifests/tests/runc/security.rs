//! System calls, capabilities and limits, as a container under runc has them.

use std::fs;

use ociforge_manifests::runtime::{ContainerRequest, Seccomp};
use serde_json::{Value, json};

use crate::bundle::{Bundle, settings, shell};

/// Makes system calls that do nothing (a null pointer, an empty list) and prints `OK` or the error of each.
const CALLS: &str = r"
import ctypes, errno
calls = {'getpid': (39,), 'move_pages': (279, 0, 0, 0, 0, 0, 0), 'vmsplice': (278, 1, 0, 0, 0),
         'io_uring_setup': (425, 0, 0), 'ustat': (136, 0, 0), 'unshare': (272, 0), 'kcmp': (312, 1, 1, 0, 0, 0)}
libc = ctypes.CDLL(None, use_errno=True)
for name, arguments in calls.items():
    ctypes.set_errno(0)
    failed = libc.syscall(*arguments) == -1
    print(name, errno.errorcode[ctypes.get_errno()] if failed else 'OK')
";

/// The host's Python, with what it needs, in the container.
fn python(request: ContainerRequest) -> (Value, ContainerRequest) {
    let volumes = ["/usr:/usr:ro", "/lib:/lib:ro", "/lib64:/lib64:ro"];
    let volumes = volumes.iter().map(|text| text.parse().unwrap()).collect();
    (json!({"Cmd": ["/usr/bin/python3", "-c", CALLS], "Env": ["PATH=/bin"]}), ContainerRequest { volumes, ..request })
}

#[test]
fn system_calls_are_filtered() {
    let mut bundle = Bundle::new("seccomp");
    let mut calls = |profile: Option<String>, request: ContainerRequest| {
        bundle.host.seccomp = profile;
        let (config, request) = python(request);
        let text = bundle.prints(config, &request);
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect::<Vec<_>>().join(" ")
    };
    let of_the_host = || Some(fs::read_to_string("/usr/share/containers/seccomp.json").unwrap());
    let filtered = "OK EPERM EPERM ENOSYS EPERM OK EPERM";
    let free = "OK OK OK EFAULT EINVAL OK OK";
    assert_eq!(calls(None, ContainerRequest::default()), filtered);
    assert_eq!(calls(of_the_host(), ContainerRequest::default()), filtered);
    assert_eq!(calls(None, ContainerRequest { seccomp: Seccomp::Unconfined, ..ContainerRequest::default() }), free);
    // A capability opens what it is for.
    let ptrace = || ContainerRequest { cap_add: vec!["SYS_PTRACE".parse().unwrap()], ..ContainerRequest::default() };
    assert_eq!(calls(None, ptrace()), "OK EPERM EPERM ENOSYS EPERM OK OK");
    assert_eq!(calls(of_the_host(), ptrace()), "OK EPERM EPERM ENOSYS EPERM OK OK");
    // One's own profile.
    let rule = json!({"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95});
    let text = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}).to_string();
    let own =
        ContainerRequest { seccomp: Seccomp::Profile { name: "own".into(), text }, ..ContainerRequest::default() };
    assert_eq!(calls(None, own), free.replace("EINVAL OK", "EINVAL ENOTSUP"));
}

#[test]
fn privileges_are_given_and_taken() {
    let mut bundle = Bundle::new("privileges");
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mine = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap().to_owned();
    bundle.host.capabilities = Some(u64::from_str_radix(&mine, 16).unwrap());
    let script = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; ls /sys/firmware | grep -c . ; \
                  touch /proc/sys/kernel/hostname 2>/dev/null && echo writable";
    let show = |request: ContainerRequest| {
        let text = bundle.run(shell(script), &request);
        let text = String::from_utf8(text.stdout).unwrap();
        text.lines().map(|line| line.split('\t').next_back().unwrap()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(show(ContainerRequest::default()), "00000000a80425fb 0 2 0");
    let less = ContainerRequest {
        cap_drop: vec!["ALL".parse().unwrap()],
        cap_add: vec!["KILL".parse().unwrap()],
        ..ContainerRequest::default()
    };
    assert_eq!(show(less), "0000000000000020 0 2 0");
    assert_eq!(
        show(ContainerRequest { no_new_privileges: true, ..ContainerRequest::default() }),
        "00000000a80425fb 1 2 0"
    );
    let seen = show(ContainerRequest { privileged: true, ..ContainerRequest::default() });
    let known = u64::from_str_radix(&mine, 16).unwrap() & ((1 << 41) - 1);
    assert!(seen.starts_with(&format!("{known:016x} 0 0 ")) && seen.ends_with(" writable"), "{seen}");
}

#[test]
fn limits_hold() {
    let bundle = Bundle::new("limits");
    let request = ContainerRequest {
        memory: Some("64m".parse().unwrap()),
        pids_limit: Some("17".parse().unwrap()),
        tmpfs: vec!["/scratch:size=64k,exec".parse().unwrap()],
        settings: settings(json!({"cpuset-cpus": "0"})),
        ..ContainerRequest::default()
    };
    let script = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes \
                  /sys/fs/cgroup/memory.max 2>/dev/null; grep scratch /proc/mounts";
    let text = bundle.prints(shell(script), &request);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], ["17", "67108864"], "{text}");
    assert!(
        lines[2].contains("size=64k") && lines[2].contains("nosuid,nodev") && !lines[2].contains("noexec"),
        "{text}"
    );
}

#[test]
fn volumes_and_files_are_bound_in() {
    let mut bundle = Bundle::new("volumes");
    let place = bundle.directory.join("seeded");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("from-the-image"), "x").unwrap();
    fs::write(bundle.directory.join("hostname"), "train\n").unwrap();
    let text = |name: &str| bundle.directory.join(name).to_str().unwrap().to_owned();
    let (seeded, hostname) = (text("seeded"), text("hostname"));
    bundle.host.volumes = [("/data".to_owned(), seeded)].into();
    bundle.host.files = [("/etc/hostname".to_owned(), hostname)].into();
    let mut config = shell("ls /data; touch /data/new && cat /etc/hostname; echo $HOME");
    config["Volumes"] = json!({"/data": {}});
    assert_eq!(
        bundle.prints(config, &ContainerRequest { read_only: false, ..ContainerRequest::default() }),
        "from-the-image\ntrain\n/\n"
    );
    assert!(place.join("new").exists());
}
