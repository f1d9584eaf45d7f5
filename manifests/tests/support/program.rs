//! Programs that tests write and execute. Other crates' tests include this file, too.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a program by another process. A child that another thread forks meanwhile would keep our own file open for
/// writing until it executes something, and the kernel executes no such file (ETXTBSY).
pub(crate) fn write_program(path: &Path, script: impl AsRef<[u8]>) {
    let mut command = Command::new("sh");
    command.args(["-c", "rm -f \"$0\"; cat >\"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_ref()).unwrap();
    assert!(child.wait().unwrap().success());
}
