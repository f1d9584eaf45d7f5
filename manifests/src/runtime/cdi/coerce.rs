//! Coercion of a document as in CDI's own library, which parses YAML and JSON with Go's `sigs.k8s.io/yaml`.
//!
//! There, keys may have any case, `null` equals a missing field, and a number or a boolean in place of a text is
//! converted to text in Go's form: `0755` is read as octal, and becomes `493`.

use serde_json::{Map, Number, Value, json};

/// The type of a field, for the conversion of other values.
#[derive(Debug, Clone, Copy)]
enum FieldKind {
    Text,
    Texts,
    /// Map from text to text.
    TextMap,
    Number,
    Numbers,
    Switch,
    Object,
    Objects,
}

/// All fields of a document. The same name has the same type everywhere.
const FIELDS: [(&str, FieldKind); 33] = [
    ("cdiVersion", FieldKind::Text),
    ("kind", FieldKind::Text),
    ("annotations", FieldKind::TextMap),
    ("devices", FieldKind::Objects),
    ("containerEdits", FieldKind::Object),
    ("name", FieldKind::Text),
    ("env", FieldKind::Texts),
    ("deviceNodes", FieldKind::Objects),
    ("netDevices", FieldKind::Objects),
    ("hooks", FieldKind::Objects),
    ("mounts", FieldKind::Objects),
    ("intelRdt", FieldKind::Object),
    ("additionalGids", FieldKind::Numbers),
    ("path", FieldKind::Text),
    ("hostPath", FieldKind::Text),
    ("type", FieldKind::Text),
    ("major", FieldKind::Number),
    ("minor", FieldKind::Number),
    ("fileMode", FieldKind::Number),
    ("permissions", FieldKind::Text),
    ("uid", FieldKind::Number),
    ("gid", FieldKind::Number),
    ("containerPath", FieldKind::Text),
    ("options", FieldKind::Texts),
    ("hookName", FieldKind::Text),
    ("args", FieldKind::Texts),
    ("timeout", FieldKind::Number),
    ("closID", FieldKind::Text),
    ("l3CacheSchema", FieldKind::Text),
    ("memBwSchema", FieldKind::Text),
    ("schemata", FieldKind::Texts),
    ("enableMonitoring", FieldKind::Switch),
    ("hostInterfaceName", FieldKind::Text),
];

/// Converts the values of a document to the types of its fields, as Go does. Other values stay unchanged, except that a
/// list in place of an object is an error, because serde would read it as the object's fields in order.
pub(super) fn document(value: Value) -> Result<Value, String> {
    coerce(value, FieldKind::Object)
}

fn coerce(value: Value, kind: FieldKind) -> Result<Value, String> {
    Ok(match (kind, value) {
        (FieldKind::Object, Value::Object(fields)) => Value::Object(object(fields)?),
        (FieldKind::Object, Value::Array(_)) => return Err("invalid type: sequence, expected a map".into()),
        (FieldKind::TextMap, Value::Object(fields)) => {
            let texts = fields.into_iter().map(|(key, value)| Ok((key, coerce(value, FieldKind::Text)?)));
            texts.collect::<Result<_, String>>()?
        }
        (FieldKind::Objects, Value::Array(items)) => each(items, FieldKind::Object)?,
        (FieldKind::Texts, Value::Array(items)) => each(items, FieldKind::Text)?,
        (FieldKind::Numbers, Value::Array(items)) => each(items, FieldKind::Number)?,
        (FieldKind::Text, Value::Null) => json!(""),
        (FieldKind::Text, Value::Bool(value)) => json!(value.to_string()),
        (FieldKind::Text, Value::Number(number)) => json!(text(&number)),
        (FieldKind::Number, Value::Null) => json!(0),
        (FieldKind::Number, Value::Number(number)) => {
            whole(&number).map_or(Value::Number(number), |whole| json!(whole))
        }
        (_, other) => other,
    })
}

fn each(items: Vec<Value>, kind: FieldKind) -> Result<Value, String> {
    items.into_iter().map(|item| coerce(item, kind)).collect()
}

/// The fields with CDI's spelling of their names, without those that are `null`. The later of two spellings counts.
fn object(fields: Map<String, Value>) -> Result<Map<String, Value>, String> {
    let named = fields.into_iter().filter_map(|(key, value)| {
        match FIELDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&key)) {
            Some(_) if value.is_null() => None,
            Some((name, kind)) => Some(coerce(value, *kind).map(|value| ((*name).to_owned(), value))),
            None => Some(Ok((key, value))),
        }
    });
    named.collect()
}

fn text(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => go_float(float),
        None => number.to_string(),
    }
}

/// The integer value of a number with a point or an exponent, such as `1e2`.
fn whole(number: &Number) -> Option<i64> {
    // Above this, not every integer has an exact floating-point representation.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT)?;
    format!("{number:.0}").parse().ok()
}

/// Go's shortest form of a single-precision number (`strconv.FormatFloat(number, 'g', -1, 32)`).
fn go_float(number: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "Go takes single precision, too")]
    let number = number as f32;
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        // Numbers between these have no exponent.
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_texts_as_go_writes_them() {
        for (number, text) in [
            (1.5, "1.5"),
            (1000.0, "1000"),
            (550.54, "550.54"),
            (123_456.0, "123456"),
            (1e6, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (123_456_789.0, "1.2345679e+08"),
            (1e-4, "0.0001"),
            (1.5e-5, "1.5e-05"),
            (-0.25, "-0.25"),
            (1e21, "1e+21"),
        ] {
            assert_eq!(go_float(number), text);
        }
    }
}
