//! NVIDIA's container toolkit on this host.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use ociforge_manifests::runtime::DriverVersion;
use ociforge_manifests::runtime::toolkit::{CONFIG, Toolkit};
use toml::{Table, Value};

use crate::error::said;

/// The program that does the hook's work.
const CLI: &str = "nvidia-container-cli";

/// The oldest driver of Jetsons whose GPU is driven as any other machine's (JetPack 7).
const UNIFIED_DRIVER: u64 = 580;

/// The facts for NVIDIA's hook on the host with this root directory and this loaded driver.
#[must_use]
pub fn gather(root: &Path, driver: Option<&DriverVersion>) -> Toolkit {
    let config = match fs::read_to_string(at(root, CONFIG)) {
        Ok(text) => text.parse::<Table>().map_err(|error| error.message().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Table::new()),
        Err(error) => Err(said(&error)),
    };
    let (config, broken) = match config {
        Ok(config) => (config, None),
        Err(why) => (Table::new(), Some(why)),
    };
    let jetson = is_tegra(root) && driver.is_none_or(|driver| driver.branch() < UNIFIED_DRIVER);
    Toolkit { broken, jetson, ..of_config(&config) }
}

fn of_config(config: &Table) -> Toolkit {
    let usual = Toolkit::default();
    let value = |table: &str, key: &str| match table {
        "" => config.get(key),
        table => config.get(table)?.get(key),
    };
    let switch = |table, key, usual| value(table, key).and_then(Value::as_bool).unwrap_or(usual);
    let text = |table, key| value(table, key).and_then(Value::as_str).filter(|text| !text.is_empty());
    Toolkit {
        mode: text("nvidia-container-runtime", "mode").map_or(usual.mode, str::to_owned),
        skips_mode_detection: switch(
            "nvidia-container-runtime-hook",
            "skip-mode-detection",
            usual.skips_mode_detection,
        ),
        heeds_environment: switch(
            "",
            "accept-nvidia-visible-devices-envvar-when-unprivileged",
            usual.heeds_environment,
        ),
        disables_require: switch("", "disable-require", usual.disables_require),
        no_cgroups: switch("nvidia-container-cli", "no-cgroups", usual.no_cgroups),
        has_cli: match text("nvidia-container-cli", "path") {
            Some(path) => Path::new(path).is_file(),
            None => ociforge_sandbox::program(CLI).is_some(),
        },
        ..usual
    }
}

/// Whether the machine is one of NVIDIA's Tegra, as the toolkit finds out.
fn is_tegra(root: &Path) -> bool {
    let family = fs::read_to_string(at(root, "/sys/devices/soc0/family")).unwrap_or_default();
    at(root, "/etc/nv_tegra_release").exists() || family.to_lowercase().contains("tegra")
}

fn at(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with these files.
    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = at(root.path(), path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_config_is_read_and_may_lack_anything() {
        let usual = gather(host(&[]).path(), None);
        assert_eq!(usual, Toolkit { has_cli: usual.has_cli, ..Toolkit::default() });
        let text = "disable-require = true\naccept-nvidia-visible-devices-envvar-when-unprivileged = false\n\
                    [nvidia-container-cli]\nno-cgroups = true\npath = \"/bin/sh\"\n\
                    [nvidia-container-runtime]\nmode = \"cdi\"\n[nvidia-container-runtime-hook]\nskip-mode-detection = true\n";
        let expected = Toolkit {
            mode: "cdi".into(),
            skips_mode_detection: true,
            heeds_environment: false,
            disables_require: true,
            no_cgroups: true,
            has_cli: true,
            ..Toolkit::default()
        };
        assert_eq!(gather(host(&[(CONFIG, text)]).path(), None), expected);
        let nowhere =
            gather(host(&[(CONFIG, "[nvidia-container-cli]\n#no-cgroups = true\npath = '/no/such'")]).path(), None);
        assert!(!nowhere.has_cli && !nowhere.no_cgroups);
        assert!(gather(host(&[(CONFIG, "not toml [")]).path(), None).broken.is_some());
        let unreadable = host(&[(&format!("{CONFIG}/directory"), "")]);
        assert_eq!(gather(unreadable.path(), None).broken.as_deref(), Some("Is a directory"));
    }

    #[test]
    fn jetsons_are_known_by_their_files() {
        let jetpack_6 = host(&[("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.0")]);
        let by_family = host(&[("/sys/devices/soc0/family", "Tegra\n")]);
        for root in [&jetpack_6, &by_family] {
            for (driver, jetson) in [(None, true), (Some("540.4.0"), true), (Some("580.00"), false)] {
                let driver = driver.map(|text| text.parse().unwrap());
                assert_eq!(gather(root.path(), driver.as_ref()).jetson, jetson, "{driver:?}");
            }
        }
        assert!(!gather(host(&[("/sys/devices/soc0/family", "jep106:0426")]).path(), None).jetson);
    }
}
