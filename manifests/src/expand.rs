//! References to variables in texts, `$NAME` and `${NAME}`, as in Dockerfiles and shells.

/// An invalid reference in a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// `${` without a closing brace.
    #[error("`{0}` has a `${{` without a `}}`")]
    Open(String),
    /// Braces without a variable name.
    #[error("`${{{0}}}` is not a reference to a variable")]
    Reference(String),
    /// A path that expands to a relative one.
    #[error("`{0}` is not an absolute path")]
    Relative(String),
}

/// Expands references with the values of `value`: `$NAME`, `${NAME}`; `${NAME:-WORD}` and `${NAME-WORD}`, which are
/// WORD if the variable is empty or undefined, or only if it is undefined; `${NAME:+WORD}` and `${NAME+WORD}`, which
/// are WORD otherwise. `$$` is a dollar, and so is a `$` without a name.
///
/// Undefined variables expand to nothing, and their names are added to `missing`.
///
/// # Errors
/// For braces with other content or without an end.
pub fn expand(
    text: &str,
    value: &dyn Fn(&str) -> Option<String>,
    missing: &mut Vec<String>,
) -> Result<String, ExpandError> {
    let (mut expanded, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(inside) = after.strip_prefix('{') {
            let end = closing(inside).ok_or_else(|| ExpandError::Open(text.to_owned()))?;
            expanded.push_str(&reference(&inside[..end], value, missing)?);
            rest = &inside[end + 1..];
        } else {
            let (name, after) = after.split_at(name_len(after));
            match name {
                "" => expanded.push('$'),
                name => expanded.push_str(&found(name, value, missing)),
            }
            rest = after;
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// The value of the text between braces.
fn reference(
    inside: &str,
    value: &dyn Fn(&str) -> Option<String>,
    missing: &mut Vec<String>,
) -> Result<String, ExpandError> {
    let (name, rest) = inside.split_at(name_len(inside));
    if name.is_empty() {
        return Err(ExpandError::Reference(inside.to_owned()));
    }
    if rest.is_empty() {
        return Ok(found(name, value, missing));
    }
    let (counts_empty, operator) = rest.strip_prefix(':').map_or((false, rest), |operator| (true, operator));
    let set = value(name).filter(|value| !(counts_empty && value.is_empty()));
    if let Some(word) = operator.strip_prefix('-') {
        return set.map_or_else(|| expand(word, value, missing), Ok);
    }
    if let Some(word) = operator.strip_prefix('+') {
        return set.map_or_else(|| Ok(String::new()), |_| expand(word, value, missing));
    }
    Err(ExpandError::Reference(inside.to_owned()))
}

fn found(name: &str, value: &dyn Fn(&str) -> Option<String>, missing: &mut Vec<String>) -> String {
    value(name).unwrap_or_else(|| {
        missing.push(name.to_owned());
        String::new()
    })
}

/// The length of the name at the beginning of a text.
fn name_len(text: &str) -> usize {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let len = text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    if first { len } else { 0 }
}

/// The position of the brace that closes the one before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if text[..at].ends_with('$') => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<(String, Vec<String>), ExpandError> {
        let value = |name: &str| match name {
            "PATH" => Some("/bin".to_owned()),
            "_a1" => Some("x".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let mut missing = Vec::new();
        expand(text, &value, &mut missing).map(|text| (text, missing))
    }

    #[test]
    fn references() {
        for (text, expected) in [
            ("/opt/bin:$PATH", "/opt/bin:/bin"),
            ("${PATH}x$_a1-${_a1}1", "/binxx-x1"),
            ("$$PATH $ $1 a$", "$PATH $ $1 a$"),
            ("${EMPTY:-a}${EMPTY-b}${PATH:-c}${NO:-$PATH}${NO-${_a1}}", "a/bin/binx"),
            ("/l${PATH:+:$PATH}${EMPTY:+n}${EMPTY+y}${NO+n}", "/l:/biny"),
            ("\u{e4}$PATH\u{e4}", "\u{e4}/bin\u{e4}"),
            ("{}$EMPTY", "{}"),
        ] {
            assert_eq!(expanded(text).unwrap(), (expected.to_owned(), vec![]), "{text}");
        }
        assert_eq!(expanded("a$NO:${NONE}").unwrap(), ("a:".into(), vec!["NO".into(), "NONE".into()]));
    }

    #[test]
    fn what_is_no_reference() {
        for text in ["${PATH", "${", "${NO:-${PATH}"] {
            assert_eq!(expanded(text), Err(ExpandError::Open(text.into())));
        }
        for inside in ["", "1", "PATH:", "PATH:=x", "PATH#x", " PATH", "NO:-${1}"] {
            assert!(matches!(expanded(&format!("${{{inside}}}")), Err(ExpandError::Reference(_))), "{inside}");
        }
    }
}
