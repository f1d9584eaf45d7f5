//! Options of mounts (runtime-spec, config-linux.md, "Linux mount options"; mount(8)).

use rustix::mount::{MountFlags, MountPropagationFlags};

/// Options, sorted by their interpreter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MountOptions {
    pub(super) flags: MountFlags,
    /// Whether it is a bind mount, and if so, whether it is recursive.
    pub(super) bind: Option<bool>,
    pub(super) propagation: Option<MountPropagationFlags>,
    /// The options of the filesystem itself.
    pub(super) data: Vec<String>,
}

/// Names of flags, and whether the option sets or clears the flag.
const FLAGS: [(&str, MountFlags, bool); 19] = [
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("nosymfollow", MountFlags::NOSYMFOLLOW, true),
    ("symfollow", MountFlags::NOSYMFOLLOW, false),
];

impl MountOptions {
    pub(super) fn parse(words: &[String]) -> Self {
        let mut options = Self { flags: MountFlags::empty(), bind: None, propagation: None, data: Vec::new() };
        for word in words {
            options.add(word);
        }
        options
    }

    fn add(&mut self, word: &str) {
        if let Some((_, flag, set)) = FLAGS.iter().find(|(name, ..)| *name == word) {
            self.flags.set(*flag, *set);
        } else if let Some(flags) = propagation(word) {
            self.propagation = Some(flags);
        } else {
            match word {
                "bind" => self.bind = self.bind.or(Some(false)),
                "rbind" => self.bind = Some(true),
                // Defaults, and options of runc that are not supported.
                "defaults" | "norelatime" | "nostrictatime" | "tmpcopyup" | "" => {}
                other => self.data.push(other.to_owned()),
            }
        }
    }

    /// The filesystem's options except those with the prefix `name=`, as one text.
    pub(super) fn data_without(&self, name: Option<&str>) -> String {
        let is_named = |word: &&String| name.is_none_or(|name| word.split('=').next() != Some(name));
        self.data.iter().filter(is_named).map(String::as_str).collect::<Vec<_>>().join(",")
    }
}

fn propagation(word: &str) -> Option<MountPropagationFlags> {
    let (kind, whole) = match word.strip_prefix('r') {
        Some(kind) if propagation_of(kind).is_some() => (kind, MountPropagationFlags::REC),
        _ => (word, MountPropagationFlags::empty()),
    };
    propagation_of(kind).map(|flags| flags | whole)
}

fn propagation_of(kind: &str) -> Option<MountPropagationFlags> {
    match kind {
        "private" => Some(MountPropagationFlags::PRIVATE),
        "shared" => Some(MountPropagationFlags::SHARED),
        "slave" => Some(MountPropagationFlags::DOWNSTREAM),
        "unbindable" => Some(MountPropagationFlags::UNBINDABLE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_to_whom_they_are_for() {
        let words = ["nosuid", "strictatime", "mode=755", "size=64k", "rbind", "rprivate", "ro", "rw", "gid=5"];
        let options = MountOptions::parse(&words.map(str::to_owned));
        assert_eq!(options.flags, MountFlags::NOSUID | MountFlags::STRICTATIME);
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.propagation, Some(MountPropagationFlags::PRIVATE | MountPropagationFlags::REC));
        assert_eq!(options.data_without(None), "mode=755,size=64k,gid=5");
        assert_eq!(options.data_without(Some("gid")), "mode=755,size=64k");
        assert_eq!(MountOptions::parse(&["bind".into(), "exec".into()]).bind, Some(false));
        assert_eq!(MountOptions::parse(&["ro".into()]).data_without(None), "");
    }
}
