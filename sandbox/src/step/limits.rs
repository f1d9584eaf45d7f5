//! Resource limits (getrlimit(2)) and the OOM score, lowered to the permitted values.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::job::Reports;
use super::spec::{self, Process};

/// Sets the limits of the spec, and the score by which the kernel selects processes to kill.
pub(super) fn set(process: &Process, reports: &mut Reports) {
    for limit in &process.rlimits {
        if let Some(note) = set_limit(limit) {
            reports.note(note);
        }
    }
    if let Some(score) = process.oom_score_adj {
        // Only root can lower it, and it is only a preference.
        let _ = fs::write("/proc/self/oom_score_adj", score.to_string());
    }
}

/// Sets a limit. Returns a message if it could not be set.
fn set_limit(limit: &spec::Rlimit) -> Option<String> {
    let name = limit.kind.trim_start_matches("RLIMIT_").to_lowercase();
    let Some(resource) = resource(&name) else { return Some(format!("the limit {} is not known here", limit.kind)) };
    let finite = |value: u64| (value != u64::MAX).then_some(value);
    let wanted = Rlimit { current: finite(limit.soft), maximum: finite(limit.hard) };
    if setrlimit(resource, wanted).is_ok() {
        return None;
    }
    let most = getrlimit(resource).maximum;
    let lower = |value: Option<u64>| value.unwrap_or(u64::MAX).min(most.unwrap_or(u64::MAX));
    let allowed = Rlimit { current: finite(lower(wanted.current)), maximum: finite(lower(wanted.maximum)) };
    let text = |value: Option<u64>| value.map_or("unlimited".to_owned(), |value| value.to_string());
    Some(match setrlimit(resource, allowed) {
        Ok(()) => format!("the limit {name} is {} instead of {}", text(allowed.maximum), text(wanted.maximum)),
        Err(error) => format!("the limit {name} is unchanged: {error}"),
    })
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}
