//! Where foreign code runs: on top of a base, shut in, and never on the machine itself.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Explain;

/// Where a job's writable directory is.
pub const OUT: &str = "/ociforge/out";

/// Runs a command on top of the base and the layers so far; used by the build and the lock.
#[async_trait]
pub trait IsolatedRunner: Send + Sync {
    /// Runs the job to its end, with all the processes that it starts. There is no network. Its output goes to the
    /// user line by line.
    ///
    /// # Errors
    /// When the command can't be started, or ends with anything but 0.
    async fn run(&self, job: IsolatedCommand) -> Result<(), IsolatedError>;
}

/// A command, and what it sees besides the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsolatedCommand {
    /// What is done, for people.
    pub label: String,
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// Variables besides those of the base's config; these win.
    pub env: Vec<(String, String)>,
    /// Files and directories of this machine that are mounted read-only, and the absolute paths where they are seen.
    pub binds: Vec<(PathBuf, String)>,
    /// The one directory of this machine that the command can write to; it is seen at [`OUT`].
    pub out: PathBuf,
}

/// A job that came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IsolatedError {
    /// The command failed.
    #[error("{}{}", ended(*code), after(last_lines))]
    Failed {
        /// Its exit code; `None` when a signal ended it.
        code: Option<i32>,
        /// The last lines that it wrote.
        last_lines: Vec<String>,
    },
    /// The command could not be run at all.
    #[error(transparent)]
    Unavailable(Arc<dyn Explain + Send + Sync>),
}

impl IsolatedError {
    /// The last lines that the command wrote.
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

/// The lines below each other, no more of them than a message can hold: what is said last says most.
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
