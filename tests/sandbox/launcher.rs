//! A step as small as it can be: an overlay, namespaces of its own, and the supervisor where there is one id only.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use ociforge_sandbox::overlay::{Layers, mount};
use ociforge_sandbox::{IdMapping, enter, owners};
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, mount_bind};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Runs a command on `lower` with `root/upper` over it. What can't be remembered there goes to `root/table`.
pub(crate) fn outside(lower: &str, root: &str, command: &[&str]) -> ExitCode {
    let entered = enter().unwrap();
    let root = Path::new(root);
    let lower = vec![lower.into()];
    let layers = Layers { lower, upper: root.join("upper"), work: root.join("work"), volatile: true };
    let overlay = mount(&entered, &layers, &root.join("merged")).unwrap();
    let socket = root.join("socket");
    let meeting = (entered.ids() == IdMapping::OneId).then(|| UnixListener::bind(&socket).unwrap());
    let supervised = if meeting.is_some() { socket.to_str().unwrap() } else { "-" };
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new("unshare");
    child.args(["--pid", "--fork", "--kill-child"]).arg(program).args(["--scenario", "inside"]);
    let mut child = child.arg(overlay.target()).arg(supervised).args(command).spawn().unwrap();
    if let Some(meeting) = meeting {
        let listener = receive(&meeting.accept().unwrap().0);
        let directory = |path: &Path| open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let (proc, upper) = (directory(Path::new("/proc")), directory(&layers.upper));
        let table = fs::File::create(root.join("table")).unwrap();
        std::os::unix::fs::chroot(overlay.target()).unwrap();
        let owners = owners::supervise(listener, proc, upper).unwrap();
        rustix::io::write(table, owners.to_string().as_bytes()).unwrap();
    }
    ExitCode::from(u8::try_from(child.wait().unwrap().code().unwrap()).unwrap())
}

/// The process that becomes the step.
pub(crate) fn inside(root: &str, supervised: &str, command: &[&str]) -> ExitCode {
    let root = Path::new(root);
    for (name, kind, options) in [("proc", "proc", c""), ("dev", "tmpfs", c"mode=755"), ("run", "tmpfs", c"mode=755")] {
        rustix::mount::mount(kind, root.join(name), kind, MountFlags::NOSUID, options).unwrap();
    }
    for device in ["dev/null", "dev/zero", "dev/urandom"] {
        fs::write(root.join(device), "").unwrap();
        mount_bind(Path::new("/").join(device), root.join(device)).unwrap();
    }
    std::os::unix::fs::symlink("/proc/self/fd", root.join("dev/fd")).unwrap();
    let socket = (supervised != "-").then(|| UnixStream::connect(supervised).unwrap());
    std::os::unix::fs::chroot(root).unwrap();
    std::env::set_current_dir("/").unwrap();
    let mut program = Command::new(command[0]);
    program.args(&command[1..]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
    program.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if let Some(socket) = socket {
        send(&socket, &owners::install().unwrap());
    }
    panic!("{}", program.exec());
}

fn send(socket: &UnixStream, file: &OwnedFd) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
    sendmsg(socket, &[IoSlice::new(b".")], &mut control, SendFlags::empty()).unwrap();
}

fn receive(socket: &UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let files = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    files.unwrap()
}
