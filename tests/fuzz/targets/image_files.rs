//! Files are read from the layers of an image, and their tree can be packed: no file of it comes from elsewhere.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use ociforge_fuzz::{scratch, tar::with_checksums};
use ociforge_layers::decompress::CompressionFormat;
use ociforge_layers::merge::LayerMerger;
use ociforge_layers::source::ignore::Patterns;
use ociforge_layers::source::image::{ImageFiles, ImageFilesFilter, ImagePass};
use ociforge_layers::{Compression, LayerPath, pack};

/// Larger trees are not packed: holes of sparse files cost nothing in the archive.
const MAX_CONTENT: u64 = 1 << 20;

/// The passes that the program makes at most.
const PASSES: usize = 4;

fuzz_target!(|data: &[u8]| {
    if CompressionFormat::of(data) != CompressionFormat::Plain {
        return;
    }
    // Two layers: the second one changes what the first one has.
    let (lower, upper) = data.split_at(data.len() / 1024 * 512);
    let layers = [with_checksums(lower), with_checksums(upper)];
    let patterns = Patterns::new(["d", "!d/x"]).expect("the patterns are valid");
    for from in ["/", "d", "link/x"] {
        let Some(files) = read(&from.parse().expect("a valid path"), &layers) else { continue };
        let to = "to".parse().expect("a valid path");
        let Ok(tree) = files.tree(&to, &patterns) else { continue };
        assert!(tree.iter().all(|(path, _)| path.starts_with(&to)), "a file lies elsewhere");
        if tree.content_len() <= MAX_CONTENT {
            pack(&tree, Compression::None, 1, Vec::new()).expect("a tree that was read can be packed");
        }
    }
});

fn read(from: &LayerPath, layers: &[Vec<u8>]) -> Option<ImageFiles> {
    let mut kept = BTreeSet::new();
    for _ in 0..PASSES {
        let filter = ImageFilesFilter::new(from.clone(), &kept, &scratch()).expect("the directory can be written");
        let mut merger = LayerMerger::new(filter);
        for layer in layers {
            merger.layer(&layer[..]).ok()?;
        }
        let (filter, merged) = merger.finish();
        match filter.files(&merged).ok()? {
            ImagePass::Complete(files) => return Some(files),
            ImagePass::Again(paths) => kept.extend(paths),
        }
    }
    None
}
