//! Tars by the `tar` crate, read as a stream.

use super::*;

fn names(tar: &[u8]) -> Result<Vec<(String, usize)>, EntriesError> {
    // Small reads, so that bodies fall apart.
    let mut entries = TarEntries::new(io::BufReader::with_capacity(100, tar));
    let mut all = Vec::new();
    while let Some(entry) = entries.next_entry()? {
        let mut body = Vec::new();
        if all.len() % 2 == 0 {
            entries.read_to_end(&mut body)?;
        }
        all.push((String::from_utf8_lossy(&entry.name).into_owned(), body.len()));
    }
    Ok(all)
}

fn tar() -> Vec<u8> {
    let mut tar = ::tar::Builder::new(Vec::new());
    let long = "d/".repeat(90) + "long";
    for (name, size) in [("a", 700_usize), ("b", 1), (long.as_str(), 3), ("c", 0)] {
        let mut header = Header::new_gnu();
        header.set_size(size as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &vec![b'x'; size][..]).unwrap();
    }
    tar.append_pax_extensions([("path", b"pax/name".as_slice()), ("size", b"5")]).unwrap();
    let mut header = Header::new_ustar();
    header.set_size(0);
    header.set_cksum();
    tar.append(&header, io::empty()).unwrap();
    // The body whose length only the PAX record knows.
    let mut bytes = tar.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes.extend([b'y'; 5]);
    bytes.extend([0; 507 + 1024]);
    bytes
}

#[test]
fn long_names_pax_sizes_and_skipped_bodies() {
    let all = names(&tar()).unwrap();
    let long = "d/".repeat(90) + "long";
    let expected = [("a", 700), ("b", 0), (long.as_str(), 3), ("c", 0), ("pax/name", 5)];
    assert_eq!(all, expected.map(|(name, size)| (name.to_owned(), size)));
}

#[test]
fn metadata_of_all_kinds_of_headers() {
    let mut tar = ::tar::Builder::new(Vec::new());
    let records =
        [("mtime", b"-1.5".as_slice()), ("uid", b"3000000"), ("SCHILY.xattr.user.x", b"a\nb=\0"), ("path", b"")];
    tar.append_pax_extensions(records).unwrap();
    let mut header = Header::new_ustar();
    header.set_path("name").unwrap();
    header.set_mode(0o4755);
    header.set_gid(8);
    header.set_size(0);
    header.set_cksum();
    tar.append(&header, io::empty()).unwrap();
    let mut header = Header::new_gnu();
    header.set_path("large").unwrap();
    header.set_uid(1 << 40);
    header.set_entry_type(EntryType::Char);
    header.set_device_major(5).unwrap();
    header.set_device_minor(1).unwrap();
    header.set_size(77);
    header.set_cksum();
    tar.append(&header, io::empty()).unwrap();
    let tar = tar.into_inner().unwrap();
    let mut entries = TarEntries::new(&tar[..]);

    let first = entries.next_entry().unwrap().unwrap();
    assert_eq!((first.name.as_slice(), first.mode, first.uid, first.gid), (b"name".as_slice(), 0o4755, 3_000_000, 8));
    assert_eq!((first.mtime.seconds, first.mtime.nanoseconds), (-2, 500_000_000));
    assert_eq!(first.xattrs, BTreeMap::from([(b"user.x".to_vec(), b"a\nb=\0".to_vec())]));
    let second = entries.next_entry().unwrap().unwrap();
    assert_eq!((second.uid, second.device, second.body), (1 << 40, Some((5, 1)), 0));
    assert!(second.xattrs.is_empty(), "records hold for one entry");
    assert!(entries.next_entry().unwrap().is_none() && entries.ended());
}

#[test]
fn a_tar_that_is_cut_off_or_lies_is_an_error() {
    let good = tar();
    for cut in [600, 1300] {
        let error = names(&good[..cut]).unwrap_err().to_string();
        assert_eq!(error, format!("it is truncated at byte {cut}"));
    }
    // Shorter than any tar.
    assert_eq!(names(&good[..100]).unwrap_err().to_string(), "it is not a tar archive");
    let mut flipped = good.clone();
    flipped[0] ^= 1;
    assert!(matches!(names(&flipped), Err(EntriesError::Malformed(Malformed::NotTar))));

    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let endless = io::BufReader::new(header.as_bytes().chain(io::repeat(b'a')));
    let error = TarEntries::new(endless).next_entry().unwrap_err();
    assert!(matches!(error, EntriesError::Malformed(Malformed::TooLong(0))));
}

/// A map that never ends, and one with more parts than memory should be spent on.
#[test]
fn endless_maps_of_sparse_files() {
    let mut tar = ::tar::Builder::new(Vec::new());
    let map = [("GNU.sparse.major", b"1".as_slice()), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")];
    tar.append_pax_extensions(map).unwrap();
    let mut header = Header::new_ustar();
    header.set_size(1 << 32);
    header.set_cksum();
    let mut start = tar.into_inner().unwrap();
    start.truncate(1024);
    start.extend(header.as_bytes());
    for text in ["1", "999999999\n", "x\n", "\n"] {
        let endless = io::BufReader::new(start.chain(text.as_bytes()).chain(io::repeat(b'1')));
        let error = TarEntries::new(endless).next_entry().unwrap_err();
        assert!(matches!(error, EntriesError::Malformed(Malformed::Sparse(1024))), "{text:?}: {error}");
    }
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(1);
    let fields = header.as_gnu_mut().unwrap();
    fields.set_is_extended(true);
    header.set_cksum();
    let mut block = ::tar::GnuExtSparseHeader::new();
    block.as_mut_bytes().fill(b'1');
    block.as_mut_bytes()[504] = 1;
    struct Endless([u8; 512], usize);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer[0] = self.0[self.1 % 512];
            self.1 += 1;
            Ok(1)
        }
    }
    let endless = io::BufReader::new(header.as_bytes().chain(Endless(*block.as_bytes(), 0)));
    let error = TarEntries::new(endless).next_entry().unwrap_err();
    assert!(matches!(error, EntriesError::Malformed(Malformed::Sparse(0))), "{error}");
}

/// Of more bytes than eleven octal digits can say.
#[test]
fn large_sparse_files_by_gnu_tar() {
    let scene = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(scene.path().join("large")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"far", 9 << 30).unwrap();
    file.set_len(10 << 30).unwrap();
    for version in ["--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"] {
        let mut tar = std::process::Command::new("tar");
        tar.args(["--format=posix", "--sparse", version, "--directory"]).arg(scene.path()).args(["-cf-", "large"]);
        let tar = tar.output().unwrap().stdout;
        let mut entries = TarEntries::new(&tar[..]);
        let entry = entries.next_entry().unwrap().unwrap();
        let sparse = entry.sparse.as_ref().unwrap();
        assert_eq!((entry.name.as_slice(), entry.len()), (b"large".as_slice(), 10 << 30), "{version}");
        let stretch = sparse.stretches.iter().find(|stretch| stretch.len > 0).unwrap();
        let mut body = Vec::new();
        entries.read_to_end(&mut body).unwrap();
        let skipped = usize::try_from((9 << 30) - stretch.at).unwrap();
        assert_eq!(&body[skipped..skipped + 3], b"far", "{version}");
        assert!(entries.next_entry().unwrap().is_none(), "{version}");
    }
}

/// Version 0.0 in its parts: `offset` and `numbytes` are repeated.
#[test]
fn maps_of_sparse_files_in_many_records() {
    let sparse = |records: &[(&str, &str)], body: &str| {
        let mut tar = ::tar::Builder::new(Vec::new());
        tar.append_pax_extensions(records.iter().map(|(key, value)| (*key, value.as_bytes()))).unwrap();
        let mut header = Header::new_ustar();
        header.set_path("f").unwrap();
        header.set_size(body.len() as u64);
        header.set_cksum();
        tar.append(&header, body.as_bytes()).unwrap();
        let tar = tar.into_inner().unwrap();
        let entry = TarEntries::new(&tar[..]).next_entry().map(Option::unwrap);
        entry.map(|entry| {
            let sparse = entry.sparse.unwrap();
            (sparse.len, sparse.stretches.iter().map(|stretch| (stretch.at, stretch.len)).collect::<Vec<_>>())
        })
    };
    const SIZE: (&str, &str) = ("GNU.sparse.size", "100");
    const BLOCKS: &str = "GNU.sparse.numblocks";
    const OFFSET: &str = "GNU.sparse.offset";
    const BYTES: &str = "GNU.sparse.numbytes";
    let two = [SIZE, (BLOCKS, "2"), (OFFSET, "0"), (BYTES, "3"), (OFFSET, "50"), (BYTES, "4")];
    assert_eq!(sparse(&two, "1234567").unwrap(), (100, vec![(0, 3), (50, 4)]));
    assert_eq!(sparse(&[SIZE, (BLOCKS, "0")], "").unwrap(), (100, vec![]));
    for (records, body) in [
        (&two[..], "123456"),
        (&two[..5], "1234567"),
        (&two[..2], ""),
        (&[SIZE, (OFFSET, "x"), (BYTES, "3")], "123"),
        (&[SIZE, (OFFSET, "99"), (BYTES, "3")], "123"),
        (&[(OFFSET, "0"), (BYTES, "3")], "123"),
    ] {
        let error = sparse(records, body).unwrap_err();
        assert!(matches!(error, EntriesError::Malformed(Malformed::Sparse(_))), "{records:?}: {error}");
    }
}
