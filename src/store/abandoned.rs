//! Files of killed processes: temporary files, and unfinished ones that nobody has continued.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The age after which a temporary file is abandoned.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The age after which unfinished work that can be resumed is abandoned.
pub(crate) const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Removes the files and directories in `directory` above this age whose names are `ours`. Errors are ignored: another
/// process may do the same.
pub(crate) fn remove_abandoned(directory: &Path, age: Duration, ours: impl Fn(&OsStr) -> bool) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().filter(|entry| ours(&entry.file_name())) {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed > age)) {
            let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_old_ones_of_ours_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        for (name, age) in [("tmp-old", DAY * 2), ("tmp-new", DAY / 2), ("other", DAY * 2)] {
            let file = File::create(directory.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        remove_abandoned(directory.path(), DAY, |name| name.as_encoded_bytes().starts_with(b"tmp-"));
        let left = |name: &str| directory.path().join(name).exists();
        assert!(!left("tmp-old") && left("tmp-new") && left("other"));
    }
}
