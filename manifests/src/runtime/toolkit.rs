//! NVIDIA's container toolkit on a host: what its config tells its prestart hook, and why the hook then gives no GPUs.

/// Where the toolkit's config is. The hook gets no variables that name another place.
pub const CONFIG: &str = "/etc/nvidia-container-runtime/config.toml";

/// What decides whether NVIDIA's hook works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolkit {
    /// Why its config cannot be read, if so.
    pub broken: Option<String>,
    /// `nvidia-container-runtime.mode`.
    pub mode: String,
    /// `nvidia-container-runtime-hook.skip-mode-detection`.
    pub skips_mode_detection: bool,
    /// `accept-nvidia-visible-devices-envvar-when-unprivileged`.
    pub heeds_environment: bool,
    /// `disable-require`: images are not held against the driver.
    pub disables_require: bool,
    /// `nvidia-container-cli.no-cgroups`.
    pub no_cgroups: bool,
    /// Whether `nvidia-container-cli` is there.
    pub has_cli: bool,
    /// Whether the host's GPU is that of a Jetson, which the toolkit describes by CSV files.
    pub jetson: bool,
}

impl Default for Toolkit {
    /// What it does without a config.
    fn default() -> Self {
        Self {
            broken: None,
            mode: "auto".into(),
            skips_mode_detection: false,
            heeds_environment: true,
            disables_require: false,
            no_cgroups: false,
            has_cli: true,
            jetson: false,
        }
    }
}

/// Why NVIDIA's hook gives a container no GPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HookFault {
    /// Its config makes no sense.
    #[error("NVIDIA's hook fails because it cannot read {CONFIG}: {0}")]
    Config(String),
    /// Another mode than its own.
    #[error("NVIDIA's hook does not work because {CONFIG} has mode = {0:?}")]
    Mode(String),
    /// The variables that name GPUs do not count.
    #[error(
        "NVIDIA's hook ignores the request because {CONFIG} has \
            accept-nvidia-visible-devices-envvar-when-unprivileged = false"
    )]
    Ignores,
    /// A Jetson.
    #[error("NVIDIA's hook does not work on a Jetson, whose GPU needs CSV files of the toolkit")]
    Jetson,
    /// The program that does its work is not there.
    #[error("NVIDIA's hook finds no nvidia-container-cli")]
    NoCli,
    /// A user cannot set a device cgroup's rules.
    #[error("NVIDIA's hook fails for an unprivileged user because {CONFIG} does not have no-cgroups = true")]
    Cgroups,
}

impl HookFault {
    /// The command that mends it, if there is one.
    #[must_use]
    pub fn command(&self) -> Option<&'static str> {
        Some(match self {
            Self::Mode(_) => "nvidia-ctk config --in-place --set nvidia-container-runtime.mode=auto",
            Self::Ignores => {
                "nvidia-ctk config --in-place --set accept-nvidia-visible-devices-envvar-when-unprivileged=true"
            }
            Self::Cgroups => "nvidia-ctk config --in-place --set nvidia-container-cli.no-cgroups=true",
            Self::Jetson => "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
            Self::Config(_) | Self::NoCli => return None,
        })
    }

    /// What the user can do.
    #[must_use]
    pub fn hint(&self) -> String {
        match (self, self.command()) {
            (Self::Jetson, Some(command)) => format!("use CDI: `{command}`"),
            (Self::NoCli, _) => "install nvidia-container-toolkit, which has it, or use CDI: `nvidia-ctk cdi generate \
                                 --output=/etc/cdi/nvidia.yaml`"
                .into(),
            (_, Some(command)) => {
                format!("`{command}` repairs this; or use CDI: `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`")
            }
            _ => format!("repair {CONFIG}, or remove it"),
        }
    }

    /// Whether it is certain, so that the hook need not be asked.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        !matches!(self, Self::NoCli | Self::Cgroups)
    }
}

impl Toolkit {
    /// Why the hook gives no GPUs to a container: one that is privileged, as far as the hook sees that, and one that an
    /// unprivileged user runs.
    #[must_use]
    pub fn fault(&self, privileged: bool, rootless: bool) -> Option<HookFault> {
        let detects = !self.skips_mode_detection;
        match self {
            Self { broken: Some(why), .. } => Some(HookFault::Config(why.clone())),
            Self { heeds_environment: false, .. } if !privileged => Some(HookFault::Ignores),
            Self { mode, .. } if detects && mode != "auto" && mode != "legacy" => Some(HookFault::Mode(mode.clone())),
            Self { jetson: true, mode, .. } if detects && mode == "auto" => Some(HookFault::Jetson),
            Self { has_cli: false, .. } => Some(HookFault::NoCli),
            Self { no_cgroups: false, .. } if rootless => Some(HookFault::Cgroups),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_the_hook_gives_no_gpus() {
        let fault = |change: fn(&mut Toolkit), privileged, rootless| {
            let mut toolkit = Toolkit::default();
            change(&mut toolkit);
            toolkit.fault(privileged, rootless)
        };
        for mode in ["cdi", "jit-cdi", "csv"] {
            let toolkit = Toolkit { mode: mode.into(), ..Toolkit::default() };
            assert_eq!(toolkit.fault(false, false), Some(HookFault::Mode(mode.into())));
            let skipping = Toolkit { skips_mode_detection: true, ..toolkit };
            assert_eq!(skipping.fault(false, false), None);
        }
        assert_eq!(fault(|_| {}, false, false), None);
        assert_eq!(fault(|toolkit| toolkit.mode = "legacy".into(), false, false), None);
        assert_eq!(fault(|toolkit| toolkit.heeds_environment = false, false, false), Some(HookFault::Ignores));
        assert_eq!(fault(|toolkit| toolkit.heeds_environment = false, true, false), None);
        assert_eq!(fault(|toolkit| toolkit.jetson = true, false, false), Some(HookFault::Jetson));
        assert_eq!(fault(|toolkit| toolkit.has_cli = false, false, false), Some(HookFault::NoCli));
        assert_eq!(fault(|_| {}, false, true), Some(HookFault::Cgroups));
        assert_eq!(fault(|toolkit| toolkit.no_cgroups = true, false, true), None);
        assert_eq!(
            fault(|toolkit| toolkit.broken = Some("x".into()), false, false),
            Some(HookFault::Config("x".into()))
        );
    }
}
