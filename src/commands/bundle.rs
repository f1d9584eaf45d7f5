//! `ociforge bundle`

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Context, container};
use crate::cli::{self, BundleArgs};
use crate::error::Failure;
use crate::run::bundle::{Bundle, ROOTFS};
use crate::run::host;
use crate::sandbox::Entered;

pub(super) async fn run(context: &Context, args: BundleArgs) -> Result<(), Failure> {
    let overrides = args.runtime.overrides()?;
    let request = args.runtime.into_request(|key| std::env::var_os(key))?;
    let cannot = || format!("cannot make the bundle {}", args.directory.display());
    let destination = place(&args.directory).map_err(|failure| failure.during(cannot()))?;
    let image = container::image(context, &args.image, args.platform.as_ref()).await?;
    // Beside its place, so that what is there is whole.
    let parent = destination.parent().unwrap_or(Path::new("/"));
    let staging = tempfile::Builder::new().prefix(".ociforge-").tempdir_in(parent);
    let staging = staging.map_err(|error| Failure::new(cannot()).caused_by(error))?;
    let losses = context.unpacker(&*image.source).flat(&image.image, &staging.path().join(ROOTFS)).await?;
    context.warn_all(&losses.warnings());
    let mut facts = host::facts(overrides);
    // Whoever runs the bundle will be outside of the namespace that was made to unpack it in.
    facts.inside_user_namespace &= !context.entered.as_ref().is_some_and(Entered::is_new);
    let spec =
        Bundle { directory: staging.path(), destination: &destination }.furnish(&image.image, &request, facts)?;
    context.warn_all(&spec.warnings);
    fs::rename(staging.path(), &destination).map_err(|error| Failure::new(cannot()).caused_by(error))?;
    cli::result(&destination.display().to_string())
}

/// Where the bundle goes, absolute: a directory that does not exist, or is empty.
fn place(directory: &Path) -> Result<PathBuf, Failure> {
    let hint = "name a directory that does not exist, or is empty";
    match fs::read_dir(directory).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(Failure::new("there is something in the directory").hint(hint).usage()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::new("the directory can't be read").caused_by(error).hint(hint).usage());
        }
        _ => {}
    }
    let absolute = std::path::absolute(directory).map_err(|error| Failure::new("where is it?").caused_by(error))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(Failure::new("the directory has no name").hint(hint).usage());
    };
    let made = fs::create_dir_all(parent).and_then(|()| parent.canonicalize());
    let parent = made.map_err(|error| Failure::new(format!("cannot make {}", parent.display())).caused_by(error))?;
    Ok(parent.join(name))
}
