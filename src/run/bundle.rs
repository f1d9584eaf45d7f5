//! Bundles: a root filesystem and the `config.json` that says how it is run (runtime-spec, bundle.md).

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ociforge_layers::{LayerPath, links};
use ociforge_manifests::Image;
use ociforge_manifests::config::Config;
use ociforge_manifests::runtime::{ContainerRequest, Emitted, Host, SpecError, UserError, image_volumes, runtime_spec};

use super::etc::{self, EtcFiles};
use super::host;
use super::users::{self, UsersError};
use crate::error::Explain;
pub use crate::rootfs::writable::ROOTFS;

/// A bundle that can't be made of a root filesystem.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Image and request make no container.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The accounts of the root filesystem can't be read.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The working directory can't be made.
    #[error("cannot make the working directory {path} in the root filesystem")]
    Workdir {
        /// Its path in the container.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The place for one of the image's volumes can't be made.
    #[error("cannot make the image's volume {place}")]
    Volume {
        /// Where the volume goes.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// A file of the host's can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file can't be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A path that JSON can't hold.
    #[error("{} is not UTF-8, and a runtime spec can't hold it", .0.display())]
    NotUnicode(PathBuf),
}

impl Explain for BundleError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Spec(error) => Explain::hint(error),
            Self::Users(error) => error.hint(),
            Self::NotUnicode(_) => Some("choose another place".into()),
            Self::Workdir { .. } => Some("choose another with --workdir, such as --workdir /".into()),
            Self::Volume { .. } | Self::Read { .. } | Self::Write { .. } => None,
        }
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::Spec(error) if error.is_usage())
    }
}

/// Where a bundle is.
#[derive(Debug, Clone, Copy)]
pub struct Bundle<'a> {
    /// Where it is now.
    pub directory: &'a Path,
    /// Where it will be when it is run: absolute.
    pub destination: &'a Path,
}

/// Finds what is wrong with a request whatever the root filesystem has in it: before that is unpacked.
///
/// # Errors
/// When there is no spec for it.
pub fn check(image: &Image, request: &ContainerRequest, facts: &Host) -> Result<(), SpecError> {
    match runtime_spec(&image.config, &image.manifest.annotations, request, facts) {
        Ok(_) | Err(SpecError::User(UserError::NoAccounts { .. })) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Bundle<'_> {
    /// Writes what a bundle needs besides its root filesystem, which is there: files for the container's network, the
    /// working directory, and `config.json`. `facts` are the host's; what concerns the bundle is added to them.
    ///
    /// Volumes that the image declares are directories of the root filesystem itself, mounted onto themselves: what the
    /// image has there is in them, and they can be written to even where the rest is read-only.
    ///
    /// # Errors
    /// When there is no spec for it, or something can't be written.
    pub fn furnish(&self, image: &Image, request: &ContainerRequest, facts: Host) -> Result<Emitted, BundleError> {
        let root = self.directory.join(ROOTFS);
        let later = self.destination.join(ROOTFS);
        let annotations = &image.manifest.annotations;
        let network = EtcFiles { bundle: self, shared: etc::shares_network(annotations, request)? };
        let mut files = network.named(request)?;
        if facts.runs_here {
            files.append(&mut network.copies(&facts)?);
        }
        let host = Host { volumes: volumes(image, request, &root, &later)?, ..facts };
        let spec = self.spec(&image.config, annotations, request, Host { files, ..host })?;
        make_workdir(&root, &spec)?;
        self.write("config.json", &spec.bytes())?;
        Ok(spec)
    }

    /// The spec of a step of a build, whose root filesystem is the bundle's. Nothing of what the image says about its
    /// containers counts but variables, user and working directory.
    ///
    /// # Errors
    /// As [`Bundle::furnish`].
    pub fn step(&self, config: &Config, request: &ContainerRequest, facts: Host) -> Result<Emitted, BundleError> {
        let mut config = config.clone();
        config.config.volumes.clear();
        let annotations = BTreeMap::new();
        let files = EtcFiles { bundle: self, shared: etc::shares_network(&annotations, request)? }.named(request)?;
        let mut spec = self.spec(&config, &annotations, request, Host { files, ..facts })?;
        spec.refuse_keys();
        Ok(spec)
    }

    fn spec(
        &self,
        config: &Config,
        annotations: &BTreeMap<String, String>,
        request: &ContainerRequest,
        facts: Host,
    ) -> Result<Emitted, BundleError> {
        let host = Host {
            root: text(&self.destination.join(ROOTFS))?,
            users: Some(users::read(&self.directory.join(ROOTFS))?),
            ..facts
        };
        let mut spec = runtime_spec(config, annotations, request, &host)?;
        if request.rootless {
            host::keep_locked(&mut spec);
        }
        Ok(spec)
    }

    /// Writes a file, and returns where it will be.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<String, BundleError> {
        let path = self.directory.join(name);
        let written = fs::write(&path, bytes).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)));
        written.map_err(|source| BundleError::Write { path, source })?;
        text(&self.destination.join(name))
    }
}

/// Makes the working directory in `root` where it is missing, as docker does: a link in its path leads to where it would
/// lead the container, and what it leads to is made. What will be mounted is left to the runtime.
fn make_workdir(root: &Path, spec: &Emitted) -> Result<(), BundleError> {
    let path = spec.json["process"]["cwd"].as_str().unwrap_or("/");
    let unusable = |source| BundleError::Workdir { path: path.to_owned(), source };
    let place = LayerPath::new(path).map_err(|error| unusable(io::Error::other(error)))?;
    let place = links::follow_on_disk(root, &place).map_err(unusable)?;
    let mut mounted =
        spec.json["mounts"].as_array().into_iter().flatten().filter_map(|mount| mount["destination"].as_str());
    if !mounted.any(|mount| Path::new("/").join(place.as_path()).starts_with(mount)) {
        links::make_directories(root, &place).map_err(unusable)?;
    }
    Ok(())
}

/// The directories of `root` that are the image's volumes, made where they are missing: where each goes, and where it
/// will be once `root` is `later`. Where the user mounts something else none is made.
fn volumes(
    image: &Image,
    request: &ContainerRequest,
    root: &Path,
    later: &Path,
) -> Result<BTreeMap<String, String>, BundleError> {
    let mounted = request.volumes.iter().map(|volume| &volume.destination);
    let mounted: Vec<_> = mounted.chain(request.tmpfs.iter().map(|tmpfs| &tmpfs.destination)).collect();
    let mut volumes = BTreeMap::new();
    // What makes no sense is told when the spec is made.
    for place in image_volumes(&image.config, &mut Vec::new()) {
        if mounted.iter().any(|mount| Path::new(&place).starts_with(mount)) {
            continue;
        }
        let unusable = |source| BundleError::Volume { place: place.clone(), source };
        let path = LayerPath::new(&place).map_err(|error| unusable(io::Error::other(error)))?;
        let path = links::follow_on_disk(root, &path).map_err(unusable)?;
        links::make_directories(root, &path).map_err(unusable)?;
        volumes.insert(place.clone(), text(&later.join(path.as_path()))?);
    }
    Ok(volumes)
}

fn text(path: &Path) -> Result<String, BundleError> {
    path.to_str().map(str::to_owned).ok_or_else(|| BundleError::NotUnicode(path.to_owned()))
}
