//! The stages of a recipe: the tables `[[stage]]`, and the recipe's top level, which makes the image.

use ociforge_manifests::{ConfigEdit, ImageName};
use toml::de::DeValue;

use super::types::{Base, Stage};
use super::{config, python};
use crate::layer::{self, StageNames, StepConfig};
use crate::tables::fields::{Table, Value};
use crate::tables::{PlanError, TableFault};

/// The keys of `[[stage]]`.
pub(super) const KEYS: &[&str] = &["name", "base", "python", "config", "layer"];

const BASE: &str = "base = \"nvcr.io/nvidia/pytorch:22.12-py3\"";

/// Reads the stages, in order. The last one is the top level.
pub(super) fn stages(recipe: &Table<'_>) -> Result<Vec<Stage>, PlanError> {
    let (mut stages, mut names) = (Vec::new(), StageNames::default());
    for value in recipe.get("stage").map_or_else(|| Ok(Vec::new()), |value| tables(&value))? {
        let table = value.table("[[stage]]")?.only(KEYS)?;
        let name = stage_name(&table.require("name", "name = \"build\"")?, &names)?;
        stages.push(stage(&table, Some(name.clone()), &names)?);
        names.push(name);
    }
    stages.push(stage(recipe, None, &names)?);
    Ok(stages)
}

fn tables<'a>(value: &Value<'a>) -> Result<Vec<Value<'a>>, PlanError> {
    match value.raw() {
        DeValue::Array(_) => value.items(),
        _ => Err(value.unexpected("an array of tables", Some("write [[stage]] with two brackets".into()))),
    }
}

fn stage(table: &Table<'_>, name: Option<String>, names: &StageNames) -> Result<Stage, PlanError> {
    let base = base(&table.require("base", BASE)?, names)?;
    let config = table.get("config").map_or_else(|| Ok(ConfigEdit::default()), |value| config::config(&value))?;
    let python = table.get("python").map(|value| python::python(&value)).transpose()?;
    // The user of `[config]` is for containers. Steps run as the user of the base.
    let of_steps = StepConfig { env: config.env.clone(), workdir: config.workdir.clone(), ..StepConfig::default() };
    let steps = table.get("layer").map_or_else(|| Ok(Vec::new()), |value| layer::steps(&value, &of_steps, names))?;
    Ok(Stage { name, base, config, python, steps })
}

fn base(value: &Value<'_>, names: &StageNames) -> Result<Base, PlanError> {
    const IMAGE: &str =
        "an image name such as `debian:12`, `nvcr.io/nvidia/pytorch:22.12-py3`, `oci:DIR:TAG` or `scratch`";
    if let DeValue::Table(_) = value.raw() {
        let table = value.table("`base`")?.only(&["stage"])?;
        return Ok(Base::Stage(names.find(&table.require("stage", "base = { stage = \"build\" }")?)?));
    }
    match value.line_of_text()? {
        "scratch" => Ok(Base::Scratch),
        text => match text.parse::<ImageName>() {
            Ok(name) => Ok(Base::Image(name)),
            Err(error) => Err(value.unexpected(IMAGE, Some(error.why))),
        },
    }
}

fn stage_name(value: &Value<'_>, names: &StageNames) -> Result<String, PlanError> {
    const EXPECTED: &str = "a name of letters, digits, `-`, `_` and `.` that begins with a letter";
    let name = value.line_of_text()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.chars().all(fits) || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(value.unexpected(EXPECTED, None));
    }
    match names.contains(name) {
        true => Err(value.fault(TableFault::Value {
            key: "name".into(),
            found: format!("`{name}` twice"),
            expected: "a unique name for each stage".into(),
            hint: None,
        })),
        false => Ok(name.to_owned()),
    }
}
