//! Variables that look like secrets. Every user who can pull an image can read its environment.

use super::code::LintCode;
use super::finding::Finding;
use crate::config::ExecutionParameters;

/// Suffixes of names whose value only refers to a secret.
const POINTERS: [&str; 9] = ["_FILE", "_PATH", "_DIR", "_NAME", "_ARN", "_URL", "_URI", "_ENDPOINT", "_TYPE"];

/// Prefixes of providers' keys, and the minimum number of characters after them.
const PREFIXES: [(&str, usize); 19] = [
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 35),
    ("dckr_pat_", 20),
    ("ghp_", 30),
    ("gho_", 30),
    ("ghu_", 30),
    ("ghs_", 30),
    ("ghr_", 30),
    ("github_pat_", 30),
    ("glpat-", 20),
    ("hf_", 30),
    ("npm_", 30),
    ("nvapi-", 30),
    ("pypi-", 50),
    ("sk-", 32),
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("xapp-", 20),
];

pub(super) fn in_environment(base: Option<&ExecutionParameters>, image: &ExecutionParameters) -> Vec<Finding> {
    let of_base = |entry: &String| base.is_some_and(|base| base.env.contains(entry));
    let entries = image.env.iter().filter(|entry| !of_base(entry)).filter_map(|entry| entry.split_once('='));
    let secrets = entries.filter_map(|(name, value)| Some((name, what(name, value)?)));
    secrets
        .map(|(name, what)| Finding {
            code: LintCode::SecretEnv,
            message: format!("the variable {name} {what}, and every user of the image can read it"),
            hint: format!("remove it from the image and give it to the container: -e {name}"),
        })
        .collect()
}

/// The kind of secret in a variable.
fn what(name: &str, value: &str) -> Option<&'static str> {
    let value = value.trim();
    if value.is_empty() || is_reference(value) {
        None
    } else if value.contains("-----BEGIN ") && value.contains("PRIVATE KEY") {
        Some("holds a private key")
    } else if has_password(value) {
        Some("holds a URL with a password")
    } else if words(value).any(is_key) {
        Some("holds an access key")
    } else if is_secret_name(&name.to_uppercase(), value) {
        Some("looks like a secret")
    } else {
        None
    }
}

/// Whether it is `$NAME` or `${NAME}`, which another program expands.
fn is_reference(value: &str) -> bool {
    let name =
        value.strip_prefix('$').map(|rest| rest.strip_prefix('{').map_or(rest, |inner| inner.trim_end_matches('}')));
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

/// The parts of a value that may be keys.
fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
}

fn is_key(word: &str) -> bool {
    let rest =
        PREFIXES.iter().find_map(|(prefix, least)| word.strip_prefix(prefix).filter(|rest| rest.len() >= *least));
    // Keys are random: an English word or a package name of that length has no digit, or no letter.
    rest.is_some_and(|rest| rest.bytes().any(|b| b.is_ascii_digit()) && rest.bytes().any(|b| b.is_ascii_alphabetic()))
}

/// Whether a URL in the value has a password.
fn has_password(value: &str) -> bool {
    let mut urls = value.split("://");
    urls.next();
    urls.any(|rest| {
        let authority = rest.split(['/', '?', '#', ' ', ',']).next().unwrap_or_default();
        let password =
            authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, password)| password);
        password.is_some_and(|password| !is_placeholder(password) && !password.starts_with('$'))
    })
}

/// Whether the variable's name marks this value as a secret.
fn is_secret_name(name: &str, value: &str) -> bool {
    if POINTERS.iter().any(|end| name.ends_with(end)) || is_placeholder(value) || is_path(value) {
        return false;
    }
    let ends = |words: &[&str]| words.iter().any(|word| name == *word || name.ends_with(&format!("_{word}")));
    let is_password = ends(&["PASSWORD", "PASSWD", "PASSPHRASE"]);
    // `MAX_TOKEN=512`, `SECRET_MODE=on`, `PAD_TOKEN=<pad>`: short words and numbers are not keys.
    let random = value.len() >= 8 && !value.contains(char::is_whitespace) && value.parse::<f64>().is_err();
    let is_key = ends(&["TOKEN", "API_KEY", "APIKEY", "ACCESS_KEY", "PRIVATE_KEY"])
        || name.split('_').any(|part| part == "SECRET");
    is_password || (is_key && random)
}

/// Whether it is a placeholder for a secret, or a switch.
fn is_placeholder(value: &str) -> bool {
    const WORDS: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "none", "null", "0", "1"];
    let masked = value.bytes().all(|b| matches!(b, b'*' | b'x' | b'X' | b'.'));
    let bracketed = value.starts_with(['<', '[', '{']) && value.ends_with(['>', ']', '}']);
    masked || bracketed || WORDS.contains(&value.to_lowercase().as_str())
}

/// Whether it is an absolute path; base64 almost never looks like one.
fn is_path(value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    value.starts_with('/') && value.len() > 1 && value.bytes().all(plain)
}
