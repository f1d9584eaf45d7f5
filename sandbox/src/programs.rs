//! Finding programs.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The directories of administrators' programs and daemons, which may not be in a user's `PATH`.
const USUAL: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The program `name`, in the caller's `PATH` or in the usual directories.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    find_program(name, env::var_os("PATH").as_deref())
}

/// The first program `name` in the absolute directories of `path`, or else in the usual ones.
#[must_use]
pub fn find_program(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let named = path.into_iter().flat_map(env::split_paths).filter(|directory| directory.is_absolute());
    named.chain(USUAL.map(PathBuf::from)).map(|directory| directory.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_directories_and_executable_files_count() {
        let root = tempfile::tempdir().unwrap();
        for (directory, mode) in [("first", 0o644), ("second", 0o755)] {
            let directory = root.path().join(directory);
            fs::create_dir(&directory).unwrap();
            let file = directory.join("a-program");
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let [first, second] = ["first", "second"].map(|name| root.path().join(name));
        let path = env::join_paths([Path::new("relative"), &first, &second]).unwrap();
        assert_eq!(find_program("a-program", Some(&path)), Some(second.join("a-program")));
        assert_eq!(find_program("a-program", None), None);
        assert!(find_program("sh", None).is_some());
    }
}
