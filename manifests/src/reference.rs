//! Image names: references into registries, and the transports of containers-transports(5).

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A reference into a registry (distribution-spec). The type of oci-spec, which other crates for registries use as
/// well.
pub use oci_spec::distribution::Reference;

use crate::digest::Digest;

/// The location of an image, as source or destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageName {
    /// `docker://HOST/REPOSITORY[:TAG][@DIGEST]`, and any bare name, completed as in docker.
    Registry(Reference),
    /// `oci:DIR[:TAG]`: an OCI layout.
    Layout {
        /// The layout's directory.
        directory: PathBuf,
        /// The value of `org.opencontainers.image.ref.name`.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`: an OCI layout in a tar file.
    Archive {
        /// The tar file.
        file: PathBuf,
        /// The value of `org.opencontainers.image.ref.name`.
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:REFERENCE|:@INDEX]`: the format of `docker save` and `docker load`.
    DockerArchive {
        /// The tar file.
        file: PathBuf,
        /// The image in it.
        image: Option<ArchivedImage>,
    },
}

/// An image in a docker archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchivedImage {
    /// By its name, such as `a/b:t`; completed as in docker.
    Named(Reference),
    /// By its index in the archive's list, from 0: `@0`. An image may have no name.
    At(usize),
}

/// Creates a name from a path and an image.
type PathName = fn(PathBuf, Option<String>) -> Result<ImageName, &'static str>;

/// The transports with names `TRANSPORT:PATH[:IMAGE]`. `ImageName::parts` returns the parts of such a name.
const PATH_TRANSPORTS: [(&str, PathName); 3] = [
    ("oci:", |directory, tag| Ok(ImageName::Layout { directory, tag })),
    ("oci-archive:", |file, tag| Ok(ImageName::Archive { file, tag })),
    ("docker-archive:", |file, image| {
        Ok(ImageName::DockerArchive { file, image: image.map(|image| image.parse()).transpose()? })
    }),
];

/// Unsupported transports of containers-transports(5), which must not be parsed as repositories.
const OTHER_TRANSPORTS: [&str; 6] = ["containers-storage:", "dir:", "docker-daemon:", "ostree:", "sif:", "tarball:"];

/// Text that is not the name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not an image name: {why}")]
pub struct ReferenceError {
    /// The text.
    pub name: String,
    /// The fault.
    pub why: String,
}

impl ImageName {
    /// Whether `text` begins with a transport, as opposed to a bare name or a path.
    #[must_use]
    pub fn has_transport(text: &str) -> bool {
        text.starts_with("docker:") || path_transports().any(|transport| text.starts_with(transport))
    }

    /// The directory or file; `None` for an image in a registry.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.parts().map(|(_, path, _)| path)
    }

    /// The same name with its path, if any, replaced by the result of `place`.
    #[must_use]
    pub fn with_path(&self, place: impl FnOnce(&Path) -> PathBuf) -> Self {
        let mut name = self.clone();
        match &mut name {
            Self::Registry(_) => {}
            Self::Layout { directory: path, .. }
            | Self::Archive { file: path, .. }
            | Self::DockerArchive { file: path, .. } => {
                *path = place(path);
            }
        }
        name
    }

    /// Transport, path and image of a name of [`PATH_TRANSPORTS`].
    fn parts(&self) -> Option<(&'static str, &Path, Option<String>)> {
        match self {
            Self::Registry(_) => None,
            Self::Layout { directory, tag } => Some(("oci:", directory, tag.clone())),
            Self::Archive { file, tag } => Some(("oci-archive:", file, tag.clone())),
            Self::DockerArchive { file, image } => {
                Some(("docker-archive:", file, image.as_ref().map(ToString::to_string)))
            }
        }
    }
}

fn path_transports() -> impl Iterator<Item = &'static str> {
    PATH_TRANSPORTS.iter().map(|(transport, _)| *transport)
}

impl FromStr for ImageName {
    type Err = ReferenceError;

    fn from_str(name: &str) -> Result<Self, ReferenceError> {
        let error = |why: String| ReferenceError { name: without_password(name), why };
        for (transport, named) in PATH_TRANSPORTS {
            let Some(rest) = name.strip_prefix(transport) else { continue };
            let (path, image) = match rest.split_once(':') {
                _ if rest.is_empty() => return Err(error("it has no path".into())),
                Some((_, "")) => return Err(error("its tag is empty".into())),
                Some((path, image)) => (path, Some(image.to_owned())),
                None => (rest, None),
            };
            return named(path.into(), image).map_err(|why| error(why.into()));
        }
        let stated = name.strip_prefix("docker://");
        if let Some(other) = OTHER_TRANSPORTS.iter().find(|other| stated.is_none() && name.starts_with(**other)) {
            return Err(error(format!("the transport {other} is not supported")));
        }
        let bare = stated.unwrap_or(name);
        if bare.contains("://") {
            return Err(error("write the registry's host without http:// or https://".into()));
        }
        Ok(Self::Registry(reference(bare).map_err(|why| error(why.into()))?))
    }
}

impl FromStr for ArchivedImage {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text.strip_prefix('@') {
            Some(index) if index.bytes().all(|byte| byte.is_ascii_digit()) => {
                index.parse().map(Self::At).map_err(|_| "the text after @ is not a number")
            }
            Some(_) => Err("the text after @ is not a number"),
            None => reference(text).map(Self::Named),
        }
    }
}

impl fmt::Display for ArchivedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(f),
            Self::At(index) => write!(f, "@{index}"),
        }
    }
}

/// The parts of a name `REPOSITORY[:TAG][@DIGEST]`, neither checked nor completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameParts<'a> {
    /// The repository, with its host if the name has one.
    pub repository: &'a str,
    /// The text after the last colon, unless a slash follows it: then the colon is that of a port.
    pub tag: Option<&'a str>,
    /// The text after the `@`.
    pub digest: Option<&'a str>,
}

impl<'a> NameParts<'a> {
    /// The parts of `name`.
    #[must_use]
    pub fn of(name: &'a str) -> Self {
        let (name, digest) = name.split_once('@').map_or((name, None), |(name, digest)| (name, Some(digest)));
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (name, None),
        };
        Self { repository, tag, digest }
    }
}

/// The meaning of the name of an entry in a layout's index (`org.opencontainers.image.ref.name`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryName<'a> {
    /// The repository, with its host if the name has one; `None` for a name without a slash or a colon, which is a tag
    /// without a repository.
    pub repository: Option<&'a str>,
    /// The tag; `latest` for a repository without tag and digest. Whether it is [valid](is_tag) is not checked.
    pub tag: Option<&'a str>,
}

impl<'a> EntryName<'a> {
    /// The meaning of `name`.
    #[must_use]
    pub fn of(name: &'a str) -> Self {
        let NameParts { repository, tag, digest } = NameParts::of(name);
        if tag.is_none() && !repository.contains('/') {
            return Self { repository: None, tag: Some(repository) };
        }
        Self { repository: Some(repository), tag: tag.or(digest.is_none().then_some("latest")) }
    }
}

/// The registry of names without a registry.
const DOCKER_HUB: &str = "docker.io";

/// Maximum length of a repository in bytes (distribution's limit).
const MAX_REPOSITORY: usize = 255;

/// Parses `[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]` and completes it as in docker. The parser of oci-spec would compile
/// a regular expression, which takes longer than the rest of a short command.
fn reference(text: &str) -> Result<Reference, &'static str> {
    let NameParts { repository: name, tag, digest } = NameParts::of(text);
    let digest = digest.map(str::parse::<Digest>).transpose().map_err(|_| "the text after @ is not a digest")?;
    let digest = digest.map(|digest| digest.to_string());
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("a tag has up to 128 letters, digits, `_`, `.` and `-`, and begins with neither `.` nor `-`");
    }
    let (registry, repository) = match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => (DOCKER_HUB, name),
    };
    let registry = if registry == "index.docker.io" { DOCKER_HUB } else { registry };
    if !is_host(registry) {
        return Err("its registry is not a host name");
    }
    let official = registry == DOCKER_HUB && !repository.contains('/');
    let repository = if official { format!("library/{repository}") } else { repository.to_owned() };
    if repository.len() > MAX_REPOSITORY {
        return Err("its repository has more than 255 characters");
    }
    if !is_repository(&repository) {
        return Err("a repository has lower-case letters and digits, with `.`, `_`, `__` or `-` between them");
    }
    let (registry, tag) = (registry.to_owned(), tag.map(str::to_owned));
    Ok(match (tag, digest) {
        (Some(tag), Some(digest)) => Reference::with_tag_and_digest(registry, repository, tag, digest),
        (None, Some(digest)) => Reference::with_digest(registry, repository, digest),
        (tag, None) => Reference::with_tag(registry, repository, tag.unwrap_or_else(|| "latest".into())),
    })
}

/// Whether this is a valid name of a repository without its host (distribution-spec, "Pulling manifests").
#[must_use]
pub fn is_repository(name: &str) -> bool {
    name.len() <= MAX_REPOSITORY && name.split('/').all(is_component)
}

/// Whether this is a valid tag (distribution-spec, "Pulling manifests"): up to 128 letters, digits, `_`, `.` and `-`;
/// the first character is neither `.` nor `-`.
#[must_use]
pub fn is_tag(tag: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    (1..=128).contains(&tag.len()) && tag.as_bytes().iter().all(inner) && !tag.starts_with(['.', '-'])
}

/// Whether this is a valid host: labels separated by dots or an IPv6 address in brackets, with an optional port.
#[must_use]
pub fn is_host(host: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((address, rest)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        let port = if rest.is_empty() { Some("0") } else { rest.strip_prefix(':') };
        return address.parse::<Ipv6Addr>().is_ok() && port.is_some_and(is_port);
    }
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let is_label = |label: &str| {
        let inner = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        !label.is_empty() && label.as_bytes().iter().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.split('.').all(is_label) && is_port(port)
}

/// Whether it is runs of letters and digits with single separators between them.
fn is_component(component: &str) -> bool {
    let is_plain = |byte: char| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = component.split(is_plain).filter(|between| !between.is_empty());
    let sound = |between: &str| matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-');
    component.starts_with(is_plain) && component.ends_with(is_plain) && separators.into_iter().all(sound)
}

/// A name for messages: a part before an `@` without a digest may contain a user and a password.
fn without_password(name: &str) -> String {
    match name.rsplit_once('@') {
        Some((_, rest)) if !rest.starts_with("sha256:") && !rest.starts_with("sha512:") => format!("***@{rest}"),
        _ => name.to_owned(),
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Registry(reference) = self {
            let whole = reference.whole();
            // A host with a port may have the name of a transport.
            let like_transport = path_transports().chain(OTHER_TRANSPORTS).any(|other| whole.starts_with(other));
            return write!(f, "{}{whole}", if like_transport { "docker://" } else { "" });
        }
        let Some((transport, path, image)) = self.parts() else { return Ok(()) };
        write!(f, "{transport}{}", path.display())?;
        image.map_or(Ok(()), |image| write!(f, ":{image}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for name in ["https://user:secret@h/x", "user:secret@h/x", "docker://user:secret@h/x"] {
            let error = name.parse::<ImageName>().unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_colon_before_a_slash_is_a_ports() {
        let parts = |repository, tag, digest| NameParts { repository, tag, digest };
        for (name, expected) in [
            ("a", parts("a", None, None)),
            ("a:t", parts("a", Some("t"), None)),
            ("localhost:5000/a", parts("localhost:5000/a", None, None)),
            ("localhost:5000/a:t", parts("localhost:5000/a", Some("t"), None)),
            ("h/a@sha256:00", parts("h/a", None, Some("sha256:00"))),
            ("h:1/a:t@sha256:00", parts("h:1/a", Some("t"), Some("sha256:00"))),
            ("", parts("", None, None)),
        ] {
            assert_eq!(NameParts::of(name), expected, "{name}");
        }
    }

    #[test]
    fn a_bare_name_of_an_entry_is_a_tag() {
        for (name, repository, tag) in [
            ("latest", None, Some("latest")),
            ("t@sha256:00", None, Some("t")),
            ("a:t", Some("a"), Some("t")),
            ("nvcr.io/a/b:t", Some("nvcr.io/a/b"), Some("t")),
            ("localhost:5000/a:t", Some("localhost:5000/a"), Some("t")),
            ("localhost:5000/a", Some("localhost:5000/a"), Some("latest")),
            ("nvcr.io/a@sha256:00", Some("nvcr.io/a"), None),
            ("nvcr.io/a:t@sha256:00", Some("nvcr.io/a"), Some("t")),
            ("no tag", None, Some("no tag")),
        ] {
            assert_eq!(EntryName::of(name), EntryName { repository, tag }, "{name}");
        }
    }

    #[test]
    fn names_and_tags_have_a_grammar() {
        for good in ["a", "a/b/c", "a.b", "a_b", "a__b", "a---b", "0/9", "nvcr.io/nvidia/pytorch"] {
            assert!(is_repository(good), "{good}");
        }
        let long = "a".repeat(256);
        for bad in ["", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "a._b", "-a", "a-", ".", "a b", "ä", &long] {
            assert!(!is_repository(bad), "{bad}");
        }
        assert!(is_tag("v1.0_x-y") && is_tag("_") && is_tag(&long[..128]));
        assert!(!is_tag("") && !is_tag(".a") && !is_tag("-a") && !is_tag("a/b") && !is_tag(&long[..129]));
    }

    #[test]
    fn names_are_read_and_completed() {
        for (text, whole) in [
            ("debian", "docker.io/library/debian:latest"),
            ("docker://nvcr.io/nvidia/pytorch:22.12-py3", "nvcr.io/nvidia/pytorch:22.12-py3"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
            ("oci:dir:tag", "oci:dir:tag"),
            ("oci-archive:/a/b.tar", "oci-archive:/a/b.tar"),
            ("docker-archive:b.tar", "docker-archive:b.tar"),
            ("docker-archive:b.tar:debian", "docker-archive:b.tar:docker.io/library/debian:latest"),
            ("docker-archive:b.tar:h.example:5000/a:t", "docker-archive:b.tar:h.example:5000/a:t"),
            ("docker-archive:b.tar:@0", "docker-archive:b.tar:@0"),
            ("docker-archive:b.tar:@12", "docker-archive:b.tar:@12"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            ("[2001:db8::7]/a/b:t", "[2001:db8::7]/a/b:t"),
            ("docker://[::1]/x@DIGEST", "[::1]/x@DIGEST"),
            ("docker-archive:b.tar:[::1]:5000/x", "docker-archive:b.tar:[::1]:5000/x:latest"),
            ("docker://oci:5000/x", "docker://oci:5000/x:latest"),
            ("docker://docker-archive:5000/x", "docker://docker-archive:5000/x:latest"),
            ("docker://dir:5000/x:t", "docker://dir:5000/x:t"),
            ("docker://dir:t", "docker.io/library/dir:t"),
        ] {
            let digest = format!("sha256:{}", "0a".repeat(32));
            let (text, whole) = (text.replace("DIGEST", &digest), whole.replace("DIGEST", &digest));
            let name: ImageName = text.parse().unwrap();
            assert_eq!(name.to_string(), whole);
            assert_eq!(whole.parse(), Ok(name), "{whole}");
        }
        for bad in [
            "",
            "nvcr.io/UPPER",
            "oci:",
            "oci:dir:",
            "https://nvcr.io/nvidia/pytorch",
            "a b",
            "docker-archive:",
            "docker-archive:x:UPPER",
            "docker-archive:x:@",
            "docker-archive:x:@-1",
            "docker-archive:x:@a",
            "[::1]:/x",
            "[::1]:port/x",
            "[::1/x",
            "[::1]5000/x",
            "[fe80::1%eth0]:5000/x",
            "[127.0.0.1]:5000/x",
            "::1/x",
            "dir:x",
        ] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
    }

    /// The parser of oci-spec accepts the same names, except those that docker refuses.
    #[test]
    fn references_are_those_of_oci_spec() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let mut names: Vec<String> = [
            "a",
            "a/b",
            "a.b/c",
            "a:5/b",
            "localhost/x",
            "localhost:5000/x/y:tag",
            "index.docker.io/x",
            "docker.io/a/b:1",
            "a__b",
            "a___b",
            "a--b",
            "a-.b",
            "a.-b",
            "a..b",
            "-a",
            "a-",
            "_a",
            "a/",
            "/a",
            "a//b",
            "",
            "A",
            "a:T_.-9",
            "a:",
            "a:.x",
            "a:-x",
            "a:b:c",
            "h.x/a:b:c",
            "h-.x/a",
            "h..x/a",
            "h.x:/a",
            "h.x:y/a",
            "HOST.x/a",
            "a b",
            "a@",
            "a@x",
            "ä",
            "a/b:c@",
            "1.2.3.4:5/x",
            "h.x/a\n",
        ]
        .map(str::to_owned)
        .into();
        names.extend([format!("a:{}", "x".repeat(128)), format!("a:{}", "x".repeat(129))]);
        names.extend([format!("h.x/{}", "x".repeat(255)), format!("h.x/{}", "x".repeat(256))]);
        // The limit applies to the completed name.
        names.extend(["x".repeat(247), "x".repeat(248)]);
        let digests =
            [format!("a@{digest}"), format!("h.x:1/a/b:t@{digest}"), format!("a@{digest}0"), format!("@{digest}")];
        names.extend(digests);
        for name in names {
            let theirs = name.parse::<Reference>().ok();
            assert_eq!(reference(&name).ok(), theirs, "{name}");
        }
        for refused in ["UPPER/a", "a:ä"] {
            assert!(reference(refused).is_err(), "{refused}");
        }
    }
}
