//! Docker and containerd, each with a directory and a socket of its own, until they are dropped. They need root.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::process::send;
use super::{Place, Ran, run, wait_until};

/// A daemon that ends with its test.
struct Daemon(Child);

impl Daemon {
    /// Starts `command` and waits until `ready` succeeds.
    fn start(place: &Place, name: &str, command: &mut Command, mut ready: Command) -> Self {
        let log = place.path(format!("{name}.log"));
        let out = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let mut daemon = Self(command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")));
        wait_until(&format!("{name} gets ready"), || {
            let said = || std::fs::read_to_string(&log).unwrap();
            assert!(daemon.0.try_wait().unwrap().is_none(), "{name} does not get ready:\n{}", said());
            ready.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
        });
        daemon
    }
}

impl Drop for Daemon {
    /// It takes its containers and mounts with it.
    fn drop(&mut self) {
        send(&self.0, Signal::TERM);
        self.0.wait().ok();
    }
}

/// Docker, by overlay2.
pub(crate) struct Docker {
    _daemon: Daemon,
    host: String,
}

impl Docker {
    pub(crate) fn start(place: &Place) -> Self {
        let host = format!("unix://{}", place.at("docker.sock"));
        let mut command = Command::new("dockerd");
        for (flag, value) in [
            ("--host", host.as_str()),
            ("--data-root", &place.at("docker/data")),
            ("--exec-root", &place.at("docker/exec")),
            ("--pidfile", &place.at("docker.pid")),
            ("--storage-driver", "overlay2"),
            ("--bridge", "none"),
            ("--insecure-registry", "127.0.0.0/8"),
        ] {
            command.args([flag, value]);
        }
        let mut ready = Command::new("docker");
        ready.args(["--host", &host, "version"]);
        let daemon = Daemon::start(place, "dockerd", command.arg("--iptables=false"), ready);
        Self { _daemon: daemon, host }
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Ran {
        run(Command::new("docker").args(["--host", &self.host]).args(arguments).stdin(Stdio::null()))
    }

    /// What a command prints in a new container of `image`.
    pub(crate) fn says(&self, image: &str, command: &[&str]) -> String {
        self.call(&[&["run", "--rm", "--network", "none", image], command].concat()).ok()
    }
}

/// containerd, by its overlayfs snapshotter.
pub(crate) struct Containerd {
    _daemon: Daemon,
    address: String,
}

impl Containerd {
    pub(crate) fn start(place: &Place) -> Self {
        let address = place.at("containerd.sock");
        // The plugin for Kubernetes wants a network.
        let config = place.write("containerd.toml", "version = 2\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n");
        let mut command = Command::new("containerd");
        command.args(["--address", &address, "--root", &place.at("containerd/root")]);
        command.args(["--state", &place.at("containerd/state"), "--config"]).arg(config);
        let mut ready = Command::new("ctr");
        ready.args(["--address", &address, "version"]);
        Self { _daemon: Daemon::start(place, "containerd", &mut command, ready), address }
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Ran {
        run(Command::new("ctr").args(["--address", &self.address]).args(arguments).stdin(Stdio::null()))
    }

    /// Pulls an image over HTTP.
    pub(crate) fn pull(&self, image: &str) {
        self.call(&["images", "pull", "--plain-http", "--snapshotter", "overlayfs", image]).ok();
    }

    /// What a command prints in a new container of `image`, which was pulled.
    pub(crate) fn says(&self, image: &str, command: &[&str]) -> String {
        let call = ["run", "--rm", "--snapshotter", "overlayfs", image, "container"];
        self.call(&[&call, command].concat()).ok()
    }
}
