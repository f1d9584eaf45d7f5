//! uv's hints name flags that ociforge does not have. Most of them have a variable that uv reads.

/// Flags of uv, and the variables with the same effect.
const VARIABLES: [(&str, &str); 14] = [
    ("--allow-insecure-host", "UV_INSECURE_HOST"),
    ("--default-index", "UV_DEFAULT_INDEX"),
    ("--exclude-newer", "UV_EXCLUDE_NEWER"),
    ("--extra-index-url", "UV_EXTRA_INDEX_URL"),
    ("--find-links", "UV_FIND_LINKS"),
    ("--index", "UV_INDEX"),
    ("--index-strategy", "UV_INDEX_STRATEGY"),
    ("--index-url", "UV_INDEX_URL"),
    ("--keyring-provider", "UV_KEYRING_PROVIDER"),
    ("--native-tls", "UV_NATIVE_TLS"),
    ("--offline", "UV_OFFLINE"),
    ("--prerelease", "UV_PRERELEASE"),
    ("--resolution", "UV_RESOLUTION"),
    ("--system-certs", "UV_SYSTEM_CERTS"),
];

/// A hint of uv adapted to ociforge; `None` if it does not apply.
pub(super) fn adapted(hint: &str) -> Option<String> {
    let mut words = String::new();
    for (n, part) in hint.split('`').enumerate() {
        if n > 0 {
            words.push('`');
        }
        match part {
            code if n % 2 == 1 && code.starts_with("--") => words.push_str(&variable(code)?),
            code if n % 2 == 1 && code.starts_with("uv ") => return None,
            text if text.split([' ', '(']).any(|word| word.starts_with("--")) => return None,
            text => words.push_str(text),
        }
    }
    Some(words.replace(" command-line flag", " variable").replace(" flag", " variable"))
}

/// The variable and value with the same effect as a flag.
fn variable(code: &str) -> Option<String> {
    let (flag, value) = code.split_once(['=', ' ']).unwrap_or((code, "1"));
    let (_, variable) = VARIABLES.iter().find(|(known, _)| *known == flag)?;
    Some(format!("{variable}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_variables() {
        for (hint, ours) in [
            (
                "Consider enabling use of system TLS certificates with the `--system-certs` command-line flag",
                Some("Consider enabling use of system TLS certificates with the `UV_SYSTEM_CERTS=1` variable"),
            ),
            (
                "`a` was requested with a pre-release marker, but pre-releases weren't enabled (try: `--prerelease=allow`)",
                Some(
                    "`a` was requested with a pre-release marker, but pre-releases weren't enabled (try: `UV_PRERELEASE=allow`)",
                ),
            ),
            (
                "no locations were provided (try: `--find-links <uri>`)",
                Some("no locations were provided (try: `UV_FIND_LINKS=<uri>`)"),
            ),
            ("use `--index-strategy unsafe-best-match`.", Some("use `UV_INDEX_STRATEGY=unsafe-best-match`.")),
            (
                "the credentials are not valid (401 Unauthorized)",
                Some("the credentials are not valid (401 Unauthorized)"),
            ),
            ("building is disabled (i.e., with `--no-build`)", None),
            ("run `uv add x`", None),
            ("Consider passing a --python-version value", None),
        ] {
            assert_eq!(adapted(hint).as_deref(), ours, "{hint}");
        }
    }
}
