//! The supervisor: creates the namespaces, starts init in them, and ensures that no process remains.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal, set_child_subreaper, wait,
};
use rustix::thread::UnshareFlags;

use super::job::{Failed, FailureKind, Reports, StepJob, Supervised, SupervisorReport};
use super::spec::Spec;
use super::{Ended, descendants, init};
use crate::{owners, reexec_command, sys};

/// The hidden argument of the supervisor.
pub(crate) const SUPERVISOR: &str = "--ociforge-supervisor";

/// The supervisor's `main`. Its stdin is the job, and stays open until the caller ends it; its stdout is the step's;
/// its stderr receives the reports.
pub(crate) fn supervisor() -> ExitCode {
    let Ok(reports) = io::stderr().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let mut reports = Reports(File::from(reports));
    let job = match StepJob::read(io::stdin().lock()) {
        Ok(Some(job)) => job,
        Ok(None) => return ExitCode::FAILURE,
        Err(error) => {
            reports.tell(&SupervisorReport::Failed(Failed::to("read the job")(error)));
            return ExitCode::FAILURE;
        }
    };
    // Before the namespaces: once a PID namespace is created, the kernel refuses threads.
    let watched = Watched::watch();
    match watch_over(&job, &watched) {
        Ok(ended) => {
            reports.tell(&SupervisorReport::Ended(ended));
            ExitCode::SUCCESS
        }
        Err(failed) => {
            reports.tell(&SupervisorReport::Failed(failed));
            ExitCode::FAILURE
        }
    }
}

fn watch_over(job: &StepJob, watched: &Watched) -> Result<Ended, Failed> {
    if job.chroot {
        // The supervisor adopts orphans.
        set_child_subreaper(Some(getpid())).map_err(Failed::to("adopt processes"))?;
    } else {
        make_namespaces(&job.spec)?;
    }
    // These paths are unreachable after init has changed the root.
    let opened = job.owners.as_ref().map(OwnersFiles::new).transpose()?;
    let (socket, theirs) = UnixStream::pair().map_err(Failed::to("make a socket"))?;
    let mut command = reexec_command(init::INIT);
    command.env_clear().stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    let started = command.spawn();
    // It holds the other end of the socket.
    drop(command);
    let child = started.map_err(Failed::to("start the step's first process"))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failed::to("start the step's first process")(io::Error::other("it has no number")))?;
    watched.give(pidfd_open(pid, PidfdFlags::empty()).map_err(Failed::to("watch the step"))?);
    // If init has already ended, it has reported the reason.
    let _ = job.write(&socket);
    let supervised = opened.map_or(Ok(()), |opened| opened.supervise(job, &socket));
    if supervised.is_err() {
        watched.kill();
    }
    let ended = wait_for(pid).map_err(Failed::to("wait for the step"));
    if job.chroot {
        descendants::kill_all(&BTreeSet::new());
    }
    supervised.and(ended)
}

/// Creates the namespaces of the spec, and always a mount namespace.
fn make_namespaces(spec: &Spec) -> Result<(), Failed> {
    let kinds = [
        ("pid", UnshareFlags::NEWPID),
        ("ipc", UnshareFlags::NEWIPC),
        ("uts", UnshareFlags::NEWUTS),
        ("network", UnshareFlags::NEWNET),
    ];
    let own: Vec<_> = kinds.into_iter().filter(|(kind, _)| spec.has_own(kind)).collect();
    let flags = own.iter().fold(UnshareFlags::NEWNS, |all, (_, flag)| all | *flag);
    sys::unshare_namespaces(flags).map_err(|error| {
        let names: Vec<_> = ["mount"].into_iter().chain(own.iter().map(|(kind, _)| *kind)).collect();
        Failed::new(FailureKind::Namespaces, names.join(", "), &error)
    })?;
    if spec.has_own("cgroup") {
        // It only hides the names of outer cgroups.
        let _ = sys::unshare_namespaces(UnshareFlags::NEWCGROUP);
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(Failed::to("keep mounts apart"))
}

/// Waits for init, and reaps adopted processes in between.
fn wait_for(init: Pid) -> io::Result<Ended> {
    loop {
        let Some((pid, status)) = wait(WaitOptions::empty())? else { continue };
        if pid == init {
            let status = ExitStatus::from_raw(status.as_raw());
            let killed = Ended::Killed(status.signal().unwrap_or_default());
            return Ok(status.code().map_or(killed, |code| Ended::Exited(u8::try_from(code).unwrap_or(u8::MAX))));
        }
    }
}

/// The process that a second thread kills at the end of the input: init.
///
/// The supervisor sets no signal for the death of its parent, because it must outlive its parent until init is killed.
/// Such a signal for init is not sufficient: the kernel clears it if the step's program has set-user-ID, and the step
/// can clear it.
#[derive(Clone)]
struct Watched(Arc<Mutex<WatchState>>);

enum WatchState {
    Nothing,
    Init(OwnedFd),
    Over,
}

impl Watched {
    fn watch() -> Self {
        let watched = Self(Arc::new(Mutex::new(WatchState::Nothing)));
        let shared = watched.clone();
        let watch = move || {
            let _ = io::stdin().read_to_end(&mut Vec::new());
            let before = std::mem::replace(&mut *shared.lock(), WatchState::Over);
            if let WatchState::Init(pidfd) = before {
                let _ = pidfd_send_signal(pidfd, Signal::KILL);
            }
        };
        // Without this thread, only init detects the end of the caller.
        let _ = std::thread::Builder::new().stack_size(128 << 10).spawn(watch);
        watched
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, WatchState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers init, or kills it at once if the input has ended.
    fn give(&self, pidfd: OwnedFd) {
        let mut watch = self.lock();
        match *watch {
            WatchState::Over => _ = pidfd_send_signal(pidfd, Signal::KILL),
            _ => *watch = WatchState::Init(pidfd),
        }
    }

    fn kill(&self) {
        if let WatchState::Init(pidfd) = &*self.lock() {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
}

/// The files of the supervisor of owners, opened in the old root.
struct OwnersFiles {
    proc: OwnedFd,
    files: OwnedFd,
    table: File,
}

impl OwnersFiles {
    fn new(owners: &Supervised) -> Result<Self, Failed> {
        let directory = |path: &std::path::Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(CWD, path, flags, Mode::empty()).map_err(Failed::to(format!("open {}", path.display())))
        };
        let table = owners.table.path();
        Ok(Self {
            proc: directory("/proc".as_ref())?,
            files: directory(&owners.files.path())?,
            table: File::create(&table).map_err(Failed::to(format!("write {}", table.display())))?,
        })
    }

    /// Handles calls until the step ends, and writes the table.
    fn supervise(mut self, job: &StepJob, socket: &UnixStream) -> Result<(), Failed> {
        // If it is missing, init has failed and has reported it.
        let Some(listener) = receive(socket).map_err(Failed::to("read from the step's first process"))? else {
            return Ok(());
        };
        if job.chroot {
            // Init has changed only its own root.
            rustix::process::chroot(&job.spec.root.path).map_err(Failed::to("change the root"))?;
        }
        let table = owners::supervise(listener, self.proc, self.files).map_err(Failed::to("supervise owners"))?;
        self.table.write_all(table.to_string().as_bytes()).map_err(Failed::to("write the table of owners"))
    }
}

/// The descriptor that init sends; `None` if it ends instead.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [io::IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(received)
}
