//! The arguments of the command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{RangedU64ValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ociforge_manifests::lint::{LintCode, UnknownCode};
use ociforge_manifests::{ImageName, Platform};

use super::progress::ProgressFormat;
use super::runtime_args::RuntimeArgs;
use super::transfer_args::{CopyArgs, GcArgs, LoginArgs, LogoutArgs, MirrorArgs, ServeArgs};
use crate::build::{SecretArg, SecretArgError};
use crate::transport;
use ociforge_sandbox::Isolation;

/// Assembles OCI images without a Docker daemon.
#[derive(Debug, Parser)]
#[command(name = "ociforge", version, propagate_version = true)]
pub struct Cli {
    /// The flags of all commands.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The flags of all commands.
#[derive(Debug, Args)]
pub struct Global {
    /// Directory that keeps layers, wheels and images [default: $XDG_DATA_HOME/ociforge or ~/.local/share/ociforge]
    #[arg(long, global = true, env = "OCIFORGE_STORE", value_name = "DIR", help_heading = "Global options")]
    pub store: Option<PathBuf>,
    /// File with registry credentials, in the format of auth.json or docker's config.json
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub authfile: Option<PathBuf>,
    /// Verify certificates and require HTTPS (loopback may use HTTP); false accepts invalid certificates and HTTP
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
    /// Format of progress on stderr
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM", help_heading = "Global options")]
    pub progress: ProgressFormat,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image from a recipe
    Build(BuildArgs),
    /// Pin the base's digest and the wheels of a recipe in ociforge.lock
    Lock(LockArgs),
    /// Copy an image between registries, layouts and archives, with its signatures and other referrers
    Copy(CopyArgs),
    /// Copy many images to or from a registry, a layout or an archive
    Mirror(Box<MirrorArgs>),
    /// Show an image's manifest, config and layers
    Inspect(InspectArgs),
    /// Print the OCI runtime spec (config.json) of an image
    Spec(Box<SpecArgs>),
    /// Create a bundle for runc, crun or youki: the image's root filesystem and its config.json
    Bundle(Box<BundleArgs>),
    /// Run an image with runc, crun or youki
    Run(Box<RunArgs>),
    /// Run a command in the user namespace of `bundle` and `run`, for example to remove their files
    Unshare(UnshareArgs),
    /// Serve an OCI layout as a registry
    Serve(ServeArgs),
    /// Remove blobs that no image needs from an OCI layout
    Gc(GcArgs),
    /// Report what this machine allows, and how to fix what is missing
    Doctor(DoctorArgs),
    /// Check a user name and a password with a registry, and store them for later commands
    Login(LoginArgs),
    /// Remove the stored user name and password for a registry
    Logout(LogoutArgs),
    /// List, prune or verify the store
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Print a completion script for a shell
    Completions {
        /// Shell
        shell: Shell,
    },
}

/// The recipe that a command reads.
#[derive(Debug, Args)]
pub struct RecipeArgs {
    /// Recipe, or a directory with an ociforge.toml [default: .]
    #[arg(value_name = "RECIPE|DIR")]
    pub recipe: Option<PathBuf>,
    /// Recipe; the first argument is then the directory that relative paths of the recipe start from
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `build`
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The recipe.
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Name of the image, may be repeated [default: the recipe's `name`]
    #[arg(short, long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,
    /// Push the image under its names
    #[arg(long)]
    pub push: bool,
    /// Also write the image to oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] or docker://NAME, may
    /// be repeated
    #[arg(short, long = "output", value_name = "DEST", value_parser = destination)]
    pub outputs: Vec<ImageName>,
    /// Platforms to build for, separated by commas [default: the recipe's `platforms`, or linux/amd64]
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub platforms: Vec<Platform>,
    /// Build argument; an error, because recipes have no build arguments
    #[arg(long = "build-arg", value_name = "KEY=VALUE", value_parser = key_value)]
    pub build_args: Vec<(String, String)>,
    /// Fail if ociforge.lock is missing or does not match the recipe
    #[arg(long)]
    pub locked: bool,
    /// Build every layer again, even if the store has it
    #[arg(long)]
    pub no_cache: bool,
    /// Read the base's layers for its links and directories, instead of assuming those that are common
    #[arg(long)]
    pub check_base: bool,
    /// Flags for steps that run a process.
    #[command(flatten)]
    pub steps: StepArgs,
    /// Compression of layers
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub compression: CompressionKind,
    /// Compression level [default: 6 for gzip, 3 for zstd]
    #[arg(long, value_name = "N")]
    pub compression_level: Option<u8>,
    /// Silence the warning with this code, as `[lint] allow` does, may be repeated
    #[arg(long, value_name = "CODE", value_parser = lint_code)]
    pub allow: Vec<LintCode>,
    /// Maximum number of simultaneous blob transfers
    #[arg(long, default_value_t = crate::transfer::DEFAULT_JOBS, value_name = "N", value_parser = at_least_one())]
    pub jobs: usize,
    /// Write the digest, the layers and byte counts to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Write the digest of the image config to this file, as docker does
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
}

/// Kinds of layer compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum CompressionKind {
    /// gzip: every tool reads it; the data of wheels is not recompressed.
    #[default]
    Gzip,
    /// zstd: smaller and faster to unpack; the data of wheels is recompressed.
    Zstd,
    /// No compression.
    None,
}

/// `lock`
#[derive(Debug, Args)]
pub struct LockArgs {
    /// The recipe.
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Platforms to lock for, separated by commas [default: the recipe's `platforms`, or linux/amd64]
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub platforms: Vec<Platform>,
    /// Flags for steps that run a process.
    #[command(flatten)]
    pub steps: StepArgs,
}

/// The flags of `build` and `lock` for steps that run a process.
#[derive(Debug, Args)]
pub struct StepArgs {
    /// Secret that steps can mount: id=NAME,src=FILE or id=NAME,env=VARIABLE, may be repeated
    #[arg(long = "secret", value_name = "id=NAME,src=FILE", value_parser = Silent)]
    pub secrets: Vec<SecretArg>,
    /// Isolation of steps: auto, root, subuid (ids of /etc/subuid), one-uid (one id, with ownership records) or chroot
    #[arg(long, default_value_t, value_name = "KIND")]
    pub isolation: Isolation,
}

/// Parses a [`SecretArg`] without repeating an invalid value in the error, as clap does: it may contain a password.
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
    /// Name of the image in the store or in a registry, or oci:, oci-archive: or docker-archive: with a path
    #[arg(value_name = "REF")]
    pub image: String,
    /// Print the manifest or index, unchanged
    #[arg(long, group = "what")]
    pub raw: bool,
    /// Print the image config, unchanged
    #[arg(long, group = "what")]
    pub config: bool,
    /// Print the digest, size and history entry of each layer
    #[arg(long, group = "what")]
    pub layers: bool,
    /// Platform to select from an index
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// Format of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub format: Format,
}

/// Formats of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Text for people.
    #[default]
    Text,
    /// JSON for programs.
    Json,
}

/// `spec`
#[derive(Debug, Args)]
pub struct SpecArgs {
    /// Name of the image in the store or in a registry, or oci:, oci-archive: or docker-archive: with a path
    #[arg(value_name = "REF")]
    pub image: String,
    /// Platform to select from an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// Path of the root filesystem in the spec; a relative path starts at the bundle
    #[arg(long, value_name = "DIR", default_value = "rootfs")]
    pub rootfs: String,
    /// The runtime flags.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// `bundle`
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// Name of the image in the store or in a registry, or oci:, oci-archive: or docker-archive: with a path
    #[arg(value_name = "REF")]
    pub image: String,
    /// Directory of the bundle: it must be empty or missing
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Platform to select from an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// The runtime flags.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// `run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Name of the image in the store or in a registry, or oci:, oci-archive: or docker-archive: with a path
    #[arg(value_name = "REF")]
    pub image: String,
    /// Platform to select from an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// OCI runtime, by name or path [default: the first of runc, crun and youki that is installed]
    #[arg(long = "runtime", value_name = "PROGRAM")]
    pub program: Option<String>,
    /// The runtime flags.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// `unshare`
#[derive(Debug, Args)]
pub struct UnshareArgs {
    /// Command and its arguments
    #[arg(value_name = "CMD", trailing_var_arg = true, required = true)]
    pub command: Vec<OsString>,
}

/// `doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Image to check against the driver of this machine
    #[arg(value_name = "REF")]
    pub image: Option<String>,
    /// Version of the NVIDIA driver to check the image against, such as 545.23.08 [default: the loaded driver]
    #[arg(long, value_name = "VERSION", requires = "image")]
    pub driver_version: Option<String>,
    /// Platform to select from an index [default: this machine's]
    #[arg(long, value_name = "OS/ARCH", requires = "image")]
    pub platform: Option<Platform>,
    /// Format of the output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    pub format: Format,
}

/// `cache`
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List the numbers and sizes of the files in the store
    Ls,
    /// Remove layers and built images, wheels, facts about bases, unpacked layers, ended containers and caches of steps
    Prune {
        /// Only layers and built images
        #[arg(long, group = "which")]
        layers: bool,
        /// Only wheels
        #[arg(long, group = "which")]
        wheels: bool,
        /// Only unpacked layers, and containers and steps that have ended
        #[arg(long, group = "which")]
        roots: bool,
        /// Only the content of cache mounts of steps
        #[arg(long, group = "which")]
        caches: bool,
    },
    /// Hash everything in the store, and remove damaged files; the next build creates or downloads them again
    Verify,
    /// Print the path of the store
    Path,
}

/// Parses `--output`. A registry needs its transport here, because a bare name could also mean a file.
fn destination(text: &str) -> Result<ImageName, String> {
    match text.parse() {
        Ok(ImageName::Registry(_)) if !text.starts_with("docker://") => {
            Err("expected oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] or docker://NAME".into())
        }
        Ok(name) => transport::of(&name).check_output().map(|()| name.clone()).map_err(Into::into),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads a number from 1 up.
pub(super) fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn lint_code(text: &str) -> Result<LintCode, String> {
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
