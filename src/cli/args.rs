//! What can be typed.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ociforge_manifests::lint::{Code, UnknownCode};
use ociforge_manifests::{ArchivedImage, ImageName, Platform};

use super::progress::Form;
use super::runtime_args::RuntimeArgs;
use super::transfer_args::{CopyArgs, GcArgs, LoginArgs, LogoutArgs, MirrorArgs, ServeArgs};
use crate::build::{SecretArg, SecretArgError};
use ociforge_sandbox::Isolation;

/// Assembles OCI images without a Docker daemon.
#[derive(Debug, Parser)]
#[command(name = "ociforge", version, propagate_version = true)]
pub struct Cli {
    /// What all commands take.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What all commands take.
#[derive(Debug, Args)]
pub struct Global {
    /// Directory for layers, wheels and images [default: $XDG_DATA_HOME/ociforge or ~/.local/share/ociforge]
    #[arg(long, global = true, env = "OCIFORGE_STORE", value_name = "DIR", help_heading = "Global options")]
    pub store: Option<PathBuf>,
    /// File with registry credentials, in the form of auth.json or docker's config.json
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub authfile: Option<PathBuf>,
    /// Accept registries with invalid certificates or plain HTTP when false; loopback addresses try HTTP by themselves
    #[arg(
        long,
        global = true,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = super::runtime_args::boolean,
        action = clap::ArgAction::Set,
        help_heading = "Global options"
    )]
    pub tls_verify: bool,
    /// How progress is shown on stderr
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM", help_heading = "Global options")]
    pub progress: Form,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image from a recipe
    Build(BuildArgs),
    /// Pin the base's digest and the wheels of a recipe in ociforge.lock
    Lock(LockArgs),
    /// Copy an image from any place to any other, with its signatures and other referrers
    Copy(CopyArgs),
    /// Copy many images to another registry, a layout or an archive, and from there
    Mirror(Box<MirrorArgs>),
    /// Show an image's manifest, config and layers
    Inspect(InspectArgs),
    /// Print the OCI runtime spec (config.json) of an image
    Spec(Box<SpecArgs>),
    /// Make a bundle of an image: its root filesystem, and the config.json that runc, crun and youki run it by
    Bundle(Box<BundleArgs>),
    /// Run an image by runc, crun or youki
    Run(Box<RunArgs>),
    /// Run a command in the user namespace that `bundle` and `run` work in, to see or remove files of theirs
    Unshare(UnshareArgs),
    /// Serve an OCI layout as a registry
    Serve(ServeArgs),
    /// Remove from an OCI layout what none of its images needs
    Gc(GcArgs),
    /// Say what this machine allows, and what to do about what it does not
    Doctor(DoctorArgs),
    /// Check a user's name and password against a registry, and keep them for later commands
    Login(LoginArgs),
    /// Forget the user's name and password for a registry
    Logout(LogoutArgs),
    /// Show or clean the store
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// `build`
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Recipe, or a directory with an ociforge.toml in it
    #[arg(default_value = ".", value_name = "RECIPE|DIR")]
    pub recipe: PathBuf,
    /// Recipe of another name, in place of the first argument's ociforge.toml
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Name of the image [default: the recipe's]; several are allowed
    #[arg(short, long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,
    /// Push the image under its names
    #[arg(long)]
    pub push: bool,
    /// Also write the image to oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] or docker://NAME; several
    /// are allowed
    #[arg(short, long = "output", value_name = "DEST", value_parser = destination)]
    pub outputs: Vec<ImageName>,
    /// Platform to build for [default: the recipe's, or linux/amd64]; several are allowed
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub platforms: Vec<Platform>,
    /// Value for a build argument; recipes have none
    #[arg(long = "build-arg", value_name = "KEY=VALUE", value_parser = key_value)]
    pub build_args: Vec<(String, String)>,
    /// Fail when ociforge.lock is missing or does not fit the recipe
    #[arg(long)]
    pub locked: bool,
    /// Make every layer anew
    #[arg(long)]
    pub no_cache: bool,
    /// Read the base's layers to place files by the base's own links and directories, even where common ones can be assumed
    #[arg(long)]
    pub check_base: bool,
    /// What steps see that run something.
    #[command(flatten)]
    pub steps: StepArgs,
    /// How layers are compressed
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub compression: CompressionKind,
    /// Level of the compression [default: 6 for gzip, 3 for zstd]
    #[arg(long, value_name = "N")]
    pub compression_level: Option<u8>,
    /// Silence a warning about the image, as [lint] allow does; several are allowed
    #[arg(long, value_name = "CODE", value_parser = lint_code)]
    pub allow: Vec<Code>,
    /// Blobs that move at a time
    #[arg(long, default_value_t = crate::transfer::DEFAULT_JOBS, value_name = "N")]
    pub jobs: usize,
    /// Write what was made, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Write the digest of the image's config, as docker does
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
}

/// Kinds of layer compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum CompressionKind {
    /// gzip, which everything reads; wheels are taken over without recompression.
    #[default]
    Gzip,
    /// zstd: smaller and faster to unpack; wheels are recompressed.
    Zstd,
    /// None.
    None,
}

/// `lock`
#[derive(Debug, Args)]
pub struct LockArgs {
    /// Recipe, or a directory with an ociforge.toml in it
    #[arg(default_value = ".", value_name = "RECIPE|DIR")]
    pub recipe: PathBuf,
    /// Recipe of another name
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Platform to lock for [default: the recipe's, or linux/amd64]; several are allowed
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub platforms: Vec<Platform>,
    /// What steps see that run something.
    #[command(flatten)]
    pub steps: StepArgs,
}

/// What `build` and `lock` take for steps that run something.
#[derive(Debug, Args)]
pub struct StepArgs {
    /// Secret that steps can mount: id=NAME,src=FILE or id=NAME,env=VARIABLE; several are allowed
    #[arg(long = "secret", value_name = "id=NAME,src=FILE", value_parser = Silent)]
    pub secrets: Vec<SecretArg>,
    /// How steps are isolated: auto, root, subuid (ids of /etc/subuid), one-uid (owners are remembered) or chroot
    #[arg(long, default_value_t, value_name = "KIND")]
    pub isolation: Isolation,
}

/// Reads a [`SecretArg`] without repeating what is wrong with it, as clap would.
#[derive(Clone)]
struct Silent;

impl TypedValueParser for Silent {
    type Value = SecretArg;

    fn parse_ref(&self, command: &clap::Command, _: Option<&Arg>, value: &OsStr) -> Result<SecretArg, clap::Error> {
        let parsed = value.to_str().ok_or(SecretArgError::Part).and_then(str::parse);
        parsed.map_err(|why| command.clone().error(ErrorKind::ValueValidation, format!("invalid --secret: {why}")))
    }
}

/// `inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Image
    #[arg(value_name = "REF")]
    pub image: String,
    /// Print the manifest or index, byte by byte
    #[arg(long, group = "what")]
    pub raw: bool,
    /// Print the image config
    #[arg(long, group = "what")]
    pub config: bool,
    /// List the layers
    #[arg(long, group = "what")]
    pub layers: bool,
    /// Platform, when the name stands for several images
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub format: Format,
}

/// Forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// `spec`
#[derive(Debug, Args)]
pub struct SpecArgs {
    /// Image
    #[arg(value_name = "REF")]
    pub image: String,
    /// Platform, when the name stands for several images
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// Directory of the root filesystem, as the spec is to name it; relative to the bundle unless absolute
    #[arg(long, value_name = "DIR", default_value = "rootfs")]
    pub rootfs: String,
    /// How a container is started.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// `bundle`
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// Image
    #[arg(value_name = "REF")]
    pub image: String,
    /// Directory of the bundle; it must not exist, or be empty
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Platform, when the name stands for several images
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// How a container is started.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// `run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Image
    #[arg(value_name = "REF")]
    pub image: String,
    /// Platform, when the name stands for several images
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// OCI runtime, by name or path [default: the first of runc, crun and youki that is installed]
    #[arg(long = "runtime", value_name = "PROGRAM")]
    pub program: Option<String>,
    /// How a container is started.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// `unshare`
#[derive(Debug, Args)]
pub struct UnshareArgs {
    /// The command and its arguments
    #[arg(value_name = "CMD", trailing_var_arg = true, required = true)]
    pub command: Vec<OsString>,
}

/// `doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Image that is to run here
    #[arg(value_name = "REF")]
    pub image: Option<String>,
    /// Version of NVIDIA's driver where the image is to run, such as 545.23.08 [default: the one that is loaded]
    #[arg(long, value_name = "VERSION", requires = "image")]
    pub driver_version: Option<String>,
    /// Platform, when the name stands for several images
    #[arg(long, value_name = "OS/ARCH", requires = "image")]
    pub platform: Option<Platform>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub format: Format,
}

/// `cache`
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show what the store holds
    Ls,
    /// Remove layers, wheels, facts about bases, the images that were built here, unpacked layers, ended containers and
    /// caches of steps
    Prune {
        /// Layers and the images that were built here, not wheels
        #[arg(long, group = "which")]
        layers: bool,
        /// Wheels, not layers and images
        #[arg(long, group = "which")]
        wheels: bool,
        /// What `run` has unpacked, and the containers that have ended
        #[arg(long, group = "which")]
        roots: bool,
        /// What steps of builds keep in their cache mounts
        #[arg(long, group = "which")]
        caches: bool,
    },
    /// Hash everything in the store, and remove what is damaged: the next build makes or fetches it again
    Verify,
    /// Print the store's directory
    Path,
}

/// A bare name could be meant as a file, so registries are written with their transport here.
fn destination(text: &str) -> Result<ImageName, String> {
    match text.parse() {
        Ok(ImageName::Registry(_)) if !text.starts_with("docker://") => {
            Err("expected oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] or docker://NAME".into())
        }
        Ok(ImageName::DockerArchive { image: Some(ArchivedImage::Named(name)), .. }) if name.digest().is_some() => {
            Err("an image in a docker-archive is called by a tag, not by a digest".into())
        }
        Ok(ImageName::DockerArchive { image: Some(ArchivedImage::At(_)), .. }) => {
            Err("an image is written into a docker-archive under a name, not at a place".into())
        }
        Ok(name) => Ok(name),
        Err(error) => Err(error.to_string()),
    }
}

fn lint_code(text: &str) -> Result<Code, String> {
    text.parse().map_err(|error: UnknownCode| error.hint())
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn build(arguments: &[&str]) -> Result<BuildArgs, String> {
        match Cli::try_parse_from(["ociforge", "build"].iter().chain(arguments)) {
            Ok(Cli { command: Command::Build(args), .. }) => Ok(args),
            Ok(_) => panic!(),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn steps_have_secrets_and_an_isolation() {
        Cli::command().debug_assert();
        let args =
            build(&["--secret", "id=a,src=b,type=file", "--secret=id=c,env=D", "--isolation", "one-uid"]).unwrap();
        assert_eq!(args.steps.secrets, ["id=a,src=b".parse().unwrap(), "id=c,env=D".parse().unwrap()]);
        assert_eq!(args.steps.isolation, Isolation::OneUid);
        assert_eq!(build(&[]).unwrap().steps.isolation, Isolation::Auto);
        let lock = Cli::try_parse_from(["ociforge", "lock", "--isolation=chroot", "--secret", "id=a,env=B"]);
        assert!(matches!(lock.unwrap().command, Command::Lock(LockArgs { steps, .. }) if steps.secrets.len() == 1));
        let error = build(&["--isolation", "docker"]).unwrap_err();
        assert!(error.contains("expected one of auto, root, subuid, one-uid, chroot"), "{error}");
    }

    #[test]
    fn a_password_in_the_place_of_a_secret_is_not_repeated() {
        for text in ["hunter2", "token=hunter2", "id=a,hunter2", "id=a hunter2,src=b"] {
            let error = build(&["--secret", text]).unwrap_err();
            assert!(error.starts_with("error: invalid --secret: ") && error.contains("--help"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
