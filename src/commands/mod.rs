//! The commands, one file for each. They only connect other modules.

mod build;
mod builder;
mod bundle;
mod cache;
mod completions;
mod container;
mod copy;
mod doctor;
mod gc;
mod inspect;
mod lock;
mod login;
mod logout;
mod mirror;
mod recipe;
mod reexec;
mod run;
mod serve;
mod spec;
mod unshare;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ociforge_manifests::ImageName;

use crate::cancel::Cancel;
use crate::cli::{self, CacheCommand, Cli, Command, Global};
use crate::error::Failure;
use crate::progress::Reporter;
use crate::registry::{Client, Settings, Warn};
use crate::store::{Layout, Store};
use crate::transport::ImageSource;
use ociforge_sandbox::{Entered, SandboxError};

/// The context of every command.
struct Context {
    global: Global,
    reporter: Arc<dyn Reporter>,
    cancel: Cancel,
    /// The namespaces of commands that unpack root filesystems.
    entered: Result<Arc<Entered>, Arc<SandboxError>>,
    /// The warnings of the registry client so far, to print each once.
    warned: Arc<Mutex<HashSet<String>>>,
}

/// Runs a command to its end, or up to its final process.
///
/// # Errors
/// When the command fails.
pub async fn run(
    cli: Cli,
    cancel: Cancel,
    entered: Result<Entered, SandboxError>,
) -> Result<Option<Box<dyn FinalProcess>>, Failure> {
    let reporter = cli::reporter(cli.global.progress);
    let entered = entered.map(Arc::new).map_err(Arc::new);
    let context = Context { global: cli.global, reporter, cancel, entered, warned: Arc::default() };
    if let Some(warning) = context.entered.as_ref().ok().and_then(|entered| entered.warning()) {
        context.reporter.warn(warning);
    }
    match cli.command {
        Command::Run(args) => return run::run(context, *args).await.map(Some).map_err(Failure::before_container),
        Command::Unshare(args) => return Ok(Some(unshare::run(args))),
        Command::Build(args) => return build::run(&context, args).await.or_else(reexec::or_reexec),
        Command::Lock(args) => return lock::run(&context, args).await.or_else(reexec::or_reexec),
        Command::Bundle(args) => bundle::run(&context, *args).await,
        Command::Copy(args) => copy::run(&context, &args).await,
        Command::Mirror(args) => mirror::run(&context, *args).await,
        Command::Inspect(args) => inspect::run(&context, &args).await,
        Command::Spec(args) => spec::run(&context, *args).await,
        Command::Serve(args) => serve::run(&context, args).await,
        Command::Gc(args) => gc::run(&context, args).await,
        Command::Doctor(args) => doctor::run(&context, &args).await,
        Command::Login(args) => login::run(&context, args).await,
        Command::Logout(args) => logout::run(&context, args).await,
        Command::Cache(command) => cache::run(&context, &command),
        Command::Completions { shell } => completions::run(shell),
    }
    .map(|()| None)
}

/// The last part of a command, after all async work: another process takes over the terminal and the signals.
pub trait FinalProcess {
    /// Runs the process and returns its exit code.
    ///
    /// # Errors
    /// When the process cannot be started.
    fn run(self: Box<Self>) -> Result<u8, Failure>;
}

/// Enters the namespaces that a command needs or may need. Call it before any thread starts.
///
/// # Errors
/// When the command requires namespaces and cannot enter them.
pub fn enter(command: &Command) -> Result<Result<Entered, SandboxError>, Failure> {
    match command {
        Command::Build(args) if reexec::is_reexecuted() || build::runs(args) => {
            Ok(ociforge_sandbox::enter_as(args.steps.isolation))
        }
        Command::Lock(args) if reexec::is_reexecuted() || lock::runs(args) => {
            Ok(ociforge_sandbox::enter_as(args.steps.isolation))
        }
        Command::Bundle(_) | Command::Unshare(_) => Ok(Ok(ociforge_sandbox::enter()?)),
        Command::Run(_) => Ok(Ok(ociforge_sandbox::enter().map_err(|error| Failure::from(error).before_container())?)),
        // On a machine that refuses user namespaces, the store has no files of other ids.
        Command::Cache(CacheCommand::Ls | CacheCommand::Prune { .. }) => match ociforge_sandbox::enter() {
            Err(error) if !matches!(error, SandboxError::Refused { .. }) => Err(error.into()),
            entered => Ok(entered),
        },
        _ => Ok(Err(SandboxError::Outside)),
    }
}

impl Context {
    /// The namespaces that the command has entered.
    fn entered(&self) -> Result<&Arc<Entered>, Failure> {
        self.entered.as_ref().map_err(|error| Failure::from(Arc::clone(error)))
    }

    /// Opens the store, and creates it if it is missing.
    fn store(&self) -> Result<Store, Failure> {
        let root = self.store_path()?;
        Store::open(&root).map_err(|error| {
            Failure::new(format!("cannot open the store {}", root.display()))
                .caused_by(error)
                .hint("choose another directory with --store or $OCIFORGE_STORE")
        })
    }

    /// The path of the store, which may not exist yet.
    fn store_path(&self) -> Result<PathBuf, Failure> {
        let from_env = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        let chosen = self.global.store.clone();
        let data = || from_env("XDG_DATA_HOME").or_else(|| Some(from_env("HOME")?.join(".local/share")));
        chosen.or_else(|| Some(data()?.join("ociforge"))).ok_or_else(|| {
            Failure::new("the store has no directory: neither $XDG_DATA_HOME nor $HOME is set")
                .hint("choose one with --store or $OCIFORGE_STORE")
                .usage()
        })
    }

    /// Finds the image `name`. As in docker, an image in the store has precedence over the registry; `docker://` queries
    /// only the registry.
    async fn find_image(&self, name: &str) -> Result<ImageSource, Failure> {
        let parsed: ImageName = name.parse()?;
        let store = self.store_path()?.join("layout");
        if let (ImageName::Registry(reference), false) = (&parsed, name.starts_with("docker://"))
            && let Ok(layout) = Layout::open(&store)
            // An error, because the image of the registry may be another one.
            && layout.has_name(&reference.whole()).map_err(|cause| cause.of(format!("read {}", store.display())))?
        {
            let directory = layout.root().to_owned();
            let built = ImageName::Layout { directory, tag: Some(reference.whole()) };
            return Ok(ImageSource { name: parsed.to_string(), ..ImageSource::open(&built, &self.client()?).await? });
        }
        Ok(ImageSource::open(&parsed, &self.client()?).await?)
    }

    /// The registry client.
    fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.settings())?)
    }

    /// The settings for registries from the arguments and the environment.
    fn settings(&self) -> Settings {
        let mut settings = Settings::from_env();
        settings.authfile = self.global.authfile.clone().or(settings.authfile);
        settings.tls_verify = self.global.tls_verify;
        settings.journal = self.store_path().ok().map(|store| store.join("uploads"));
        let (reporter, warned) = (Arc::clone(&self.reporter), Arc::clone(&self.warned));
        settings.warn = Warn::by(move |warning| {
            // The search for credentials, and its warnings, repeat for each repository.
            if warned.lock().unwrap_or_else(PoisonError::into_inner).insert(warning.to_owned()) {
                reporter.warn(warning);
            }
        });
        settings
    }
}
