//! The flags of `docker run` that `spec`, `bundle` and `run` share.

use std::ffi::OsString;

use clap::Args;
use ociforge_manifests::runtime::{EnvEntry, GpuError, Request, Settings, ValueError, VolumeError};

use crate::error::Explain;

/// How a container is started. Flags win over the image's own defaults, and these over docker's.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Runtime flags, as docker's")]
pub struct RuntimeArgs {
    /// GPUs: all, a number, or device=0,2; with capabilities=compute,utility after a comma
    #[arg(long, value_name = "REQUEST", allow_hyphen_values = true)]
    pub gpus: Option<String>,

    /// How GPUs get into the container: auto or hook for NVIDIA's prestart hook, or none
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub nvidia: String,

    /// A CDI device, such as nvidia.com/gpu=0
    #[arg(long = "device", hide = true, value_name = "VENDOR/CLASS=NAME")]
    pub devices: Vec<String>,

    /// Size of /dev/shm, such as 64g
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,

    /// Shared memory: private, host or none
    #[arg(long, value_name = "WHOSE")]
    pub ipc: Option<String>,

    /// Network: host, or none for a namespace with nothing but the loopback
    #[arg(long, visible_alias = "net", value_name = "WHOSE")]
    pub network: Option<String>,

    /// The CPUs that may be used, such as 0-31
    #[arg(long, value_name = "CPUS")]
    pub cpuset_cpus: Option<String>,

    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,

    /// Give the process a terminal
    #[arg(short, long)]
    pub tty: bool,

    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,

    /// Show a directory or file of the host in the container
    #[arg(short = 'v', long = "volume", value_name = "SOURCE:DESTINATION[:ro]")]
    pub volumes: Vec<String>,

    /// Set a variable; a name alone takes the value that it has here, or unsets it
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,

    /// The user, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,

    /// The program to start instead of the image's entrypoint and command; "" for no entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,

    /// A resource limit, such as memlock=-1 or nofile=1024:2048
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", allow_hyphen_values = true)]
    pub ulimits: Vec<String>,

    /// The container's host name
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,

    /// Make the root filesystem read-only
    #[arg(long)]
    pub read_only: bool,

    /// Make a container that an unprivileged user can run
    #[arg(long, hide = true)]
    pub rootless: bool,

    /// The command and its arguments, instead of the image's command
    #[arg(value_name = "CMD", trailing_var_arg = true)]
    pub command: Vec<String>,
}

/// A flag with a wrong value.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeArgsError {
    /// `--gpus`.
    #[error("wrong value for --gpus")]
    Gpus(#[source] GpuError),
    /// `--volume`.
    #[error("wrong value for --volume")]
    Volume(#[source] VolumeError),
    /// Any other flag.
    #[error("wrong value for {flag}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        source: ValueError,
    },
    /// A variable of the caller's that JSON can't hold.
    #[error("the variable {0} is not UTF-8, and a runtime spec can't hold it")]
    NotUnicode(String),
}

impl Explain for RuntimeArgsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Gpus(error) => error.hint(),
            Self::Volume(error) => error.hint(),
            Self::Value { source, .. } => source.hint(),
            Self::NotUnicode(key) => Some(format!("give it a value with --env {key}=…")),
        }
    }

    fn is_usage(&self) -> bool {
        true
    }
}

impl RuntimeArgs {
    /// The typed request. `environment` is asked for the variables that `--env` names without a value.
    ///
    /// # Errors
    /// When a value is none that its flag takes.
    pub fn into_request(self, environment: impl Fn(&str) -> Option<OsString>) -> Result<Request, RuntimeArgsError> {
        Ok(Request {
            settings: Settings {
                gpus: self.gpus.map(|text| text.parse()).transpose().map_err(RuntimeArgsError::Gpus)?,
                shm_size: self.shm_size.map(|text| value("--shm-size", &text)).transpose()?,
                ipc: self.ipc.map(|text| value("--ipc", &text)).transpose()?,
                network: self.network.map(|text| value("--network", &text)).transpose()?,
                cpuset_cpus: self.cpuset_cpus.map(|text| value("--cpuset-cpus", &text)).transpose()?,
                ulimits: self.ulimits.iter().map(|text| value("--ulimit", text)).collect::<Result<_, _>>()?,
            },
            tty: self.tty,
            interactive: self.interactive,
            env: self.env.iter().map(|text| variable(text, &environment)).collect::<Result<_, _>>()?,
            user: self.user,
            workdir: self.workdir,
            entrypoint: self.entrypoint.map(|program| if program.is_empty() { vec![] } else { vec![program] }),
            command: self.command,
            hostname: self.hostname.map(|text| value("--hostname", &text)).transpose()?,
            read_only: self.read_only,
            volumes: (self.volumes.iter().map(|text| text.parse()))
                .collect::<Result<_, _>>()
                .map_err(RuntimeArgsError::Volume)?,
            devices: self.devices,
            rootless: self.rootless,
            nvidia: value("--nvidia", &self.nvidia)?,
        })
    }
}

fn value<T>(flag: &'static str, text: &str) -> Result<T, RuntimeArgsError>
where
    T: std::str::FromStr<Err = ValueError>,
{
    text.parse().map_err(|source| RuntimeArgsError::Value { flag, source })
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

    use super::*;
    use crate::error::Failure;

    #[derive(Debug, Parser)]
    struct Call {
        reference: String,
        #[command(flatten)]
        runtime: RuntimeArgs,
    }

    fn request(words: &[&str]) -> Result<Request, RuntimeArgsError> {
        let call = Call::try_parse_from(["spec"].iter().chain(words)).unwrap();
        assert_eq!(call.reference, "IMAGE");
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
        assert_eq!(request.entrypoint, Some(vec![]));
        assert_eq!(request.command, [] as [&str; 0]);
    }

    #[test]
    fn a_wrong_value_names_the_flag_and_says_what_to_do() {
        for (words, message) in [
            (
                ["--gpus", "all,capabilities=utilities"],
                "wrong value for --gpus\n  cause: `all,capabilities=utilities` is not a GPU request: `utilities` is not a \
                 capability of the driver\n  hint: did you mean utility?",
            ),
            (
                ["-v", "/data"],
                "wrong value for --volume\n  cause: `/data` is not a volume: it has no destination\n  hint: write where \
                 it goes: /data:/data",
            ),
            (
                ["--shm-size", "64x"],
                "wrong value for --shm-size\n  cause: `64x` is not a size\n  hint: write a number of bytes, or one with \
                 a unit: 65536k, 512m, 64g",
            ),
            (
                ["--net", "bridge"],
                "wrong value for --network\n  cause: --network bridge needs a daemon, and ociforge has none\n  hint: \
                 use --network host, or leave it out for a namespace of its own",
            ),
            (
                ["-e", "BYTES"],
                "the variable BYTES is not UTF-8, and a runtime spec can't hold it\n  hint: give it a value with \
                 --env BYTES=…",
            ),
        ] {
            let failure = Failure::from(request(&[words[0], words[1], "IMAGE"]).unwrap_err());
            assert_eq!((failure.to_string().as_str(), failure.code), (message, 2));
        }
        for words in
            [["--ipc", "hots"], ["--cpuset-cpus", "a"], ["--ulimit", "x=1"], ["--hostname", "a b"], ["-e", "=s"]]
                .iter()
                .chain(&[["--nvidia", "gpu"]])
        {
            assert!(request(&[words[0], words[1], "IMAGE"]).is_err(), "{words:?}");
        }
    }
}
