//! Opening of regular files only: a pipe would block its reader.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::path::Arg;

/// Opens a regular file.
///
/// # Errors
/// When it cannot be opened, or is a directory, a pipe, a socket or a device; /dev/null counts as an empty file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = open_without_waiting(path).map_err(|error| match error.raw_os_error() {
        Some(number) if number == Errno::NXIO.raw_os_error() => not_a_file("it is a socket, not a file"),
        _ => error,
    })?;
    let is = file.metadata()?.file_type();
    if is.is_file() || path == Path::new("/dev/null") {
        return Ok(file);
    }
    Err(not_a_file(if is.is_dir() { "it is a directory, not a file" } else { "it is a pipe or a device, not a file" }))
}

fn not_a_file(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Opens a file of any type for reading, without waiting for the writer of a pipe.
///
/// # Errors
/// When it cannot be opened.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Opens `path` from `directory` by openat2(2), which keeps the resolution inside `directory`.
///
/// The kernel fails with EAGAIN if the path has a `..` and any process renames a directory or changes a mount at the
/// same time; then the call is repeated.
///
/// # Errors
/// Those of openat2(2).
pub fn open_resolved(
    directory: impl AsFd,
    path: impl Arg,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    const TRIES: usize = 1000;
    let path = path.into_c_str()?;
    let open = || openat2(&directory, &*path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
    let is_final = |result: &rustix::io::Result<OwnedFd>| !matches!(result, Err(Errno::AGAIN));
    let opened = (1..TRIES).map(|_| open()).find(is_final);
    opened.unwrap_or_else(open)
}

/// The bytes of a reader to its end; `None` if there are more than `limit`. A size query is not sufficient: that of a
/// pipe is unknown, and a file may grow.
///
/// # Errors
/// When it cannot be read.
pub fn read_at_most(input: impl Read, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let length = input.take(limit + 1).read_to_end(&mut bytes)? as u64;
    Ok((length <= limit).then_some(bytes))
}

/// The same, and more bytes than `limit` are an error.
///
/// # Errors
/// When it cannot be read, or has more.
pub fn read_limited(input: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {} MiB", limit >> 20));
    read_at_most(input, limit)?.ok_or_else(large)
}

/// The bytes of a file.
///
/// # Errors
/// As for [`open_regular`], and when it cannot be read.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a file.
///
/// # Errors
/// As for [`read_regular`], and when it is not UTF-8.
pub fn read_regular_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open_regular(path)?.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        for name in ["file", "link"] {
            assert_eq!(read_regular_text(&path(name)).unwrap(), "text");
        }
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        std::fs::create_dir(path("directory")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for (name, said) in [
            ("socket", "it is a socket, not a file"),
            ("pipe", "it is a pipe or a device, not a file"),
            ("directory", "it is a directory, not"),
        ] {
            let error = read_regular(&path(name)).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
        assert_eq!(read_limited(&b"text"[..], 4).unwrap(), b"text");
        assert_eq!(read_limited(io::repeat(0), 1 << 20).unwrap_err().to_string(), "it has more than 1 MiB");
        assert!(read_regular(Path::new("/dev/null")).unwrap().is_empty());
        assert_eq!(read_regular(&path("missing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
