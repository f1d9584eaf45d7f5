//! A small deterministic fuzzer.

use super::*;
use crate::seeded_random::SeededRandom;

/// Makes checksums right again, so that damage is not found by them alone.
fn seal(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }
}

#[test]
fn broken_layers_do_no_harm() {
    let map = [("GNU.sparse.major", b"1".as_slice()), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"900")];
    let whole = Tar::of(&[
        (DIR, "./", ""),
        (DIR, "d", ""),
        (FILE, "d/f", "text"),
        (SYM, "l", "../../canary"),
        (SYM, "m", "d/../l"),
        (FILE, "l/f", "through"),
        (LINK, "h", "d/f"),
        (FIFO, "p", ""),
        (CHAR, "c", ""),
        (FILE, "d/.wh.gone", ""),
        (FILE, "l/.wh..wh..opq", ""),
        (FILE, &("n/".repeat(60) + "long"), ""),
    ])
    .pax(&[("SCHILY.xattr.user.x", b"1\n2"), ("mtime", b"1.5"), ("uid", b"3000000")])
    .row((FILE, "x", ""))
    .pax(&map)
    .row((FILE, "s", &format!("{:\0<512}{}", "1\n100\n4\n", "data")))
    .end();
    let scene = Scene::new();
    let into = scene.empty("into");
    unpack(&whole, &into, &UnpackOptions::default()).unwrap();

    let mut seeded_random = SeededRandom::default();
    let telling = [0, 1, b'/', b'.', b'0', b'1', b'2', b'5', b'7', b'=', b' ', b'\n', b'-', 0x7f, 0x80, 0xff];
    let (mut sound, rounds) = (0, 800);
    for round in 0..rounds {
        let mut tar = whole.clone();
        for _ in 0..=seeded_random.below(6) {
            let at = seeded_random.below(tar.len());
            tar[at] = match seeded_random.below(3) {
                0 => telling[seeded_random.below(telling.len())],
                1 => tar[at].wrapping_add(1),
                // Bytes of other entries make other names and kinds.
                _ => tar[seeded_random.below(tar.len())],
            };
        }
        if round % 4 == 0 {
            let (from, to) = (seeded_random.below(tar.len() / 512) * 512, seeded_random.below(tar.len() / 512) * 512);
            tar.copy_within(from..from + 512, to);
        }
        if round % 5 != 0 {
            seal(&mut tar);
        }
        if round % 11 == 0 {
            tar.truncate(seeded_random.below(tar.len()));
        }
        fs::remove_dir_all(&into).unwrap();
        fs::create_dir(&into).unwrap();
        sound += u32::from(unpack(&tar, &into, &UnpackOptions::default()).is_ok());
        scene.check(&format!("round {round}"));
    }
    assert!(sound > rounds / 20 && sound < rounds - rounds / 20, "{sound} of {rounds} were sound");
}
