//! Isolated commands: foreign code runs in a sandbox on top of a base, never directly on this machine.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Explain;

/// The path of a command's writable directory.
pub const OUT: &str = "/ociforge/out";

/// Runs a command on top of the base and the layers below; the build and the lock use it.
#[async_trait]
pub trait IsolatedRunner: Send + Sync {
    /// Runs the command with all its child processes to the end, without network. Its output goes to the user line by
    /// line.
    ///
    /// # Errors
    /// When the command cannot be started, or its exit code is not 0.
    async fn run(&self, job: IsolatedCommand) -> Result<(), IsolatedError>;
}

/// A command and its files besides the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsolatedCommand {
    /// The description for messages.
    pub label: String,
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// Variables that override those of the base's config.
    pub env: Vec<(String, String)>,
    /// Read-only mounts: paths of this machine, and absolute paths in the sandbox.
    pub binds: Vec<(PathBuf, String)>,
    /// The only writable directory of this machine, mounted at [`OUT`].
    pub out: PathBuf,
}

/// A failed command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IsolatedError {
    /// The command failed.
    #[error("{}{}", ended(*code), after(last_lines))]
    Failed {
        /// The exit code; `None` if a signal ended the command.
        code: Option<i32>,
        /// The last lines of its output.
        last_lines: Vec<String>,
    },
    /// The command cannot be run.
    #[error(transparent)]
    Unavailable(Arc<dyn Explain + Send + Sync>),
}

impl IsolatedError {
    /// The last lines of the command's output.
    #[must_use]
    pub fn last_lines(&self) -> &[String] {
        match self {
            Self::Failed { last_lines, .. } => last_lines,
            Self::Unavailable(_) => &[],
        }
    }
}

fn ended(code: Option<i32>) -> String {
    code.map_or_else(|| "killed by a signal".to_owned(), |code| format!("exit code {code}"))
}

/// The last lines that fit into a message, one below the other.
fn after(lines: &[String]) -> String {
    const WIDTH: usize = 300;
    const MOST: usize = 3000;
    let cut = |line: &String| line.chars().take(WIDTH).collect::<String>();
    let mut room = MOST;
    let fits = |line: &String| {
        let wanted = line.chars().count() + 5;
        let fits = wanted <= room;
        room = room.saturating_sub(wanted);
        fits
    };
    let mut shown: Vec<String> = lines.iter().rev().map(cut).take_while(fits).collect();
    shown.reverse();
    if shown.is_empty() { String::new() } else { format!("; its last output:\n    {}", shown.join("\n    ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_last_is_shown() {
        let failed = |lines: Vec<String>| IsolatedError::Failed { code: Some(2), last_lines: lines }.to_string();
        assert_eq!(failed(vec![]), "exit code 2");
        assert_eq!(failed(vec!["a".into(), "b".into()]), "exit code 2; its last output:\n    a\n    b");
        let long = failed((0..100).map(|n| format!("{n} {}", "x".repeat(1000))).collect());
        assert!(long.contains("\n    99 x") && !long.contains("\n    80 x") && long.len() < 3200, "{long}");
    }
}
