//! A terminal between the runtime and this process's own, for containers with a terminal but without input.
//!
//! Runtimes set their terminal to raw mode, read its input, and stop at ^C. So they get a terminal without input: its
//! output is copied, and it has the size of the real one.

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

/// Each clone can change the terminal's size.
#[derive(Debug, Clone)]
pub(super) struct Screen(Arc<OwnedFd>);

/// Copies the output of a [`Screen`] to this process's stdout, and the runtime's stderr to stderr.
#[derive(Debug)]
pub(super) struct Copying {
    threads: Vec<JoinHandle<()>>,
    /// Open until all has been written.
    end: PipeWriter,
}

impl Screen {
    /// Creates a terminal for `command`, which gets its own process group, so keys of the real terminal do not send it
    /// signals.
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

    /// Sets its size to that of the real terminal, if there is one.
    pub(super) fn fit(&self) {
        let size =
            tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stderr())).or_else(|_| tcgetwinsize(io::stdin()));
        if let Ok(size) = size {
            let _ = tcsetwinsize(&*self.0, size);
        }
    }
}

impl Copying {
    /// Copies the rest after the last write.
    pub(super) fn finish(self) {
        drop(self.end);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Copies the output until `ended` is closed and no output is left.
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
            // A terminal without open descriptors returns an error.
            Ok(0) | Err(_) => return,
            // A missing reader must not block the container.
            Ok(length) => _ = to.write_all(&buffer[..length]),
        }
    }
}
