//! How long it takes to make a layer of what a step wrote: from the upper directory of an overlay to a blob.
//!
//!     cargo run --release -p ociforge-layers --example capture -- UPPER BLOB
//!
//! Prints `{"walk":…, "seconds":…, "entries":…, "compressed":…, "uncompressed":…}`. Times of modification in UPPER are
//! cut to whole seconds.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::Instant;

use ociforge_layers::source::changes;
use ociforge_layers::source::overlay::{self, overlay};
use ociforge_layers::unpack::XattrSpace;
use ociforge_layers::{Compression, pack};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [upper, blob] = arguments.as_slice() else { return Err("usage: capture UPPER BLOB".into()) };
    let start = Instant::now();
    let options = overlay::OverlayOptions {
        space: XattrSpace::Trusted,
        fuse: false,
        lower: &[],
        shared: changes::CaptureOptions {
            latest: i64::MAX,
            owners: None,
            made: &[],
            restored: &[],
            cancelled: &|| false,
        },
    };
    let tree = overlay(Path::new(upper), &options)?;
    let walk = start.elapsed().as_secs_f64();
    let layer = pack(&tree, Compression::default(), thread::available_parallelism()?.get(), File::create(blob)?)?;
    let (seconds, entries) = (start.elapsed().as_secs_f64(), tree.len());
    let (compressed, uncompressed) = (layer.descriptor.size, layer.uncompressed);
    writeln!(
        io::stdout(),
        r#"{{"walk":{walk:.3},"seconds":{seconds:.3},"entries":{entries},"compressed":{compressed},"uncompressed":{uncompressed}}}"#
    )?;
    Ok(())
}
