//! `ociforge run`

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ociforge_manifests::Platform;
use ociforge_manifests::runtime::{ContainerRequest, Host, Network};

use super::{Context, FinalProcess, container};
use crate::cli::RunArgs;
use crate::error::Failure;
use crate::rootfs::writable::WritableRootfs;
use crate::run::bundle::{self, Bundle};
use crate::run::container::{Container, Io};
use crate::run::host;
use crate::run::runtime::Runtime;
use crate::store::ContainerDirectory;
use ociforge_sandbox::Entered;

pub(super) async fn run(context: Context, args: RunArgs) -> Result<Box<dyn FinalProcess>, Failure> {
    let remove = args.runtime.rm;
    let overrides = args.runtime.overrides()?;
    let mut request = args.runtime.into_request(|key| std::env::var_os(key))?;
    let runtime = Runtime::find(args.program.as_deref(), std::env::var_os("PATH").as_deref())?;
    let io = Io { tty: request.tty, interactive: request.interactive };
    io.check()?;
    let image = container::image(&context, &args.image, args.platform.as_ref()).await?;
    let facts = Host { runs_here: true, ..host::facts(overrides) };
    context.warn_all(&foreign(&image.image.config.platform));
    bundle::check(&image.image, &request, &facts)?;
    let store = context.store()?;
    make_sources(&context, &request)?;
    let directory = ContainerDirectory::create(&store.containers(), remove).map_err(|error| {
        Failure::new(format!("cannot create a directory for the container in {}", store.containers().display()))
            .caused_by(error)
            .hint("choose another directory with --store or $OCIFORGE_STORE")
    })?;
    let directory = Arc::new(directory);
    name(&mut request, directory.id());
    let entered = context.entered()?.clone();
    let unpacker = context.unpacker(&*image.source);
    let (rootfs, losses) = WritableRootfs::make(&entered, &unpacker, &store, &image.image, &directory).await?;
    context.warn_all(&losses.warnings());
    let bundle = Bundle { directory: directory.path(), destination: directory.path() };
    let facts = Host { hook_annotations: runtime.hook_annotations(directory.path()), ..facts };
    let spec = bundle.furnish(&image.image, &request, facts)?;
    context.warn_all(&spec.warnings);
    if !remove {
        let kept = format!("the container's files stay in {}; --rm removes them", directory.path().display());
        context.reporter.note(&kept);
    }
    Ok(Box::new(Ready { runtime, io, _rootfs: rootfs, directory, entered }))
}

/// Creates missing source directories of volumes, as docker does.
fn make_sources(context: &Context, request: &ContainerRequest) -> Result<(), Failure> {
    for source in request.volumes.iter().map(|volume| Path::new(&volume.source)).filter(|source| !source.exists()) {
        fs::create_dir_all(source).map_err(|error| {
            Failure::new(format!("cannot create the volume's source {}", source.display())).caused_by(error)
        })?;
        context.reporter.note(&format!("created the directory {} for a volume", source.display()));
    }
    Ok(())
}

/// Sets the host name, as docker does: the id of the container, or the host's name on the host's network.
fn name(request: &mut ContainerRequest, id: &str) {
    if request.hostname.is_none() {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = if request.settings.network == Some(Network::Host) { &host } else { id };
        request.hostname = name.parse().ok();
    }
}

/// Warnings about an image for another architecture.
fn foreign(platform: &Platform) -> Vec<String> {
    let here = host::architecture();
    // Processors of the first kind also run programs of the second.
    let runs = [("amd64", "386"), ("arm64", "arm")].contains(&(here, &platform.architecture));
    if platform.architecture == here || runs {
        return Vec::new();
    }
    vec![format!(
        "the image is for {platform} and this machine is {here}: its programs need an emulator, such as the package \
            qemu-user-static"
    )]
}

/// A container that is ready to start. The order of the fields drops its mount before its directory.
struct Ready {
    runtime: Runtime,
    io: Io,
    _rootfs: WritableRootfs,
    directory: Arc<ContainerDirectory>,
    entered: Arc<Entered>,
}

impl FinalProcess for Ready {
    fn run(self: Box<Self>) -> Result<u8, Failure> {
        let state = self.directory.path().join("state");
        let container =
            Container { bundle: self.directory.path(), id: self.directory.id(), state_root: &state, io: self.io };
        container.run(&self.runtime, &self.entered).map_err(|error| {
            let code = error.exit_code();
            Failure { code, ..Failure::from(error) }
        })
    }
}
