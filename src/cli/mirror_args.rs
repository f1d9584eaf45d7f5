//! What `mirror` takes.

use std::path::PathBuf;

use clap::Args;
use ociforge_manifests::Platform;

use super::args::Format;
use crate::mirror::{Place, Shard};

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
}
