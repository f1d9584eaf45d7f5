//! A tree with the files that pip would install for a wheel (PEP 427, PEP 491).
//!
//! The tree includes the archive's bytes of members unchanged. Opening a wheel performs all checks that need no
//! inflating; [`Wheel::verify`] performs the rest once, when the wheel enters the store.

pub(in crate::source) mod archive;
mod discrepancy;
mod entry_points;
mod error;
mod filename;
mod install;
mod launcher;
mod listing;
mod metadata;
mod record;
mod requires;
mod scheme;
mod verify;

use std::path::Path;

pub use discrepancy::{Correction, Discrepancy};
pub use error::{WheelError, WheelFault};
pub use filename::{FileName, WheelTags, normalize};
pub use install::InstallOptions;
pub use launcher::Launcher;
pub use listing::installed_files;
pub use metadata::MetadataHeaders;
pub use scheme::Scheme;

use crate::mapped::MappedFile;
use crate::path::LayerPath;
use crate::tree::LayerTree;
use archive::{Member, WheelArchive};
use record::Record;

/// RECORD has some hundred bytes per file; this allows about a million files.
const MAX_RECORD: u64 = 128 << 20;
const MAX_METADATA: u64 = 16 << 20;

/// An opened, well-formed wheel.
#[derive(Debug)]
pub struct Wheel {
    file: MappedFile,
    file_name: String,
    name: FileName,
    version: String,
    archive: WheelArchive,
    dist_info: String,
    root_is_purelib: bool,
    metadata: MetadataHeaders,
    record: Record,
}

impl Wheel {
    /// Maps the wheel at `path` and checks its form: names, sizes, compression, consistency of the archive's headers,
    /// and of the metadata with the file name.
    ///
    /// # Errors
    /// When the file cannot be mapped or breaks a rule.
    pub fn open(path: &Path) -> Result<Self, WheelError> {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::open_as(path, &file_name)
    }

    /// The same for a file that is stored under another name than the wheel name `file_name`.
    ///
    /// # Errors
    /// As [`Wheel::open`].
    pub fn open_as(path: &Path, file_name: &str) -> Result<Self, WheelError> {
        Self::read(path, file_name).map_err(|fault| fault.of(file_name))
    }

    fn read(path: &Path, file_name: &str) -> Result<Self, WheelFault> {
        let name = FileName::parse(file_name)?;
        let file = MappedFile::open(path).map_err(WheelFault::Open)?;
        let archive = archive::read(&file)?;
        // RECORD is parsed line by line.
        if let Some(member) = archive.members.iter().find(|member| member.name.contains('\n')) {
            let name = member.name.escape_debug().to_string();
            return Err(WheelFault::Name { name, reason: "has a line break" });
        }
        let dist_info = dist_info(&archive.members, &name)?;
        let find = |file_name: &str| {
            let path = format!("{dist_info}/{file_name}");
            archive.members.iter().find(|member| member.name == path).ok_or(WheelFault::Missing(path))
        };
        let record = Record::parse(&find("RECORD")?.text(&file, MAX_RECORD)?);
        let wheel = MetadataHeaders::parse(&find("WHEEL")?.text(&file, MAX_METADATA)?);
        let root_is_purelib = metadata::root_is_purelib(&wheel)?;
        let metadata = MetadataHeaders::parse(&find("METADATA")?.text(&file, MAX_METADATA)?);
        let named = metadata.get("Name").unwrap_or_default();
        let version = metadata.get("Version").unwrap_or_default().to_owned();
        agree("METADATA", (named, &version), &name)?;
        let file_name = file_name.to_owned();
        Ok(Self { file, file_name, name, version, archive, dist_info, root_is_purelib, metadata, record })
    }

    /// The same wheel with the RECORD of a [`Correction`] in place of its own.
    #[must_use]
    pub fn with_record(self, record: &str) -> Self {
        Self { record: Record::parse(record), ..self }
    }

    /// The distribution's name, normalised (PEP 503).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name.name
    }

    /// The version in METADATA.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The wheel's own file name.
    #[must_use]
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// The compatibility tags of the file name.
    #[must_use]
    pub fn tags(&self) -> &WheelTags {
        &self.name.tags
    }

    /// `Requires-Python` of METADATA.
    #[must_use]
    pub fn requires_python(&self) -> Option<&str> {
        self.metadata.get("Requires-Python")
    }

    /// METADATA's headers.
    #[must_use]
    pub fn metadata(&self) -> &MetadataHeaders {
        &self.metadata
    }

    /// The total length of the files in bytes.
    #[must_use]
    pub fn content_len(&self) -> u64 {
        self.archive.members.iter().map(|member| member.len).sum()
    }

    /// Checks that the wheel supports this Python, major and minor. Ignores its tags.
    ///
    /// # Errors
    /// [`WheelFault::RequiresPython`] with the supported versions.
    pub fn supports(&self, python: (u32, u32)) -> Result<(), WheelError> {
        let checked = requires::check(self.requires_python().unwrap_or_default(), python);
        checked.map_err(|fault| fault.of(&self.file_name))
    }

    /// Whether RECORD can be right: it has a row with the size and the SHA-256 of every file, and no other rows. The
    /// content of the tree then has these hashes, and everything that reads it checks them.
    ///
    /// # Errors
    /// [`WheelFault::Damaged`] for a damaged file that is read here.
    pub fn has_complete_record(&self) -> Result<bool, WheelError> {
        verify::is_complete(self).map_err(|fault| fault.of(&self.file_name))
    }

    /// Whether a file of the tree at `path` may come from the wheel.
    #[must_use]
    pub fn may_install(&self, path: &LayerPath) -> bool {
        let ends = |member: &Member| {
            let rest = path.as_bytes().strip_suffix(member.name.rsplit('/').next().unwrap_or_default().as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with(b"/"))
        };
        self.archive.members.iter().any(ends)
    }

    /// Inflates every file and checks its length, its CRC-32 and its row of RECORD. Returns the correct RECORD if the
    /// wheel's differs. Memory is bounded.
    ///
    /// # Errors
    /// [`WheelFault::Damaged`] for the first damaged file.
    pub fn verify(&self) -> Result<Option<Correction>, WheelError> {
        verify::verify(self).map_err(|fault| fault.of(&self.file_name))
    }

    /// The files that `pip install --no-compile` creates for the wheel, owned by root.
    ///
    /// The tree has the wheel's own directories, and none of the scheme's or the system's. Almost nothing is inflated.
    /// Content with a SHA-256 in RECORD must have it: whoever reads the tree gets an error otherwise. Other content may
    /// be damaged without verification.
    ///
    /// # Errors
    /// When members collide, a member's destination is in no scheme, or an entry point cannot become a script.
    pub fn install(&self, scheme: &Scheme, options: InstallOptions) -> Result<LayerTree, WheelError> {
        install::install(self, scheme, options).map_err(|fault| fault.of(&self.file_name))
    }

    /// A file of the `.dist-info` directory.
    fn member(&self, file_name: &str) -> Option<&Member> {
        let path = format!("{}/{file_name}", self.dist_info);
        self.archive.members.iter().find(|member| member.name == path)
    }
}

impl Member {
    fn text(&self, file: &MappedFile, limit: u64) -> Result<String, WheelFault> {
        String::from_utf8(self.read(file, limit)?).map_err(|_| WheelFault::NotText(self.name.clone()))
    }
}

/// The only `.dist-info` directory, which must have the name of the distribution. Its version is ignored: METADATA's
/// counts.
fn dist_info(members: &[Member], name: &FileName) -> Result<String, WheelFault> {
    let tops = members.iter().filter_map(|member| member.name.split_once('/').map(|(top, _)| top));
    let mut found: Vec<&str> = tops.filter(|top| top.ends_with(".dist-info")).collect();
    found.sort_unstable();
    found.dedup();
    let [dist_info] = found[..] else { return Err(WheelFault::DistInfo(found.len())) };
    let stem = dist_info.strip_suffix(".dist-info").unwrap_or(dist_info);
    let named = stem.rsplit_once('-').map_or(stem, |(name, _)| name);
    agree(dist_info, (named, &name.version), name)?;
    Ok(dist_info.to_owned())
}

/// Compares a name and a version with those of the file name.
fn agree(place: &str, (name, version): (&str, &str), expected: &FileName) -> Result<(), WheelFault> {
    let differ = |found: &str, expected: &str| {
        Err(WheelFault::Disagreement {
            place: place.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
        })
    };
    if normalize(name) != expected.name {
        return differ(name, &expected.name);
    }
    if !filename::same_version(version, &expected.version) {
        return differ(version, &expected.version);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
