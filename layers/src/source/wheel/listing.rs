//! The installed files of a wheel, from its central directory and two small members.

use std::io::{Cursor, Read};
use std::path::Path;

use zip::read::ZipArchive;

use super::archive::member_name;
use super::entry_points::EntryPoints;
use super::error::{WheelError, WheelFault};
use super::install::{InstallPath, MAX_ENTRY_POINTS, place};
use super::metadata::{MetadataHeaders, root_is_purelib};
use super::scheme::Scheme;
use super::{FileName, MAX_METADATA};
use crate::mapped::MappedFile;
use crate::path::LayerPath;

/// The files that the wheel at `path`, with the wheel name `file_name`, installs, without those that the installer
/// writes into its `.dist-info`. The wheel must be verified: this checks little.
///
/// # Errors
/// When it cannot be read.
pub fn installed_files(path: &Path, file_name: &str, scheme: &Scheme) -> Result<Vec<LayerPath>, WheelError> {
    list(path, file_name, scheme).map_err(|fault| fault.of(file_name))
}

fn list(path: &Path, file_name: &str, scheme: &Scheme) -> Result<Vec<LayerPath>, WheelFault> {
    let name = FileName::parse(file_name)?;
    let file = MappedFile::open(path).map_err(WheelFault::Open)?;
    let mut archive = ZipArchive::new(Cursor::new(file.as_ref()))?;
    // The raw names: they are UTF-8, even if the flags of the archive differ.
    let names = archive.file_names_raw().filter(|name| !name.ends_with(b"/"));
    let names: Vec<String> = names.map(member_name).collect::<Result<_, _>>()?;
    let mut text = |file: &str, limit: u64| {
        // Only at the top: packages may include the `.dist-info` directories of others below it.
        let of_info = |name: &&String| {
            name.split_once('/').is_some_and(|(top, rest)| top.ends_with(".dist-info") && rest == file)
        };
        let Some(name) = names.iter().find(of_info) else { return Ok(String::new()) };
        let mut bytes = Vec::new();
        archive.by_name(name)?.take(limit).read_to_end(&mut bytes).map_err(WheelFault::Open)?;
        String::from_utf8(bytes).map_err(|_| WheelFault::NotText(name.clone()))
    };
    let entry_points = EntryPoints::parse(&text("entry_points.txt", MAX_ENTRY_POINTS)?)?;
    let pure = root_is_purelib(&MetadataHeaders::parse(&text("WHEEL", MAX_METADATA)?))?;
    let library = if pure { &scheme.purelib } else { &scheme.platlib };
    let mut files = Vec::with_capacity(names.len());
    for member in &names {
        match place(member, &name.name, library, scheme, &entry_points)? {
            InstallPath::At(path) | InstallPath::Script(path) => files.push(path),
            InstallPath::Nowhere => {}
        }
    }
    for script in entry_points.scripts(scheme.python)? {
        files.push(scheme.scripts.join(script.name)?);
    }
    Ok(files)
}
