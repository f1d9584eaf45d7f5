//! The program in containers as CI systems make them: a Debian root, docker's capabilities, with docker's seccomp
//! profile, with podman's and without any, by root and without it.
//!
//! Debian: runc golang-github-containers-common

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::Case;
use super::identity::{Machine, Played, Who, run};

pub(crate) const CASES: &[Case] = &[
    ("nested::dockers_profile_leaves_chroot", dockers_profile_leaves_chroot),
    ("nested::without_a_profile_root_gives_all_its_ids", without_a_profile_root_gives_all_its_ids),
    ("nested::privileged_containers_are_like_machines", privileged_containers_are_like_machines),
    ("nested::users_in_containers_have_one_id_or_an_error", users_in_containers),
    ("nested::what_a_container_forbids_is_named", what_a_container_forbids_is_named),
    ("nested::a_store_in_the_containers_own_root_is_used_by_copying", a_store_in_the_containers_own_root),
    ("nested::rootless_containers_give_what_they_have", rootless_containers),
    ("nested::in_a_chroot_there_is_chroot", in_a_chroot_there_is_chroot),
    ("nested::doctor_knows_where_it_is", doctor_knows_where_it_is),
];

/// What docker gives to containers.
pub(crate) const DOCKERS: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Which system calls a container may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// All, as in Kubernetes.
    Unconfined,
    /// Those of the profile of podman and its kin.
    Podmans,
    /// Those, without namespaces and mounts, which docker leaves to containers with `CAP_SYS_ADMIN`.
    Dockers,
}

/// A container to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) capabilities: &'static [&'static str],
    pub(crate) profile: Profile,
    pub(crate) user: u32,
    pub(crate) no_new_privileges: bool,
    /// Who runs runc.
    pub(crate) who: Who,
    /// Whether `/proc` is whole.
    pub(crate) unmasked: bool,
}

pub(crate) const DOCKER: Job = Job {
    capabilities: &DOCKERS,
    profile: Profile::Dockers,
    user: 0,
    no_new_privileges: false,
    who: Who::Root,
    unmasked: false,
};
pub(crate) const KUBERNETES: Job = Job { profile: Profile::Unconfined, ..DOCKER };

/// The Debian root, unpacked once.
fn debian(machine: &Machine) -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let tar = std::env::var_os("OCIFORGE_TEST_BASE_TAR").unwrap();
        let root = machine.program().parent().unwrap().join("debian");
        fs::create_dir(&root).unwrap();
        run(Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(&root));
        root
    })
}

/// An overlay as docker mounts it for a container, and what belongs to it.
struct Root {
    directory: tempfile::TempDir,
}

impl Root {
    fn new(machine: &Machine) -> Self {
        let directory = machine.directory(Who::Root);
        let at = |name: &str| directory.path().join(name);
        for name in ["upper/store", "work", "merged", "store"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        for file in ["upper/scenario", "upper/ociforge"] {
            fs::write(at(file), "").unwrap();
        }
        fs::copy("/bin/busybox", at("upper/busybox")).unwrap();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            debian(machine).display(),
            at("upper").display(),
            at("work").display()
        );
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(at("merged")));
        run(Command::new("chmod").arg("755").args([directory.path(), &at("upper"), &at("merged")]));
        Self { directory }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.directory.path().join("merged")).status();
    }
}

impl Job {
    /// Plays a scenario in the container. `/store` is a directory of the machine.
    fn play(self, machine: &Machine, scenario: &[&str]) -> Played {
        self.run(machine, &[&["/scenario", "--scenario"], scenario].concat())
    }

    pub(crate) fn run(self, machine: &Machine, words: &[&str]) -> Played {
        let root = Root::new(machine);
        let at = |name: &str| root.directory.path().join(name);
        machine.give(self.who, &at("store"));
        if self.user != 0 {
            std::os::unix::fs::chown(at("store"), Some(self.user), Some(self.user)).unwrap();
        }
        let bundle = machine.directory(self.who);
        fs::write(bundle.path().join("config.json"), self.spec(machine, &at(""), words).to_string()).unwrap();
        let id = format!("nested-{}", bundle.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.'));
        let mut call = vec!["runc".to_owned(), "--root".into(), format!("{}/state", bundle.path().display())];
        call.extend(["run".into(), "--bundle".into(), bundle.path().to_str().unwrap().into(), id]);
        if self.who != Who::Root {
            let unshare = ["unshare", "--user", "--mount", "--map-root-user", "--map-auto"].map(str::to_owned);
            let setpriv = machine.words(self.who, &[]);
            let outside = setpriv.into_iter().take_while(|word| word != machine.program().to_str().unwrap());
            call = outside.chain(unshare).chain(call).collect();
        }
        let output = Command::new(&call[0]).args(&call[1..]).stdin(Stdio::null()).output().unwrap();
        Played::of(&output)
    }

    /// Its config.json, as docker writes it.
    fn spec(self, machine: &Machine, place: &Path, words: &[&str]) -> Value {
        let rootless = self.who != Who::Root;
        let bind = |source: PathBuf, destination: &str| json!({"destination": destination, "source": source, "type": "bind", "options": ["rbind", "rprivate"]});
        let sys = match rootless {
            true => json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro"]}),
            false => {
                json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]})
            }
        };
        let (masked, readonly) = match self.unmasked {
            true => (json!([]), json!([])),
            false => (
                json!(["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"]),
                json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
            ),
        };
        // Only root keeps them when it starts a program.
        let effective: &[&str] = if self.user == 0 { self.capabilities } else { &[] };
        let mut linux = json!({
            "namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "pid"}, {"type": "ipc"}, {"type": "network"}],
            "maskedPaths": masked, "readonlyPaths": readonly,
        });
        if self.profile != Profile::Unconfined {
            linux["seccomp"] = seccomp(self.profile);
        }
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false, "user": {"uid": self.user, "gid": self.user}, "args": words, "cwd": "/",
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"],
                "capabilities": {"bounding": self.capabilities, "effective": effective, "permitted": effective},
                "noNewPrivileges": self.no_new_privileges,
            },
            "root": {"path": place.join("merged"), "readonly": rootless},
            "hostname": "ci",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]},
                sys,
                bind(machine.program(), "/scenario"),
                bind(PathBuf::from(env!("CARGO_BIN_EXE_ociforge")), "/ociforge"),
                bind(place.join("store"), "/store"),
            ],
            "linux": linux,
        })
    }
}

/// What docker's profile allows only with `CAP_SYS_ADMIN`, and that of podman without it. clone(2) and clone3(2) besides.
const OF_ADMINS: [&str; 14] = [
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "setns",
    "umount",
    "umount2",
    "unshare",
    "clone3",
];

/// `CLONE_NEWNS` and the like.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// The filter of a container with docker's capabilities.
fn seccomp(profile: Profile) -> Value {
    let text = fs::read_to_string("/usr/share/containers/seccomp.json").unwrap();
    let podmans: Value = serde_json::from_str(&text).unwrap();
    let words = |rule: &Value, which: &str, of: &str| -> Vec<String> {
        let words = rule[which][of].as_array().into_iter().flatten();
        words.map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let has = |capability: &String| DOCKERS.contains(&capability.as_str());
    let here = |architecture: &String| architecture == "amd64";
    let applies = |rule: &&Value| {
        let architectures = words(rule, "includes", "arches");
        words(rule, "includes", "caps").iter().all(has)
            && !words(rule, "excludes", "caps").iter().any(has)
            && (architectures.is_empty() || architectures.iter().any(here))
            && !words(rule, "excludes", "arches").iter().any(here)
    };
    let docker = profile == Profile::Dockers;
    let taken = |name: &&Value| docker && (OF_ADMINS.contains(&name.as_str().unwrap()) || **name == "clone");
    let mut rules = Vec::new();
    for rule in podmans["syscalls"].as_array().unwrap().iter().filter(applies) {
        let names: Vec<_> = rule["names"].as_array().unwrap().iter().filter(|name| !taken(name)).collect();
        let mut kept = json!({"names": names, "action": rule["action"]});
        for key in ["args", "errnoRet"] {
            if !rule[key].is_null() {
                kept[key] = rule[key].clone();
            }
        }
        rules.extend((!names.is_empty()).then_some(kept));
    }
    if docker {
        let forbidden: Vec<_> = OF_ADMINS.iter().filter(|name| **name != "clone3").collect();
        let args = json!([{"index": 0, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]);
        rules.push(json!({"names": forbidden, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}));
        rules.push(json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": args}));
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}));
    }
    json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": if docker { 1 } else { 38 }, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules})
}

#[track_caller]
pub(crate) fn says(played: &Played, expected: &[&str]) {
    for part in expected {
        assert!(played.out.contains(part) || played.err.contains(part), "no {part:?} in {played:#?}");
    }
}

fn dockers_profile_leaves_chroot(machine: &Machine) {
    let played = DOCKER.play(machine, &["stage", "auto", "/store"]);
    says(
        &played,
        &[
            "is=chroot: nothing else is allowed here\n",
            "warning=Some(\"no namespaces: a seccomp filter is in force, as in a container\")",
            "form=copy kind=\nscript=0 33\nleft=0\n",
        ],
    );
    assert_eq!(played.code, Some(0), "{played:?}");
}

fn without_a_profile_root_gives_all_its_ids(machine: &Machine) {
    for (profile, no_new_privileges) in
        [(Profile::Unconfined, false), (Profile::Podmans, false), (Profile::Unconfined, true)]
    {
        let played = Job { profile, no_new_privileges, ..KUBERNETES }.play(machine, &["stage", "auto", "/store"]);
        let shown = "form=overlay kind=shared\nscript=0 33\nnext=written 33 755\nleft=0\n";
        says(&played, &["is=a user namespace with 4294967294 ids\nids=Ranges", "warning=None", shown]);
        assert_eq!(played.code, Some(0), "{profile:?} {played:?}");
    }
}

fn privileged_containers_are_like_machines(machine: &Machine) {
    let capabilities = [&DOCKERS[..], &["CAP_SYS_ADMIN"]].concat().leak();
    let job = Job { capabilities, ..KUBERNETES };
    let played = job.play(machine, &["stage", "auto", "/store"]);
    says(&played, &["is=root in a mount namespace\nids=All", "form=overlay kind=all\nscript=0 33\nnext=written 33"]);
}

fn users_in_containers(machine: &Machine) {
    let played = Job { user: 1000, ..KUBERNETES }.play(machine, &["stage", "auto", "/store"]);
    says(&played, &["is=a user namespace with one id; owners are recorded\n", "form=overlay kind=remembered\n"]);
    for isolation in ["auto", "one"] {
        let played = Job { user: 1000, ..DOCKER }.play(machine, &["isolate", isolation]);
        let error = "error: cannot enter a user namespace: a seccomp filter is in force, as in a container\n";
        says(&played, &[error, "hint: start the container around this with `--security-opt seccomp=unconfined"]);
        assert_eq!(played.code, Some(1), "{played:?}");
    }
}

fn what_a_container_forbids_is_named(machine: &Machine) {
    let capabilities: &'static [&'static str] = &[];
    let seccomp = "error: cannot enter a user namespace: a seccomp filter is in force, as in a container\n";
    let cases: [(Job, &str, [&str; 2]); 6] = [
        (
            DOCKER,
            "root",
            [
                "error: cannot use a mount namespace of root's\n  cause: root has no CAP_SYS_ADMIN here\n",
                "hint: start the container around this with `--cap-add SYS_ADMIN`",
            ],
        ),
        (DOCKER, "subuid", [seccomp, "hint: start the container around this with `--security-opt seccomp=unconfined"]),
        (DOCKER, "chroot", ["is=chroot\n", "warning=None"]),
        (
            Job { capabilities, ..KUBERNETES },
            "auto",
            [
                "error: cannot map ids in a user namespace: root has no CAP_SETFCAP here",
                "hint: start the container around this with `--cap-add SETFCAP`",
            ],
        ),
        (
            Job { capabilities, ..KUBERNETES },
            "chroot",
            ["error: cannot use chroot\n  cause: root has no CAP_CHOWN, no CAP_DAC_OVERRIDE,", "--cap-add SYS_CHROOT"],
        ),
        (
            Job { user: 1000, no_new_privileges: true, ..KUBERNETES },
            "subuid",
            ["cannot use a user namespace with many ids\n  cause: neither /etc/subuid", "hint: "],
        ),
    ];
    for (job, isolation, expected) in cases {
        says(&job.play(machine, &["isolate", isolation]), &expected);
    }
}

fn a_store_in_the_containers_own_root(machine: &Machine) {
    // An overlay can hold no whiteouts of another.
    for job in [DOCKER, KUBERNETES] {
        let played = job.play(machine, &["stage", "auto", "/root/store"]);
        says(&played, &["form=copy kind=\nscript=0 33\nleft=0\n"]);
        assert_eq!(played.code, Some(0), "{played:?}");
    }
}

fn rootless_containers(machine: &Machine) {
    let job = Job { who: Who::Ranges, ..KUBERNETES };
    let played = job.play(machine, &["stage", "auto", "/store"]);
    says(&played, &["is=a user namespace with 65536 ids\nids=Ranges", "form=overlay kind=shared\nscript=0 33\nnext="]);
    let played = Job { who: Who::Ranges, ..DOCKER }.play(machine, &["stage", "auto", "/store"]);
    says(&played, &["is=chroot: nothing else is allowed here\nids=Ranges", "form=copy kind=\nscript=0 33\n"]);
}

fn in_a_chroot_there_is_chroot(machine: &Machine) {
    let root = debian(machine);
    fs::copy(machine.program(), root.join("scenario")).unwrap();
    fs::copy("/bin/busybox", root.join("busybox")).unwrap();
    let script = "mount --make-rprivate / && mount -t proc proc \"$0/proc\" && mount --rbind /dev \"$0/dev\" && \
                  exec chroot \"$0\" \"$@\"";
    let scenario = ["/scenario", "--scenario", "stage", "auto", "/root/store"];
    let output = Command::new("unshare").args(["--mount", "sh", "-c", script]).arg(root).args(scenario).output();
    let played = Played::of(&output.unwrap());
    let warning = "warning=Some(\"no namespaces: the kernel forbids them here, as in a chroot\")";
    says(&played, &["is=chroot: nothing else is allowed here\n", warning, "form=copy kind=\nscript=0 33\nleft=0\n"]);
}

fn doctor_knows_where_it_is(machine: &Machine) {
    let doctor = ["/ociforge", "doctor", "--format", "json", "--store", "/store"];
    let cases = [
        (DOCKER, "warn", "chroot: nothing else is allowed here: no namespaces: a seccomp filter is in force"),
        (KUBERNETES, "warn", "a user namespace with 4294967294 ids; /proc can't be mounted, as in a container"),
        (Job { unmasked: true, ..KUBERNETES }, "ok", "a user namespace with 4294967294 ids"),
        (Job { user: 1000, unmasked: true, ..KUBERNETES }, "ok", "a user namespace with one id; owners are recorded"),
        (Job { user: 1000, ..DOCKER }, "missing", "no step can run: cannot enter a user namespace: a seccomp filter"),
    ];
    for (job, status, expected) in cases {
        let played = job.run(machine, &doctor);
        let report: Value = serde_json::from_str(&played.out).unwrap_or_else(|error| panic!("{error}: {played:?}"));
        let checks = report["checks"].as_array().unwrap();
        let steps = checks.iter().find(|check| check["name"] == "build steps").unwrap();
        assert_eq!(steps["status"], status, "{job:?} {steps}");
        assert!(steps["found"].as_str().unwrap().starts_with(expected), "{job:?} {steps} instead of {expected}");
    }
}
