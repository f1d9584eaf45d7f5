//! The `[[layer]]` tables of a recipe.

use std::path::PathBuf;

use ociforge_layers::source::directory::Destination;
use ociforge_layers::source::ignore::Patterns;
use toml::de::DeValue;

use super::error::{Fault, PlanError};
use super::fields::{Table, Value, without_credentials};
use super::recipe::{absolute, path};
use super::types::{Owner, Pip, Step, StepKind};

/// The keys of `[[layer]]`.
pub(super) const KEYS: &[&str] =
    &["directories", "copy", "tar", "pip", "apt", "run", "mode", "owner", "network", "bytecode"];
/// The keys of `copy`.
pub(super) const COPY: &[&str] = &["from", "to", "exclude", "owner", "mode"];
const PIP: &[&str] = &["requirements", "lock", "wheels", "project", "extras"];
const KINDS: [&str; 6] = ["directories", "copy", "tar", "pip", "apt", "run"];

/// The steps in their order.
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
            "run" => *key == "network",
            "pip" => *key == "bytecode",
            _ => false,
        };
        if *key != kind && !goes {
            let hint =
                (kind == "copy" && COPY.contains(key)).then(|| format!("write it inside: copy = {{ …, {key} = … }}"));
            return Err(entry.fault(Fault::Stray { key: (*key).to_owned(), kind, hint }));
        }
    }
    if let Some(bytecode) = layer.get("bytecode") {
        return Err(bytecode.fault(Fault::Unsupported("`bytecode`")));
    }
    let (kind, description) = match kind {
        "directories" => directories(value, layer)?,
        "copy" => copy(value)?,
        "tar" => {
            let file = file(value)?;
            let description = format!("tar {}", file.display());
            (StepKind::Tar { file }, description)
        }
        "pip" => pip(value)?,
        "apt" => return Err(value.fault(Fault::Unsupported("a layer of kind `apt`"))),
        _ => return Err(value.fault(Fault::Unsupported("a layer of kind `run`"))),
    };
    Ok(Step { kind, line: value.line(), description, bytecode: false })
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
    let mode = layer.get("mode").map(|value| mode(&value)).transpose()?.unwrap_or(0o755);
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
    let destination = text.parse::<Destination>();
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

fn pip(value: &Value<'_>) -> Result<(StepKind, String), PlanError> {
    if let DeValue::Table(_) = value.raw() {
        return pip_table(value);
    }
    let mut requirements = Vec::new();
    let mut description = "pip".to_owned();
    for item in value.items()? {
        let requirement = item.line_of_text()?.trim();
        if requirement.starts_with('-') {
            let hint = "options can stand in a requirements file: pip = { requirements = \"requirements.txt\" }";
            return Err(item.unexpected("a requirement such as `Pillow>=10.0.0`", Some(hint.into())));
        }
        if !requirement.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            let hint = "for wheels on disk write pip = { wheels = \"dist/*.whl\" }";
            return Err(item.unexpected("a requirement such as `Pillow>=10.0.0`", Some(hint.into())));
        }
        description.push_str(&format!(" {}", without_credentials(requirement)));
        requirements.push(requirement.to_owned());
    }
    if requirements.is_empty() {
        return Err(value.unexpected("at least one requirement, such as `tqdm`", None));
    }
    Ok((StepKind::Pip(Pip::Requirements(requirements)), description))
}

fn pip_table(value: &Value<'_>) -> Result<(StepKind, String), PlanError> {
    let table = value.table("`pip`")?.only(PIP)?;
    let entries = table.entries();
    if let Some((_, value)) = entries.iter().find(|(key, _)| *key == "project") {
        return Err(value.fault(Fault::Unsupported("`pip = { project = … }`")));
    }
    let [(key, value)] = entries.as_slice() else {
        return Err(value.unexpected("one of `requirements`, `lock` and `wheels` in it", None));
    };
    let file = file(value)?;
    let description = format!("pip {key} {}", file.display());
    let kind = match *key {
        "requirements" => Pip::File(file),
        "lock" => Pip::Lock(file),
        "wheels" => Pip::Wheels(file.to_string_lossy().into_owned()),
        _ => return Err(value.fault(Fault::Stray { key: (*key).to_owned(), kind: "pip", hint: None })),
    };
    Ok((StepKind::Pip(kind), description))
}

/// A path on the machine that builds.
fn file(value: &Value<'_>) -> Result<PathBuf, PlanError> {
    value.line_of_text().map(PathBuf::from)
}

/// An octal mode of up to four digits, `"0755"` or `0o755`.
fn mode(value: &Value<'_>) -> Result<u32, PlanError> {
    let expected = "an octal mode such as \"0755\"";
    let digits = match value.raw() {
        DeValue::Integer(number) if number.radix() == 8 => number.as_str().to_owned(),
        DeValue::Integer(number) => {
            let hint = format!("write it in quotes: \"0{}\"", number.as_str());
            return Err(value.unexpected(expected, Some(hint)));
        }
        _ => value.text()?.to_owned(),
    };
    let octal = (1..=5).contains(&digits.len()) && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = octal.then(|| u32::from_str_radix(&digits, 8).ok()).flatten();
    mode.filter(|mode| *mode <= 0o7777).ok_or_else(|| value.unexpected(expected, None))
}

/// `UID:GID`, or one number for both.
fn owner(value: &Value<'_>) -> Result<Owner, PlanError> {
    let text = value.text()?;
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|digit| digit.is_ascii_digit()));
    if let (Some(uid), Some(gid)) = (number(uid), number(gid)) {
        return Ok(Owner { uid, gid });
    }
    let hint = "names of users and groups are not supported yet; write their numbers";
    Err(value.unexpected("a numeric owner such as \"1000:1000\"", Some(hint.into())))
}
