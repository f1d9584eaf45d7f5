//! `pip`: the sources of Python packages.

use std::path::{Path, PathBuf};

use ociforge_layers::source::wheel::normalize;
use serde_json::json;
use toml::de::DeValue;

use super::{LayerKind, RecipeForm, StageNames};
use crate::tables::fields::{Table, Value, without_credentials};
use crate::tables::values::file;
use crate::tables::{PlanError, TableFault};

/// The keys of `pip`.
const KEYS: &[&str] = &["requirements", "lock", "wheels", "project", "extras", "groups"];
/// The keys that select parts of a source.
const PARTS: [&str; 2] = ["extras", "groups"];

/// The files of a project that may declare its requirements (PEP 518, PEP 621, setuptools). Most projects lack some of
/// them.
pub const PROJECT_FILES: [&str; 3] = ["pyproject.toml", "setup.py", "setup.cfg"];

/// The sources of Python packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pip {
    /// Requirements (PEP 508) to resolve.
    Requirements(Vec<String>),
    /// A requirements file to resolve, relative to the recipe's directory.
    File(PathBuf),
    /// A `pylock.toml` (PEP 751), relative to the recipe's directory, and the selected parts of it.
    Lock(PathBuf, PylockSelection),
    /// A pattern of wheels on disk, relative to the recipe's directory.
    Wheels(String),
    /// A project (PEP 517) to build, with its requirements to resolve.
    Project {
        /// The directory with its `pyproject.toml` or `setup.py`, relative to the recipe's directory.
        directory: PathBuf,
        /// The selected extras, normalized, sorted.
        extras: Vec<String>,
    },
}

/// The selected optional parts of a `pylock.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PylockSelection {
    /// The selected extras, normalized, sorted.
    pub extras: Vec<String>,
    /// The selected dependency groups, normalized, sorted; `None` is the default groups of the file.
    pub groups: Option<Vec<String>>,
}

impl RecipeForm for Pip {
    const KEY: &'static str = "pip";
    const OPTIONS: &'static [&'static str] = &["bytecode"];
    const INNER: &'static [&'static str] = KEYS;

    fn read(value: &Value<'_>, _layer: &Table<'_>, _stages: &StageNames) -> Result<(Self, String), PlanError> {
        read(value)
    }
}

impl LayerKind for Pip {
    fn lock_inputs(&self) -> Option<serde_json::Value> {
        Some(match self {
            Self::Requirements(all) => json!({ "requirements": all }),
            Self::File(file) => json!({ "file": file.to_string_lossy() }),
            Self::Lock(file, PylockSelection { extras, groups: None }) if extras.is_empty() => {
                json!({ "lock": file.to_string_lossy() })
            }
            Self::Lock(file, PylockSelection { extras, groups }) => {
                json!({ "lock": file.to_string_lossy(), "extras": extras, "groups": groups })
            }
            Self::Wheels(pattern) => json!({ "wheels": pattern }),
            Self::Project { directory, extras } => {
                json!({ "project": directory.to_string_lossy(), "extras": extras })
            }
        })
    }

    fn requirements_file(&self) -> Option<&Path> {
        if let Self::File(file) = self { Some(file) } else { None }
    }

    fn project(&self) -> Option<&Path> {
        if let Self::Project { directory, .. } = self { Some(directory) } else { None }
    }

    fn runs(&self) -> bool {
        self.project().is_some()
    }
}

fn read(value: &Value<'_>) -> Result<(Pip, String), PlanError> {
    if let DeValue::Table(_) = value.raw() {
        return table(value);
    }
    let mut requirements = Vec::new();
    let mut description = "pip".to_owned();
    for item in value.items()? {
        let requirement = item.line_of_text()?.trim();
        if requirement.starts_with('-') {
            let hint = "write options in a requirements file: pip = { requirements = \"requirements.txt\" }";
            return Err(item.unexpected("a requirement such as `Pillow>=10.0.0`", Some(hint.into())));
        }
        if !requirement.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            let hint = match requirement.ends_with(".whl") {
                true => "for wheels on disk write pip = { wheels = \"dist/*.whl\" }",
                false => {
                    "for a project on disk write pip = { project = \".\" }, for wheels { wheels = \"dist/*.whl\" }"
                }
            };
            return Err(item.unexpected("a requirement such as `Pillow>=10.0.0`", Some(hint.into())));
        }
        description.push_str(&format!(" {}", without_credentials(requirement)));
        requirements.push(requirement.to_owned());
    }
    if requirements.is_empty() {
        return Err(value.unexpected("at least one requirement, such as `tqdm`", None));
    }
    Ok((Pip::Requirements(requirements), description))
}

fn table(value: &Value<'_>) -> Result<(Pip, String), PlanError> {
    let table = value.table("`pip`")?.only(KEYS)?;
    let sources: Vec<_> = table.entries().into_iter().filter(|(key, _)| !PARTS.contains(key)).collect();
    let [(key, source)] = sources.as_slice() else {
        return Err(value.unexpected("one of `requirements`, `lock`, `wheels` and `project` in it", None));
    };
    let part = |part: &str, sources: &[&str]| {
        let Some(found) = table.get(part) else { return Ok(None) };
        if sources.contains(key) {
            return names(&found).map(Some);
        }
        let kind = KEYS.iter().find(|known| *known == key).copied().unwrap_or("pip");
        let hint =
            (part == "extras").then(|| "write a package's extras with its name, such as `package[extra]`".into());
        Err(found.fault(TableFault::Stray { key: part.into(), kind, hint }))
    };
    let extras = part("extras", &["project", "lock"])?.unwrap_or_default();
    let groups = part("groups", &["lock"])?;
    let file = file(source)?;
    let mut description = format!("pip {key} {}", file.display());
    let parts: Vec<&str> = extras.iter().chain(groups.iter().flatten()).map(String::as_str).collect();
    if !parts.is_empty() {
        description.push_str(&format!("[{}]", parts.join(",")));
    }
    let pip = match *key {
        "requirements" => Pip::File(file),
        "lock" => Pip::Lock(file, PylockSelection { extras, groups }),
        "wheels" => Pip::Wheels(file.to_string_lossy().into_owned()),
        _ => Pip::Project { directory: file, extras },
    };
    Ok((pip, description))
}

/// Reads names of extras or groups: normalized, sorted, without duplicates.
fn names(value: &Value<'_>) -> Result<Vec<String>, PlanError> {
    let mut names = Vec::new();
    for item in value.items()? {
        let name = item.line_of_text()?;
        // The identifier of PEP 508.
        let inner = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        if !inner || !end(name.as_bytes().first()) || !end(name.as_bytes().last()) {
            let hint = name.contains([',', '[']).then(|| "write each name as a string of its own".to_owned());
            return Err(item.unexpected("a name such as `torch`", hint));
        }
        names.push(normalize(name));
    }
    names.sort();
    names.dedup();
    Ok(names)
}
