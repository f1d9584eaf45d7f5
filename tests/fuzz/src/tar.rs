//! Tar headers with right checksums.

const BLOCK: usize = 512;

/// The archive with the checksum of every header made right, headers being where the sizes of those before them say.
#[must_use]
pub fn with_checksums(archive: &[u8]) -> Vec<u8> {
    let mut tar = archive.to_vec();
    let mut at = 0;
    while let Some(header) = tar.get_mut(at..at + BLOCK) {
        at += BLOCK;
        if header.iter().all(|byte| *byte == 0) {
            continue;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let (kind, size, mut extended) = (header[156], octal(&header[124..136]), header[482] == 1);
        // The map of a sparse file in GNU's old form goes on in blocks that are no headers.
        while kind == b'S' && extended {
            extended = tar.get(at + 504) == Some(&1);
            at += BLOCK;
        }
        if !matches!(kind, b'1'..=b'6') {
            at = at.saturating_add(size.next_multiple_of(BLOCK));
        }
        if at > tar.len() {
            break;
        }
    }
    tar
}

/// The number of a field; 0 where it is none, or more than any input has.
fn octal(field: &[u8]) -> usize {
    let text = String::from_utf8_lossy(field);
    let number = usize::from_str_radix(text.trim_matches(['\0', ' ']), 8);
    number.ok().filter(|number| *number <= 1 << 20).unwrap_or(0)
}
