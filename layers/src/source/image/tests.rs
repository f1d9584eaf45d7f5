use std::io::{Cursor, Write};

use tar::{EntryType, Header};

use super::*;
use crate::merge::LayerMerger;

/// A layer: `path/` is a directory, `path -> target` a symbolic link, `path => target` a hard link, else a file.
fn layer(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in entries {
        let mut header = Header::new_gnu();
        header.set_mode(0o4751);
        header.set_uid(7);
        header.set_mtime(5);
        header.set_size(0);
        let link = |kind| move |(name, target)| (kind, name, target);
        let symlink = name.split_once(" -> ").map(link(EntryType::Symlink));
        if let Some((kind, name, target)) = symlink.or_else(|| name.split_once(" => ").map(link(EntryType::Link))) {
            header.set_entry_type(kind);
            tar.append_link(&mut header, name, target).unwrap();
        } else if name.ends_with('/') {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o750);
            tar.append_data(&mut header, name, io::empty()).unwrap();
        } else {
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

fn merger(from: &str, kept: &BTreeSet<LayerPath>, scratch: &Path) -> LayerMerger<ImageFilesFilter> {
    LayerMerger::new(ImageFilesFilter::new(from.parse().unwrap(), kept, scratch).unwrap())
}

fn pass(merger: LayerMerger<ImageFilesFilter>) -> Result<ImagePass, ImageFilesError> {
    let (filter, merged) = merger.finish();
    filter.files(&merged)
}

/// Reads `from` in as many passes as it takes, and returns their number.
fn read(from: &str, layers: &[&[(&str, &str)]]) -> Result<(ImageFiles, usize), ImageFilesError> {
    let scratch = tempfile::tempdir().unwrap();
    let mut kept = BTreeSet::new();
    for number in 1..5 {
        let mut reader = merger(from, &kept, scratch.path());
        for entries in layers {
            reader.layer(Cursor::new(layer(entries))).unwrap();
        }
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
        match pass(reader)? {
            ImagePass::Complete(files) => return Ok((files, number)),
            ImagePass::Again(paths) => kept.extend(paths),
        }
    }
    panic!("too many passes");
}

/// The tree at `to`, a line for each entry.
fn lines(files: ImageFiles, exclude: &[&str]) -> Vec<String> {
    let tree = files.tree(&"to".parse().unwrap(), &Patterns::new(exclude).unwrap()).unwrap();
    let line = |(path, node): (&LayerPath, &TreeNode)| {
        let what = match &node.kind {
            NodeKind::File(Content::Slice { file, range, .. }) => {
                String::from_utf8_lossy(&file[range.clone()]).into_owned()
            }
            NodeKind::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
            NodeKind::Hardlink(target) => format!("=> {target}"),
            other => format!("{other:?}"),
        };
        format!("{path} {:o} {} {what}", node.metadata.mode, node.metadata.mtime)
    };
    tree.iter().map(line).collect()
}

const BASE: &[(&str, &str)] = &[
    ("bin -> usr/bin", ""),
    ("usr/bin/", ""),
    ("usr/bin/perl", "perl"),
    ("usr/bin/tool -> ../lib/tool", ""),
    ("usr/lib/tool", "tool"),
    ("app/", ""),
    ("app/a", "1"),
    ("app/b/c", "2"),
    ("app-x", "beside"),
];

#[test]
fn upper_layers_change_what_lower_ones_have() {
    let (files, passes) = read("app", &[BASE, &[("app/.wh.a", ""), ("app/b/d", "3"), ("app/b/c", "4")]]).unwrap();
    assert!(files.is_directory() && passes == 1);
    let directory = "Directory { opaque: false }";
    let expected = [
        format!("/to 750 5 {directory}"),
        format!("/to/b 755 0 {directory}"),
        "/to/b/c 4751 5 4".into(),
        "/to/b/d 4751 5 3".into(),
    ];
    assert_eq!(lines(files, &[]), expected);
    let all = |layers: &[&[(&str, &str)]]| lines(read("/app", layers).unwrap().0, &[]).len();
    // An opaque directory, a removed and a replaced one.
    assert_eq!(all(&[BASE, &[("app/new", "n"), ("app/.wh..wh..opq", "")]]), 2);
    assert_eq!(all(&[BASE, &[(".wh.app", ""), ("app/new", "n")]]), 2);
    assert_eq!(all(&[BASE, &[("app", "a file")], &[("app/x", "a directory again")]]), 2);
    assert!(matches!(read("app", &[BASE, &[(".wh.app", "")]]), Err(ImageFilesError::Missing(_))));
    assert!(matches!(read("ap", &[BASE]), Err(ImageFilesError::Missing(_))));
}

#[test]
fn links_are_followed_by_another_pass() {
    let (files, passes) = read("bin/perl", &[BASE]).unwrap();
    assert!(!files.is_directory() && passes == 2);
    assert_eq!(lines(files, &[]), ["/to 4751 5 perl"]);
    let (files, _) = read("/bin/tool", &[BASE]).unwrap();
    assert_eq!(lines(files, &[]), ["/to 4751 5 tool"]);
    // Those inside the path stay, and an entry below a link lies where the link leads.
    let (files, _) = read("usr/bin", &[BASE, &[("bin/new", "n")]]).unwrap();
    assert_eq!(lines(files, &[])[1..], ["/to/new 4751 5 n", "/to/perl 4751 5 perl", "/to/tool 4751 5 -> ../lib/tool"]);
    // A hard link to a symbolic link is one, too.
    let (files, _) = read("other/perl", &[BASE, &[("linked -> usr/bin", ""), ("other => linked", "")]]).unwrap();
    assert_eq!(lines(files, &[]), ["/to 4751 5 perl"]);
    let circle: &[(&str, &str)] = &[("a -> b", ""), ("b -> a", "")];
    assert!(matches!(read("a/x", &[circle]), Err(ImageFilesError::Loop(_))));
}

#[test]
fn hard_links_bring_the_content_along() {
    let linked: &[(&str, &str)] = &[("out/z", "content"), ("app/y => out/z", ""), ("app/x => app/y", "")];
    let (files, passes) = read("app", &[BASE, linked]).unwrap();
    assert_eq!(passes, 2);
    assert_eq!(lines(files, &["b", "a"])[1..], ["/to/x 4751 5 content", "/to/y 4751 5 => /to/x"]);
    // Where the first name is left out the next one is the file.
    let (files, _) = read("app", &[linked]).unwrap();
    assert_eq!(lines(files, &["x"])[1..], ["/to/y 4751 5 content"]);
    assert!(matches!(read("app", &[&[("app/x => none", "")]]), Err(ImageFilesError::Missing(_))));
}

#[test]
fn excluded_directories_stay_for_what_is_included() {
    let kept = |exclude: &[&str]| {
        let names = lines(read("app", &[BASE]).unwrap().0, exclude);
        names.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kept(&["b"]), ["/to", "/to/a"]);
    assert_eq!(kept(&["b", "!b/c"]), ["/to", "/to/a", "/to/b", "/to/b/c"]);
    assert_eq!(kept(&["*"]), ["/to"]);
}

#[test]
fn sparse_files_have_their_holes_and_lengths_are_not_believed() {
    let mut header = Header::new_gnu();
    header.set_path("app/s").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_size(3);
    let sparse = |real: u64| {
        let mut header = header.clone();
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(real);
        gnu.sparse[0].set_offset(5);
        gnu.sparse[0].set_length(3);
        header.set_cksum();
        [&header.as_bytes()[..], b"abc", &[0; 509 + 1024]].concat()
    };
    let scratch = tempfile::tempdir().unwrap();
    let reader = || merger("app", &BTreeSet::new(), scratch.path());
    let mut whole = reader();
    whole.layer(&sparse(10)[..]).unwrap();
    let ImagePass::Complete(files) = pass(whole).unwrap() else { panic!() };
    assert_eq!(lines(files, &[])[1], "/to/s 644 0 \0\0\0\0\0abc\0\0");
    assert!(matches!(reader().layer(&sparse(1 << 50)[..]), Err(MergeError::Filter(ImageFilesError::TooLarge))));
}

#[test]
fn compressed_layers_and_damaged_ones() {
    let tar = layer(BASE);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&tar).unwrap();
    let gzip = encoder.finish().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let reader = || merger("app", &BTreeSet::new(), scratch.path());
    for bytes in [&tar, &gzip] {
        let mut reader = reader();
        reader.layer(&bytes[..]).unwrap();
        assert!(matches!(pass(reader), Ok(ImagePass::Complete(files)) if files.entries.len() == 4));
    }
    for bytes in [&gzip[..gzip.len() - 9], &tar[..700], b"\x1f\x8bnot gzip"] {
        assert!(matches!(reader().layer(bytes), Err(MergeError::Read(_))));
    }
    assert!(matches!(
        ImageFilesFilter::new(LayerPath::root(), &BTreeSet::new(), Path::new("/none")),
        Err(ImageFilesError::Scratch { .. })
    ));
}
