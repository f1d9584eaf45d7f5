//! A bundle, and who runs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::rc::Rc;
use std::sync::Mutex;

use crate::program::write_program;
use ociforge_manifests::runtime::{ContainerRequest, Emitted, Host, LOCKED, RuntimeSettings, runtime_spec};
use ociforge_manifests::{Config, Document};
use serde_json::{Value, json};

/// An account made for one test, with ranges of ids of its own, removed at the end.
pub(crate) struct User {
    pub(crate) name: String,
    /// Both uid and gid.
    pub(crate) id: u32,
    /// The first of its subordinate ids, of which there are 65536, users and groups alike.
    pub(crate) range: u32,
}

/// Accounts are made and removed one at a time.
static ACCOUNTS: Mutex<()> = Mutex::new(());

impl User {
    pub(crate) fn new(name: &str) -> Rc<Self> {
        let _lock = ACCOUNTS.lock();
        let name = format!("oci-{name}-{}", std::process::id());
        call("useradd", &["--no-create-home", "--user-group", "--shell", "/bin/sh", &name]);
        let number = |text: &str| text.trim().parse::<u32>().unwrap();
        let id = number(&call("id", &["-u", &name]));
        assert_eq!(number(&call("id", &["-g", &name])), id, "user and group of a new account differ");
        let ranges = fs::read_to_string("/etc/subuid").unwrap();
        let range =
            ranges.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).expect("useradd adds a range");
        let range = number(range.split(':').next().unwrap());
        Rc::new(Self { name, id, range })
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _lock = ACCOUNTS.lock();
        let _ = Command::new("userdel").arg(&self.name).output();
    }
}

/// What a program prints that has to succeed.
pub(crate) fn call(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The flags of the mount in which `source` lies that a user namespace can't take off.
fn locked(source: &str) -> Vec<&'static str> {
    let options = call("findmnt", &["--noheadings", "--output", "VFS-OPTIONS", "--target", source]);
    let has = |flag: &&str| options.trim().split(',').any(|option| option == *flag);
    LOCKED.into_iter().filter(has).collect()
}

/// A bundle in a directory of its own, removed at the end.
pub(crate) struct Bundle {
    pub(crate) directory: PathBuf,
    pub(crate) host: Host,
    /// Who runs the container, if it isn't root.
    user: Option<Rc<User>>,
}

impl Bundle {
    pub(crate) fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("ociforge-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let root = directory.join("rootfs");
        for place in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(root.join(place)).unwrap();
        }
        fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        for applet in
            ["sh", "id", "test", "pwd", "cat", "hostname", "grep", "ls", "touch", "readlink", "mount", "umount", "env"]
        {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let host = Host {
            root: root.to_str().unwrap().to_owned(),
            cgroup_v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            ..Host::default()
        };
        Self { directory, host, user: None }
    }

    /// A hook in the place of NVIDIA's that writes down what it is given.
    pub(crate) fn recording_hook(&mut self) -> PathBuf {
        let (hook, record) = (self.directory.join("hook"), self.directory.join("record"));
        fs::create_dir(&record).unwrap();
        let to = record.display();
        let script =
            format!("#!/bin/sh\ncat >{to}/stdin\nprintf '%s\\n' \"$@\" >{to}/args\nenv >{to}/env\npwd >{to}/cwd\n");
        write_program(&hook, script);
        self.host.nvidia_hook = Some(hook.to_str().unwrap().to_owned());
        record
    }

    /// Gives the bundle to a user, who then runs it.
    pub(crate) fn give_to(&mut self, user: &Rc<User>) {
        let owner = format!("{0}:{0}", user.id);
        call("chown", &["-R", &owner, self.directory.to_str().unwrap()]);
        self.user = Some(Rc::clone(user));
    }

    /// The spec, validated, with the locked flags of its sources as `findmnt` tells them.
    pub(crate) fn emit(&self, config: Value, request: &ContainerRequest) -> Emitted {
        let mut emitted = emit(config, request, &self.host);
        if request.rootless {
            let flags = emitted.bind_sources().into_iter().map(|source| (source.clone(), locked(&source))).collect();
            emitted.keep_locked(&flags);
        }
        crate::schema::assert_valid(&emitted.json);
        emitted
    }

    /// The command that runs the container, as words.
    pub(crate) fn command(&self, config: Value, request: &ContainerRequest) -> Vec<String> {
        fs::write(self.directory.join("config.json"), self.emit(config, request).bytes()).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (state, bundle) = (text(&self.directory.join("state")), text(&self.directory));
        let id = text(Path::new(self.directory.file_name().unwrap()));
        let runc = ["runc", "--root", &state, "run", "--bundle", &bundle, &id].map(str::to_owned);
        match &self.user {
            None => runc.into(),
            Some(user) => {
                let (uid, gid) = (format!("--reuid={}", user.id), format!("--regid={}", user.id));
                let prefix = ["setpriv", &uid, &gid, "--clear-groups"].map(str::to_owned);
                prefix.into_iter().chain(runc).collect()
            }
        }
    }

    pub(crate) fn run(&self, config: Value, request: &ContainerRequest) -> Output {
        let words = self.command(config, request);
        Command::new(&words[0]).args(&words[1..]).output().expect("runc is installed")
    }

    pub(crate) fn prints(&self, config: Value, request: &ContainerRequest) -> String {
        let output = self.run(config, request);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn emit(config: Value, request: &ContainerRequest, host: &Host) -> Emitted {
    let json = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}, "config": config});
    let config = Document::<Config>::from_json(json).unwrap();
    runtime_spec(&config, &BTreeMap::new(), request, host).unwrap()
}

pub(crate) fn shell(script: &str) -> Value {
    json!({"Cmd": ["/bin/sh", "-c", script], "Env": ["PATH=/bin", "A=b c"], "WorkingDir": "/tmp"})
}

pub(crate) fn settings(json: Value) -> RuntimeSettings {
    serde_json::from_value(json).unwrap()
}
