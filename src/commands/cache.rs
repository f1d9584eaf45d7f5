//! `ociforge cache`

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Context;
use crate::cli::{self, CacheCommand, human_bytes};
use crate::error::Failure;
use crate::store::{Caches, prune_containers};

/// The content of the store by kind, for `ls` and `prune`: name, directories in the store.
const KINDS: [(&str, &[&str]); 7] = [
    ("layers and images", &["layout", "layers", "tmp"]),
    ("wheels", &["wheels", "built", "hashes"]),
    ("facts about bases", &["facts"]),
    ("unpacked layers", &[ROOTS, "stamps"]),
    ("containers", &[CONTAINERS]),
    ("steps that run", &[STEPS]),
    ("caches of steps", &[CACHES]),
];

const ROOTS: &str = "roots";
const CONTAINERS: &str = "containers";
const STEPS: &str = "steps";
const CACHES: &str = "caches";

pub(super) fn run(context: &Context, command: &CacheCommand) -> Result<(), Failure> {
    let root = context.store_path()?;
    match command {
        CacheCommand::Path => cli::result(&root.display().to_string()),
        CacheCommand::Ls => {
            for (name, directories) in KINDS {
                let (files, bytes) = usage_of(&root, directories);
                cli::result(&format!("{name:<20} {files:>7} files {:>10}", human_bytes(bytes)))?;
            }
            Ok(())
        }
        CacheCommand::Verify => verify(context),
        CacheCommand::Prune { layers, wheels, roots, caches } => {
            let all = !layers && !wheels && !roots && !caches;
            let used = |directories| usage_of(&root, directories).1;
            let before: u64 = KINDS.iter().map(|(_, directories)| used(directories)).sum();
            let roots = (all || *roots) && !is_needed(context, &root)?;
            let chosen = [all || *layers, all || *wheels, all, roots, roots, roots];
            for ((_, directories), _) in KINDS.iter().zip(chosen).filter(|(_, chosen)| *chosen) {
                directories.iter().try_for_each(|directory| remove(&root.join(directory)))?;
            }
            if all || *caches {
                prune_caches(context, &root)?;
            }
            let after = KINDS.iter().map(|(_, directories)| used(directories)).sum();
            context.reporter.note(&format!("freed {}", human_bytes(before.saturating_sub(after))));
            Ok(())
        }
    }
}

/// Fails if a file was damaged, so that scripts notice.
fn verify(context: &Context) -> Result<(), Failure> {
    let store = context.store()?;
    let task = context.reporter.task("hash the store", None);
    let checked = store.check_all(|bytes| task.advance(bytes));
    let checked = checked.map_err(|error| Failure::new("cannot check the store").caused_by(error))?;
    task.done(&format!("{} files, {}", checked.files, human_bytes(checked.bytes)));
    for path in &checked.damaged {
        context.reporter.warn(&format!("{} is damaged: ociforge removed it", path.display()));
    }
    match checked.damaged.len() {
        0 => Ok(()),
        damaged => Err(Failure::new(format!("damaged in the store: {damaged}"))
            .hint("run the build again: it creates or downloads the removed files; check the disk for faults")),
    }
}

/// Removes the files of ended containers and steps. Returns whether others still run and need the unpacked layers.
fn is_needed(context: &Context, root: &Path) -> Result<bool, Failure> {
    let mut living = 0;
    for directory in [CONTAINERS, STEPS] {
        living += prune_containers(&root.join(directory))
            .map_err(|error| Failure::new("cannot remove a container").caused_by(error))?;
    }
    if living > 0 {
        // Their root filesystems consist of these layers.
        let stay = format!("ociforge keeps all unpacked layers, and the files of running containers: {living}");
        context.reporter.note(&stay);
    }
    Ok(living > 0)
}

fn prune_caches(context: &Context, root: &Path) -> Result<(), Failure> {
    let used = Caches::new(root.join(CACHES))
        .prune()
        .map_err(|error| Failure::new("cannot remove a cache").caused_by(error))?;
    if used > 0 {
        context.reporter.note(&format!("ociforge keeps the caches of running builds: {used}"));
    }
    Ok(())
}

/// The numbers of files and bytes in `directories` of the store.
fn usage_of(root: &Path, directories: &[&str]) -> (u64, u64) {
    directories.iter().map(|d| usage(&root.join(d))).fold((0, 0), |(f, b), (g, c)| (f + g, b + c))
}

fn remove(directory: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::new(format!("cannot remove {}", directory.display())).caused_by(error))
        }
        _ => Ok(()),
    }
}

/// The numbers of files and bytes below `directory`. Unreadable directories count as empty.
fn usage(directory: &Path) -> (u64, u64) {
    let Ok(entries) = fs::read_dir(directory) else { return (0, 0) };
    entries.flatten().fold((0, 0), |(files, bytes), entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            let (inner_files, inner_bytes) = usage(&entry.path());
            (files + inner_files, bytes + inner_bytes)
        }
        // All hard links of a file are below the same directory.
        Ok(metadata) => (files + 1, bytes + metadata.len() / metadata.nlink().max(1)),
        Err(_) => (files, bytes),
    })
}
