//! The mounts of a step: files of the recipe's directory, caches, memory, secrets. The layer does not contain them.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use ociforge_layers::owner;
use ociforge_layers::unpack::OwnerPolicy;
use ociforge_manifests::runtime::{Size, Tmpfs, Volume};
use rustix::fs::{XattrFlags, fsetxattr};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use super::secrets::Secrets;
use super::{Builder, Sandbox, StepError};
use crate::layer::{LayerError, MountKind, StepMount, stays_inside};
use crate::plan::Plan;
use crate::rootfs::writable::{kind, owners};
use crate::store::{CacheMount, ContainerDirectory};
use crate::tables::Owner;
use ociforge_sandbox::overlay::{self, Layers, OverlayMount};
use ociforge_sandbox::step::copy_tree;
use ociforge_sandbox::{Confinement, Entered};

/// A mount of a step with its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvedMount {
    /// The mount point, absolute, without `.` and `..`.
    pub(super) to: String,
    /// The source of its content.
    pub(super) what: MountSource,
}

/// The kinds of sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MountSource {
    /// A file or directory of this machine.
    Bind { path: PathBuf, access: Access },
    /// A directory that later builds see again.
    Cache { id: String, locked: bool },
    /// A directory in memory.
    Tmpfs { size: Option<Size> },
    /// A file with a secret.
    Secret { id: String, mode: u32, owner: Option<Owner> },
}

/// The access of a step to a file of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Read-only.
    Read,
    /// Read and write; changes are discarded.
    Lose,
    /// Read and write.
    Write,
}

impl ResolvedMount {
    /// Resolves a mount of the recipe.
    pub(super) fn of(plan: &Plan, mount: &StepMount) -> Result<Self, StepError> {
        let what = match mount.kind.clone() {
            MountKind::Bind { from, writable } => {
                let path = plan.locate(&from);
                stays_inside(&plan.directory, &path)?;
                let path = path.canonicalize().map_err(|source| LayerError::Read { path: from, source })?;
                MountSource::Bind { path, access: if writable { Access::Lose } else { Access::Read } }
            }
            MountKind::Cache { id, locked } => MountSource::Cache { id, locked },
            MountKind::Tmpfs { size } => MountSource::Tmpfs { size },
            MountKind::Secret { id, mode, owner } => MountSource::Secret { id, mode, owner },
        };
        Ok(Self { to: mount.to.clone(), what })
    }
}

/// Prepared sources of mounts, valid until this is dropped.
pub(super) struct PreparedMounts {
    pub(super) volumes: Vec<Volume>,
    pub(super) tmpfs: Vec<Tmpfs>,
    /// By id, because a process cannot lock a cache twice.
    caches: BTreeMap<String, CacheMount>,
    overlays: Vec<OverlayMount>,
    memory: Option<Memory>,
    /// Dropped last: it contains the other sources.
    scratch: TempDir,
}

impl PreparedMounts {
    /// Prepares the sources in `directory`. May wait for other builds that use a cache.
    pub(super) fn make(
        step_mounts: &[ResolvedMount],
        builder: &Builder,
        sandbox: &Sandbox,
        directory: &ContainerDirectory,
    ) -> Result<Self, StepError> {
        let confinement = sandbox.entered.confinement();
        let scratch = tempfile::tempdir_in(directory.path()).map_err(StepError::Store)?;
        let (volumes, tmpfs, caches, overlays) = Default::default();
        let mut ready = Self { volumes, tmpfs, caches, overlays, memory: None, scratch };
        for (n, ResolvedMount { to, what }) in step_mounts.iter().enumerate() {
            let failed = |source| StepError::Mount { to: to.clone(), source };
            let (source, read_only) = match what {
                MountSource::Tmpfs { size } => {
                    ready.tmpfs.push(Tmpfs::scratch(to.clone(), *size));
                    continue;
                }
                // With chroot the step gets a copy in any case.
                MountSource::Bind { path, access: Access::Lose } if confinement == Confinement::Chroot => {
                    (path.clone(), true)
                }
                MountSource::Bind { path, access: Access::Lose } => {
                    let place = ready.scratch.path().join(n.to_string());
                    (ready.writable(path, place, &sandbox.entered).map_err(failed)?, false)
                }
                MountSource::Bind { path, access } => (path.clone(), *access == Access::Read),
                MountSource::Cache { id, .. } => {
                    if !ready.caches.contains_key(id) {
                        // With chroot a step gets the directory itself, so no other build may use it.
                        let locked = confinement == Confinement::Chroot || wants_lock(step_mounts, id);
                        let cache = open_cache(builder, sandbox, id, locked).map_err(failed)?;
                        ready.caches.insert(id.clone(), cache);
                    }
                    (ready.caches[id].path().to_owned(), false)
                }
                MountSource::Secret { id, mode, owner } => {
                    let memory = match ready.memory.take() {
                        Some(memory) => memory,
                        None => Memory::new(ready.scratch.path().join("secrets"), confinement).map_err(failed)?,
                    };
                    let file = memory.0.join(n.to_string());
                    ready.memory = Some(memory);
                    let (owner, remembers) = (*owner, owners(&sandbox.entered) == OwnerPolicy::Remembered);
                    write_secret(&sandbox.secrets, id, &file, *mode, owner, remembers).map_err(failed)?;
                    (file, true)
                }
            };
            let source = source.into_os_string().into_string();
            let source = source.map_err(|_| failed(io::Error::other("its path on this machine is not UTF-8")))?;
            ready.volumes.push(Volume::bind(source, to.clone(), read_only));
        }
        Ok(ready)
    }

    /// Makes a writable view of a file or directory in `place`, an overlay or a copy. The original does not change.
    fn writable(&mut self, path: &Path, place: PathBuf, entered: &Entered) -> io::Result<PathBuf> {
        if path.is_dir()
            && let Some(overlay) = over(path, &place.with_extension("over"), entered)?
        {
            let target = overlay.target().to_owned();
            self.overlays.push(overlay);
            return Ok(target);
        }
        copy_tree(path, &place)?;
        Ok(place)
    }
}

/// Mounts an overlay of a directory that writes to `place`; `None` if the kernel refuses it.
fn over(directory: &Path, place: &Path, entered: &Entered) -> io::Result<Option<OverlayMount>> {
    let [upper, work, target] = ["upper", "work", "merged"].map(|name| place.join(name));
    for new in [&upper, &work, &target] {
        fs::create_dir_all(new)?;
    }
    fs::set_permissions(&upper, fs::metadata(directory)?.permissions())?;
    let layers = Layers { lower: vec![directory.to_owned()], upper, work, volatile: true };
    Ok(overlay::mount(entered, &layers, &target).ok())
}

/// Whether any mount of the cache requests a lock.
fn wants_lock(step_mounts: &[ResolvedMount], wanted: &str) -> bool {
    step_mounts
        .iter()
        .any(|step_mount| matches!(&step_mount.what, MountSource::Cache { id, locked: true } if id == wanted))
}

fn open_cache(builder: &Builder, sandbox: &Sandbox, id: &str, locked: bool) -> io::Result<CacheMount> {
    let waiting = || builder.reporter.note(&format!("waiting for another build that uses the cache `{id}`"));
    let cancelled = || builder.cancel.is_cancelled();
    let kind = kind(&sandbox.entered, owners(&sandbox.entered));
    builder.store.caches().open(kind, id, locked, &waiting, &cancelled)
}

/// A directory in memory, so that secrets are not written to disk. With chroot it is on disk.
struct Memory(PathBuf);

impl Memory {
    fn new(place: PathBuf, confinement: Confinement) -> io::Result<Self> {
        fs::DirBuilder::new().mode(0o700).create(&place)?;
        if confinement == Confinement::Chroot {
            return Ok(Self(place));
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", &place, "tmpfs", flags, c"mode=0700,size=16m")?;
        Ok(Self(place))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
}

fn write_secret(
    secrets: &Secrets,
    id: &str,
    path: &Path,
    mode: u32,
    owner: Option<Owner>,
    remembers: bool,
) -> io::Result<()> {
    let value = secrets.get(id).ok_or(io::ErrorKind::NotFound)?;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&value)?;
    if let Some(Owner { uid, gid }) = owner {
        if remembers {
            let text = owner::OwnershipRecord { uid, gid, device: None }.to_string();
            fsetxattr(&file, owner::ATTRIBUTE, text.as_bytes(), XattrFlags::empty())?;
        } else {
            fchown(&file, Some(uid), Some(gid))?;
        }
    }
    file.set_permissions(Permissions::from_mode(mode))
}
