//! A document as CDI's own library takes it: it reads YAML and JSON alike by Go's `sigs.k8s.io/yaml`.
//!
//! There a key may be in any case, `null` stands for what is not there, and a number or a truth value where a text belongs
//! is that text, in the form in which Go writes it: `0755` is read as octal, and then it is `493`.

use serde_json::{Map, Number, Value, json};

/// What a field holds, as far as other values are turned into it.
#[derive(Debug, Clone, Copy)]
enum FieldKind {
    Text,
    Texts,
    /// Texts by key.
    TextMap,
    Number,
    Numbers,
    Switch,
    Object,
    Objects,
}

/// All fields of a document. None has another kind at another place.
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

/// Turns the values of a document into those that its fields hold, where Go would. What it would not take stays as it is,
/// but for a list in the place of an object, which is an error here, as serde takes it for the object's fields in order.
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

/// The fields by the names that they have in CDI, without those that are `null`. Of two spellings of a name the later one
/// counts.
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

/// A number with a point or an exponent that is a whole one for all that, such as `1e2`.
fn whole(number: &Number) -> Option<i64> {
    // Beyond this not every whole number has a form with a point.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT)?;
    format!("{number:.0}").parse().ok()
}

/// Go's shortest form of a number in single precision (`strconv.FormatFloat(number, 'g', -1, 32)`).
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
        // Between those this has no exponent.
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
