//! The arguments of the commands that copy, serve and collect images, and of `login` and `logout`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ociforge_manifests::{ImageName, Platform};

use super::args::Format;
use crate::mirror::{MirrorLocation, Shard};
use crate::registry::Password;

/// `copy`
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// Image: a name in the store or in a registry, oci:DIR[:TAG], oci-archive:FILE[:TAG] or
    /// docker-archive:FILE[:NAME|:@INDEX]
    #[arg(value_name = "SRC")]
    pub source: String,
    /// Destination, in the same form; an existing archive FILE is replaced
    #[arg(value_name = "DST")]
    pub destination: String,
    /// Platforms to copy from an index, separated by commas [default: all]
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub platforms: Vec<Platform>,
    /// Do not copy signatures, SBOMs and other referrers
    #[arg(long)]
    pub no_referrers: bool,
    /// Read the blobs and manifests that the destination has, and copy damaged ones again
    #[arg(long)]
    pub verify_target: bool,
    /// Maximum number of simultaneous blob transfers
    #[arg(long, default_value_t = crate::transfer::DEFAULT_JOBS, value_name = "N", value_parser = super::args::at_least_one())]
    pub jobs: usize,
    /// Format of the output [default: text] or of the image; both may be given, as in oci,json
    #[arg(long = "format", value_enum, value_delimiter = ',', value_name = "FORM")]
    pub formats: Vec<CopyFormat>,
}

/// Formats of the output of `copy`, and of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CopyFormat {
    /// Text output for people
    Text,
    /// JSON output for programs
    Json,
    /// OCI image: converts Docker's manifests to OCI's, which changes their digests
    Oci,
}

impl CopyArgs {
    /// The format of the output.
    #[must_use]
    pub fn output(&self) -> Format {
        if self.formats.contains(&CopyFormat::Json) { Format::Json } else { Format::Text }
    }

    /// Whether to convert Docker's manifests to OCI's.
    #[must_use]
    pub fn converts(&self) -> bool {
        self.formats.contains(&CopyFormat::Oci)
    }
}

/// `mirror`
#[derive(Debug, Args)]
pub struct MirrorArgs {
    /// Images; the tag may be a pattern, such as nvcr.io/nvidia/cuda:12.*
    #[arg(value_name = "REF")]
    pub images: Vec<String>,
    /// List of images, in the format of mirror.toml
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Target: docker://HOST[/PREFIX], oci:DIR or oci-archive:FILE [default: `to` of the list]
    #[arg(long, value_name = "DEST")]
    pub to: Option<MirrorLocation>,
    /// Source, in the same form [default: the registries in the names]; a layout or an archive is copied whole if no
    /// image is named
    #[arg(long, value_name = "SRC")]
    pub from: Option<MirrorLocation>,
    /// Write a delta: omit the blobs of an earlier archive (FILE, oci-archive:FILE or oci:DIR)
    #[arg(long, value_name = "ARCHIVE", value_parser = earlier)]
    pub since: Option<MirrorLocation>,
    /// Copy only shard I of N of the images; several machines can share a mirror
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Platforms to copy from an index, separated by commas [default: `platforms` of the list, or all]
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub platforms: Vec<Platform>,
    /// Do not copy signatures, SBOMs and other referrers
    #[arg(long)]
    pub no_referrers: bool,
    /// Print what would be copied, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Stop at the first image that fails
    #[arg(long)]
    pub fail_fast: bool,
    /// Maximum number of simultaneous blob transfers
    #[arg(long, default_value_t = crate::transfer::DEFAULT_JOBS, value_name = "N", value_parser = super::args::at_least_one())]
    pub jobs: usize,
    /// Format of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub format: Format,
    /// Also write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// `serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Directory of the OCI layout; created if it is missing
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Address to listen on; port 0 selects a free port
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Refuse all requests that write
    #[arg(long)]
    pub read_only: bool,
    /// Require a user name and a password from this file, which `htpasswd -B` writes
    #[arg(long, value_name = "FILE")]
    pub htpasswd: Option<PathBuf>,
    /// Serve HTTPS with this certificate chain, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Collect garbage as `gc` does, at this interval, such as 24h [default: never]
    #[arg(long, value_name = "TIME", value_parser = pause, conflicts_with = "read_only")]
    pub gc_every: Option<Duration>,
    /// Log each request on stderr
    #[arg(short, long)]
    pub verbose: bool,
}

/// `gc`
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Directory of the OCI layout
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Also remove untagged images that no index and no referrer needs
    #[arg(long)]
    pub untagged: bool,
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Keep blobs younger than this, such as 90s, 30m, 12h or 7d: their image may not be complete yet
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = duration)]
    pub keep_for: Duration,
    /// Format of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub format: Format,
}

/// `login`
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// Registry, or a namespace in it
    #[arg(value_name = "HOST[:PORT][/NAMESPACE]")]
    pub registry: String,
    /// User name [default: prompt on the terminal]
    #[arg(short, long, value_name = "USER")]
    pub username: Option<String>,
    /// Read the password from the first line of stdin [default: prompt on the terminal]
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
    /// Password; other users of this machine can see it in the process list
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub password: Option<Password>,
    /// Print the user name that is logged in, and do nothing else
    #[arg(long, conflicts_with_all = ["username", "password", "password_stdin"])]
    pub get_login: bool,
}

/// `logout`
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// Registry, or a namespace in it
    #[arg(value_name = "HOST[:PORT][/NAMESPACE]", required_unless_present = "all")]
    pub registry: Option<String>,
    /// Log out of all registries
    #[arg(short, long, conflicts_with = "registry")]
    pub all: bool,
}

/// Parses a number with a unit: `90s`, `30m`, `12h`, `7d`.
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

/// Parses `--since`: an archive or a layout. A bare path is an archive.
fn earlier(text: &str) -> Result<MirrorLocation, String> {
    let archive = |file: &str| MirrorLocation::Layout(ImageName::Archive { file: file.into(), tag: None });
    match if ImageName::has_transport(text) { text.parse()? } else { archive(text) } {
        MirrorLocation::Registry { .. } => Err("expected FILE, oci-archive:FILE or oci:DIR".into()),
        location => Ok(location),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_archive_may_be_a_bare_path() {
        assert_eq!(earlier("a/b.tar").unwrap(), "oci-archive:a/b.tar".parse().unwrap());
        assert_eq!(earlier("oci:dir").unwrap(), "oci:dir".parse().unwrap());
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
