//! Prompts on the terminal.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::error::Explain;

/// Maximum length of a line, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// The terminal that controls this process, independent of stdin and stdout.
pub struct ControllingTerminal(File);

/// A prompt without an answer.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The process has no terminal.
    #[error("there is no terminal for a prompt")]
    NoTerminal(#[source] io::Error),
    /// The terminal cannot be read or written.
    #[error("the terminal cannot be used")]
    Io(#[from] io::Error),
    /// End of input: ^D, or a closed terminal.
    #[error("there was no answer")]
    End,
}

impl Explain for PromptError {}

impl ControllingTerminal {
    /// Opens the terminal.
    ///
    /// # Errors
    /// When the process has no terminal.
    pub fn open() -> Result<Self, PromptError> {
        let opened = File::options().read(true).write(true).open("/dev/tty");
        opened.map(Self).map_err(PromptError::NoTerminal)
    }

    /// Prompts for a line and returns it without its line end.
    ///
    /// # Errors
    /// When the input ends, or is not text.
    pub async fn ask(&mut self, question: &str) -> Result<String, PromptError> {
        write!(self.0, "{question}")?;
        first_line(self.0.try_clone()?).await?.ok_or(PromptError::End)
    }

    /// Prompts for a line without echo. The echo comes back even if the future is dropped before the answer, as after
    /// ^C.
    ///
    /// # Errors
    /// As [`ControllingTerminal::ask`].
    pub async fn ask_secretly(&mut self, question: &str) -> Result<String, PromptError> {
        let _hidden = Hidden::begin(self.0.try_clone()?)?;
        self.ask(question).await
    }
}

/// Reads the first line of `input`, without its line end; `None` for empty input. Bytes after this line may be lost.
/// The end of the program does not wait for the thread that reads.
///
/// # Errors
/// When the input cannot be read, or is not text.
pub async fn first_line(input: impl Read + Send + 'static) -> io::Result<Option<String>> {
    let (send, received) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(input.take(MAX_LINE)).read_line(&mut line);
        // The receiver may be dropped already.
        let _ = send.send(read.map(|length| (length > 0).then_some(line)));
    })?;
    let line = received.await.map_err(io::Error::other)??;
    Ok(line.map(|line| line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Turns the echo of a terminal off until it is dropped.
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
        // The newline that the user typed was not shown either.
        let _ = writeln!(self.tty);
    }
}
