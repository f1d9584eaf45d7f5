//! How fast could wheels become layers on this machine? Measures what cannot be left out: every byte of the wheels is
//! hashed as it is (the blob's digest), inflated once, and hashed again (the DiffId). Writing and tar are left out.
//!
//!     cargo run --release -p ociforge-layers --example bound -- WHEEL...
//!
//! Prints `{"seconds":…, "compressed":…, "uncompressed":…}`. `tests/bench/run` compares ociforge with it.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use flate2::write::DeflateDecoder;
use sha2::{Digest, Sha256};
use zip::{CompressionMethod, ZipArchive};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The bytes hashed: of the wheels as they are, and of their members inflated.
#[derive(Default)]
struct Hashed {
    compressed: u64,
    uncompressed: u64,
}

fn main() -> Result<()> {
    let wheels = largest_first(std::env::args_os().skip(1).map(PathBuf::from))?;
    let threads = thread::available_parallelism()?.get();
    let start = Instant::now();
    let hashed = hash_all(&wheels, threads)?;
    let seconds = start.elapsed().as_secs_f64();
    let Hashed { compressed, uncompressed } = hashed;
    writeln!(io::stdout(), r#"{{"seconds":{seconds:.3},"compressed":{compressed},"uncompressed":{uncompressed}}}"#)?;
    Ok(())
}

/// Started in this order, the largest wheel doesn't end up alone on one core.
fn largest_first(paths: impl Iterator<Item = PathBuf>) -> Result<Vec<PathBuf>> {
    let mut sized = paths.map(|path| Ok((path.metadata()?.len(), path))).collect::<io::Result<Vec<_>>>()?;
    sized.sort_by(|a, b| b.cmp(a));
    Ok(sized.into_iter().map(|(_, path)| path).collect())
}

/// Each thread takes the next wheel until none is left.
fn hash_all(wheels: &[PathBuf], threads: usize) -> Result<Hashed> {
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Hashed> {
        let mut sum = Hashed::default();
        while let Some(wheel) = wheels.get(next.fetch_add(1, Ordering::Relaxed)) {
            let one = hash_wheel(wheel)?;
            sum.compressed += one.compressed;
            sum.uncompressed += one.uncompressed;
        }
        Ok(sum)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_fold(Hashed::default(), |mut sum, worker| {
            let one = worker.join().map_err(|_| "a worker panicked")??;
            sum.compressed += one.compressed;
            sum.uncompressed += one.uncompressed;
            Ok(sum)
        })
    })
}

/// One walk over a wheel's members: what is read is hashed, inflated, and hashed again while it is in the CPU's cache.
fn hash_wheel(path: &Path) -> Result<Hashed> {
    let mut members = member_ranges(path)?;
    members.sort_by_key(|member| member.start);
    let mut file = File::open(path)?;
    let mut blob = Sha256::new();
    let mut diff = HashWriter::default();
    let mut hashed = Hashed::default();
    let mut buffer = vec![0; 256 << 10];
    for member in members {
        file.seek(SeekFrom::Start(member.start))?;
        let mut packed = (&mut file).take(member.length);
        if member.deflated {
            let mut inflate = DeflateDecoder::new(&mut diff);
            hashed.compressed += hash_into(&mut packed, &mut blob, &mut inflate, &mut buffer)?;
            inflate.finish()?;
        } else {
            hashed.compressed += hash_into(&mut packed, &mut blob, &mut diff, &mut buffer)?;
        }
    }
    hashed.uncompressed = diff.length;
    // The digests are the work that is measured: the compiler must not see that nobody reads them.
    std::hint::black_box((blob.finalize(), diff.hash.finalize()));
    Ok(hashed)
}

/// Where a member's bytes are in the wheel, and whether they are deflated or stored.
struct Member {
    start: u64,
    length: u64,
    deflated: bool,
}

fn member_ranges(path: &Path) -> Result<Vec<Member>> {
    let mut archive = ZipArchive::new(io::BufReader::new(File::open(path)?))?;
    (0..archive.len())
        .map(|index| {
            let member = archive.by_index_raw(index)?;
            Ok(Member {
                start: member.data_start().ok_or("a member without data")?,
                length: member.compressed_size(),
                deflated: member.compression() == CompressionMethod::Deflated,
            })
        })
        .collect()
}

/// Feeds all of `from` to the hash and to `to`; gives the number of bytes.
fn hash_into(from: &mut impl Read, hash: &mut Sha256, to: &mut impl Write, buffer: &mut [u8]) -> io::Result<u64> {
    let mut length = 0;
    loop {
        let count = from.read(buffer)?;
        if count == 0 {
            return Ok(length);
        }
        hash.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
        length += count as u64;
    }
}

/// A sink that hashes and counts.
#[derive(Default)]
struct HashWriter {
    hash: Sha256,
    length: u64,
}

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
