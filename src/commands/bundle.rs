//! `ociforge bundle`

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::{Context, container};
use crate::cli::{self, BundleArgs};
use crate::error::Failure;
use crate::run::bundle::{self, Bundle, ROOTFS};
use crate::run::host;

pub(super) async fn run(context: &Context, args: BundleArgs) -> Result<(), Failure> {
    let overrides = args.runtime.overrides()?;
    let request = args.runtime.into_request(|key| std::env::var_os(key))?;
    let cannot = || format!("cannot create the bundle {}", args.directory.display());
    let destination = place(&args.directory).map_err(|failure| failure.during(cannot()))?;
    let image = container::image(context, &args.image, args.platform.as_ref()).await?;
    let mut facts = host::facts(overrides);
    // The bundle will run outside of the user namespace that this command unpacks it in.
    facts.inside_user_namespace &= !context.entered.as_ref().is_ok_and(|entered| entered.is_new());
    bundle::check(&image.image, &request, &facts)?;
    let staging = Staging::beside(&destination).map_err(|error| Failure::new(cannot()).caused_by(error))?;
    let staging = Arc::new(staging);
    let losses = context.unpacker(&*image.source).flat(&image.image, &staging, ROOTFS).await?;
    context.warn_all(&losses.warnings());
    let directory = staging.directory.path();
    let spec = Bundle { directory, destination: &destination }.furnish(&image.image, &request, facts)?;
    context.warn_all(&spec.warnings);
    fs::rename(directory, &destination).map_err(|error| Failure::new(cannot()).caused_by(error))?;
    cli::result(&destination.display().to_string())
}

/// The directory of the bundle as an absolute path without links. It must be missing or empty.
fn place(directory: &Path) -> Result<PathBuf, Failure> {
    let refused = |why: &str| Failure::new(why).hint("name a directory that does not exist, or is empty").usage();
    match fs::read_dir(directory).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(refused("the directory is not empty")),
        Ok(false) => {
            return directory
                .canonicalize()
                .map_err(|error| refused("the absolute path of the directory is unknown").caused_by(error));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(refused("the directory cannot be read").caused_by(error));
        }
        Err(_) if directory.is_symlink() => return Err(refused("it is a dangling link")),
        Err(_) => {}
    }
    std::path::absolute(directory)
        .map_err(|error| refused("the absolute path of the directory is unknown").caused_by(error))
}

/// The temporary directory for a new bundle, so that the destination never holds an incomplete one. Dropping it removes
/// the directory, and the parent directories that were created for it if they are empty.
struct Staging {
    directory: TempDir,
    _parents: CreatedDirectories,
}

impl Staging {
    fn beside(destination: &Path) -> io::Result<Self> {
        let parent = destination.parent().unwrap_or(Path::new("/"));
        let missing = parent.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        let parents = CreatedDirectories(missing);
        fs::create_dir_all(parent)?;
        // Other users must not reach setuid files of root.
        let mut builder = tempfile::Builder::new();
        let directory = builder.prefix(".ociforge-").permissions(Permissions::from_mode(0o700)).tempdir_in(parent)?;
        Ok(Self { directory, _parents: parents })
    }
}

impl AsRef<Path> for Staging {
    fn as_ref(&self) -> &Path {
        self.directory.path()
    }
}

/// Created directories, the innermost first.
struct CreatedDirectories(Vec<PathBuf>);

impl Drop for CreatedDirectories {
    fn drop(&mut self) {
        // Stop at the first directory that is not empty.
        let _ = self.0.iter().try_for_each(fs::remove_dir);
    }
}
