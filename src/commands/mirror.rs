//! `ociforge mirror`

use std::fs;

use super::Context;
use crate::cli::{self, Format, MirrorArgs};
use crate::error::Failure;
use crate::mirror::{List, Mirror, Place, Report, Selection};
use crate::plan;

pub(super) async fn run(context: &Context, args: MirrorArgs) -> Result<(), Failure> {
    let list = match &args.file {
        Some(file) => plan::read_mirror(file)?,
        None => List { to: None, images: Vec::new() },
    };
    let client = context.client()?;
    let mirror = Mirror {
        client: &client,
        to: destination(&args, list.to)?,
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
    let plan = mirror.plan().await?;
    let report = if args.dry_run { plan.report() } else { plan.carry_out().await? };
    let json = serde_json::to_string_pretty(&report)
        .map_err(|error| Failure::new("cannot write the report").caused_by(error))?;
    if let Some(file) = &args.report {
        fs::write(file, format!("{json}\n"))
            .map_err(|error| Failure::new(format!("cannot write {}", file.display())).caused_by(error))?;
    }
    print(args.format, &report, &json)?;
    report.failure().map_or(Ok(()), Err)
}

fn print(format: Format, report: &Report, json: &str) -> Result<(), Failure> {
    match format {
        Format::Text => cli::result(&report.to_string()),
        Format::Json => cli::result(json),
    }
}

fn destination(args: &MirrorArgs, of_list: Option<Place>) -> Result<Place, Failure> {
    let to = args.to.clone().or(of_list).ok_or_else(|| {
        let failure = Failure::new("it is not said where the images go");
        failure.hint("give --to docker://HOST/PREFIX, oci:DIR or oci-archive:FILE, or write `to` in the list").usage()
    })?;
    if args.since.is_some() && !matches!(to, Place::Archive(_)) {
        let hint = "leave --since out: other places are asked for what they have";
        return Err(Failure::new("--since goes with --to oci-archive:FILE only").hint(hint).usage());
    }
    if args.from.as_ref() == Some(&to) {
        return Err(Failure::new(format!("--from and --to are both {to}")).usage());
    }
    Ok(to)
}

/// What the arguments name and what the list has. `--platform` goes before the platforms of the list.
fn selections(args: &MirrorArgs, listed: Vec<Selection>) -> Result<Vec<Selection>, Failure> {
    // Parsed here rather than with the other arguments: that would repeat the text, and people paste passwords.
    let named = args.images.iter().map(|name| Ok(name.parse()?)).collect::<Result<Vec<Selection>, Failure>>()?;
    let all = named.into_iter().chain(listed).map(|selection| match &args.platforms[..] {
        [] => selection,
        platforms => Selection { platforms: platforms.to_vec(), ..selection },
    });
    Ok(all.collect())
}
