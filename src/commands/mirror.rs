//! `ociforge mirror`

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use super::Context;
use crate::cli::{self, Format, MirrorArgs};
use crate::error::Failure;
use crate::mirror::{List, Mirror, MirrorLocation, Refusal, Report, Selection};
use crate::plan;
use crate::transport::is_same_file;

pub(super) async fn run(context: &Context, args: MirrorArgs) -> Result<(), Failure> {
    let list = match &args.file {
        Some(file) => plan::read_mirror(file)?,
        None => List { to: None, images: Vec::new() },
    };
    // Manifests are read one after the other, and many may be long: return their memory to the system each time.
    ociforge_sandbox::give_large_memory_back();
    let client = context.client()?;
    let to = destination(&args, list.to)?;
    if let Some(file) = &args.report {
        writable(file, [args.from.as_ref(), args.since.as_ref(), Some(&to)].into_iter().flatten())?;
    }
    let mirror = Mirror {
        client: &client,
        to,
        selections: selections(&args, list.images)?,
        from: args.from,
        since: args.since,
        platforms: args.platforms,
        shard: args.shard,
        referrers: !args.no_referrers,
        jobs: args.jobs,
        fail_fast: args.fail_fast,
        reporter: &*context.reporter,
    };
    let outcome = match mirror.plan().await {
        Ok(plan) if args.dry_run => Ok(plan.report()),
        Ok(plan) => plan.carry_out().await.map_err(Refusal::from),
        Err(refusal) => Err(refusal),
    };
    let refused = outcome.is_err();
    let report = outcome.unwrap_or_else(|refusal| mirror.refused(refusal, args.dry_run));
    let json = serde_json::to_string_pretty(&report)
        .map_err(|error| Failure::new("cannot write the report").caused_by(error))?;
    let printed = if refused { Ok(()) } else { print(args.format, &report, &json) };
    let written = args.report.as_deref().map_or(Ok(()), |file| write(file, &json));
    let Some(failure) = report.failure() else { return printed.and(written) };
    if let Err(Failure { message, causes, .. }) = written {
        context.reporter.warn(&[vec![message], causes].concat().join(": "));
    }
    Err(failure)
}

fn write(file: &Path, json: &str) -> Result<(), Failure> {
    fs::write(file, format!("{json}\n")).map_err(|error| cannot_write(file, error))
}

fn cannot_write(file: &Path, error: io::Error) -> Failure {
    Failure::new(format!("cannot write the report {}", file.display())).caused_by(error)
}

/// Checks before the copy that the report can be written, and that it does not replace an archive.
fn writable<'p>(file: &Path, mut places: impl Iterator<Item = &'p MirrorLocation>) -> Result<(), Failure> {
    if let Some(place) = places.find(|place| place.path().is_some_and(|path| is_same_file(path, file))) {
        let causes = vec![format!("it would replace {place}")];
        let failure = Failure { causes, ..Failure::new(format!("the report cannot be {}", file.display())) };
        return Err(failure.hint("write it to another file").usage());
    }
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(file);
    opened.map(drop).map_err(|error| cannot_write(file, error))
}

fn print(format: Format, report: &Report, json: &str) -> Result<(), Failure> {
    match format {
        Format::Text => cli::result(&report.to_string()),
        Format::Json => cli::result(json),
    }
}

fn destination(args: &MirrorArgs, of_list: Option<MirrorLocation>) -> Result<MirrorLocation, Failure> {
    let to = args.to.clone().or(of_list).ok_or_else(|| {
        let failure = Failure::new("the mirror has no destination");
        failure.hint("give --to docker://HOST/PREFIX, oci:DIR or oci-archive:FILE, or write `to` in the list").usage()
    })?;
    if args.since.is_some() && !to.is_archive() {
        let hint = "omit --since: for registries and directories, mirror finds existing blobs itself";
        return Err(Failure::new("--since needs --to oci-archive:FILE").hint(hint).usage());
    }
    for (option, read) in [("--from", &args.from), ("--since", &args.since)] {
        if let Some(read) = read.as_ref().filter(|read| read.is_same(&to)) {
            let causes = vec!["mirror would overwrite the archive that it reads".to_owned()];
            let failure = Failure { causes, ..Failure::new(format!("{option} {read} and --to {to} are the same")) };
            return Err(failure.hint("write to another place").usage());
        }
    }
    Ok(to)
}

/// The images of the arguments and of the list. `--platform` overrides the platforms of the list.
fn selections(args: &MirrorArgs, listed: Vec<Selection>) -> Result<Vec<Selection>, Failure> {
    // Not parsed by clap: its error repeats the text, which may contain a password.
    let named = args.images.iter().map(|name| Ok(name.parse()?)).collect::<Result<Vec<Selection>, Failure>>()?;
    let all = named.into_iter().chain(listed).map(|selection| match &args.platforms[..] {
        [] => selection,
        platforms => Selection { platforms: platforms.to_vec(), ..selection },
    });
    Ok(all.collect())
}
