//! A terminal between the runtime and this process's own, for containers with a terminal but without input.
//!
//! Runtimes make the terminal that they find raw, read what is typed, and take ^C for their own end. So they get one that
//! nobody types at: what is written to it is copied, and it has the size of the real one.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{tcgetwinsize, tcsetwinsize};

/// The terminal's size can be changed by whoever has a clone.
#[derive(Debug, Clone)]
pub(super) struct Screen(Arc<OwnedFd>);

/// What is written to a [`Screen`], on its way to this process's stdout, and what the runtime says to stderr.
#[derive(Debug)]
pub(super) struct Copying {
    threads: Vec<JoinHandle<()>>,
    /// Open until all has been written.
    end: PipeWriter,
}

impl Screen {
    /// Makes a terminal for `command`, which gets a process group of its own: what is typed at the real terminal does not
    /// reach it as a signal either.
    pub(super) fn attach(command: &mut Command) -> io::Result<(Self, Copying)> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let terminal = ioctl_tiocgptpeer(&master, flags)?;
        let (errors, theirs) = io::pipe()?;
        let (ended, end) = io::pipe()?;
        let copies = [
            (File::from(master.try_clone()?), io::stdout().as_fd().try_clone_to_owned()?, ended.try_clone()?),
            (File::from(OwnedFd::from(errors)), io::stderr().as_fd().try_clone_to_owned()?, ended),
        ];
        command.stdin(terminal.try_clone()?).stdout(terminal).stderr(theirs).process_group(0);
        let threads = copies.map(|(from, to, ended)| thread::spawn(move || copy(&from, File::from(to), &ended)));
        let screen = Self(Arc::new(master));
        screen.fit();
        Ok((screen, Copying { threads: threads.into(), end }))
    }

    /// Gives it the size of the real terminal, if there is one.
    pub(super) fn fit(&self) {
        let size =
            tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stderr())).or_else(|_| tcgetwinsize(io::stdin()));
        if let Ok(size) = size {
            let _ = tcsetwinsize(&*self.0, size);
        }
    }
}

impl Copying {
    /// Copies what is left, when all has been written.
    pub(super) fn finish(self) {
        drop(self.end);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Copies what comes until `ended` is closed and nothing is left.
fn copy(from: &File, mut to: File, ended: &PipeReader) {
    let mut buffer = [0; 16 << 10];
    loop {
        let mut ready = [PollFd::new(from, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        match poll(&mut ready, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) if ready[0].revents().is_empty() => return,
            Ok(_) => {}
        }
        match rustix::io::read(from, &mut buffer) {
            // A terminal that nobody has open any more gives an error.
            Ok(0) | Err(_) => return,
            // If nobody listens, the container is not to wait for that.
            Ok(length) => _ = to.write_all(&buffer[..length]),
        }
    }
}
