//! Wheels that are made to be as they should not be.

use std::io::{Cursor, Write};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::Place;

/// `sha256:…`
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Path, content, mode, and what RECORD takes for the content, if it has it.
type Member = (String, Vec<u8>, u32, Option<Vec<u8>>);

/// A wheel of version 1.0 to be.
pub(crate) struct Wheel {
    name: String,
    tag: String,
    requires_python: Option<String>,
    members: Vec<Member>,
}

impl Wheel {
    /// One with the module `NAME/__init__.py`, whose text is `text`.
    pub(crate) fn new(name: &str, text: &str) -> Self {
        Self { name: name.into(), tag: "py3-none-any".into(), requires_python: None, members: Vec::new() }
            .file(&format!("{name}/__init__.py"), text)
    }

    pub(crate) fn tag(self, tag: &str) -> Self {
        Self { tag: tag.into(), ..self }
    }

    pub(crate) fn requires_python(self, requires: &str) -> Self {
        Self { requires_python: Some(requires.into()), ..self }
    }

    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        self.member(path, content, 0o100_644, Some(content))
    }

    pub(crate) fn member(mut self, path: &str, content: impl AsRef<[u8]>, mode: u32, recorded: Option<&[u8]>) -> Self {
        self.members.push((path.into(), content.as_ref().to_vec(), mode, recorded.map(<[u8]>::to_vec)));
        self
    }

    /// The wheel's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self { name, tag, .. } = self;
        let info = format!("{name}-1.0.dist-info");
        let requires = self.requires_python.iter().map(|text| format!("Requires-Python: {text}\n")).collect::<String>();
        let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}");
        let wheel = format!("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n");
        let mut members = self.members.clone();
        for (file, text) in [("METADATA", metadata), ("WHEEL", wheel)] {
            members.push((format!("{info}/{file}"), text.clone().into(), 0o100_644, Some(text.into())));
        }
        let mut record = String::new();
        for (path, .., recorded) in &members {
            let Some(recorded) = recorded else { continue };
            let hash = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(recorded));
            record += &format!("{path},sha256={hash},{}\n", recorded.len());
        }
        record += &format!("{info}/RECORD,,\n");
        members.push((format!("{info}/RECORD"), record.into(), 0o100_644, None));

        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (path, content, mode, _) in members {
            let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
            if mode & 0o170_000 == 0o120_000 {
                archive.add_symlink(path, String::from_utf8(content).unwrap(), options).unwrap();
            } else {
                archive.start_file(path, options.unix_permissions(mode & 0o7777)).unwrap();
                archive.write_all(&content).unwrap();
            }
        }
        archive.finish().unwrap().into_inner()
    }

    /// What its file is called.
    pub(crate) fn file_name(&self) -> String {
        format!("{}-1.0-{}.whl", self.name, self.tag)
    }

    /// Writes it into the directory `directory` of a test.
    pub(crate) fn write(&self, place: &Place, directory: &str) {
        place.write(&format!("{directory}/{}", self.file_name()), self.bytes());
    }
}
