//! Questions to who sits at the terminal.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::error::Explain;

/// Longest line that is read, in bytes.
const MAX_LINE: u64 = 64 << 10;

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
}

impl Explain for PromptError {}

impl Terminal {
    /// The terminal.
    ///
    /// # Errors
    /// When there is none.
    pub fn open() -> Result<Self, PromptError> {
        let opened = File::options().read(true).write(true).open("/dev/tty");
        opened.map(Self).map_err(PromptError::NoTerminal)
    }

    /// Asks for a line, which comes without its end.
    ///
    /// # Errors
    /// When there is none, or no text.
    pub async fn ask(&mut self, question: &str) -> Result<String, PromptError> {
        write!(self.0, "{question}")?;
        first_line(self.0.try_clone()?).await?.ok_or(PromptError::End)
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

/// The first line of what there is to read, without its end; nothing where there is nothing. What follows it may be lost.
/// The thread that reads is one that the program's end does not wait for.
///
/// # Errors
/// When it can't be read, or is no text.
pub async fn first_line(input: impl Read + Send + 'static) -> io::Result<Option<String>> {
    let (send, received) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(input.take(MAX_LINE)).read_line(&mut line);
        // Whoever asked may have gone.
        let _ = send.send(read.map(|length| (length > 0).then_some(line)));
    })?;
    let line = received.await.map_err(io::Error::other)??;
    Ok(line.map(|line| line.trim_end_matches(['\r', '\n']).to_owned()))
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
        tcsetattr(&tty, OptionalActions::Drain, &modes)?;
        Ok(Self { tty, before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.tty, OptionalActions::Now, &self.before);
        // The end of the line was not shown either.
        let _ = writeln!(self.tty);
    }
}
