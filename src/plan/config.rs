//! `[config]`: the changes of the image config.

use std::collections::BTreeMap;

use ociforge_manifests::ConfigEdit;

use crate::tables::PlanError;
use crate::tables::fields::Value;
use crate::tables::values::{absolute, absolute_or_variable, env};

/// The keys of `[config]`.
pub(super) const KEYS: &[&str] =
    &["workdir", "cmd", "entrypoint", "user", "labels", "expose", "volumes", "stop-signal", "env"];

/// Reads `[config]`.
pub(super) fn config(value: &Value<'_>) -> Result<ConfigEdit, PlanError> {
    let table = value.table("[config]")?.only(KEYS)?;
    let words = |key: &str| -> Result<Option<Vec<String>>, PlanError> {
        let Some(value) = table.get(key) else { return Ok(None) };
        value.items()?.iter().map(|item| item.text().map(str::to_owned)).collect::<Result<_, _>>().map(Some)
    };
    let text = |key: &str, read: fn(&Value<'_>) -> Result<String, PlanError>| {
        table.get(key).map(|value| read(&value)).transpose()
    };
    let all = |key: &str, read: fn(&Value<'_>) -> Result<String, PlanError>| -> Result<Vec<String>, PlanError> {
        let Some(value) = table.get(key) else { return Ok(Vec::new()) };
        value.items()?.iter().map(read).collect()
    };
    Ok(ConfigEdit {
        env: table.get("env").map_or_else(|| Ok(Vec::new()), |value| env(&value))?,
        workdir: text("workdir", |value| absolute_or_variable(value).map(str::to_owned))?,
        entrypoint: words("entrypoint")?,
        cmd: words("cmd")?,
        user: text("user", |value| value.line_of_text().map(str::to_owned))?,
        labels: table.get("labels").map_or_else(|| Ok(BTreeMap::new()), |value| labels(&value))?,
        expose: all("expose", port)?,
        volumes: all("volumes", |value| absolute(value).map(str::to_owned))?,
        stop_signal: text("stop-signal", signal)?,
    })
}

fn labels(value: &Value<'_>) -> Result<BTreeMap<String, String>, PlanError> {
    let mut labels = BTreeMap::new();
    for (name, value) in value.table("labels")?.entries() {
        let value = value.called(format!("labels.{name}"));
        if let toml::de::DeValue::Table(_) = value.raw() {
            let hint = "write a label's name in quotes: \"org.example.label\" = \"value\"";
            return Err(value.unexpected("a string", Some(hint.into())));
        }
        if name.trim().is_empty() {
            return Err(value.unfit("an empty label name", "a non-empty name", None));
        }
        labels.insert(name.to_owned(), value.text()?.to_owned());
    }
    Ok(labels)
}

/// Reads a port into the form of image configs, `8080/tcp`.
fn port(value: &Value<'_>) -> Result<String, PlanError> {
    let expected = "a port such as \"8080\", \"8080/tcp\" or \"53/udp\"";
    let text = match value.raw() {
        toml::de::DeValue::Integer(number) => number.to_string(),
        _ => value.text()?.to_owned(),
    };
    let (port, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
    let number = port.parse::<u16>().ok().filter(|number| *number > 0 && port.bytes().all(|b| b.is_ascii_digit()));
    match (number, protocol) {
        (Some(number), "tcp" | "udp" | "sctp") => Ok(format!("{number}/{protocol}")),
        _ => Err(value.unexpected(expected, None)),
    }
}

fn signal(value: &Value<'_>) -> Result<String, PlanError> {
    let text = value.text()?;
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-".contains(&b));
    let number = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    let name = text.starts_with("SIG") && word(text);
    if number || name { Ok(text.to_owned()) } else { Err(value.unexpected("a signal such as \"SIGTERM\"", None)) }
}
