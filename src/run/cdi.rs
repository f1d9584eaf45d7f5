//! The host's CDI files, and the device nodes and files that they name.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use ociforge_layers::regular::open_regular;
use ociforge_manifests::runtime::cdi::{
    CdiFile, CdiRegistry, DeviceFacts, DeviceNodeKind, HostResource, MAX_FILE_SIZE,
};

use crate::error::said;

/// The system's directories; later ones have precedence.
const SYSTEM: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// The default directories. A user without root has two more: `cdi` in the user's directories `config` and `runtime`.
pub(super) fn default_directories(config: Option<PathBuf>, runtime: Option<PathBuf>) -> Vec<PathBuf> {
    let own = [config, runtime].into_iter().flatten().filter(|directory| directory.is_absolute());
    SYSTEM.iter().map(PathBuf::from).chain(own.map(|directory| directory.join("cdi"))).collect()
}

/// Reads the files of these directories, without subdirectories. A missing directory is an error only if `must_exist`
/// is true.
pub(super) fn load(directories: &[PathBuf], must_exist: bool) -> CdiRegistry {
    let mut files = Vec::new();
    for (priority, directory) in directories.iter().enumerate() {
        match names(directory) {
            Ok(names) => files.extend(names.iter().map(|path| file(path, priority))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {}
            Err(error) => files.push(CdiFile { path: text(directory), priority, content: Err(error.to_string()) }),
        }
    }
    CdiRegistry::load(files)
}

/// All paths of a directory, sorted.
fn names(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// A file with its bytes, if it is one of CDI's.
fn file(path: &Path, priority: usize) -> CdiFile {
    let is_cdi = path.extension().is_some_and(|ending| ending == "json" || ending == "yaml");
    let content = if is_cdi { read(path).map_err(|error| error.to_string()) } else { Ok(Vec::new()) };
    CdiFile { path: text(path), priority, content }
}

/// Only a regular file: a pipe, for example, may never end. One byte above the limit shows that the file is too large.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(MAX_FILE_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files of the registry that cannot be mounted or executed, with the reason. Relative paths are invalid: no
/// runtime finds them.
pub(super) fn absent(registry: &CdiRegistry) -> BTreeMap<String, String> {
    let sources = registry.sources().into_iter();
    sources
        .filter_map(|(part, path)| Some((path.to_owned(), fault(Path::new(path), part == HostResource::Hook)?)))
        .collect()
}

fn fault(path: &Path, is_hook: bool) -> Option<String> {
    if path.is_relative() {
        return Some("is not an absolute path".into());
    }
    match fs::metadata(path) {
        Ok(facts) if is_hook && (!facts.is_file() || facts.mode() & 0o111 == 0) => Some("can't be executed".into()),
        Ok(_) => None,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Some("is not there".into())
        }
        Err(error) => Some(format!("can't be reached: {}", said(&error))),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The device nodes that the registry's files name and this host has.
pub(super) fn devices(registry: &CdiRegistry) -> BTreeMap<String, DeviceFacts> {
    let paths = registry.host_paths().into_iter();
    paths.filter_map(|path| Some((path.to_owned(), facts(Path::new(path))?))).collect()
}

fn facts(path: &Path) -> Option<DeviceFacts> {
    let found = fs::symlink_metadata(path).ok()?;
    let kind = match found.file_type() {
        kind if kind.is_char_device() => DeviceNodeKind::Char,
        kind if kind.is_block_device() => DeviceNodeKind::Block,
        kind if kind.is_fifo() => DeviceNodeKind::Fifo,
        _ => DeviceNodeKind::Other,
    };
    let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    Some(DeviceFacts { kind, major, minor, mode: found.mode() & 0o7777 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = r#"{"cdiVersion":"0.3.0","kind":"v.com/x","devices":[{"name":"NAME","containerEdits":{"deviceNodes":[
        {"path":"/dev/null"},{"path":"/dev/zero"},{"path":"/dev/none"},{"path":"/proc/self/exe"}]}}]}"#;

    #[test]
    fn files_of_all_directories_are_read_and_ranked() {
        let root = tempfile::tempdir().unwrap();
        let [low, high, none] = ["low", "high", "none"].map(|name| root.path().join(name));
        for directory in [&low, &high] {
            fs::create_dir_all(directory.join("below")).unwrap();
            fs::write(directory.join("both.json"), DEVICE.replace("NAME", "both")).unwrap();
        }
        fs::write(low.join("a.json"), DEVICE.replace("NAME", "a")).unwrap();
        fs::write(low.join("b.yaml"), DEVICE.replace("NAME", "b")).unwrap();
        fs::write(low.join("below/c.json"), DEVICE.replace("NAME", "c")).unwrap();
        fs::write(high.join("bad.json"), "{").unwrap();
        fs::write(high.join("old.yml"), DEVICE).unwrap();
        fs::write(high.join("large.json"), vec![b' '; MAX_FILE_SIZE + 1]).unwrap();
        fs::create_dir(high.join("directory.json")).unwrap();
        std::os::unix::fs::symlink("nowhere", high.join("link.json")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", high.join("endless.json")).unwrap();

        let registry = load(&[low.clone(), none.clone(), high.clone()], false);
        assert_eq!(registry.names().collect::<Vec<_>>(), ["v.com/x=a", "v.com/x=b", "v.com/x=both"]);
        let warnings: String = registry.left_out().iter().map(|left_out| format!("{left_out}\n")).collect();
        for part in [
            "bad.json is skipped: unclosed bracket",
            "old.yml is skipped: only",
            "large.json is skipped: it is larger than 4 MiB",
            "directory.json is skipped: cannot read it: it is a directory, not a file",
            "endless.json is skipped: cannot read it: it is a pipe or a device, not a file",
            "link.json is skipped: cannot read it: No such file",
        ] {
            assert!(warnings.contains(part), "{part} in {warnings}");
        }
        assert_eq!(registry.left_out().len(), 6);
        assert!(
            load(&[none], true).left_out()[0].to_string().contains("none is skipped: cannot read it: No such file")
        );
        assert!(!load(&[low.join("a.json")], false).left_out().is_empty());

        let devices = devices(&registry);
        let null = DeviceFacts { kind: DeviceNodeKind::Char, major: 1, minor: 3, mode: 0o666 };
        assert_eq!(devices["/dev/null"], null);
        assert_eq!((devices["/dev/zero"].minor, devices["/proc/self/exe"].kind), (5, DeviceNodeKind::Other));
        assert!(!devices.contains_key("/dev/none"));
    }

    #[test]
    fn a_user_has_directories_of_its_own() {
        let own = default_directories(Some("/home/me/.config".into()), Some("/run/user/1".into()));
        let all = ["/etc/cdi", "/var/run/cdi", "/home/me/.config/cdi", "/run/user/1/cdi"];
        assert_eq!(own, all.map(PathBuf::from));
        assert_eq!(default_directories(None, Some("relative".into())), SYSTEM.map(PathBuf::from));
    }
}
