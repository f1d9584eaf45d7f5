//! Questions to who sits at the terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::Explain;

/// Longest answer, in bytes; terminals give no longer lines.
const MAX_ANSWER: usize = 4096;

/// The terminal of this process, whatever stdin and stdout are.
pub struct Terminal(AsyncFd<File>);

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// There is nobody to ask.
    #[error("there is no terminal to ask at")]
    NoTerminal(#[source] io::Error),
    /// The terminal can't be read or written.
    #[error("the terminal can't be used")]
    Io(#[from] io::Error),
    /// ^D, or a terminal that went away.
    #[error("there was no answer")]
    End,
    /// Bytes that are no text.
    #[error("the answer is not UTF-8")]
    Utf8,
}

impl Explain for PromptError {}

impl Terminal {
    /// The terminal; not to be waited for.
    ///
    /// # Errors
    /// When there is none.
    pub fn open() -> Result<Self, PromptError> {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/tty");
        let watched = opened.and_then(|tty| AsyncFd::with_interest(tty, Interest::READABLE));
        watched.map(Self).map_err(PromptError::NoTerminal)
    }

    /// Asks for a line, which comes without its end.
    ///
    /// # Errors
    /// When there is none, or no text.
    pub async fn ask(&mut self, question: &str) -> Result<String, PromptError> {
        write!(self.0.get_ref(), "{question}")?;
        let mut answer = Vec::new();
        // The terminal gives whole lines. What is longer than it takes comes in parts.
        while !answer.ends_with(b"\n") && answer.len() < MAX_ANSWER {
            let mut part = [0; MAX_ANSWER];
            let read = self.0.async_io(Interest::READABLE, |mut tty| tty.read(&mut part)).await?;
            if read == 0 {
                return Err(PromptError::End);
            }
            answer.extend_from_slice(&part[..read]);
        }
        let text = String::from_utf8(answer).map_err(|_| PromptError::Utf8)?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Asks for a line that is not to be seen. Also when this is dropped before there is an answer, as ^C has it, the
    /// terminal shows again what is typed.
    ///
    /// # Errors
    /// As of [`Terminal::ask`].
    pub async fn ask_secretly(&mut self, question: &str) -> Result<String, PromptError> {
        let _hidden = Hidden::begin(self.0.get_ref().try_clone()?)?;
        self.ask(question).await
    }
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden {
    tty: File,
    before: Termios,
}

impl Hidden {
    fn begin(tty: File) -> io::Result<Self> {
        let before = tcgetattr(&tty)?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ECHO);
        // Of the line only its end is to be seen.
        modes.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(&tty, OptionalActions::Drain, &modes)?;
        Ok(Self { tty, before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.tty, OptionalActions::Now, &self.before);
    }
}
