//! The patterns of `.dockerignore` files.
//!
//! A pattern is matched against a whole path, component by component: `*` and `?` stop at a slash, `**` does not, and a
//! pattern that matches a directory matches all of its content. The last matching pattern decides; one that begins with
//! `!` includes files again.

use std::io;
use std::path::Path;

use regex::{RegexSet, RegexSetBuilder};

use crate::regular::read_regular;

/// Memory limit for compiled patterns, in bytes: enough for tens of thousands of them.
const MAX_COMPILED: usize = 256 << 20;

/// Patterns of excluded files.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    /// One expression per pattern, in order.
    expressions: RegexSet,
    /// For each exception (`!`), the path before its first wildcard.
    exceptions: Vec<Option<String>>,
}

/// Patterns are not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// The file cannot be read.
    #[error("cannot read {file}")]
    Read {
        /// The file.
        file: String,
        /// The cause.
        source: io::Error,
    },
    /// A malformed pattern.
    #[error("`{pattern}` is not a pattern: {why}")]
    Malformed {
        /// The pattern.
        pattern: String,
        /// The fault.
        why: &'static str,
    },
    /// Patterns that need too much memory.
    #[error("the patterns are invalid")]
    TooLarge(#[source] regex::Error),
}

impl Patterns {
    /// Reads the `.dockerignore` of a directory. Without this file nothing is excluded.
    ///
    /// # Errors
    /// When the file cannot be read or has a malformed pattern.
    pub fn of_directory(directory: &Path) -> Result<Self, PatternError> {
        let file = directory.join(".dockerignore");
        match read_regular(&file) {
            Ok(text) => Self::read(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(PatternError::Read { file: file.display().to_string(), source }),
        }
    }

    /// Parses the text of a `.dockerignore`: one pattern per line; lines that begin with `#` are comments.
    ///
    /// # Errors
    /// When a pattern is malformed.
    pub fn read(text: &[u8]) -> Result<Self, PatternError> {
        let text = String::from_utf8_lossy(text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text));
        Self::new(text.lines().filter(|line| !line.starts_with('#')))
    }

    /// Compiles patterns; empty ones are dropped.
    ///
    /// # Errors
    /// When a pattern is malformed.
    pub fn new(patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, PatternError> {
        let (mut expressions, mut exceptions) = (Vec::new(), Vec::new());
        for pattern in patterns {
            let pattern = pattern.as_ref().trim();
            let (positive, exception) = match pattern.strip_prefix('!') {
                Some(rest) => (rest.trim(), true),
                None => (pattern, false),
            };
            if pattern.is_empty() {
                continue;
            }
            if positive.is_empty() {
                return Err(malformed(pattern, "nothing follows the `!`"));
            }
            let cleaned = clean(positive);
            expressions.push(expression(&cleaned).map_err(|why| malformed(pattern, why))?);
            exceptions.push(exception.then(|| literal_beginning(&cleaned).to_owned()));
        }
        let expressions = RegexSetBuilder::new(expressions).size_limit(MAX_COMPILED).build();
        let expressions = expressions.map_err(PatternError::TooLarge)?;
        Ok(Self { expressions, exceptions })
    }

    /// Whether the file or directory at `path`, relative to the patterns' directory, is excluded.
    #[must_use]
    pub fn exclude(&self, path: &[u8]) -> bool {
        let path = String::from_utf8_lossy(path);
        let last = self.expressions.matches(&path).iter().next_back();
        last.is_some_and(|index| self.exceptions[index].is_none())
    }

    /// Whether an exception may include something below an excluded directory. May return `true` without need, but
    /// never `false` wrongly.
    #[must_use]
    pub fn may_keep_below(&self, directory: &[u8]) -> bool {
        let directory = format!("{}/", String::from_utf8_lossy(directory));
        let mut beginnings = self.exceptions.iter().flatten();
        beginnings.any(|beginning| beginning.starts_with(&directory) || directory.starts_with(beginning))
    }
}

fn malformed(pattern: &str, why: &'static str) -> PatternError {
    PatternError::Malformed { pattern: pattern.to_owned(), why }
}

/// The normalised path: without empty and `.` components or outer slashes, with `..` resolved lexically.
fn clean(pattern: &str) -> String {
    let mut components: Vec<&str> = Vec::new();
    for component in pattern.split('/') {
        match component {
            "" | "." => {}
            ".." if components.last().is_some_and(|last| *last != "..") => drop(components.pop()),
            ".." if pattern.starts_with('/') => {}
            _ => components.push(component),
        }
    }
    components.join("/")
}

/// The literal prefix of every match of a pattern.
fn literal_beginning(pattern: &str) -> &str {
    &pattern[..pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len())]
}

/// The regular expression of the paths that a pattern matches, and of all paths below them.
fn expression(pattern: &str) -> Result<String, &'static str> {
    let rest = &mut pattern.chars().peekable();
    let mut regex = String::from("(?s)^(?:");
    // A leading `**` before a literal also matches within a name: `**.pyc` matches every file with this suffix.
    let plain = pattern.strip_prefix("**").is_some_and(|p| !p.starts_with('/') && literal_beginning(p) == p);
    if plain {
        rest.nth(1);
        regex.push_str(".*");
    }
    while let Some(letter) = rest.next() {
        match letter {
            '*' if rest.next_if_eq(&'*').is_some() => {
                let _ = rest.next_if_eq(&'/');
                regex.push_str(if rest.peek().is_none() { ".*" } else { "(?:.*/)?" });
            }
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '[' => class(rest, &mut regex)?,
            '\\' => literal(rest.next().ok_or("nothing follows the backslash")?, &mut regex),
            letter => literal(letter, &mut regex),
        }
    }
    regex.push_str(")(?:/.*)?$");
    Ok(regex)
}

/// A character class, `[a-z]` or `[^a-z]`, after its opening bracket.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, regex: &mut String) -> Result<(), &'static str> {
    let unclosed = "a `[` is not closed";
    regex.push('[');
    if rest.next_if_eq(&'^').is_some() {
        regex.push_str("^/");
    }
    let mut empty = true;
    loop {
        let low = match rest.next().ok_or(unclosed)? {
            ']' if !empty => break,
            ']' | '-' => return Err("a `[` needs characters or ranges after it"),
            '\\' => rest.next().ok_or(unclosed)?,
            letter => letter,
        };
        empty = false;
        literal(low, regex);
        if rest.next_if_eq(&'-').is_some() {
            let high = match rest.next().ok_or(unclosed)? {
                ']' | '-' => return Err("a range has no end"),
                '\\' => rest.next().ok_or(unclosed)?,
                letter => letter,
            };
            if high < low {
                return Err("a range is reversed");
            }
            regex.push('-');
            literal(high, regex);
        }
    }
    regex.push(']');
    Ok(())
}

fn literal(letter: char, regex: &mut String) {
    regex.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4])));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(patterns: &[&str], path: &str) -> bool {
        Patterns::new(patterns).unwrap().exclude(path.as_bytes())
    }

    #[test]
    fn one_pattern_and_what_it_matches() {
        for (pattern, matches, others) in [
            ("a", &["a", "a/b", "a/b/c"][..], &["b", "b/a", "ab", "a.b"][..]),
            ("/a/", &["a", "a/b"], &["b/a"]),
            ("./a//b/../c", &["a/c", "a/c/d"], &["a/b", "a"]),
            ("*", &["a", ".a", "a/b"], &[]),
            ("*.pyc", &["a.pyc", ".pyc", "a.pyc/b"], &["a/b.pyc", "a.pycx", "apyc"]),
            ("*/temp*", &["a/temp", "a/temp.txt", "a/temporary/b"], &["temp", "a/b/temp"]),
            ("temp?", &["tempa", "tempé", "tempa/b"], &["temp", "temp/", "tempab", "temp/a"]),
            ("**/*.go", &["a.go", "a/b/c.go", ".go"], &["a.gox", "a/go"]),
            ("**/node_modules", &["node_modules", "a/b/node_modules/c"], &["xnode_modules", "a/node_modules2"]),
            ("**", &["a", "a/b", ".x"], &[]),
            ("**/", &["a", "a/b"], &[]),
            ("a/**", &["a/b", "a/b/c"], &["a", "ab/c"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b/z"], &["a/xb", "ab"]),
            ("a/*/b", &["a/x/b"], &["a/b", "a/x/y/b"]),
            ("a**/b", &["ab", "a/x/b", "axe/b"], &["axe", "b"]),
            ("**.pyc", &["a.pyc", "a/b.pyc", ".pyc"], &["a.pycx"]),
            ("[a-c].txt", &["a.txt", "c.txt"], &["d.txt", "-.txt", "aa.txt"]),
            ("[^a-c]x", &["dx"], &["ax", "/x", "x"]),
            ("a[*?]b", &["a*b", "a?b"], &["axb", "ab"]),
            ("a\\*b\\[", &["a*b["], &["axb[", "a\\*b\\["]),
            ("[\\]x&&~]", &["]", "x", "&", "~"], &["a", "\\"]),
            ("a.b+(c)|{d}^$", &["a.b+(c)|{d}^$"], &["aXb+(c)|{d}^$"]),
            ("été", &["été", "été/x"], &["ete"]),
            (".dockerignore", &[".dockerignore"], &["a/.dockerignore"]),
        ] {
            matches.iter().for_each(|path| assert!(excluded(&[pattern], path), "`{pattern}` should match {path}"));
            others.iter().for_each(|path| assert!(!excluded(&[pattern], path), "`{pattern}` should not match {path}"));
        }
        for never in [".", "/", "..", "../a"] {
            assert!(!excluded(&[never], "a"), "{never}");
        }
    }

    #[test]
    fn the_last_match_decides() {
        let docs = ["*.md", "!README*.md", "README-secret.md"];
        for (path, out) in
            [("a.md", true), ("README.md", false), ("README-secret.md", true), ("sub/a.md", false), ("a.txt", false)]
        {
            assert_eq!(excluded(&docs, path), out, "{path}");
        }
        let turned = ["*.md", "README-secret.md", "!README*.md"];
        assert!(!excluded(&turned, "README-secret.md"));
        let whitelist = ["*", "!src", "src/*.tmp", "!src/keep.tmp"];
        for (path, out) in
            [("a", true), ("src", false), ("src/a/b", false), ("src/x.tmp", true), ("src/keep.tmp", false)]
        {
            assert_eq!(excluded(&whitelist, path), out, "{path}");
        }
        assert!(!excluded(&["a/b", "! a"], "a/b"), "an exception of a directory holds below it");
    }

    #[test]
    fn a_file_of_patterns() {
        let text = "\u{feff}# a comment\r\n  *.log  \r\n\n \t\n !keep.log\n #not a comment\n";
        let patterns = Patterns::read(text.as_bytes()).unwrap();
        let out = |path: &str| patterns.exclude(path.as_bytes());
        assert!(out("a.log") && !out("keep.log") && out("#not a comment") && !out("# a comment"));
        assert!(Patterns::read(b"*.\xff").unwrap().exclude(b"a.\xfe"), "bytes that are no text are all alike");
    }

    #[test]
    fn only_where_an_exception_may_reach() {
        let patterns = Patterns::new(["*", "!src/lib/*.rs"]).unwrap();
        assert!(patterns.may_keep_below(b"src") && patterns.may_keep_below(b"src/lib"));
        assert!(!patterns.may_keep_below(b"sr") && !patterns.may_keep_below(b"docs"));
        assert!(Patterns::new(["*", "!**/a"]).unwrap().may_keep_below(b"any"));
        assert!(Patterns::new(["*", "!a"]).unwrap().may_keep_below(b"a/b"));
        assert!(!Patterns::new(["*"]).unwrap().may_keep_below(b"any"));
    }

    #[test]
    fn malformed_patterns() {
        for bad in ["!", "! ", "a[", "a[b", "[]", "[]a]", "[a-]", "[-a]", "[c-a]", "a\\", "[\\"] {
            assert!(matches!(Patterns::new([bad]), Err(PatternError::Malformed { .. })), "{bad}");
        }
    }
}
