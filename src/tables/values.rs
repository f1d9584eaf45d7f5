//! Readers for values of several tables: paths, modes, owners.

use std::fmt::Display;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use ociforge_layers::{LayerPath, whiteout};
use toml::de::DeValue;

use super::error::PlanError;
use super::fields::Value;

/// A numeric owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// The ids of the user and the group, as layers have them.
    #[must_use]
    pub fn ids(self) -> (u64, u64) {
        (self.uid.into(), self.gid.into())
    }
}

/// Reads a path on this machine.
pub(crate) fn file(value: &Value<'_>) -> Result<PathBuf, PlanError> {
    value.line_of_text().map(PathBuf::from)
}

/// Reads a path that stays in the recipe's directory lexically. Links are not checked here.
pub(crate) fn file_inside(value: &Value<'_>) -> Result<PathBuf, PlanError> {
    let path = file(value)?;
    if is_inside(&path) {
        return Ok(path);
    }
    let hint = "a bind mount shows only files below the recipe's directory; copy them there, or move the recipe to a \
        parent directory";
    Err(value.unexpected("a path in the recipe's directory", Some(hint.into())))
}

fn is_inside(path: &Path) -> bool {
    let mut depth = 0_usize;
    path.components().all(|component| match component {
        Component::CurDir => true,
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::ParentDir => {
            let above = depth.checked_sub(1);
            depth = above.unwrap_or(0);
            above.is_some()
        }
        Component::RootDir | Component::Prefix(_) => false,
    })
}

/// Reads an absolute path in the image, unchanged.
pub(crate) fn absolute<'a>(value: &Value<'a>) -> Result<&'a str, PlanError> {
    let text = value.text()?;
    if !text.starts_with('/') {
        // What would be refused, too, is not proposed.
        let absolute = format!("/{}", text.trim_start_matches("./"));
        let fits = !text.is_empty() && !text.contains('$') && LayerPath::new(&absolute).is_ok();
        let hint = fits.then(|| format!("write `{absolute}`"));
        return Err(value.unexpected("an absolute path in the image", hint));
    }
    match LayerPath::new(text) {
        Ok(_) => Ok(text),
        Err(error) => Err(value.unexpected("an absolute path in the image", Some(error.to_string()))),
    }
}

/// Reads an absolute path, or a text that starts with a variable, which only a build can expand.
pub(crate) fn absolute_or_variable<'a>(value: &Value<'a>) -> Result<&'a str, PlanError> {
    let text = value.text()?;
    if text.starts_with('$') { value.line_of_text() } else { absolute(value) }
}

/// Reads an absolute path as a path of a layer.
pub(crate) fn path(value: &Value<'_>) -> Result<LayerPath, PlanError> {
    const EXPECTED: &str = "an absolute path in the image";
    let text = absolute(value)?;
    let path = LayerPath::new(text).map_err(|error| value.unexpected(EXPECTED, Some(error.to_string())))?;
    if whiteout::is_reserved(&path) {
        let hint = "in a layer a name that begins with `.wh.` removes files of the layers below";
        return Err(value.unexpected(EXPECTED, Some(hint.into())));
    }
    Ok(path)
}

/// Reads an octal mode of up to four digits, `"0755"` or `0o755`.
pub(crate) fn mode(value: &Value<'_>) -> Result<u32, PlanError> {
    let unexpected = |hint: String| value.unexpected("an octal mode such as \"0755\"", Some(hint));
    let quoted = |digits: &str| format!("write it in quotes: \"{digits:0>4}\"");
    let digits = match value.raw() {
        DeValue::Integer(number) if number.radix() == 8 => number.as_str(),
        DeValue::Integer(number) if octal(number.as_str()).is_some() => {
            return Err(unexpected(quoted(number.as_str())));
        }
        DeValue::Integer(number) => {
            let number = u32::from_str_radix(number.as_str(), number.radix()).ok().filter(|mode| *mode <= MODES);
            return Err(unexpected(number.map_or_else(|| DIGITS.into(), |mode| quoted(&format!("{mode:o}")))));
        }
        DeValue::String(text) => text,
        _ => return Err(unexpected(DIGITS.into())),
    };
    octal(digits).ok_or_else(|| {
        let bare = digits.trim().trim_start_matches("0o");
        unexpected(octal(bare).map_or_else(|| DIGITS.into(), |_| format!("write \"{bare:0>4}\"")))
    })
}

/// The largest mode.
const MODES: u32 = 0o7777;

const DIGITS: &str = "its digits are 0 to 7: 4 to read, 2 to write, 1 to execute, for owner, group and others";

/// Parses octal digits as a mode.
fn octal(digits: &str) -> Option<u32> {
    let octal = (1..=5).contains(&digits.len()) && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten().filter(|mode| *mode <= MODES)
}

/// Reads `UID:GID`, or one number for both.
pub(crate) fn owner(value: &Value<'_>) -> Result<Owner, PlanError> {
    let text = value.text()?;
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|digit| digit.is_ascii_digit()));
    if let (Some(uid), Some(gid)) = (number(uid), number(gid)) {
        return Ok(Owner { uid, gid });
    }
    let hint = "names of users and groups are not supported yet; write their numbers";
    Err(value.unexpected("a numeric owner such as \"1000:1000\"", Some(hint.into())))
}

pub(crate) fn boolean(value: &Value<'_>) -> Result<bool, PlanError> {
    match value.raw() {
        DeValue::Boolean(value) => Ok(*value),
        DeValue::String(text) if *text == "true" || *text == "false" => {
            Err(value.unexpected("true or false", Some(format!("write it without quotes: {text}"))))
        }
        _ => Err(value.unexpected("true or false", None)),
    }
}

/// Reads one of the known words.
pub(crate) fn word<T: Copy>(value: &Value<'_>, known: &[(&str, T)], hint: &str) -> Result<T, PlanError> {
    let text = value.text()?;
    let found = known.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        let words: Vec<_> = known.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        value.unexpected(words.join(" or "), Some(hint.to_owned()))
    })
}

/// Reads a table of environment variables, in the order of the text.
pub(crate) fn env(value: &Value<'_>) -> Result<Vec<(String, String)>, PlanError> {
    let mut env = Vec::new();
    for (name, value) in value.table("env")?.entries() {
        let value = value.called(format!("env.{}", name.escape_debug()));
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(value.unfit("not a variable name", "a non-empty name without `=` and NUL", None));
        }
        env.push((name.to_owned(), value.text()?.to_owned()));
    }
    Ok(env)
}

/// Parses a value like the flag of the same name. Numbers need no quotes.
pub(crate) fn typed<T: FromStr>(value: &Value<'_>, hint: impl Fn(&T::Err) -> Option<String>) -> Result<T, PlanError>
where
    T::Err: Display,
{
    let text = match value.raw() {
        DeValue::Integer(number) if number.radix() == 10 => number.to_string(),
        _ => value.line_of_text()?.to_owned(),
    };
    text.parse().map_err(|error| value.unfit(format!("`{text}`"), format!("a valid value ({error})"), hint(&error)))
}
/// Reads a decimal number from 1.
pub(crate) fn positive(value: &Value<'_>, expected: &str) -> Result<usize, PlanError> {
    let number = match value.raw() {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
        _ => None,
    };
    number.filter(|number| *number > 0).ok_or_else(|| value.unexpected(expected, None))
}
