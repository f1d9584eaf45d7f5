//! NVIDIA's container toolkit on a host: the settings of its prestart hook, and why the hook gives no GPUs.

/// The path of the toolkit's config. The hook gets no variables that change it.
pub const CONFIG: &str = "/etc/nvidia-container-runtime/config.toml";

/// The facts that decide whether NVIDIA's hook works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolkit {
    /// Why its config cannot be read, if it cannot.
    pub broken: Option<String>,
    /// `nvidia-container-runtime.mode`.
    pub mode: String,
    /// `nvidia-container-runtime-hook.skip-mode-detection`.
    pub skips_mode_detection: bool,
    /// `accept-nvidia-visible-devices-envvar-when-unprivileged`.
    pub heeds_environment: bool,
    /// `disable-require`: images are not compared with the driver.
    pub disables_require: bool,
    /// `nvidia-container-cli.no-cgroups`.
    pub no_cgroups: bool,
    /// Whether `nvidia-container-cli` is installed.
    pub has_cli: bool,
    /// Whether the host's GPU is a Jetson's, which the toolkit describes by CSV files.
    pub jetson: bool,
}

impl Default for Toolkit {
    /// The defaults without a config.
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
    /// Its config is invalid.
    #[error("NVIDIA's hook fails because it cannot read {CONFIG}: {0}")]
    Config(String),
    /// A mode other than the hook's.
    #[error("NVIDIA's hook does not work because {CONFIG} has mode = {0:?}")]
    Mode(String),
    /// The variables that select GPUs are ignored.
    #[error(
        "NVIDIA's hook ignores the request because {CONFIG} has \
            accept-nvidia-visible-devices-envvar-when-unprivileged = false"
    )]
    Ignores,
    /// A Jetson.
    #[error("NVIDIA's hook does not work on a Jetson, whose GPU needs CSV files of the toolkit")]
    Jetson,
    /// `nvidia-container-cli` is missing.
    #[error("NVIDIA's hook finds no nvidia-container-cli")]
    NoCli,
    /// An unprivileged user cannot set rules of a device cgroup.
    #[error("NVIDIA's hook fails for an unprivileged user because {CONFIG} does not have no-cgroups = true")]
    Cgroups,
}

impl HookFault {
    /// The command that fixes it, if there is one.
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

    /// The hint.
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

    /// Whether it is certain without running the hook.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        !matches!(self, Self::NoCli | Self::Cgroups)
    }
}

impl Toolkit {
    /// Why the hook gives no GPUs to a container, depending on whether the hook considers it privileged and whether an
    /// unprivileged user runs it.
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
