//! The `[[layer]]` tables of a recipe.

use ociforge_layers::source::directory::CopyDestination;
use ociforge_layers::source::ignore::Patterns;
use toml::de::DeValue;

use super::error::{Fault, PlanError};
use super::fields::{Table, Value};
use super::pip;
use super::run;
use super::types::{Step, StepKind};
use super::values::{absolute, boolean, file, mode, owner, path};

/// The keys of `[[layer]]`.
pub(super) const KEYS: &[&str] = &[
    "directories",
    "copy",
    "tar",
    "pip",
    "apt",
    "run",
    "mode",
    "owner",
    "bytecode",
    "env",
    "workdir",
    "user",
    "network",
    "mounts",
];
/// The keys of `copy`.
pub(super) const COPY: &[&str] = &["from", "to", "exclude", "owner", "mode"];
const KINDS: [&str; 6] = ["directories", "copy", "tar", "pip", "apt", "run"];

/// Reads the steps, in the order of the recipe.
pub(super) fn steps(value: &Value<'_>) -> Result<Vec<Step>, PlanError> {
    if !matches!(value.raw(), DeValue::Array(_)) {
        return Err(value.unexpected("an array of tables", Some("write [[layer]] with two brackets".into())));
    }
    value.items()?.iter().map(|layer| step(&layer.table("[[layer]]")?.only(KEYS)?)).collect()
}

fn step(layer: &Table<'_>) -> Result<Step, PlanError> {
    let entries = layer.entries();
    let mut kinds = entries.iter().filter_map(|(key, value)| Some((*KINDS.iter().find(|kind| *kind == key)?, value)));
    let (kind, value) = kinds.next().ok_or_else(|| layer.fault(Fault::NoKind))?;
    if let Some((second, value)) = kinds.next() {
        return Err(value.fault(Fault::TwoKinds(kind, second)));
    }
    for (key, entry) in &entries {
        let goes = match kind {
            "directories" => ["mode", "owner"].contains(key),
            "run" => run::KEYS.contains(key),
            "pip" => *key == "bytecode",
            _ => false,
        };
        if *key != kind && !goes {
            let hint =
                (kind == "copy" && COPY.contains(key)).then(|| format!("write it inside: copy = {{ …, {key} = … }}"));
            return Err(entry.fault(Fault::Stray { key: (*key).to_owned(), kind, hint }));
        }
    }
    let bytecode = layer.get("bytecode").map_or(Ok(false), |value| boolean(&value))?;
    let (kind, description) = match kind {
        "directories" => directories(value, layer)?,
        "copy" => copy(value)?,
        "tar" => {
            let file = file(value)?;
            let description = format!("tar {}", file.display());
            (StepKind::Tar { file }, description)
        }
        "pip" => pip::pip(value)?,
        "run" => run::run(value, layer)?,
        _ => return Err(value.fault(Fault::Unsupported("a layer of kind `apt`"))),
    };
    Ok(Step { kind, line: value.line(), description, bytecode })
}

fn directories(value: &Value<'_>, layer: &Table<'_>) -> Result<(StepKind, String), PlanError> {
    let items = value.items()?;
    if items.is_empty() {
        return Err(value.unexpected("at least one directory", None));
    }
    let mut paths = Vec::with_capacity(items.len());
    let mut description = "directories".to_owned();
    for item in items {
        let path = path(&item)?;
        if path.is_root() {
            return Err(item.unexpected("a directory below `/`", None));
        }
        description.push_str(&format!(" {path}"));
        paths.push(path);
    }
    let mode = layer.get("mode").map(|value| mode(&value)).transpose()?;
    let owner = layer.get("owner").map(|value| owner(&value)).transpose()?;
    Ok((StepKind::Directories { paths, mode, owner }, description))
}

fn copy(value: &Value<'_>) -> Result<(StepKind, String), PlanError> {
    const EXAMPLE: &str = "copy = { from = \"src\", to = \"/code\" }";
    if !matches!(value.raw(), DeValue::Table(_)) {
        return Err(value.unexpected("a table", Some(format!("write for example `{EXAMPLE}`"))));
    }
    let table = value.table("`copy`")?.only(COPY)?;
    let (from, to) = (table.require("from", EXAMPLE)?, table.require("to", EXAMPLE)?);
    if let DeValue::Array(_) = from.raw() {
        return Err(from.unexpected("one file or directory", Some("make a [[layer]] of each".into())));
    }
    let from = file(&from)?;
    let text = absolute(&to)?;
    let description = format!("copy {} {text}", from.display());
    let destination = text.parse::<CopyDestination>();
    let mut exclude = Vec::new();
    for item in table.get("exclude").map_or_else(|| Ok(Vec::new()), |value| value.items())? {
        let pattern = item.line_of_text()?;
        let checked = Patterns::new([pattern]);
        checked.map_err(|error| item.unexpected("a pattern as in .dockerignore", Some(error.to_string())))?;
        exclude.push(pattern.to_owned());
    }
    let kind = StepKind::Copy {
        from,
        to: destination.map_err(|error| to.unexpected("an absolute path in the image", Some(error.to_string())))?,
        exclude,
        owner: table.get("owner").map(|value| owner(&value)).transpose()?,
        mode: table.get("mode").map(|value| mode(&value)).transpose()?,
    };
    Ok((kind, description))
}
