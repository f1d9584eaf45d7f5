//! Every byte of a wheel against what the archive and RECORD say of it.

use super::archive::Member;
use super::error::Fault;
use super::record::Expected;
use crate::inflate::{InflateError, Inflater};
use crate::mapped::MappedFile;

/// Reads a member and checks its length, its CRC-32 and its hash, where one is expected.
pub(super) fn verify(
    member: &Member,
    file: &MappedFile,
    mut expected: Option<Expected>,
    inflater: &mut Inflater,
) -> Result<(), Fault> {
    let damaged = |reason| Fault::Damaged { name: member.name.clone(), reason };
    let mut update = |bytes: &[u8]| {
        if let Some(expected) = &mut expected {
            expected.update(bytes);
        }
    };
    match member.deflated_slice(file) {
        Some(slice) => {
            let inflated = inflater.inflate(&slice, |piece| {
                update(piece);
                Ok(())
            });
            inflated.map_err(|error| match error {
                InflateError::Damaged(reason) => damaged(reason),
                InflateError::Taken(error) => Fault::Open(error),
            })?;
        }
        None => {
            let raw = member.raw(file);
            if raw.len() as u64 != member.len {
                return Err(damaged("it is not as long as the archive says"));
            }
            if crc32fast::hash(raw) != member.crc32 {
                return Err(damaged("its CRC-32 is wrong"));
            }
            update(raw);
        }
    }
    if expected.is_some_and(|expected| !expected.holds()) {
        return Err(Fault::WrongHash(member.name.clone()));
    }
    Ok(())
}
