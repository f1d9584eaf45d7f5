//! The configuration that holds for a step, and the names that it can use.

use toml::de::DeValue;

use crate::tables::PlanError;
use crate::tables::fields::{Table, Value};
use crate::tables::values::absolute_or_variable;

/// The configuration that holds for a step, as changes of the config of its stage's base. `$NAME` in values refers to
/// earlier variables and to those of the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepConfig {
    /// Variables, in order.
    pub env: Vec<(String, String)>,
    /// The absolute working directory; `None` is the base's.
    pub workdir: Option<String>,
    /// `user[:group]`, names or numbers; `None` is the base's.
    pub user: Option<String>,
    /// The program and arguments before a command that is a string; not empty.
    pub shell: Vec<String>,
}

impl Default for StepConfig {
    fn default() -> Self {
        Self { env: Vec::new(), workdir: None, user: None, shell: ["/bin/sh", "-c"].map(str::to_owned).into() }
    }
}

impl StepConfig {
    /// The configuration with the keys of a `[[layer]]`.
    pub(super) fn of_layer(&self, layer: &Table<'_>) -> Result<Self, PlanError> {
        let mut config = self.clone();
        if let Some(value) = layer.get("workdir") {
            config.workdir = Some(absolute_or_variable(&value)?.to_owned());
        }
        if let Some(value) = layer.get("user") {
            config.user = Some(user(&value)?);
        }
        if let Some(value) = layer.get("shell") {
            config.shell = shell(&value)?;
        }
        Ok(config)
    }
}

/// The names of the stages before a step, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StageNames(Vec<String>);

impl StageNames {
    pub(crate) fn push(&mut self, name: String) {
        self.0.push(name);
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|other| other == name)
    }

    /// The index of the stage that a value names.
    pub(crate) fn find(&self, value: &Value<'_>) -> Result<usize, PlanError> {
        let name = value.line_of_text()?;
        let found = self.0.iter().position(|other| other == name);
        found.ok_or_else(|| {
            let hint = match self.0.as_slice() {
                [] => "write a [[stage]] with this name before the stages that use it".to_owned(),
                names => format!("the stages before this one are {}", names.join(", ")),
            };
            value.unexpected("the name of an earlier stage", Some(hint))
        })
    }
}

fn shell(value: &Value<'_>) -> Result<Vec<String>, PlanError> {
    const EXPECTED: &str = "a program with arguments, such as [\"/bin/bash\", \"-euo\", \"pipefail\", \"-c\"]";
    let DeValue::Array(_) = value.raw() else { return Err(value.unexpected(EXPECTED, None)) };
    let words = value.items()?.iter().map(|word| word.text().map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
    match words.first() {
        Some(program) if !program.trim().is_empty() => Ok(words),
        _ => Err(value.unexpected(EXPECTED, None)),
    }
}

/// Reads `user[:group]`, each a name or a number. The image may not have them.
fn user(value: &Value<'_>) -> Result<String, PlanError> {
    let text = value.line_of_text()?;
    let fits = |name: &str| match name.bytes().all(|byte| byte.is_ascii_digit()) {
        // The largest id that OCI runtimes accept.
        true => name.parse::<u32>().is_ok_and(|number| number <= i32::MAX as u32),
        false => !name.starts_with('-') && !name.contains(|c: char| c.is_whitespace() || "/:".contains(c)),
    };
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    if fits(user) && group.is_none_or(fits) {
        return Ok(text.to_owned());
    }
    Err(value.unexpected("a user such as \"app\", \"1000\" or \"1000:1000\"", None))
}
