//! `ociforge run`

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use ociforge_layers::unpack::{XattrSpace, try_whiteouts};
use ociforge_manifests::Platform;
use ociforge_manifests::runtime::{Host, Network, Request};

use super::{Context, Finale, container};
use crate::cli::RunArgs;
use crate::error::Failure;
use crate::run::bundle::{self, Bundle, ROOTFS};
use crate::run::container::{Container, Io};
use crate::run::host;
use crate::run::runtime::Runtime;
use crate::sandbox::overlay::{self, Layers, Overlay, OverlayError};
use crate::sandbox::{Entered, Ids};
use crate::store::{ContainerDirectory, Store};

pub(super) async fn run(context: Context, args: RunArgs) -> Result<Box<dyn Finale>, Failure> {
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
        Failure::new(format!("cannot make a directory for the container in {}", store.containers().display()))
            .caused_by(error)
            .hint("choose another place with --store or $OCIFORGE_STORE")
    })?;
    let directory = Arc::new(directory);
    name(&mut request, directory.id());
    let root = root(&context, &store, &directory, &image).await?;
    let bundle = Bundle { directory: directory.path(), destination: directory.path() };
    let spec = bundle.furnish(&image.image, &request, facts)?;
    context.warn_all(&spec.warnings);
    if !remove {
        let kept = format!("the container's files stay in {}; --rm removes them", directory.path().display());
        context.reporter.note(&kept);
    }
    let entered = context.entered.ok_or_else(|| Failure::new("there are no namespaces to run it in"))?;
    Ok(Box::new(Ready { runtime, io, _root: root, directory, entered }))
}

/// Makes the directories of volumes that are not there, as docker does.
fn make_sources(context: &Context, request: &Request) -> Result<(), Failure> {
    for source in request.volumes.iter().map(|volume| Path::new(&volume.source)).filter(|source| !source.exists()) {
        fs::create_dir_all(source).map_err(|error| {
            Failure::new(format!("cannot make the volume's source {}", source.display())).caused_by(error)
        })?;
        context.reporter.note(&format!("made the directory {} for a volume", source.display()));
    }
    Ok(())
}

/// Gives the container a name, as docker does: its id, or the host's on the host's network.
fn name(request: &mut Request, id: &str) {
    if request.hostname.is_none() {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = if request.settings.network == Some(Network::Host) { &host } else { id };
        request.hostname = name.parse().ok();
    }
}

/// What to tell of an image for another kind of machine.
fn foreign(platform: &Platform) -> Vec<String> {
    let here = host::architecture();
    // The processors of one run the programs of the other.
    let runs = [("amd64", "386"), ("arm64", "arm")].contains(&(here, &platform.architecture));
    if platform.architecture == here || runs {
        return Vec::new();
    }
    vec![format!(
        "the image is for {platform} and this machine is {here}: without an emulator, such as that of the package \
         qemu-user-static, its programs can't be started"
    )]
}

/// Makes the container's root filesystem: the image's layers with what the container writes on top, or, where no overlay
/// can be mounted, a copy of them.
async fn root(
    context: &Context,
    store: &Store,
    directory: &Arc<ContainerDirectory>,
    image: &container::Located,
) -> Result<Option<Overlay>, Failure> {
    let target = directory.path().join(ROOTFS);
    let Some(entered) = &context.entered else { return Ok(None) };
    let unpacker = context.unpacker(&*image.source);
    let cannot = |error| Failure::new("cannot write the container's files").caused_by(error);
    let (kind, space) = match entered.ids() {
        Ids::All => ("all", XattrSpace::Trusted),
        Ids::Ranges => ("ranges", XattrSpace::User),
        Ids::OneId => ("one", XattrSpace::User),
    };
    // Before anything is unpacked for it.
    if let Err(Failure { message, causes, .. }) = try_overlay(entered, space, directory.path()).map_err(cannot)? {
        let reasons = causes.join("; ");
        context.reporter.warn(&format!("the image is copied, which takes time and space: {message}: {reasons}"));
        let losses = unpacker.flat(&image.image, directory, ROOTFS).await?;
        context.warn_all(&losses.warnings());
        return Ok(None);
    }
    let (mut lower, losses) = unpacker.stack(&image.image, &store.roots(kind, space)).await?;
    context.warn_all(&losses.warnings());
    lower.reverse();
    let [upper, work, empty] = ["upper", "work", "empty"].map(|name| directory.path().join(name));
    for new in [&target, &upper, &work, &empty] {
        fs::create_dir(new).map_err(cannot)?;
    }
    // An image may have no layers, but an overlay needs one.
    fs::set_permissions(&empty, Permissions::from_mode(0o755)).map_err(cannot)?;
    lower.push(empty);
    take_after(&lower[0], &upper).map_err(cannot)?;
    let layers = Layers { lower, upper, work, volatile: directory.is_removed() };
    Ok(Some(overlay::mount(entered, &layers, &target)?))
}

/// Gives `directory` the owner and mode of `model`: the root of an overlay has those of the upper directory.
fn take_after(model: &Path, directory: &Path) -> io::Result<()> {
    let model = fs::metadata(model)?;
    std::os::unix::fs::chown(directory, Some(model.uid()), Some(model.gid()))?;
    fs::set_permissions(directory, Permissions::from_mode(model.mode() & 0o7777))
}

/// Tries to mount an overlay of nothing where the container's will be, and to make what its layers need.
fn try_overlay(entered: &Entered, space: XattrSpace, directory: &Path) -> io::Result<Result<(), Failure>> {
    let place = tempfile::tempdir_in(directory)?;
    let [lower, upper, work, target] = ["lower", "upper", "work", "target"].map(|name| place.path().join(name));
    for new in [&lower, &upper, &work, &target] {
        fs::create_dir(new)?;
    }
    if let Err(error) = try_whiteouts(&lower, space) {
        return Ok(Err(Failure::new("whiteouts can't be kept in the store").caused_by(error)));
    }
    let layers = Layers { lower: vec![lower], upper, work, volatile: false };
    match overlay::mount(entered, &layers, &target) {
        Ok(_) => Ok(Ok(())),
        Err(OverlayError::Directory { source, .. }) => Err(source),
        Err(refused) => Ok(Err(refused.into())),
    }
}

/// A container that is about to be run. Its mount goes before its directory does.
struct Ready {
    runtime: Runtime,
    io: Io,
    _root: Option<Overlay>,
    directory: Arc<ContainerDirectory>,
    entered: Entered,
}

impl Finale for Ready {
    fn play(self: Box<Self>) -> Result<u8, Failure> {
        let state = self.directory.path().join("state");
        let container =
            Container { bundle: self.directory.path(), id: self.directory.id(), state_root: &state, io: self.io };
        container.run(&self.runtime, &self.entered).map_err(|error| {
            let code = error.exit_code();
            Failure { code, ..Failure::from(error) }
        })
    }
}
