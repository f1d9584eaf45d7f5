//! Parsing of CDI files.

use serde_json::Value;

use super::document::CdiDocument;
use super::fault::{CdiFault, MAX_FILE_SIZE};
use super::{coerce, validate, version};

/// Parses and checks a document, the first one if there are several. The parser is always YAML's, as in CDI's own
/// library, which accepts JSON with comments and trailing commas for this reason.
pub(super) fn parse(bytes: &[u8]) -> Result<CdiDocument, CdiFault> {
    if bytes.len() > MAX_FILE_SIZE {
        return Err(CdiFault::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| CdiFault::Syntax("it is not UTF-8".into()))?;
    let syntax = |error: &dyn std::fmt::Display| CdiFault::Syntax(printable(&error.to_string()));
    let value = first_document(text)
        .or_else(|error| first_document(&with_comments_apart(text)).map_err(|_| error))
        .map_err(|error| syntax(&error))?;
    let value = coerce::document(value).map_err(|error| syntax(&error))?;
    let document = serde_json::from_value(value).map_err(|error| syntax(&error))?;
    version::check(&document)?;
    validate::check(&document)?;
    Ok(document)
}

fn first_document(text: &str) -> Result<Value, serde_saphyr::Error> {
    let mut text = text.as_bytes();
    serde_saphyr::read_with_options(&mut text, limits()).next().unwrap_or(Ok(Value::Null))
}

/// Adds a space before each comment that directly follows a comma or a bracket: YAML requires it, CDI's own library
/// does not.
fn with_comments_apart(text: &str) -> String {
    let mut apart = String::with_capacity(text.len());
    // The character that ends the current quoted text or comment.
    let mut end = None;
    let (mut before, mut token, mut escaped) = ('\n', '\n', false);
    for c in text.chars() {
        match end {
            Some('"') if escaped || c == '\\' => escaped = !escaped,
            Some(last) if c == last => end = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') && ",[{:\n".contains(token) => end = Some(c),
            // Two of these in a quoted text are one.
            None if c == '\'' && before == c => end = Some(c),
            None if c == '#' && ",[]{}".contains(before) => {
                apart.push(' ');
                end = Some('\n');
            }
            None if c == '#' && before.is_whitespace() => end = Some('\n'),
            None => {}
        }
        apart.push(c);
        before = c;
        if end.is_none() && !c.is_whitespace() || c == '\n' {
            token = c;
        }
    }
    apart
}

/// Limits for YAML aliases: the size of a large file without aliases. Numbers with a leading zero are octal, as in
/// CDI's own library.
fn limits() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 64,
            max_aliases: 1000,
            max_anchors: 1000,
            max_events: 500_000,
            max_nodes: 250_000,
            max_merge_keys: 1000,
            max_total_scalar_bytes: 2 * MAX_FILE_SIZE,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: 2 * MAX_FILE_SIZE,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
        legacy_octal_numbers: true,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
    }
}

/// The first line of a parser's message, which may quote the file, without control characters of terminals.
fn printable(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    line.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect()
}
