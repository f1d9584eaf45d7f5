//! Registries in processes of their own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use super::{OCIFORGE, Place, wait_until};

/// A registry on a free loopback port, until it is dropped.
pub(crate) struct Registry {
    command: Command,
    process: Child,
    pub(crate) address: String,
    log: PathBuf,
    /// How much of the log was looked at already.
    seen: usize,
}

impl Registry {
    /// `ociforge serve` on the layout `name`.
    pub(crate) fn serve(place: &Place, name: &str) -> Self {
        Self::serve_with(place, name, Command::new(OCIFORGE), &[])
    }

    /// The same by this program, with these arguments.
    pub(crate) fn serve_with(place: &Place, name: &str, program: Command, arguments: &[&str]) -> Self {
        Self::serve_at(place, name, "127.0.0.1:0", program, arguments)
    }

    /// The same at this address.
    pub(crate) fn serve_at(place: &Place, name: &str, at: &str, mut program: Command, arguments: &[&str]) -> Self {
        let log = place.path(format!("{name}.{}.log", fs::read_dir(place.path("")).unwrap().count()));
        program.args(["serve", "--listen", at, "--verbose", "--progress", "plain"]).arg(place.path(name));
        program.args(arguments);
        let mut process = program.stdout(Stdio::piped()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { command: program, process, address, log, seen: 0 }
    }

    /// Debian's docker-registry.
    pub(crate) fn docker(place: &Place, name: &str) -> Self {
        Self::docker_with(place, name, "")
    }

    /// The same with more in its configuration, which goes on in the section `http`.
    pub(crate) fn docker_with(place: &Place, name: &str, more: &str) -> Self {
        Self::docker_at(place, name, "127.0.0.1:0", more)
    }

    /// The same at an address that stays free while the registry is stopped, so that it can be restarted.
    pub(crate) fn docker_lasting(place: &Place, name: &str, more: &str) -> Self {
        Self::docker_at(place, name, &format!("127.0.0.1:{}", lasting_port()), more)
    }

    /// The same for `user` alone, whose password is `secret`.
    pub(crate) fn locked(place: &Place, name: &str) -> Self {
        Self::locked_with(place, name, "")
    }

    /// The same with more in its configuration.
    pub(crate) fn locked_with(place: &Place, name: &str, more: &str) -> Self {
        let htpasswd = "user:$2y$05$mxyu.d57PWBFUxSe/6VTKuOW9T1PWQvpvxtw/8ktv/RHZetEeEw2i\n";
        let htpasswd = place.write(&format!("{name}.htpasswd"), htpasswd);
        let auth = format!("auth: {{htpasswd: {{realm: r, path: {}}}}}\n", htpasswd.display());
        Self::docker_with(place, name, &format!("{more}{auth}"))
    }

    fn docker_at(place: &Place, name: &str, at: &str, more: &str) -> Self {
        let data = place.at(name);
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {data}}}}}\nhttp:\n  addr: '{at}'\n{more}"
        );
        let config = place.write(&format!("{name}.yml"), config);
        let log = place.path(format!("{name}.log"));
        let out = File::create(&log).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config).stdout(out.try_clone().unwrap()).stderr(out);
        let process = command.spawn().expect("docker-registry must be installed (Debian: docker-registry)");
        let mut registry = Self { command, process, address: String::new(), log, seen: 0 };
        wait_until("docker-registry listens", || {
            let said = registry.said();
            assert!(registry.process.try_wait().unwrap().is_none(), "docker-registry does not listen: {said}");
            let port = said.split_once("listening on 127.0.0.1:").map(|(_, rest)| rest);
            let port = port.and_then(|rest| rest.split_once(|c: char| !c.is_ascii_digit()));
            port.is_some_and(|(port, _)| {
                registry.address = format!("127.0.0.1:{port}");
                true
            })
        });
        registry
    }

    /// `docker://ADDRESS/NAME`
    pub(crate) fn name(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.address)
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it, in the middle of whatever it does.
    pub(crate) fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again after [`stop`](Self::stop), at its lasting address.
    pub(crate) fn restart(&mut self) {
        self.process = self.command.spawn().unwrap();
        wait_until("docker-registry listens", || TcpStream::connect(&self.address).is_ok());
    }

    /// The requests since the last call, as `METHOD PATH STATUS` without what follows a `?`.
    pub(crate) fn requests(&mut self) -> Vec<String> {
        // A registry answers before it writes its log: what was asked before is in there when this is.
        const MARK: &str = "/v2/?mark=";
        let mark = format!("{MARK}{}", self.seen);
        self.get(&mark);
        let mut text = String::new();
        wait_until("it writes the request into its log", || {
            text = self.said();
            text[self.seen..].lines().any(|line| line.contains(&mark) && request(line).is_some())
        });
        let new = text[self.seen..].lines().filter(|line| !line.contains(MARK));
        let requests = new.filter_map(request).collect();
        self.seen = text.len();
        requests
    }

    /// What it said on stderr.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The status of a `GET`, and the body.
    pub(crate) fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\nAccept: {accept}\r\n\r\n", self.address).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
        (status, answer[end + 4..].to_vec())
    }

    /// Asserts that nothing is called `NAME:latest`.
    #[track_caller]
    pub(crate) fn assert_no_tag(&self, name: &str) {
        assert_eq!(self.get(&format!("/v2/{name}/manifests/latest")).0, 404, "{name} was pushed");
    }
}

/// A free port of the loopback that stays free while nobody listens there: the system gives none of these to those who want
/// any port, which all other tests do.
fn lasting_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let given: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    let of_process = u16::try_from(std::process::id() % 64).unwrap() * 100;
    let ports = std::iter::repeat_with(|| given - 1 - of_process - NEXT.fetch_add(1, Ordering::Relaxed));
    ports.take(100).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// A request of a line of the log: `GET /v2/ 200, …` by serve, `"GET /v2/ HTTP/1.1" 200 …` by docker-registry.
fn request(line: &str) -> Option<String> {
    let at =
        ["GET /v2/", "HEAD /v2/", "POST /v2/", "PUT /v2/", "PATCH /v2/", "DELETE /v2/"].iter().find_map(|start| {
            line.find(&format!("\"{start}")).map(|at| at + 1).or_else(|| line.starts_with(start).then_some(0))
        })?;
    let mut words = line[at..].split([' ', ',', '"']).filter(|word| !word.is_empty() && !word.starts_with("HTTP/"));
    let (method, path, status) = (words.next()?, words.next()?, words.next()?);
    status.parse::<u16>().ok()?;
    Some(format!("{method} {} {status}", path.split('?').next()?))
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
