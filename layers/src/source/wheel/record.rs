//! RECORD: the list of a distribution's files (PEP 376; PEP 427, "The .dist-info directory").

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::archive::Archive;
use super::error::Fault;

/// A row: path, hash (`sha256=…`) and size, the last two maybe empty. Sorted as pip sorts them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    /// Relative to the directory that the `.dist-info` directory is in.
    pub(super) path: Vec<u8>,
    /// `ALGORITHM=` and the hash in URL-safe base64 without padding.
    pub(super) hash: String,
    /// Decimal, bytes.
    pub(super) size: String,
}

impl Row {
    /// The row of a file that the installer writes.
    pub(super) fn of(path: Vec<u8>, content: &[u8]) -> Self {
        let hash = format!("sha256={}", URL_SAFE_NO_PAD.encode(Sha256::digest(content)));
        Self { path, hash, size: content.len().to_string() }
    }

    /// The row of a file of which nothing is recorded.
    pub(super) fn bare(path: Vec<u8>) -> Self {
        Self { path, hash: String::new(), size: String::new() }
    }

    /// The hash to verify the file with.
    pub(super) fn expected(&self) -> Result<Expected, Fault> {
        let (algorithm, hash) = self.hash.split_once('=').unwrap_or((&self.hash, ""));
        let decoded = URL_SAFE_NO_PAD.decode(hash.trim_end_matches('='));
        let weak = || Fault::WeakHash {
            name: String::from_utf8_lossy(&self.path).into_owned(),
            found: if algorithm.is_empty() { "none at all".into() } else { format!("`{}`", self.hash) },
        };
        let hasher = match algorithm {
            "sha256" => Hasher::Sha256(Sha256::new()),
            "sha384" => Hasher::Sha384(Sha384::new()),
            "sha512" => Hasher::Sha512(Sha512::new()),
            _ => return Err(weak()),
        };
        let hash = decoded.ok().filter(|hash| hash.len() == hasher.len()).ok_or_else(weak)?;
        Ok(Expected { hasher, hash })
    }
}

/// A file's hash in RECORD, to be compared with the file.
pub(super) struct Expected {
    hasher: Hasher,
    hash: Vec<u8>,
}

enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    fn len(&self) -> usize {
        match self {
            Self::Sha256(_) => 32,
            Self::Sha384(_) => 48,
            Self::Sha512(_) => 64,
        }
    }
}

impl Expected {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match &mut self.hasher {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha384(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(super) fn holds(self) -> bool {
        match self.hasher {
            Hasher::Sha256(hasher) => hasher.finalize()[..] == self.hash[..],
            Hasher::Sha384(hasher) => hasher.finalize()[..] == self.hash[..],
            Hasher::Sha512(hasher) => hasher.finalize()[..] == self.hash[..],
        }
    }
}

/// Reads a RECORD: CSV with three fields, double quotes around those that need them. Empty lines are skipped.
pub(super) fn parse(text: &str) -> Result<Vec<Row>, Fault> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(index, line)| {
            let refuse = |reason| Fault::Record { line: index + 1, reason };
            let fields = fields(line).ok_or_else(|| refuse("has an unclosed quote"))?;
            let [path, hash, size] = <[String; 3]>::try_from(fields).map_err(|_| refuse("has not three fields"))?;
            if !size.bytes().all(|b| b.is_ascii_digit()) {
                return Err(refuse("has a size that is no number"));
            }
            Ok(Row { path: path.into_bytes(), hash, size })
        })
        .collect()
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

/// Writes a RECORD as pip does: rows sorted, fields quoted where they must be, lines that end in CR LF.
pub(super) fn write(mut rows: Vec<Row>) -> Vec<u8> {
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

/// Checks that rows and members are each other's, and that each member has a hash that is worth something. RECORD
/// and the signatures that may be beside it need no row; directories may have one, as auditwheel used to write them.
pub(super) fn check(rows: &[Row], archive: &Archive, record: &str) -> Result<(), Fault> {
    let mut by_path: BTreeMap<&[u8], &Row> = BTreeMap::new();
    for row in rows {
        if by_path.insert(&row.path, row).is_some_and(|other| other != row) {
            let line = rows.iter().position(|r| std::ptr::eq(r, row)).unwrap_or_default() + 1;
            return Err(Fault::Record { line, reason: "contradicts another one of the same path" });
        }
    }
    for member in &archive.members {
        let row = by_path.remove(member.name.as_bytes());
        if is_exempt(&member.name, record) {
            continue;
        }
        let row = row.ok_or_else(|| Fault::Unrecorded(member.name.clone()))?;
        row.expected()?;
        if let Ok(recorded) = row.size.parse::<u64>()
            && recorded != member.len
        {
            return Err(Fault::RecordedSize { name: member.name.clone(), recorded, actual: member.len });
        }
    }
    let mut rest = by_path.into_keys().map(String::from_utf8_lossy);
    match rest.find(|path| !archive.directories.contains(path.as_ref())) {
        Some(path) => Err(Fault::Absent(path.into_owned())),
        None => Ok(()),
    }
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
        let rows = parse(text).unwrap();
        assert_eq!(rows[0].path, b"a,\"b\"");
        assert_eq!(write(rows), b"\"a,\"\"b\"\"\",sha256=x,3\r\nplain,,\r\n");
        for bad in ["a", "a,b", "a,b,1,c", "\"a,b,1", "a,,x", "a,,-1"] {
            assert!(matches!(parse(bad), Err(Fault::Record { line: 1, .. })), "{bad}");
        }
    }

    #[test]
    fn rows_are_sorted_by_bytes() {
        let rows = ["b", "a/b", "a.b", "../bin/x", "é"].map(|path| Row::bare(path.into()));
        let text = write(rows.into());
        assert_eq!(text, "../bin/x,,\r\na.b,,\r\na/b,,\r\nb,,\r\né,,\r\n".as_bytes());
    }

    #[test]
    fn only_strong_hashes_of_the_right_length_count() {
        let mut row = Row::of(b"f".to_vec(), b"content");
        let mut expected = row.expected().unwrap();
        expected.update(b"content");
        assert!(expected.holds());
        for weak in ["", "md5=XUFAKrxLKna5cZ2REBfFkg", "sha1=x", "sha256=AAAA", "sha256", "sha256=!", "SHA256=x"] {
            row.hash = weak.into();
            assert!(matches!(row.expected(), Err(Fault::WeakHash { .. })), "{weak}");
        }
    }
}
