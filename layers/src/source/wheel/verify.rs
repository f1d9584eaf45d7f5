//! Verification of every byte of a wheel against the archive and RECORD.

use super::Wheel;
use super::archive::Member;
use super::discrepancy::{Correction, Discrepancy};
use super::error::WheelFault;
use super::install;
use super::record::{self, RecordHasher, RecordRow};
use crate::inflate::{InflateError, Inflater};
use crate::mapped::MappedFile;
use crate::sha256::Sha256Stream;

/// Reads every member, and checks its length, its CRC-32 and its row in RECORD. RECORD and its signatures need no row;
/// directories may have one, as older versions of auditwheel write them.
pub(super) fn verify(wheel: &Wheel) -> Result<Option<Correction>, WheelFault> {
    let record = format!("{}/RECORD", wheel.dist_info);
    let (mut listed, mut discrepancies) = wheel.record.by_path();
    let (mut rows, mut inflater) = (Vec::with_capacity(wheel.archive.members.len()), Inflater::new());
    for member in &wheel.archive.members {
        let (name, path) = (&member.name, member.name.as_bytes());
        let row = listed.remove(path);
        if record::is_exempt(name, &record) {
            read(member, &wheel.file, &mut inflater, |_| ())?;
            rows.push(RecordRow::bare(path.to_vec()));
            continue;
        }
        let stated = row.and_then(RecordRow::hasher);
        let known = stated.is_some();
        let mut hasher: RecordHasher = stated.unwrap_or_default();
        read(member, &wheel.file, &mut inflater, |bytes| hasher.update(bytes))?;
        let right = RecordRow { path: path.to_vec(), hash: hasher.finish(), size: member.len.to_string() };
        discrepancies.extend(match row {
            None => Some(Discrepancy::Unlisted(name.clone())),
            Some(_) if !known => Some(Discrepancy::NoHash(name.clone())),
            Some(row) if row.hash != right.hash => Some(Discrepancy::OtherHash(name.clone())),
            Some(row) if !row.size.is_empty() && row.size.parse() != Ok(member.len) => {
                Some(Discrepancy::OtherSize(name.clone()))
            }
            Some(_) => None,
        });
        rows.push(right);
    }
    let rest = listed.into_keys().map(String::from_utf8_lossy);
    let absent = rest.filter(|path| !wheel.archive.directories.contains(path.as_ref()));
    discrepancies.extend(absent.map(|path| Discrepancy::Absent(path.into_owned())));
    if discrepancies.is_empty() {
        return Ok(None);
    }
    let record = String::from_utf8_lossy(&record::write(rows)).into_owned();
    Ok(Some(Correction { record, discrepancies }))
}

/// Whether RECORD has the size and SHA-256 of every installed file, and no others. Reads only members whose content is
/// not installed as it is: RECORD, signatures, scripts and empty files.
pub(super) fn is_complete(wheel: &Wheel) -> Result<bool, WheelFault> {
    let record = format!("{}/RECORD", wheel.dist_info);
    let (mut listed, discrepancies) = wheel.record.by_path();
    let mut inflater = Inflater::new();
    for member in &wheel.archive.members {
        let row = listed.remove(member.name.as_bytes());
        let mut hash = Sha256Stream::default();
        if record::is_exempt(&member.name, &record) {
            read(member, &wheel.file, &mut inflater, |_| ())?;
            continue;
        }
        let Some((sha256, size)) = row.and_then(|row| Some((row.sha256()?, row.size.as_str()))) else {
            return Ok(false);
        };
        if !size.is_empty() && size.parse() != Ok(member.len) {
            return Ok(false);
        }
        if member.len == 0 || install::is_script(&member.name) {
            read(member, &wheel.file, &mut inflater, |bytes| hash.update(bytes))?;
            if hash.finish() != sha256 {
                return Ok(false);
            }
        }
    }
    let is_directory = |path: &[u8]| wheel.archive.directories.contains(&*String::from_utf8_lossy(path));
    Ok(discrepancies.is_empty() && listed.into_keys().all(is_directory))
}

/// Passes the bytes of a member to `each`, and checks its length and its CRC-32.
fn read(
    member: &Member,
    file: &MappedFile,
    inflater: &mut Inflater,
    mut each: impl FnMut(&[u8]),
) -> Result<(), WheelFault> {
    let damaged = |reason| WheelFault::Damaged { name: member.name.clone(), reason };
    let Some(slice) = member.deflated_slice(file) else {
        let raw = member.raw(file);
        if raw.len() as u64 != member.len {
            return Err(damaged("its length differs from the archive's directory"));
        }
        if crc32fast::hash(raw) != member.crc32 {
            return Err(damaged("its CRC-32 is wrong"));
        }
        each(raw);
        return Ok(());
    };
    let inflated = inflater.inflate(&slice, |piece| {
        each(piece);
        Ok(())
    });
    inflated.map_err(|error| match error {
        InflateError::Damaged(reason) => damaged(reason),
        InflateError::Taken(error) => WheelFault::Open(error),
    })
}
