//! Init: the first process of the step, which prepares its environment and then executes its program.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufReader, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use ociforge_layers::{LayerPath, links};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Signal, chdir, chroot, set_parent_process_death_signal, setsid, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin};
use rustix::system::sethostname;
use rustix::thread::set_no_new_privs;

use super::bpf::Instruction;
use super::job::{Failed, FailureKind, Reports, StepJob, SupervisorReport};
use super::target::StepRoot;
use super::{devices, identity, limits, loopback, mounts, program};
use crate::{owners, sys};

/// The hidden argument of init.
pub(crate) const INIT: &str = "--ociforge-init";

/// The umask of the step, as in docker.
const UMASK: u32 = 0o022;

/// Init's `main`. Its stdin is a socket to the supervisor, which sends the job; its stdout is the step's; its stderr
/// receives the reports until the step's program begins.
pub(crate) fn init() -> ExitCode {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if let Ok((socket, mut reports)) = rearrange()
        && let Ok(Some(job)) = StepJob::read(BufReader::new(&socket.0))
    {
        let Err(failed) = become_step(&job, &socket, &mut reports);
        // If the supervisor has ended, the caller reports that.
        if socket.is_open() {
            reports.tell(&SupervisorReport::Failed(failed));
        }
    }
    ExitCode::FAILURE
}

/// The connection to the supervisor.
struct Socket(File);

/// Rearranges the standard descriptors for the step. All others are closed when its program starts.
fn rearrange() -> io::Result<(Socket, Reports)> {
    let own = |fd: OwnedFd| File::from(fd);
    let socket = own(fcntl_dupfd_cloexec(io::stdin(), 3)?);
    let reports = own(fcntl_dupfd_cloexec(io::stderr(), 3)?);
    dup2_stdin(openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)?;
    dup2_stderr(io::stdout().as_fd())?;
    Ok((Socket(socket), Reports(reports)))
}

enum Never {}

fn become_step(job: &StepJob, socket: &Socket, reports: &mut Reports) -> Result<Never, Failed> {
    let process = &job.spec.process;
    setsid().map_err(Failed::to("begin a session"))?;
    umask(Mode::from_raw_mode(UMASK));
    surroundings(job, reports)?;
    limits::set(process, reports);
    make_working_directory(&process.cwd)?;
    if job.one_id || process.no_new_privileges {
        set_no_new_privs(true).map_err(Failed::to("set no_new_privs"))?;
    }
    if job.owners.is_some() {
        let listener = owners::install().map_err(Failed::to("start the supervision of owners"))?;
        socket.send(&listener).map_err(Failed::to("reach the supervisor of the step"))?;
    }
    umask(Mode::from_raw_mode(process.user.umask.unwrap_or(UMASK)));
    let capabilities = identity::assume(process, job.one_id && job.owners.is_none())?;
    chdir(process.cwd.as_str()).map_err(Failed::to(format!("enter the working directory {}", process.cwd)))?;
    let program = program::find(&process.args, &process.env)?;
    let texts = |texts: &[String]| texts.iter().map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>();
    let nul = |_| Failed::to("pass a text with a NUL")(io::Error::from(io::ErrorKind::InvalidInput));
    let (arguments, environment) = (texts(&process.args).map_err(nul)?, texts(&process.env).map_err(nul)?);
    let path = CString::new(program.as_str()).map_err(nul)?;
    sys::exec::close_on_exec();
    sys::inherit::default_signals();
    sys::inherit::join_new_session_keyring();
    // A change of the user clears this setting.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if !socket.is_open() {
        return Err(Failed::to("continue")(io::Error::from(io::ErrorKind::BrokenPipe)));
    }
    if let Some((filter, flags)) = &job.filter {
        let program: Vec<Instruction> = filter.iter().map(|packed| Instruction::unpacked(*packed)).collect();
        install(&program, *flags, reports)?;
    }
    capabilities.set()?;
    let error = sys::exec::exec(&path, &arguments, &environment);
    let kind = if error.kind() == io::ErrorKind::NotFound { FailureKind::NotFound } else { FailureKind::NotExecutable };
    Err(Failed::new(kind, program, &error))
}

/// Sets up the root, mounts, network and names.
fn surroundings(job: &StepJob, reports: &mut Reports) -> Result<(), Failed> {
    let spec = &job.spec;
    if job.chroot {
        return change_root(&spec.root.path, reports);
    }
    if spec.has_own("network") {
        match loopback::up() {
            // The root of a container without CAP_NET_ADMIN.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                reports.note("the step has no 127.0.0.1: the loopback interface cannot be brought up here");
            }
            other => other.map_err(Failed::to("bring up the loopback interface"))?,
        }
    }
    if let Some(name) = spec.hostname.as_ref().filter(|_| spec.has_own("uts")) {
        match sethostname(name.as_bytes()) {
            // A container's filter may refuse this although the UTS namespace is the step's own.
            Err(Errno::PERM | Errno::NOSYS) => {
                reports.note(format!("the step has the host name of this container instead of {name}"));
            }
            other => other.map_err(Failed::to(format!("set the host name {name}")))?,
        }
    }
    mounts::mount_all(spec, reports)
}

/// Changes the root without mounts.
fn change_root(path: &str, reports: &mut Reports) -> Result<(), Failed> {
    reports.note("the step has no mounts of its own, not even /proc: chroot is its only isolation");
    if let Err(error) = StepRoot::open(path).and_then(|root| devices::make_in_place(&root, reports)) {
        reports.note(format!("the step has only the devices of its root filesystem: {error}"));
    }
    chroot(path).and_then(|()| chdir("/")).map_err(Failed::to(format!("change the root to {path}")))
}

/// Creates a missing working directory, as docker does, and the missing target if it is a dangling link.
fn make_working_directory(path: &str) -> Result<(), Failed> {
    if fs::metadata(path).is_ok() {
        return Ok(());
    }
    let root = Path::new("/");
    let place = LayerPath::new(path).map_err(io::Error::other).and_then(|path| links::follow_on_disk(root, &path));
    let made = place.and_then(|place| links::make_directories(root, &place));
    made.map(drop).map_err(Failed::to(format!("create the working directory {path}")))
}

/// Installs the filter of system calls last, so that it need not allow the preparations.
fn install(program: &[Instruction], flags: u32, reports: &mut Reports) -> Result<(), Failed> {
    match sys::filter::install(program, flags) {
        // Root without CAP_SYS_ADMIN: the kernel refuses a filter that set-user-ID programs would inherit.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            reports.note("set-user-ID programs have no effect: the seccomp filter needs no_new_privs here");
            set_no_new_privs(true).map_err(Failed::to("set no_new_privs"))?;
            sys::filter::install(program, flags)
        }
        other => other,
    }
    .map_err(Failed::to("set the filter of system calls"))
}

impl Socket {
    fn send(&self, descriptor: &OwnedFd) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [descriptor.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(&self.0, &[IoSlice::new(b".")], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Whether the supervisor is still running.
    fn is_open(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        let _ = poll(&mut fds, Some(&Timespec::default()));
        !fds[0].revents().contains(PollFlags::HUP)
    }
}
