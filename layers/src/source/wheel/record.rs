//! RECORD: the list of a distribution's files (PEP 376; PEP 427, "The .dist-info directory").

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::archive::plain;
use super::discrepancy::Discrepancy;

/// The content of a RECORD.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) rows: Vec<RecordRow>,
    /// Invalid lines, counted from 1.
    unreadable: Vec<usize>,
}

/// A row: path, hash (`sha256=…`) and size; the last two may be empty. Rows sort as in pip.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RecordRow {
    /// Relative to the parent of the `.dist-info` directory.
    pub(super) path: Vec<u8>,
    /// `ALGORITHM=` and the hash in URL-safe base64 without padding; an invalid hash keeps its text.
    pub(super) hash: String,
    /// Decimal, bytes.
    pub(super) size: String,
}

impl RecordRow {
    /// The row of a file that the installer writes.
    pub(super) fn of(path: Vec<u8>, content: &[u8]) -> Self {
        let hash = format!("sha256={}", URL_SAFE_NO_PAD.encode(Sha256::digest(content)));
        Self { path, hash, size: content.len().to_string() }
    }

    /// The row of a file without hash and size.
    pub(super) fn bare(path: Vec<u8>) -> Self {
        Self { path, hash: String::new(), size: String::new() }
    }

    /// The SHA-256 of the file, if the row has one.
    pub(super) fn sha256(&self) -> Option<[u8; 32]> {
        digest_of(self.hash.strip_prefix("sha256=")?, 32)?.try_into().ok()
    }

    /// The hasher for this row's algorithm; `None` without a sufficient hash.
    pub(super) fn hasher(&self) -> Option<RecordHasher> {
        let (algorithm, digest) = self.hash.split_once('=')?;
        let hasher = RecordHasher::of(algorithm)?;
        digest_of(digest, hasher.len()).map(|_| hasher)
    }
}

/// The algorithms that RECORD may use (PEP 427: SHA-256 or better).
pub(super) enum RecordHasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Default for RecordHasher {
    fn default() -> Self {
        Self::Sha256(Sha256::new())
    }
}

impl RecordHasher {
    fn of(algorithm: &str) -> Option<Self> {
        Some(match algorithm.to_ascii_lowercase().as_str() {
            "sha256" => Self::Sha256(Sha256::new()),
            "sha384" => Self::Sha384(Sha384::new()),
            "sha512" => Self::Sha512(Sha512::new()),
            _ => return None,
        })
    }

    /// Length of the hash in bytes.
    fn len(&self) -> usize {
        match self {
            Self::Sha256(_) => 32,
            Self::Sha384(_) => 48,
            Self::Sha512(_) => 64,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The hash in the form of a row.
    pub(super) fn finish(self) -> String {
        match self {
            Self::Sha256(hasher) => shown("sha256", &hasher.finalize()),
            Self::Sha384(hasher) => shown("sha384", &hasher.finalize()),
            Self::Sha512(hasher) => shown("sha512", &hasher.finalize()),
        }
    }
}

fn shown(algorithm: &str, digest: &[u8]) -> String {
    format!("{algorithm}={}", URL_SAFE_NO_PAD.encode(digest))
}

/// A hash of `len` bytes: in URL-safe base64 without padding (PEP 376) or, as some builds write it, with padding, in
/// standard base64, or in hex.
fn digest_of(text: &str, len: usize) -> Option<Vec<u8>> {
    let base64 = || URL_SAFE_NO_PAD.decode(text.trim_end_matches('=').replace('+', "-").replace('/', "_"));
    let digest = if text.len() == 2 * len { hex::decode(text).ok() } else { base64().ok() };
    digest.filter(|digest| digest.len() == len)
}

/// The form of a hash that installers write; invalid text stays unchanged.
fn canonical(hash: String) -> String {
    let found = hash.split_once('=').and_then(|(algorithm, digest)| {
        let hasher = RecordHasher::of(algorithm)?;
        Some(shown(&algorithm.to_ascii_lowercase(), &digest_of(digest, hasher.len())?))
    });
    found.unwrap_or(hash)
}

impl Record {
    /// Parses a RECORD: CSV with three fields, and double quotes where necessary. Skips empty lines.
    pub(super) fn parse(text: &str) -> Self {
        let mut record = Self::default();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            match row(line) {
                Some(row) => record.rows.push(row),
                None => record.unreadable.push(index + 1),
            }
        }
        record
    }

    /// The rows by path, and the faults of RECORD itself.
    pub(super) fn by_path(&self) -> (BTreeMap<&[u8], &RecordRow>, Vec<Discrepancy>) {
        let mut rows: BTreeMap<&[u8], &RecordRow> = BTreeMap::new();
        let mut wrong: Vec<_> = self.unreadable.iter().copied().map(Discrepancy::Unreadable).collect();
        for row in &self.rows {
            if rows.insert(&row.path, row).is_some_and(|other| other != row) {
                wrong.push(Discrepancy::Twice(String::from_utf8_lossy(&row.path).into_owned()));
            }
        }
        (rows, wrong)
    }
}

fn row(line: &str) -> Option<RecordRow> {
    let [path, hash, size] = <[String; 3]>::try_from(fields(line)?).ok()?;
    let number = size.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| RecordRow { path: plain(&path).into_bytes(), hash: canonical(hash), size })
}

/// The fields of a line; `None` if a quote is not closed.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut()?;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    (!quoted).then_some(fields)
}

/// Writes a RECORD as pip does: sorted rows, quotes where necessary, CR LF line ends.
pub(super) fn write(mut rows: Vec<RecordRow>) -> Vec<u8> {
    rows.sort_unstable();
    let mut out = Vec::new();
    for row in &rows {
        write_field(&mut out, &row.path);
        out.push(b',');
        write_field(&mut out, row.hash.as_bytes());
        out.push(b',');
        out.extend_from_slice(row.size.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn write_field(out: &mut Vec<u8>, field: &[u8]) {
    if !field.iter().any(|b| b",\"\r\n".contains(b)) {
        return out.extend_from_slice(field);
    }
    out.push(b'"');
    for byte in field {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Whether a member is RECORD itself or a signature of it.
pub(super) fn is_exempt(name: &str, record: &str) -> bool {
    matches!(name.strip_prefix(record), Some("" | ".jws" | ".p7s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_there_and_back() {
        let text = "\"a,\"\"b\"\"\",sha256=x,3\nplain,,\r\n\n";
        let rows = Record::parse(text).rows;
        assert_eq!(rows[0].path, b"a,\"b\"");
        assert_eq!(write(rows), b"\"a,\"\"b\"\"\",sha256=x,3\r\nplain,,\r\n");
        for bad in ["a", "a,b", "a,b,1,c", "\"a,b,1", "a,,x", "a,,-1"] {
            let record = Record::parse(&format!("good,,\n\n{bad}\n"));
            assert_eq!((record.rows.len(), &record.unreadable[..]), (1, &[3][..]), "{bad}");
        }
    }

    #[test]
    fn rows_are_sorted_by_bytes() {
        let rows = ["b", "a/b", "a.b", "../bin/x", "é"].map(|path| RecordRow::bare(path.into()));
        let text = write(rows.into());
        assert_eq!(text, "../bin/x,,\r\na.b,,\r\na/b,,\r\nb,,\r\né,,\r\n".as_bytes());
    }

    #[test]
    fn hashes_are_read_however_builds_have_written_them() {
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
        // This contains the characters in which the alphabets differ: `-` and `_`, or `+` and `/`.
        let content = b"a=>?\n".repeat(3);
        let row = RecordRow::of(b"f".to_vec(), &content);
        let digest = Sha256::digest(&content);
        let hex = hex::encode(digest);
        let upper = hex.to_uppercase();
        let texts = [hex, upper, STANDARD.encode(digest), STANDARD_NO_PAD.encode(digest), URL_SAFE.encode(digest)];
        for text in texts {
            let read = Record::parse(&format!("f,sha256={text},15\nf,SHA256={text},15")).rows;
            assert_eq!(read, [row.clone(), row.clone()], "{text}");
        }
        let long = RecordRow { hash: shown("sha512", &Sha512::digest(&content)), ..row };
        let read = Record::parse(&format!("f,sha512={},15", hex::encode(Sha512::digest(&content)))).rows;
        assert_eq!(read[0], long);
        let mut hasher = read[0].hasher().unwrap();
        hasher.update(&content);
        assert_eq!(hasher.finish(), long.hash);
    }

    #[test]
    fn only_strong_hashes_of_the_right_length_count() {
        let hex = "0".repeat(63);
        for weak in ["", "md5=XUFAKrxLKna5cZ2REBfFkg", "sha1=x", "sha256=AAAA", "sha256", "sha256=!", "SHA256=x", &hex]
        {
            let row = RecordRow { hash: weak.into(), ..RecordRow::bare(b"f".to_vec()) };
            assert!(row.hasher().is_none(), "{weak}");
        }
    }
}
