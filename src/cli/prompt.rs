//! Questions to who sits at the terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::error::Explain;

/// Longest answer, in bytes; terminals give no longer lines.
const MAX_ANSWER: u64 = 4096;

/// The terminal of this process, whatever stdin and stdout are.
pub struct Terminal(File);

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
    /// The terminal.
    ///
    /// # Errors
    /// When there is none.
    pub fn open() -> Result<Self, PromptError> {
        let flags = OFlags::NOCTTY.bits().cast_signed();
        let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/tty");
        opened.map(Self).map_err(PromptError::NoTerminal)
    }

    /// Asks for a line, which comes without its end.
    ///
    /// # Errors
    /// When there is none, or no text.
    pub async fn ask(&mut self, question: &str) -> Result<String, PromptError> {
        write!(self.0, "{question}")?;
        let tty = self.0.try_clone()?;
        // A thread of its own waits for it, for as long as the process lives; ^C ends the process meanwhile.
        let read = move || {
            let mut answer = Vec::new();
            BufReader::new(tty.take(MAX_ANSWER)).read_until(b'\n', &mut answer).map(|_| answer)
        };
        let answer = tokio::task::spawn_blocking(read).await.map_err(io::Error::from)??;
        if answer.is_empty() {
            return Err(PromptError::End);
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
        let _hidden = Hidden::begin(self.0.try_clone()?)?;
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
