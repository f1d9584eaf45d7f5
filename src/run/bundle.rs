//! Bundles: a root filesystem and its `config.json` (runtime-spec, bundle.md).

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

/// An error of creating a bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The image and the request are incompatible.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The accounts of the root filesystem cannot be read.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The working directory cannot be created.
    #[error("cannot create the working directory {path} in the root filesystem")]
    Workdir {
        /// Its path in the container.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The directory of one of the image's volumes cannot be created.
    #[error("cannot create the image's volume {place}")]
    Volume {
        /// The destination of the volume.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// A file of the host's cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A path that is not UTF-8.
    #[error("{} is not UTF-8, which a runtime spec requires", .0.display())]
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

/// The location of a bundle.
#[derive(Debug, Clone, Copy)]
pub struct Bundle<'a> {
    /// The current directory of the bundle.
    pub directory: &'a Path,
    /// The absolute directory of the bundle at run time.
    pub destination: &'a Path,
}

/// Checks a request without the root filesystem, before the root filesystem is unpacked.
///
/// # Errors
/// When the request has no spec.
pub fn check(image: &Image, request: &ContainerRequest, facts: &Host) -> Result<(), SpecError> {
    match runtime_spec(&image.config, &image.manifest.annotations, request, facts) {
        Ok(_) | Err(SpecError::User(UserError::NoAccounts { .. })) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Bundle<'_> {
    /// Writes the files of a bundle besides its existing root filesystem: files for the container's network, the
    /// working directory, and `config.json`. `facts` are those of the host; facts about the bundle are added.
    ///
    /// Volumes of the image are directories of the root filesystem, mounted onto themselves: they have the image's
    /// content, and are writable even in a read-only root filesystem.
    ///
    /// # Errors
    /// When the request has no spec, or a file cannot be written.
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

    /// The spec of a build step in the bundle's root filesystem. Of the image's config, only variables, user and
    /// working directory are used.
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

/// Creates a missing working directory in `root`, as docker does: links in its path are resolved inside the root, and
/// their targets are created. Paths below mounts are left to the runtime.
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

/// The directories of the image's volumes in `root`, created if they are missing: the destination of each, and its path
/// when `root` is at `later`. A mount of the user replaces a volume.
fn volumes(
    image: &Image,
    request: &ContainerRequest,
    root: &Path,
    later: &Path,
) -> Result<BTreeMap<String, String>, BundleError> {
    let mounted = request.volumes.iter().map(|volume| &volume.destination);
    let mounted: Vec<_> = mounted.chain(request.tmpfs.iter().map(|tmpfs| &tmpfs.destination)).collect();
    let mut volumes = BTreeMap::new();
    // The creation of the spec reports invalid paths.
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
