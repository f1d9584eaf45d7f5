//! `--tmpfs`: an empty directory in memory.

use std::str::FromStr;

use super::flag_error::FlagError;
use super::mount::SpecMount;
use super::path::clean;
use super::values::Size;

/// Options of tmpfs(5) and mount(8) that docker accepts: those without a value, then those with one.
const OPTIONS: [&str; 28] = [
    "defaults",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "rprivate",
    "size",
    "mode",
    "uid",
    "gid",
    "nr_inodes",
    "nr_blocks",
    "mpol",
];

/// The number of [`OPTIONS`] without a value, which are the first ones.
const WITHOUT_VALUE: usize = 21;

/// `DESTINATION[:OPTION,…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Absolute path in the container, clean; never `/`.
    pub destination: String,
    options: Vec<String>,
}

impl FromStr for Tmpfs {
    type Err = FlagError;

    fn from_str(text: &str) -> Result<Self, FlagError> {
        let error = |why| FlagError::Tmpfs { text: text.to_owned(), why, known: &OPTIONS };
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        if !path.starts_with('/') || text.contains('\0') {
            return Err(error("the destination is not an absolute path".into()));
        }
        let destination = clean(path);
        if destination == "/" {
            return Err(error("the destination is the container's root".into()));
        }
        let options: Vec<String> = options.split(',').filter(|_| !options.is_empty()).map(str::to_owned).collect();
        let (words, keys) = OPTIONS.split_at(WITHOUT_VALUE);
        for option in &options {
            let known = match option.split_once('=') {
                Some((key, value)) => keys.contains(&key) && !value.is_empty(),
                None => words.contains(&option.as_str()),
            };
            if !known {
                return Err(error(format!("`{option}` is not an option")));
            }
        }
        Ok(Self { destination, options })
    }
}

impl Tmpfs {
    /// A tmpfs at `destination`, an absolute clean path other than `/`, that is writable by all and executable.
    #[must_use]
    pub fn scratch(destination: String, size: Option<Size>) -> Self {
        let size = size.map(|size| format!("size={}", size.0));
        Self { destination, options: ["exec".into(), "mode=1777".into()].into_iter().chain(size).collect() }
    }

    /// The mount: docker's default options, unless the user's options negate them, then the user's.
    pub(crate) fn mount(&self) -> SpecMount {
        let has = |word: &str| self.options.iter().any(|option| option == word);
        let careful = [("noexec", "exec"), ("nosuid", "suid"), ("nodev", "dev")];
        let careful = careful.iter().filter(|(no, yes)| !has(no) && !has(yes)).map(|(no, _)| *no);
        let own = self.options.iter().map(String::as_str).filter(|option| *option != "defaults");
        SpecMount::new(&self.destination, "tmpfs", "tmpfs", &careful.chain(own).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_dockers() {
        for (text, destination, options) in [
            ("/run", "/run", "noexec,nosuid,nodev"),
            ("/run:exec,size=64k", "/run", "nosuid,nodev,exec,size=64k"),
            ("/a//b/../c:defaults,ro,noexec", "/a/c", "nosuid,nodev,ro,noexec"),
            ("/x:mode=1777,uid=5", "/x", "noexec,nosuid,nodev,mode=1777,uid=5"),
        ] {
            let mount = text.parse::<Tmpfs>().unwrap().mount();
            assert_eq!(
                (mount.destination.as_str(), mount.options.join(",").as_str()),
                (destination, options),
                "{text}"
            );
        }
        for bad in ["", "run", "/", "/x/..", "/x:siz=1", "/x:size", "/x:size=", "/x:ro,", "/x:a=b", "/x:rbind", "/\0"] {
            assert!(bad.parse::<Tmpfs>().is_err(), "{bad}");
        }
        assert_eq!("/x:siz=1".parse::<Tmpfs>().unwrap_err().hint().unwrap(), "did you mean size?");
    }
}
