//! `ociforge cache`

use std::fs;
use std::io;
use std::path::Path;

use super::Context;
use crate::cli::{self, CacheCommand, human_bytes};
use crate::error::Failure;

/// What the store holds, as one lists and prunes it: name, directories in the store.
const KINDS: [(&str, &[&str]); 3] =
    [("layers and images", &["layout", "layers", "tmp"]), ("wheels", &["wheels"]), ("facts about bases", &["facts"])];

pub(super) fn run(context: &Context, command: &CacheCommand) -> Result<(), Failure> {
    let root = context.store_path()?;
    match command {
        CacheCommand::Path => cli::result(&root.display().to_string()),
        CacheCommand::Ls => {
            for (name, directories) in KINDS {
                let (files, bytes) =
                    directories.iter().map(|d| usage(&root.join(d))).fold((0, 0), |(f, b), (g, c)| (f + g, b + c));
                cli::result(&format!("{name:<20} {files:>7} files {:>10}", human_bytes(bytes)))?;
            }
            Ok(())
        }
        CacheCommand::Prune { layers, wheels } => {
            let all = !layers && !wheels;
            let chosen = [all || *layers, all || *wheels, all];
            let mut freed = 0;
            for ((_, directories), _) in KINDS.iter().zip(chosen).filter(|(_, chosen)| *chosen) {
                for directory in *directories {
                    let directory = root.join(directory);
                    freed += usage(&directory).1;
                    remove(&directory)?;
                }
            }
            context.reporter.note(&format!("freed {}", human_bytes(freed)));
            Ok(())
        }
    }
}

fn remove(directory: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::new(format!("cannot remove {}", directory.display())).caused_by(error))
        }
        _ => Ok(()),
    }
}

/// Files and bytes below `directory`, as far as it can be read.
fn usage(directory: &Path) -> (u64, u64) {
    let Ok(entries) = fs::read_dir(directory) else { return (0, 0) };
    entries.flatten().fold((0, 0), |(files, bytes), entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            let (inner_files, inner_bytes) = usage(&entry.path());
            (files + inner_files, bytes + inner_bytes)
        }
        Ok(metadata) => (files + 1, bytes + metadata.len()),
        Err(_) => (files, bytes),
    })
}
