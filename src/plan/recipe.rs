//! Reads `ociforge.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ociforge_layers::regular::{open_regular, read_limited};
use ociforge_manifests::lint::{LintCode, UnknownCode};
use ociforge_manifests::{Digest, ImageName, Platform, Reference};
use serde_json::json;

use super::types::{Plan, Stage, needed};
use super::{config, python, runtime, stages};
use crate::layer;
use crate::store::dir::directory_of;
use crate::tables::PlanError;
use crate::tables::fields::{Table, Text, Value};
use crate::tables::values::positive;

/// The file name of the recipe in a directory.
pub const FILE_NAME: &str = "ociforge.toml";

/// Largest recipe, in bytes.
const MAX_RECIPE: u64 = 16 << 20;

const TOP: &[&str] = &["name", "base", "platforms", "python", "config", "layer", "stage", "runtime", "lint", "build"];
const LINT: &[&str] = &["allow"];
const BUILD: &[&str] = &["max-layers"];

/// Every table and its keys, for hints.
fn places() -> Vec<(&'static str, &'static [&'static str])> {
    let above: [(_, &[_]); 3] = [("the recipe", TOP), ("[config]", config::KEYS), ("[python]", python::KEYS)];
    let below: [(_, &[_]); 4] =
        [("[runtime]", runtime::KEYS), ("[lint]", LINT), ("[build]", BUILD), ("[[stage]]", stages::KEYS)];
    above.into_iter().chain(layer::tables()).chain(below).collect()
}

/// Reads the recipe at `path`, a file or its directory. `arguments` are those of `--build-arg`: any argument is an
/// error.
///
/// # Errors
/// When the file cannot be read, or has a fault. Whether the files and images that it names exist is not checked.
pub fn read(path: &Path, arguments: &BTreeMap<String, String>) -> Result<Plan, PlanError> {
    let is_directory = path.is_dir();
    let file = if is_directory { path.join(FILE_NAME) } else { path.to_owned() };
    // A pipe may be named, but one that is found in a directory would keep the caller waiting.
    let opened = if is_directory { open_regular(&file) } else { fs::File::open(&file) };
    let read = opened.and_then(|input| {
        let is_file = input.metadata()?.is_file();
        Ok((is_file, read_limited(input, MAX_RECIPE)?))
    });
    let (is_file, bytes) = read.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => PlanError::Missing(file.clone()),
        _ => PlanError::Read { what: "the recipe", file: file.clone(), source },
    })?;
    if let Some(argument) = arguments.keys().next() {
        return Err(PlanError::Argument { file, argument: argument.clone() });
    }
    let mut plan = parse(&file, &bytes)?;
    if !is_file {
        // A pipe is in no directory of the caller's.
        plan.directory = PathBuf::from(".");
    }
    Ok(plan)
}

/// Reads the text of a recipe. `file` is its path, for errors.
pub(super) fn parse(file: &Path, bytes: &[u8]) -> Result<Plan, PlanError> {
    Text::read(bytes, file, &places(), |recipe| plan(recipe, file))
}

fn plan(recipe: &Table<'_>, file: &Path) -> Result<Plan, PlanError> {
    let name = recipe.get("name").map(|value| name(&value)).transpose()?;
    let platforms = recipe.get("platforms").map_or_else(|| Ok(vec![Platform::default()]), |v| platforms(&v))?;
    let stages = stages::stages(recipe)?;
    let runtime = recipe.get("runtime").map_or_else(|| Ok(Default::default()), |v| runtime::settings(&v))?;
    let allow = recipe.get("lint").map_or_else(|| Ok(Vec::new()), |value| allow(&value))?;
    let max_layers = recipe.get("build").map(|value| max_layers(&value)).transpose()?.flatten();
    // The parent of a plain file name is empty.
    let directory = directory_of(file).to_owned();
    let inputs = inputs(&stages, &platforms);
    Ok(Plan { directory, name, platforms, stages, runtime, allow, max_layers, inputs })
}

fn name(value: &Value<'_>) -> Result<Reference, PlanError> {
    let expected = "a name in a registry, such as `registry.example.com/ml/train`";
    match value.line_of_text()?.parse::<ImageName>() {
        Ok(ImageName::Registry(name)) if name.digest().is_none() => Ok(name),
        Ok(ImageName::Registry(_)) => {
            Err(value.unexpected(expected, Some("leave the digest out: the build computes it".into())))
        }
        Ok(_) => Err(value.unexpected(expected, Some("use `-o` to write a layout or an archive".into()))),
        Err(error) => Err(value.unexpected(expected, Some(error.why))),
    }
}

pub(super) fn platforms(value: &Value<'_>) -> Result<Vec<Platform>, PlanError> {
    let items = value.items()?;
    if items.is_empty() {
        return Err(value.unexpected("at least one platform, such as `linux/amd64`", None));
    }
    let mut platforms: Vec<Platform> = Vec::with_capacity(items.len());
    for item in items {
        let expected = "os/architecture or os/architecture/variant, such as `linux/amd64`";
        let platform = item.text()?.parse().map_err(|_| item.unexpected(expected, None))?;
        if platforms.iter().any(|other| other.serves(&platform)) {
            return Err(item.unfit(format!("`{platform}` twice"), "each platform once", None));
        }
        platforms.push(platform);
    }
    Ok(platforms)
}

fn max_layers(value: &Value<'_>) -> Result<Option<usize>, PlanError> {
    let table = value.table("[build]")?.only(BUILD)?;
    table.get("max-layers").map(|value| positive(&value, "a number of layers, such as 125")).transpose()
}

/// Reads the warnings that `[lint]` silences.
fn allow(value: &Value<'_>) -> Result<Vec<LintCode>, PlanError> {
    let table = value.table("[lint]")?.only(LINT)?;
    let codes = table.get("allow").map_or_else(|| Ok(Vec::new()), |value| value.items())?;
    let code = |item: &Value<'_>| -> Result<LintCode, PlanError> {
        let parsed = item.text()?.parse();
        parsed.map_err(|error: UnknownCode| item.unexpected("the code of a warning", Some(error.hint())))
    };
    codes.iter().map(code).collect()
}

/// Computes [`Plan::inputs`].
fn inputs(stages: &[Stage], platforms: &[Platform]) -> Digest {
    let mut all: Vec<_> = needed(stages).into_iter().map(|n| stages[n].lock_inputs(stages)).collect();
    let mut inputs = all.pop().unwrap_or_default();
    inputs["platforms"] = json!(platforms.iter().map(ToString::to_string).collect::<Vec<_>>());
    if !all.is_empty() {
        inputs["stages"] = json!(all);
    }
    Digest::of(inputs.to_string().as_bytes())
}
