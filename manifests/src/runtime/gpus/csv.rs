//! The quoting of one CSV record, as in Go's reader.

use super::error::GpuFault;

/// One record of RFC 4180: its fields, and whether each was quoted.
pub(super) fn record(text: &str) -> Result<Vec<(String, bool)>, GpuFault> {
    if text.is_empty() {
        return Err(GpuFault::Empty);
    }
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, quoted, after) = match rest.strip_prefix('"') {
            Some(inside) => {
                let (field, after) = quoted_field(inside)?;
                (field, true, after)
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), false, &rest[end..])
            }
        };
        if !quoted && field.contains('"') {
            return Err(GpuFault::Quote);
        }
        fields.push((field, quoted));
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err(GpuFault::Quote),
        }
    }
}

/// Reads up to the closing quote; a doubled quote is one. Returns the field and the text after the quote.
fn quoted_field(mut rest: &str) -> Result<(String, &str), GpuFault> {
    let mut field = String::new();
    loop {
        let (before, after) = rest.split_once('"').ok_or(GpuFault::Quote)?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Ok((field, after)),
        }
    }
}

/// `field` in quotes, if it needs them.
pub(super) fn quote(field: &str) -> String {
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}
