//! The entries of a tar from a stream: the same in whatever pieces it arrives, and no larger than it is.

#![no_main]

use std::io::{BufRead, BufReader, Read};

use libfuzzer_sys::fuzz_target;
use ociforge_fuzz::tar::with_checksums;
use ociforge_layers::entries::{MAX_EXTENSION, TarEntries};

fuzz_target!(|data: &[u8]| {
    let tar = with_checksums(data);
    let whole = read(&tar[..], tar.len());
    assert_eq!(whole, read(BufReader::with_capacity(7, &tar[..]), tar.len()));
    let _ = read(data, data.len());
});

/// What the entries are, up to the end or the first error.
fn read(reader: impl BufRead, len: usize) -> Vec<String> {
    let (mut entries, mut told) = (TarEntries::new(reader), Vec::new());
    loop {
        let entry = match entries.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break told.push(format!("end {} {}", entries.ended(), entries.position())),
            Err(error) => break told.push(error.to_string()),
        };
        let texts = [&entry.name, &entry.link].into_iter().chain(entry.xattrs.values());
        assert!(texts.map(|text| text.len() as u64).all(|text| text <= MAX_EXTENSION && text <= len as u64));
        if let Some(sparse) = &entry.sparse {
            let sum: u64 = sparse.stretches.iter().map(|stretch| stretch.len).sum();
            assert_eq!(sum, entry.body, "stretches are as long as the body");
            assert!(sparse.stretches.iter().all(|stretch| stretch.at + stretch.len <= sparse.len));
        }
        let mut body = Vec::new();
        let outcome = entries.read_to_end(&mut body).map_err(|error| error.to_string());
        assert!(body.len() <= len);
        if outcome.is_ok() {
            assert_eq!(body.len() as u64, entry.body);
        }
        told.push(format!("{entry:?} {outcome:?} {}", crc32fast::hash(&body)));
    }
    told
}
