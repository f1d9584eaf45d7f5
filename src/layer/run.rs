//! `run`: the command of a step and its keys.

use ociforge_manifests::runtime::Network;
use toml::de::DeValue;

use super::mounts::{MountKind, StepMount, mounts};
use super::{LayerKind, RecipeForm, StageNames};
use crate::tables::fields::{Table, Value, without_credentials};
use crate::tables::values::{env, word};
use crate::tables::{PlanError, TableFault};

/// The keys of a `[[layer]]` that go with `run`.
const KEYS: [&str; 6] = ["env", "workdir", "user", "shell", "network", "mounts"];

/// The maximum length of a command in the image's history, in characters.
const SHOWN: usize = 400;

/// A command and its environment. All fields are part of the layer's cache key, except the values of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command.
    pub command: StepCommand,
    /// Variables of this command alone, in order. They override those of [`StepConfig::env`](super::StepConfig::env).
    pub env: Vec<(String, String)>,
    /// The network.
    pub network: Network,
    /// The mounts, in order, each with another mount point.
    pub mounts: Vec<StepMount>,
}

/// A command of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepCommand {
    /// A script for [`StepConfig::shell`](super::StepConfig::shell).
    Shell(String),
    /// The program and its arguments; not empty.
    Exec(Vec<String>),
}

impl StepCommand {
    /// The program and its arguments.
    pub(crate) fn words(&self, shell: &[String]) -> Vec<String> {
        match self {
            Self::Shell(script) => shell.iter().chain([script]).cloned().collect(),
            Self::Exec(words) => words.clone(),
        }
    }
}

impl RecipeForm for Run {
    const KEY: &'static str = "run";
    const OPTIONS: &'static [&'static str] = &KEYS;

    fn read(value: &Value<'_>, layer: &Table<'_>, _stages: &StageNames) -> Result<(Self, String), PlanError> {
        let (command, description) = command(value)?;
        if let (StepCommand::Exec(_), Some(shell)) = (&command, layer.get("shell")) {
            let hint = Some("an array runs without a shell; write the command as a string".to_owned());
            return Err(shell.fault(TableFault::Stray { key: "shell".to_owned(), kind: "run", hint }));
        }
        let none = Network::Private;
        let network = |value: Value<'_>| {
            let hint = "\"host\" gives the step the host's network; without `network` it has none";
            word(&value, &[("none", none), ("host", Network::Host)], hint)
        };
        let run = Self {
            command,
            env: layer.get("env").map_or_else(|| Ok(Default::default()), |value| env(&value))?,
            network: layer.get("network").map_or(Ok(none), network)?,
            mounts: layer.get("mounts").map_or_else(|| Ok(Vec::new()), |value| mounts(&value))?,
        };
        Ok((run, format!("run {}", on_one_line(&description))))
    }
}

impl LayerKind for Run {
    fn secrets(&self) -> Vec<&str> {
        self.mounts
            .iter()
            .filter_map(|mount| match &mount.kind {
                MountKind::Secret { id, .. } => Some(id.as_str()),
                _ => None,
            })
            .collect()
    }

    fn runs(&self) -> bool {
        true
    }
}

/// Reads the command, and the text for people.
fn command(value: &Value<'_>) -> Result<(StepCommand, String), PlanError> {
    const EXPECTED: &str = "a command, such as \"make install\" for the shell or [\"make\", \"install\"] without one";
    let words = match value.raw() {
        DeValue::Array(_) => value.items()?.iter().map(Value::text).collect::<Result<Vec<_>, _>>()?,
        DeValue::String(_) => {
            // With the line ends of Windows the shell would look for programs whose names end in \r.
            let script = value.text()?.replace("\r\n", "\n");
            if script.trim().is_empty() {
                return Err(value.unexpected(EXPECTED, None));
            }
            return Ok((StepCommand::Shell(script.clone()), script));
        }
        DeValue::Table(_) => {
            let hint =
                format!("{} belong beside `run`, in the [[layer]]", KEYS.map(|key| format!("`{key}`")).join(", "));
            return Err(value.unexpected(EXPECTED, Some(hint)));
        }
        _ => return Err(value.unexpected(EXPECTED, None)),
    };
    if words.first().is_none_or(|program| program.trim().is_empty()) {
        return Err(value.unexpected(EXPECTED, None));
    }
    let shown: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    Ok((StepCommand::Exec(words.into_iter().map(str::to_owned).collect()), shown.join(" ")))
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A command for people: on one line, shortened, without credentials in URLs.
fn on_one_line(command: &str) -> String {
    let joined = command.replace("\\\n", " ");
    let lines: Vec<String> = joined
        .trim()
        .lines()
        .map(|line| line.split_whitespace().map(without_passwords).collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect();
    let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let line: String = lines.join("\\n").chars().map(visible).collect();
    match line.char_indices().nth(SHOWN) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

/// A word of a command without the user, password and query of its URLs.
fn without_passwords(word: &str) -> String {
    let mut parts = word.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str(without_credentials(&format!("://{part}")).as_str());
    }
    shown
}
