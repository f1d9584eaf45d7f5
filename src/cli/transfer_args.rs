//! What the commands take that move images between places, and keep them there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ociforge_manifests::Platform;

use super::args::Format;
use crate::mirror::{Place, Shard};
use crate::registry::Password;

/// `copy`
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// Image: a name in a registry or of what was built here, oci:DIR[:TAG], oci-archive:FILE[:TAG] or
    /// docker-archive:FILE[:NAME|:@INDEX]
    #[arg(value_name = "SRC")]
    pub source: String,
    /// Where it goes, written in the same way; the FILE of an archive is replaced
    #[arg(value_name = "DST")]
    pub destination: String,
    /// Platform to take, when the name stands for several images [default: all]; several are allowed
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub platforms: Vec<Platform>,
    /// Leave signatures, SBOMs and other referrers
    #[arg(long)]
    pub no_referrers: bool,
    /// Read what is at the destination already, and copy again what is damaged there
    #[arg(long)]
    pub verify_target: bool,
    /// Blobs that move at a time
    #[arg(long, default_value_t = crate::transfer::DEFAULT_JOBS, value_name = "N")]
    pub jobs: usize,
    /// Form of the output [default: text], and of the image; one of each may be given, as in oci,json
    #[arg(long = "format", value_enum, value_delimiter = ',', value_name = "FORM")]
    pub formats: Vec<CopyFormat>,
}

/// Forms of a copy, and of what is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CopyFormat {
    /// The output is for people
    Text,
    /// The output is for programs
    Json,
    /// The image is OCI's: manifests of Docker's become OCI's, with other digests
    Oci,
}

impl CopyArgs {
    /// The form of the output.
    #[must_use]
    pub fn output(&self) -> Format {
        if self.formats.contains(&CopyFormat::Json) { Format::Json } else { Format::Text }
    }

    /// Whether Docker's manifests become OCI's.
    #[must_use]
    pub fn converts(&self) -> bool {
        self.formats.contains(&CopyFormat::Oci)
    }
}

/// `mirror`
#[derive(Debug, Args)]
pub struct MirrorArgs {
    /// Images, perhaps with a pattern in place of the tag, such as nvcr.io/nvidia/cuda:12.*
    #[arg(value_name = "REF")]
    pub images: Vec<String>,
    /// List of images, mirror.toml
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where they go: docker://HOST[/PREFIX], oci:DIR or oci-archive:FILE [default: the list's]
    #[arg(long, value_name = "DEST")]
    pub to: Option<Place>,
    /// Where they are, in the same form [default: in the registries of their names]; of a layout or an archive
    /// everything is taken when no image is named
    #[arg(long, value_name = "SRC")]
    pub from: Option<Place>,
    /// Leave out what an earlier archive (FILE, oci-archive:FILE or oci:DIR) has, wherever that was brought to
    #[arg(long, value_name = "ARCHIVE", value_parser = earlier)]
    pub since: Option<Place>,
    /// Take a share of the images, the I-th of N, so that several machines mirror together
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Platforms to take of an index [default: the list's, or all]; several are allowed
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub platforms: Vec<Platform>,
    /// Leave signatures, SBOMs and other referrers
    #[arg(long)]
    pub no_referrers: bool,
    /// Say what would be copied, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// End with the first image that can't be copied
    #[arg(long)]
    pub fail_fast: bool,
    /// Blobs that move at a time
    #[arg(long, default_value_t = crate::transfer::DEFAULT_JOBS, value_name = "N")]
    pub jobs: usize,
    /// Form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub format: Format,
    /// Write the report as JSON to a file, too
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// `serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Directory of the OCI layout; made when it is missing
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Refuse everything that writes
    #[arg(long)]
    pub read_only: bool,
    /// Ask for a name and a password; the file is what `htpasswd -B` writes
    #[arg(long, value_name = "FILE")]
    pub htpasswd: Option<PathBuf>,
    /// Speak HTTPS, with this certificate and those that signed it, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Collect garbage as `gc` does, each time that so much time has passed, such as 24h
    #[arg(long, value_name = "TIME", value_parser = pause, conflicts_with = "read_only")]
    pub gc_every: Option<Duration>,
    /// Tell of each request on stderr
    #[arg(short, long)]
    pub verbose: bool,
}

/// `gc`
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Directory of the OCI layout
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Also remove images without a tag that no index and no referrer needs
    #[arg(long)]
    pub untagged: bool,
    /// Only tell what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Leave what is younger than 90s, 30m, 12h or 7d: its image may still be on its way
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = duration)]
    pub keep_for: Duration,
    /// Form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub format: Format,
}

/// `login`
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// Registry, or what is below a path of it
    #[arg(value_name = "HOST[:PORT][/NAMESPACE]")]
    pub registry: String,
    /// Name of the user [default: asked for on the terminal]
    #[arg(short, long, value_name = "USER")]
    pub username: Option<String>,
    /// Take the first line of stdin as the password [default: asked for on the terminal]
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
    /// The password; others on this machine can see it here
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub password: Option<Password>,
    /// Only print the name of the user that is logged in
    #[arg(long, conflicts_with_all = ["username", "password", "password_stdin"])]
    pub get_login: bool,
}

/// `logout`
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// Registry, or what is below a path of it
    #[arg(value_name = "HOST[:PORT][/NAMESPACE]", required_unless_present = "all")]
    pub registry: Option<String>,
    /// All registries
    #[arg(short, long, conflicts_with = "registry")]
    pub all: bool,
}

/// A number with a unit: `90s`, `30m`, `12h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "expected a number with a unit, such as 90s, 30m, 12h or 7d".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(bad()),
    };
    let number = number.parse::<u32>().map_err(|_| bad())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

fn pause(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|pause| if pause.is_zero() { Err("expected some time".into()) } else { Ok(pause) })
}

/// An archive or a layout; a bare path is an archive's.
fn earlier(text: &str) -> Result<Place, String> {
    let transport = ["oci:", "oci-archive:", "docker:", "docker-archive:"].iter().any(|start| text.starts_with(start));
    match if transport { text.parse()? } else { Place::Archive(text.into()) } {
        Place::Registry { .. } => Err("expected FILE, oci-archive:FILE or oci:DIR".into()),
        place => Ok(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_archive_may_be_a_bare_path() {
        assert_eq!(earlier("a/b.tar").unwrap(), Place::Archive("a/b.tar".into()));
        assert_eq!(earlier("oci:dir").unwrap(), Place::Layout("dir".into()));
        assert!(earlier("docker://m.example/a").is_err() && earlier("docker-archive:x").is_err());
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), duration("120m"));
        assert_eq!(duration("7d"), duration("168h"));
        for bad in ["", "h", "1", "1w", "-1h", "1.5h", "1 h", "1ä", "4294967296s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(pause("0s").is_err() && pause("1s").is_ok());
    }
}
