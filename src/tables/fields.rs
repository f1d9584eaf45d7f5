//! Reads TOML key by key, so that every error names its position and the expected value.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{PlanError, Position, TableFault};
/// The text of a file, and its allowed keys.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) file: &'a Path,
    pub(crate) text: &'a str,
    /// Every table and its keys, for hints. The first table is the top level.
    pub(crate) places: &'a [(&'static str, &'static [&'static str])],
}

impl<'a> Text<'a> {
    /// Parses `bytes` as TOML, and passes the document to `read`.
    pub(crate) fn read<T>(
        bytes: &'a [u8],
        file: &'a Path,
        places: &'a [(&'static str, &'static [&'static str])],
        read: impl FnOnce(&Table<'_>) -> Result<T, PlanError>,
    ) -> Result<T, PlanError> {
        let (top, keys) = places.first().copied().unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            Text { file, text: &valid, places }.fault(valid.len(), TableFault::Encoding(top))
        })?;
        let text = Text { file, text, places };
        let document = DeTable::parse(text.text).map_err(|error| {
            let (message, at) = (error.message().replace('\n', ", "), error.span().map_or(0, |span| span.start));
            let number: String =
                text.text[at..].chars().take_while(|c| c.is_alphanumeric() || "_.".contains(*c)).collect();
            match message.contains("leading zero") && number.starts_with('0') {
                true => text.fault(at, TableFault::LeadingZero(number)),
                false => text.fault(at, TableFault::Syntax(message)),
            }
        })?;
        let table = Table { text, name: top.into(), offset: 0, entries: document.get_ref() };
        read(&table.only(keys)?)
    }

    /// An error at a byte offset of the text.
    pub(crate) fn fault(&self, offset: usize, fault: TableFault) -> PlanError {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        PlanError::Fault {
            at: Position { file: self.file.to_owned(), line: self.line(offset), column },
            fault: Box::new(fault),
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }
}

/// A table and its name in messages.
#[derive(Clone)]
pub(crate) struct Table<'a> {
    text: Text<'a>,
    name: String,
    offset: usize,
    entries: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    /// Rejects keys that are not in `known`. The error names the first one in the text.
    pub(crate) fn only(self, known: &[&'static str]) -> Result<Self, PlanError> {
        match self.entries().into_iter().find(|(key, _)| !known.contains(key)) {
            None => Ok(self),
            Some((key, value)) => {
                let hint = hint_for_unknown(key, &self.name, known, self.text.places);
                Err(value
                    .text
                    .fault(value.key_offset, TableFault::UnknownKey { key: key.to_owned(), table: self.name, hint }))
            }
        }
    }

    /// All keys and their values, in the order of the text.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Value<'a>)> {
        let entry = |(key, value): (&'a Spanned<std::borrow::Cow<'a, str>>, _)| {
            let name: &'a str = key.get_ref();
            (name, Value { text: self.text, key: name.to_owned(), key_offset: key.span().start, value })
        };
        let mut entries: Vec<_> = self.entries.iter().map(entry).collect();
        entries.sort_by_key(|(_, value)| value.key_offset);
        entries
    }

    pub(crate) fn get(&self, key: &str) -> Option<Value<'a>> {
        self.entries().into_iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    pub(crate) fn require(&self, key: &'static str, example: &'static str) -> Result<Value<'a>, PlanError> {
        let missing = || self.fault(TableFault::MissingKey { key, table: self.name.clone(), example });
        self.get(key).ok_or_else(missing)
    }

    /// An error about the whole table.
    pub(crate) fn fault(&self, fault: TableFault) -> PlanError {
        self.text.fault(self.offset, fault)
    }
}

/// A value and its key, or the key of the array that contains it.
#[derive(Clone)]
pub(crate) struct Value<'a> {
    text: Text<'a>,
    key: String,
    key_offset: usize,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    /// The value with another name in messages.
    pub(crate) fn called(self, key: String) -> Self {
        Self { key, ..self }
    }

    /// The line of the key, counted from 1.
    pub(crate) fn line(&self) -> usize {
        self.text.line(self.key_offset)
    }

    /// An error about the key.
    pub(crate) fn fault(&self, fault: TableFault) -> PlanError {
        self.text.fault(self.key_offset, fault)
    }

    /// The error for an unexpected value.
    pub(crate) fn unexpected(&self, expected: impl Into<String>, hint: Option<String>) -> PlanError {
        let found = match self.value.get_ref() {
            DeValue::String(text) if text.is_empty() => "empty".to_owned(),
            DeValue::String(text) => format!("`{}`", shortened(text)),
            DeValue::Integer(number) => format!("the number {number}"),
            DeValue::Float(number) => format!("the number {number}"),
            DeValue::Boolean(value) => format!("the boolean {value}"),
            DeValue::Datetime(_) => "a date or time".to_owned(),
            DeValue::Array(array) if array.is_empty() => "an empty array".to_owned(),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.unfit(found, expected, hint)
    }

    /// The same error with another description of the value.
    pub(crate) fn unfit(
        &self,
        found: impl Into<String>,
        expected: impl Into<String>,
        hint: Option<String>,
    ) -> PlanError {
        let (key, found, expected) = (self.key.clone(), found.into(), expected.into());
        self.text.fault(self.value.span().start, TableFault::Value { key, found, expected, hint })
    }

    pub(crate) fn raw(&self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    /// The value as text without NUL bytes; may be empty.
    pub(crate) fn text(&self) -> Result<&'a str, PlanError> {
        let quoted = |shown: String| Some(format!("write it in quotes: \"{shown}\""));
        match self.value.get_ref() {
            DeValue::String(text) if text.contains('\0') => Err(self.unfit("text with a NUL byte", "other text", None)),
            DeValue::String(text) => Ok(text),
            DeValue::Integer(number) => Err(self.unexpected("a string", quoted(number.to_string()))),
            DeValue::Float(number) => Err(self.unexpected("a string", quoted(number.to_string()))),
            DeValue::Boolean(value) => Err(self.unexpected("a string", quoted(value.to_string()))),
            _ => Err(self.unexpected("a string", None)),
        }
    }

    /// The value as text that is not empty and has no control characters.
    pub(crate) fn line_of_text(&self) -> Result<&'a str, PlanError> {
        match self.text()? {
            text if text.chars().any(char::is_control) => {
                Err(self.unfit("text with control characters", "a line of text", None))
            }
            text if text.trim().is_empty() => Err(self.unexpected("a string that is not empty", None)),
            text => Ok(text),
        }
    }

    /// The value as the elements of an array.
    pub(crate) fn items(&self) -> Result<Vec<Self>, PlanError> {
        match self.value.get_ref() {
            DeValue::Array(items) => Ok(items.iter().map(|value| Self { value, ..self.clone() }).collect()),
            DeValue::String(text) => {
                let hint = format!("write an array: {} = [{:?}]", self.key, shortened(text));
                Err(self.unexpected("an array of strings", Some(hint)))
            }
            _ => Err(self.unexpected("an array of strings", None)),
        }
    }

    pub(crate) fn table(&self, name: impl Into<String>) -> Result<Table<'a>, PlanError> {
        match self.value.get_ref() {
            DeValue::Table(entries) => {
                Ok(Table { text: self.text, name: name.into(), offset: self.value.span().start, entries })
            }
            _ => Err(self.unexpected("a table", None)),
        }
    }
}

/// Makes a text fit for a message: short, on one line, without credentials.
fn shortened(text: &str) -> String {
    let text = without_credentials(text);
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}

/// Removes credentials from a text: the user, password and query of a URL, and the text after the URL.
pub(crate) fn without_credentials(text: &str) -> String {
    let Some((before, url)) = text.split_once("://") else { return text.to_owned() };
    let end = url.find(['/', '?', '#', ' ']).unwrap_or(url.len());
    let (authority, path) = url.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let path = path.split(['?', ' ']).next().unwrap_or_default();
    format!("{before}://{host}{path}")
}

/// The hint for an unknown key in `table`: the table that has this key, or a similar key.
fn hint_for_unknown(key: &str, table: &str, known: &[&'static str], places: &[(&str, &[&str])]) -> String {
    let plain = key.to_lowercase().replace('_', "-");
    let distance = |other: &str| strsim::damerau_levenshtein(&plain, other);
    let nearest = known.iter().min_by_key(|other| distance(other));
    if let Some(nearest) = nearest.filter(|other| distance(other) <= 1 + other.len() / 4) {
        return format!("did you mean `{nearest}`?");
    }
    let other = places.iter().position(|(place, keys)| *place != table && keys.contains(&plain.as_str()));
    match other.map(|at| (at, places[at].0)) {
        Some((0, _)) => {
            format!("`{plain}` belongs at the top, before the first [table]")
        }
        Some((_, place)) => format!("`{plain}` belongs in {place}"),
        None => format!("the keys here are {}", known.join(", ")),
    }
}
