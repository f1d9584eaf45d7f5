//! The flags of `docker run` that `spec`, `bundle` and `run` share.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Args};
use ociforge_manifests::runtime::{
    ContainerRequest, DriverVersion, EnvEntry, FlagError, GpuError, GpuRequest, RuntimeSettings, Seccomp,
    SecurityOption, VolumeError,
};

use crate::error::Explain;
use crate::run::host::{self, Overrides};

/// The largest seccomp profile that is read, in bytes.
const MAX_PROFILE: u64 = 4 << 20;

/// The runtime flags. They override the image's `[runtime]`, which overrides docker's defaults.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Runtime flags, as docker's", mut_args(as_docker))]
pub struct RuntimeArgs {
    /// GPUs: all, none, a number, or device=0,2; may end with ,capabilities=compute,utility
    #[arg(long, value_name = "REQUEST", allow_hyphen_values = true)]
    pub gpus: Vec<String>,

    /// Method to add NVIDIA GPUs: cdi, hook (NVIDIA's prestart hook), auto (CDI if a CDI file describes the GPUs, else
    /// the hook) or none
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub nvidia: String,

    /// CDI device, such as nvidia.com/gpu=0, may be repeated
    #[arg(long = "device", value_name = "VENDOR/CLASS=NAME")]
    pub devices: Vec<String>,

    /// Directory of CDI files, may be repeated; the last one has precedence [default: /etc/cdi and /var/run/cdi]
    #[arg(long = "cdi-spec-dir", value_name = "DIR")]
    pub cdi_spec_dirs: Vec<PathBuf>,

    /// Version of the NVIDIA driver for the container, such as 535.104.05 [default: the driver of this host]
    #[arg(long, value_name = "VERSION")]
    pub driver_version: Option<String>,

    /// Size of /dev/shm, such as 64g
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,

    /// Shared memory: private, host or none
    #[arg(long, value_name = "WHOSE")]
    pub ipc: Option<String>,

    /// Network: host, or none for a namespace with only a loopback interface
    #[arg(long, visible_alias = "net", value_name = "WHOSE")]
    pub network: Option<String>,

    /// CPUs that the container can use, such as 0-31
    #[arg(long, value_name = "CPUS")]
    pub cpuset_cpus: Option<String>,

    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,

    /// Allocate a terminal for the process
    #[arg(short, long)]
    pub tty: bool,

    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,

    /// Mount a directory or file of the host, may be repeated
    #[arg(short = 'v', long = "volume", value_name = "SOURCE:DESTINATION[:ro]")]
    pub volumes: Vec<String>,

    /// Set a variable, may be repeated; a bare name copies the caller's value, or unsets the variable
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,

    /// User and group of the process, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// Working directory of the process
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,

    /// Program that replaces the image's entrypoint and command; "" for no entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,

    /// Resource limit, such as memlock=-1 or nofile=1024:2048, may be repeated
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", allow_hyphen_values = true)]
    pub ulimits: Vec<String>,

    /// Host name of the container
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,

    /// Make the root filesystem read-only
    #[arg(long)]
    pub read_only: bool,

    /// Mount an empty directory in memory, may be repeated
    #[arg(long, value_name = "DESTINATION[:OPTIONS]")]
    pub tmpfs: Vec<String>,

    /// Add a capability, such as SYS_PTRACE, or ALL, may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,

    /// Remove a capability, or ALL, may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,

    /// Allow all capabilities and all devices, without filters and masked paths; creates no device nodes
    #[arg(long)]
    pub privileged: bool,

    /// Security option: seccomp=unconfined, seccomp=FILE, no-new-privileges or systempaths=unconfined, may be repeated
    #[arg(long = "security-opt", value_name = "OPTION")]
    pub security: Vec<String>,

    /// Memory limit, such as 64g
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<String>,

    /// Limit of memory plus swap, such as 128g; -1 for no limit on swap [default: twice --memory]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,

    /// Limit of processes and threads; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,

    /// Use a user namespace, so that a user without root can run the container [default: true unless root]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = boolean)]
    pub rootless: Option<bool>,

    /// Command and its arguments, in place of the image's command
    #[arg(value_name = "CMD", trailing_var_arg = true)]
    pub command: Vec<String>,
}

/// Makes flags behave as in docker: a boolean flag accepts a value (`--rm=true`), and the last of several equal flags
/// applies, except for flags that hold a list.
fn as_docker(arg: Arg) -> Arg {
    let id = arg.get_id().clone();
    match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .value_name("BOOL")
            .value_parser(boolean)
            .default_value("false")
            .default_missing_value("true")
            .hide_default_value(true)
            .overrides_with(id),
        // As in docker, several `--gpus` add up.
        ArgAction::Set if id != "gpus" && !arg.is_positional() => arg.overrides_with(id),
        _ => arg,
    }
}

/// Parses a boolean in docker's spellings.
pub(super) fn boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false"),
    }
}

/// An empty text counts as a missing flag.
fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// A flag with an invalid value.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeArgsError {
    /// `--gpus`.
    #[error("invalid value for --gpus")]
    Gpus(#[source] GpuError),
    /// `--volume`.
    #[error("invalid value for --volume")]
    Volume(#[source] VolumeError),
    /// The file of `--security-opt seccomp=`.
    #[error("cannot read the seccomp profile {file}")]
    Profile {
        /// The file.
        file: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Any other flag.
    #[error("invalid value for {flag}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// The cause.
        source: FlagError,
    },
    /// A variable of the caller that is not UTF-8, as JSON requires.
    #[error("the variable {0} is not UTF-8, which a runtime spec requires")]
    NotUnicode(String),
}

impl Explain for RuntimeArgsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Gpus(error) => error.hint(),
            Self::Volume(error) => error.hint(),
            Self::Value { source, .. } => source.hint(),
            Self::Profile { .. } => Some("give a file in docker's format, or seccomp=unconfined".into()),
            Self::NotUnicode(key) => Some(format!("give it a value with --env {key}=…")),
        }
    }

    fn is_usage(&self) -> bool {
        true
    }
}

/// Parses the value of `--driver-version`.
///
/// # Errors
/// When the text is not a driver version.
pub fn driver_version(text: Option<&str>) -> Result<Option<DriverVersion>, RuntimeArgsError> {
    text.map(|text| value("--driver-version", text)).transpose()
}

impl RuntimeArgs {
    /// The flags that override facts about the host.
    ///
    /// # Errors
    /// When a flag has an invalid value.
    pub fn overrides(&self) -> Result<Overrides, RuntimeArgsError> {
        Ok(Overrides {
            cdi_directories: self.cdi_spec_dirs.clone(),
            driver: driver_version(self.driver_version.as_deref())?,
            rootless: self.rootless.unwrap_or_else(host::is_unprivileged),
        })
    }

    /// The typed request. `environment` returns the value of a variable that `--env` names without a value.
    ///
    /// # Errors
    /// When a flag has an invalid value.
    pub fn into_request(
        self,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<ContainerRequest, RuntimeArgsError> {
        let security = self.security.iter().map(|text| value("--security-opt", text));
        let security: Vec<SecurityOption> = security.collect::<Result<_, _>>()?;
        let gpus = self.gpus.iter().map(|text| text.parse());
        let mut gpus: Vec<GpuRequest> = gpus.collect::<Result<_, _>>().map_err(RuntimeArgsError::Gpus)?;
        let last = gpus.pop();
        Ok(ContainerRequest {
            settings: RuntimeSettings {
                gpus: last,
                shm_size: self.shm_size.map(|text| value("--shm-size", &text)).transpose()?,
                ipc: self.ipc.map(|text| value("--ipc", &text)).transpose()?,
                network: self.network.map(|text| value("--network", &text)).transpose()?,
                cpuset_cpus: filled(self.cpuset_cpus).map(|text| value("--cpuset-cpus", &text)).transpose()?,
                ulimits: self.ulimits.iter().map(|text| value("--ulimit", text)).collect::<Result<_, _>>()?,
            },
            earlier_gpus: gpus,
            tty: self.tty,
            interactive: self.interactive,
            env: self.env.iter().map(|text| variable(text, &environment)).collect::<Result<_, _>>()?,
            user: filled(self.user),
            workdir: filled(self.workdir),
            entrypoint: self.entrypoint.map(|program| if program.is_empty() { vec![] } else { vec![program] }),
            command: self.command,
            hostname: filled(self.hostname).map(|text| value("--hostname", &text)).transpose()?,
            read_only: self.read_only,
            volumes: (self.volumes.iter().map(|text| text.parse()))
                .collect::<Result<_, _>>()
                .map_err(RuntimeArgsError::Volume)?,
            devices: self.devices,
            tmpfs: self.tmpfs.iter().map(|text| value("--tmpfs", text)).collect::<Result<_, _>>()?,
            cap_add: self.cap_add.iter().map(|text| value("--cap-add", text)).collect::<Result<_, _>>()?,
            cap_drop: self.cap_drop.iter().map(|text| value("--cap-drop", text)).collect::<Result<_, _>>()?,
            privileged: self.privileged,
            unmasked: security.contains(&SecurityOption::SystemPaths),
            no_new_privileges: security.iter().rev().find_map(new_privileges).unwrap_or_default(),
            seccomp: seccomp(&security)?,
            memory: self.memory.map(|text| value("--memory", &text)).transpose()?,
            memory_swap: self.memory_swap.map(|text| value("--memory-swap", &text)).transpose()?,
            pids_limit: self.pids_limit.map(|text| value("--pids-limit", &text)).transpose()?,
            rootless: self.rootless.unwrap_or_else(host::is_unprivileged),
            nvidia: value("--nvidia", &self.nvidia)?,
        })
    }
}

fn value<T>(flag: &'static str, text: &str) -> Result<T, RuntimeArgsError>
where
    T: std::str::FromStr<Err = FlagError>,
{
    text.parse().map_err(|source| RuntimeArgsError::Value { flag, source })
}

fn new_privileges(option: &SecurityOption) -> Option<bool> {
    match option {
        SecurityOption::NoNewPrivileges(kept) => Some(*kept),
        _ => None,
    }
}

/// The filter of system calls of the last `--security-opt` that selects one.
fn seccomp(options: &[SecurityOption]) -> Result<Seccomp, RuntimeArgsError> {
    for option in options.iter().rev() {
        match option {
            SecurityOption::Unconfined => return Ok(Seccomp::Unconfined),
            SecurityOption::Builtin => return Ok(Seccomp::Default),
            SecurityOption::Profile(file) => return profile(file),
            _ => {}
        }
    }
    Ok(Seccomp::Default)
}

fn profile(file: &str) -> Result<Seccomp, RuntimeArgsError> {
    let failed = |source| RuntimeArgsError::Profile { file: file.to_owned(), source };
    let mut text = String::new();
    let input = std::fs::File::open(file).map_err(failed)?;
    if input.take(MAX_PROFILE + 1).read_to_string(&mut text).map_err(failed)? as u64 > MAX_PROFILE {
        return Err(failed(std::io::Error::other(format!("it is larger than {MAX_PROFILE} bytes"))));
    }
    Ok(Seccomp::Profile { name: file.to_owned(), text })
}

fn variable(text: &str, environment: impl Fn(&str) -> Option<OsString>) -> Result<EnvEntry, RuntimeArgsError> {
    let mut entry: EnvEntry = value("--env", text)?;
    if entry.value.is_none()
        && let Some(found) = environment(&entry.key)
    {
        let found = found.into_string().map_err(|_| RuntimeArgsError::NotUnicode(entry.key.clone()))?;
        entry.value = Some(found);
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use clap::{CommandFactory, Parser};

    use ociforge_manifests::runtime::{MemorySwap, Network};

    use super::*;
    use crate::error::Failure;

    #[derive(Debug, Parser)]
    struct Call {
        reference: String,
        #[command(flatten)]
        runtime: RuntimeArgs,
    }

    fn request(words: &[&str]) -> Result<ContainerRequest, RuntimeArgsError> {
        let call = Call::try_parse_from(["spec"].iter().chain(words)).unwrap();
        assert_eq!(call.reference, "IMAGE");
        call.runtime.overrides()?;
        call.runtime.into_request(|key| match key {
            "HERE" => Some("value".into()),
            "BYTES" => Some(OsString::from_vec(vec![0xff])),
            _ => None,
        })
    }

    #[test]
    fn flags_stand_before_the_image_as_in_docker_or_after_it() {
        Call::command().debug_assert();
        let flags = "--gpus all --shm-size=64g --ipc=host --net=host --cpuset-cpus=0-31 -it --rm";
        for line in [
            format!("{flags} IMAGE bash -c -x"),
            format!("IMAGE {flags} -- bash -c -x"),
            format!("IMAGE {flags} bash -c -x"),
        ] {
            let request = request(&line.split(' ').collect::<Vec<_>>()).unwrap();
            assert_eq!(request.command, ["bash", "-c", "-x"], "{line}");
            assert!(request.tty && request.interactive);
            let annotation = request.settings.to_annotation().unwrap();
            let expected = r#"{"cpuset-cpus":"0-31","gpus":"all","ipc":"host","network":"host","shm-size":"64g"}"#;
            assert_eq!(annotation, expected);
        }
    }

    #[test]
    fn lists_and_bare_variables() {
        let request = request(&[
            "-v",
            "/a:/b:ro",
            "-vlocal_dir:container_dir",
            "-e",
            "A=1",
            "-e",
            "HERE",
            "-e",
            "AWAY",
            "--ulimit",
            "memlock=-1",
            "--ulimit",
            "core=0",
            "--gpus",
            "device=1,2",
            "--gpus",
            "-1",
            "--entrypoint",
            "",
            "-u",
            "me:video",
            "-w",
            "/w",
            "--hostname",
            "h",
            "IMAGE",
        ])
        .unwrap();
        let env: Vec<_> = request.env.iter().map(|entry| (entry.key.as_str(), entry.value.as_deref())).collect();
        assert_eq!(env, [("A", Some("1")), ("HERE", Some("value")), ("AWAY", None)]);
        assert_eq!(request.volumes.len(), 2);
        assert_eq!(request.settings.ulimits.len(), 2);
        assert_eq!(request.settings.gpus.unwrap().to_string(), "all");
        assert_eq!(request.earlier_gpus.iter().map(ToString::to_string).collect::<Vec<_>>(), ["\"device=1,2\""]);
        assert_eq!(request.entrypoint, Some(vec![]));
        assert_eq!(request.command, [] as [&str; 0]);
    }

    #[test]
    fn privileges_and_limits() {
        let line = "--cap-add SYS_PTRACE --cap-drop all --cap-drop CAP_KILL --privileged -m 64g --memory-swap -1 \
            --pids-limit -1 --tmpfs \
                    /run --tmpfs /scratch:size=1g --security-opt seccomp=/etc/passwd --security-opt seccomp=unconfined \
                    --security-opt no-new-privileges --rootless IMAGE x";
        let request = request(&line.split_ascii_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!((request.cap_add.len(), request.cap_drop.len(), request.tmpfs.len()), (1, 2, 2));
        assert_eq!((request.memory.unwrap().0, request.memory_swap), (64 << 30, Some(MemorySwap::Unlimited)));
        assert!(request.pids_limit.unwrap().0.is_none() && request.seccomp == Seccomp::Unconfined);
        assert!(request.privileged && request.no_new_privileges && request.rootless && !request.unmasked);
        assert_eq!(request.command, ["x"]);
        let request =
            self::request(&["--rootless=false", "--security-opt", "no-new-privileges=false", "IMAGE"]).unwrap();
        assert!(!request.rootless && !request.no_new_privileges && request.seccomp == Seccomp::Default);
        assert_eq!(self::request(&["IMAGE"]).unwrap().rootless, host::is_unprivileged());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}").unwrap();
        let option = format!("seccomp={}", file.path().display());
        let request = self::request(&["--security-opt", &option, "IMAGE"]).unwrap();
        assert!(matches!(request.seccomp, Seccomp::Profile { text, .. } if text == "{}"));
    }

    #[test]
    fn boolean_flags_take_dockers_texts() {
        for (text, value) in [("1", true), ("t", true), ("T", true), ("true", true), ("TRUE", true), ("True", true)]
            .into_iter()
            .chain([("0", false), ("f", false), ("F", false), ("false", false), ("FALSE", false), ("False", false)])
        {
            let flags = ["rm", "read-only", "privileged", "tty", "interactive"].map(|name| format!("--{name}={text}"));
            let call =
                Call::try_parse_from(["spec"].into_iter().chain(flags.iter().map(String::as_str)).chain(["IMAGE"]));
            let RuntimeArgs { rm, read_only, privileged, tty, interactive, .. } = call.unwrap().runtime;
            assert_eq!([rm, read_only, privileged, tty, interactive], [value; 5], "{text}");
            let rootless = request(&[&format!("--rootless={text}"), "IMAGE"]).unwrap().rootless;
            assert_eq!(rootless, value, "{text}");
        }
        for bad in ["", "yes", "tRUE", "2", " 1"] {
            assert!(Call::try_parse_from(["spec", &format!("--rm={bad}"), "IMAGE"]).is_err(), "{bad:?}");
        }
        for (line, interactive, tty) in [
            ("-it IMAGE", true, true),
            ("-ti=0 IMAGE", false, true),
            ("-it=false IMAGE", true, false),
            ("-i=1 -t=f IMAGE", true, false),
            ("-t -i -i -t=false IMAGE", true, false),
            ("-i=false -i IMAGE", true, false),
        ] {
            let request = request(&line.split(' ').collect::<Vec<_>>()).unwrap();
            assert_eq!((request.interactive, request.tty), (interactive, tty), "{line}");
        }
        // Without the equals sign it is the image's name.
        let call = Call::try_parse_from(["spec", "--rm", "IMAGE", "false"]).unwrap();
        assert!(call.runtime.rm && call.reference == "IMAGE");
    }

    #[test]
    fn the_last_of_two_counts_and_an_empty_one_says_nothing() {
        let line =
            "-w /a -w /b -u 1 -u 2 --hostname a --hostname b --shm-size 1m --shm-size 2m --net host --net none IMAGE";
        let last = request(&line.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!((last.workdir.as_deref(), last.user.as_deref()), (Some("/b"), Some("2")));
        assert_eq!((last.hostname.unwrap().as_str(), last.settings.shm_size.unwrap().0), ("b", 2 << 20));
        assert_eq!(last.settings.network, Some(Network::Private));
        let flags = ["--workdir", "--hostname", "--cpuset-cpus", "--user"].into_iter().flat_map(|flag| [flag, ""]);
        let empty = request(&flags.chain(["IMAGE"]).collect::<Vec<_>>()).unwrap();
        assert!(empty.workdir.is_none() && empty.hostname.is_none() && empty.user.is_none());
        assert!(empty.settings.cpuset_cpus.is_none());
        for flag in ["--shm-size", "--memory", "--memory-swap", "--pids-limit", "--ulimit", "--tmpfs", "--env"] {
            assert!(request(&[flag, "", "IMAGE"]).is_err(), "{flag}");
        }
    }

    #[test]
    fn a_wrong_value_names_the_flag_and_says_what_to_do() {
        for (words, message) in [
            (
                ["--gpus", "all,capabilities=utilitys"],
                "invalid value for --gpus\n  cause: `all,capabilities=utilitys` is not a GPU request: `utilitys` is \
                    not a capability of the driver\n  hint: did you mean utility?",
            ),
            (
                ["-v", "/data"],
                "invalid value for --volume\n  cause: `/data` is not a volume: it has no destination\n  hint: write \
                    the destination: /data:/data",
            ),
            (
                ["--shm-size", "64x"],
                "invalid value for --shm-size\n  cause: `64x` is not a size\n  hint: write a number of bytes, or one \
                    with a unit: 65536k, 512m, 64g",
            ),
            (
                ["--cap-add", "SYS_ADMN"],
                "invalid value for --cap-add\n  cause: `SYS_ADMN` is not a capability\n  hint: did you mean SYS_ADMIN?",
            ),
            (
                ["--tmpfs", "/run:sise=64k"],
                "invalid value for --tmpfs\n  cause: `/run:sise=64k` is not a directory in memory: `sise=64k` is not \
                    an option\n  hint: did you mean size?",
            ),
            (
                ["--security-opt", "seccomp=/no/such/file"],
                "cannot read the seccomp profile /no/such/file\n  cause: No such file or directory (os error 2)\n  \
                    hint: \
                 give a file in docker's format, or seccomp=unconfined",
            ),
            (
                ["--net", "bridge"],
                "invalid value for --network\n  cause: --network bridge needs a daemon, and ociforge has none\n  \
                    hint: use --network host, or omit it for a namespace of its own",
            ),
            (
                ["--driver-version", "new"],
                "invalid value for --driver-version\n  cause: `new` is not the version of a driver\n  hint: write it \
                    as nvidia-smi does, such as 535.104.05",
            ),
            (
                ["-e", "BYTES"],
                "the variable BYTES is not UTF-8, which a runtime spec requires\n  hint: give it a value with --env \
                    BYTES=…",
            ),
        ] {
            let failure = Failure::from(request(&[words[0], words[1], "IMAGE"]).unwrap_err());
            assert_eq!((failure.to_string().as_str(), failure.code), (message, 2));
        }
        for words in
            [["--ipc", "hots"], ["--cpuset-cpus", "a"], ["--ulimit", "x=1"], ["--hostname", "a b"], ["-e", "=s"]]
                .iter()
                .chain(&[["--nvidia", "gpu"], ["--memory", "x"], ["--pids-limit", "-2"], ["--security-opt", "selinux"]])
                .chain(&[["--security-opt", "seccomp=/"]])
        {
            assert!(request(&[words[0], words[1], "IMAGE"]).is_err(), "{words:?}");
        }
    }
}
