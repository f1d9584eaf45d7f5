//! The annotations of a spec from the image config (image-spec, conversion.md).

use serde_json::{Map, Value, json};

use crate::config::Config;

/// The annotation of an image's manifest with the recipe's `RuntimeSettings`, as JSON.
pub const ANNOTATION: &str = "org.ociforge.runtime";

/// Prefixes of annotations that control runtimes, which an image must not set: those of runc and crun, of CDI, and of
/// runtimes with their own kernel.
const COMMANDS: [&str; 9] = [
    "org.systemd.property.",
    "run.oci.",
    "org.criu.",
    "module.wasm.",
    "cdi.k8s.io/",
    "dev.gvisor.",
    "io.katacontainers.",
    "io.kubernetes.",
    "io.crun.",
];

/// The names of signals without `SIG`, except numbered real-time signals.
const SIGNALS: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// The annotations for the fields of the config; labels override them.
pub(crate) fn of_image(config: &Config, warnings: &mut Vec<String>) -> Map<String, Value> {
    let platform = &config.platform;
    let other = |key: &str| platform.other.get(key).and_then(Value::as_str).map(str::to_owned);
    let features = platform.other.get("os.features").and_then(Value::as_array);
    let features = features.map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","));
    let ports: Vec<_> = config.config.exposed_ports.keys().map(String::as_str).collect();
    let fields = [
        ("os", Some(platform.os.clone())),
        ("architecture", Some(platform.architecture.clone())),
        ("variant", platform.variant.clone()),
        ("os.version", other("os.version")),
        ("os.features", features),
        ("author", config.author.clone()),
        ("created", config.created.clone()),
        ("stopSignal", stop_signal(config, warnings)),
        ("exposedPorts", Some(ports.join(","))),
    ];
    let mut annotations = Map::new();
    for (name, value) in fields {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            annotations.insert(format!("org.opencontainers.image.{name}"), json!(value));
        }
    }
    for (key, value) in &config.config.labels {
        if COMMANDS.iter().any(|prefix| key.starts_with(prefix)) {
            warnings.push(format!("the image's label {key} is skipped: runtimes would act on it"));
        } else if key.is_empty() {
            warnings.push("the image has a label without a name; it is skipped".into());
        } else {
            annotations.insert(key.clone(), json!(value));
        }
    }
    annotations
}

/// The image's stop signal, if it is valid.
fn stop_signal(config: &Config, warnings: &mut Vec<String>) -> Option<String> {
    let signal = config.config.stop_signal.clone().filter(|signal| !signal.is_empty())?;
    if is_signal(&signal) {
        return Some(signal);
    }
    warnings.push(format!("the image's stop signal `{signal}` is invalid; it is skipped"));
    None
}

/// Whether `text` is a signal as in docker: a number, or a name in either case, with or without `SIG`.
fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, most: u8| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest[1..].parse::<u8>().is_ok_and(|number| number <= most))
    };
    let sign =
        |prefix: &str, sign: char| name.strip_prefix(prefix).is_some_and(|r| r.is_empty() || r.starts_with(sign));
    SIGNALS.contains(&name)
        || (sign("RTMIN", '+') && real_time("RTMIN", 30))
        || (sign("RTMAX", '-') && real_time("RTMAX", 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_dockers() {
        for good in ["SIGTERM", "term", "9", "64", "SIGRTMIN", "SIGRTMIN+3", "rtmax-14", "SIGSYS"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["0", "65", "-1", "SIG", "SIGTERM ", "TERMINATE", "SIGRTMIN-3", "SIGRTMIN+", "SIGRTMIN+99", "RTMINü"]
        {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
