//! The lines of requirements as in pip: with continuations joined, comments removed and variables replaced.

use std::path::{Path, PathBuf};

use url::Url;

use super::Requirements;
use crate::python::error::ResolveError;
use crate::python::resolve::pylock::as_requirements;
use ociforge_layers::regular::read_regular_text;

/// Maximum depth of included files.
const MAX_DEPTH: usize = 16;

/// A line, and the directory of its file.
pub(super) struct Line {
    pub(super) text: String,
    pub(super) directory: PathBuf,
}

/// The lines of `requirements` and of the included files. Skips included files that cannot be read.
pub(super) fn lines(requirements: &Requirements, directory: &Path) -> Result<Vec<Line>, ResolveError> {
    let mut lines = Vec::new();
    match requirements {
        Requirements::List(list) => lines.extend(list.iter().flat_map(|text| split(text, directory))),
        Requirements::File(file) => {
            let path = directory.join(file);
            let text = read_regular_text(&path).map_err(|source| ResolveError::read(&path, source))?;
            if let Some(error) = as_requirements(&text, &path) {
                return Err(error);
            }
            follow(&text, &path, 0, &mut lines);
        }
        Requirements::Lock(..) => {}
    }
    Ok(lines)
}

fn follow(text: &str, path: &Path, depth: usize, lines: &mut Vec<Line>) {
    for line in split(text, path.parent().unwrap_or(Path::new("."))) {
        match included(&line.text) {
            None => lines.push(line),
            Some(file) if depth < MAX_DEPTH => {
                let file = line.directory.join(file);
                let text = read_regular_text(&file).unwrap_or_default();
                follow(&text, &file, depth + 1, lines);
            }
            Some(_) => {}
        }
    }
}

fn split(text: &str, directory: &Path) -> Vec<Line> {
    let text = text.trim_start_matches('\u{feff}').replace("\\\r\n", " ").replace("\\\n", " ");
    let variable = |name: &str| std::env::var(name).ok();
    let lines = text.lines().map(|line| expanded(without_comment(line), &variable)).filter(|line| !line.is_empty());
    lines.map(|text| Line { text, directory: directory.to_path_buf() }).collect()
}

/// Removes a comment, which begins with `#` at the start or after whitespace.
fn without_comment(line: &str) -> &str {
    let comment = line.starts_with('#').then_some(0).or_else(|| line.find(" #")).or_else(|| line.find("\t#"));
    comment.map_or(line, |at| &line[..at]).trim()
}

/// Replaces `${NAME}` in `line` by the variable's value. Names have upper-case letters, digits and underscores;
/// references to unset or empty variables stay.
fn expanded(line: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let mut parts = line.split("${");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        };
        let named = part.split_once('}').filter(|(name, _)| is_name(name));
        match named.and_then(|(name, rest)| Some((variable(name).filter(|value| !value.is_empty())?, rest))) {
            Some((value, rest)) => out.extend([value.as_str(), rest]),
            None => out.extend(["${", part]),
        }
    }
    out
}

/// The file of `-r file`, `-rfile`, `--requirement file` or `--requirement=file`.
fn included(line: &str) -> Option<PathBuf> {
    let rest = line.strip_prefix("--requirement").or_else(|| line.strip_prefix("-r"))?;
    Some(rest.trim_start_matches(['=', ' ', '\t']).trim().into())
}

/// An option and its value: `--option value`, `--option=value` or `--option`; the value may be quoted.
pub(super) fn option(line: &str) -> Option<(&str, &str)> {
    let (option, value) = line.split_once(['=', ' ', '\t']).unwrap_or((line, ""));
    let value = value.trim().trim_start_matches('=').trim();
    let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    option.starts_with('-').then(|| (option, quoted.unwrap_or(value)))
}

/// The URLs in a line.
pub(super) fn urls(line: &str) -> impl Iterator<Item = Url> {
    let words = line.split([' ', '\t', '"', '\'', ',', ';']);
    words.filter_map(|word| Url::parse(&word[word.find("http://").or_else(|| word.find("https://"))?..]).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_those_of_pip() {
        let variable = |name: &str| match name {
            "USER_1" => Some("u".to_owned()),
            "TOKEN" => Some("p%40:${USER_1}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (line, expected) in [
            ("--index-url https://${USER_1}:${TOKEN}@h/s", "--index-url https://u:p%40:${USER_1}@h/s"),
            ("${MISSING}${EMPTY}$USER_1 ${user_1} ${} ${USER_1", "${MISSING}${EMPTY}$USER_1 ${user_1} ${} ${USER_1"),
            ("a${USER_1}b${TOKEN}", "aubp%40:${USER_1}"),
        ] {
            assert_eq!(expanded(line, &variable), expected);
        }
    }

    #[test]
    fn options_and_urls() {
        for line in [
            "--index-url=https://h",
            "--index-url https://h",
            "--index-url \t 'https://h'",
            "--index-url = \"https://h\"",
        ] {
            assert_eq!(option(line), Some(("--index-url", "https://h")), "{line}");
        }
        assert_eq!((option("--pre"), option("a==1 --hash=x")), (Some(("--pre", "")), None));
        let found = |line: &str| urls(line).map(|url| url.to_string()).collect::<Vec<_>>();
        assert_eq!(found("--index-url=https://u:p@h/s"), ["https://u:p@h/s"]);
        assert_eq!(found("a @ https://u@h/a.whl ; python_version > '3'"), ["https://u@h/a.whl"]);
        assert!(found("a @ git+ssh://git@h/a").is_empty() && found("a>=1").is_empty());
    }
}
