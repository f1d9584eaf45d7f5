//! `ociforge gc`

use serde_json::json;

use super::Context;
use crate::cli::{self, Format, GcArgs, human_bytes};
use crate::error::Failure;
use crate::progress::Reporter;
use crate::store::{Collected, GcOptions, Layout, collect};

pub(super) async fn run(context: &Context, args: GcArgs) -> Result<(), Failure> {
    let layout = Layout::open(&args.directory).map_err(|error| {
        Failure::new(format!("cannot collect garbage in {}", args.directory.display())).caused_by(error)
    })?;
    let options = GcOptions { keep_for: args.keep_for, untagged: args.untagged, dry_run: args.dry_run };
    let collected = tokio::task::spawn_blocking(move || collect(&layout, &options)).await;
    let collected = collected.map_err(|error| Failure::new(format!("cannot collect garbage: {error}")))??;
    warn(&collected, &*context.reporter);
    match args.format {
        Format::Json => {
            let mut json = json!(collected);
            json["dryRun"] = args.dry_run.into();
            cli::result(&json.to_string())
        }
        Format::Text => {
            cli::result(&summary(&collected, args.dry_run))?;
            let Collected { kept_blobs, kept_bytes, young_blobs, .. } = collected;
            let young = match young_blobs {
                0 => String::new(),
                young => format!(", {young} of them because they are young"),
            };
            cli::result(&format!("{} stay ({}){young}", count(kept_blobs, "blob"), human_bytes(kept_bytes)))
        }
    }
}

/// Warns about blobs that are listed as manifests but are none.
pub(super) fn warn(collected: &Collected, reporter: &dyn Reporter) {
    for digest in &collected.unreadable_manifests {
        reporter.warn(&format!(
            "{digest} is listed as a manifest and is not one: ociforge keeps it, and every blob that it names"
        ));
    }
}

/// A summary of the collection in one line.
pub(super) fn summary(collected: &Collected, dry_run: bool) -> String {
    let Collected { manifests, blobs, unfinished, bytes, .. } = collected;
    let (removed, untagged) =
        (if dry_run { "would remove" } else { "removed" }, count(*manifests, "untagged manifest"));
    let untagged = if *manifests == 0 { String::new() } else { format!("{untagged}, ") };
    let (blobs, unfinished) = (count(*blobs, "blob"), count(*unfinished, "unfinished file"));
    format!("{removed} {untagged}{blobs} and {unfinished} ({})", human_bytes(*bytes))
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
