//! Resolution of names to edits, and hints for unknown names.

use std::collections::BTreeSet;

use super::edits::Edits;
use super::error::CdiError;
use super::name::{GPU_KIND, Name};
use super::registry::CdiRegistry;
use super::stale::REGENERATE;
use crate::nearest::nearest;

/// Maximum number of devices in a message.
const MOST: usize = 8;

impl CdiRegistry {
    /// The edits of these devices, each once.
    ///
    /// # Errors
    /// When a text is not a device name, or no effective file describes the device.
    pub fn resolve<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Edits, CdiError> {
        let (mut places, mut missing) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for text in names.into_iter().filter(|text| seen.insert(*text)) {
            Name::read(text)?;
            match self.devices.get(text) {
                Some(place) => places.push(*place),
                None => missing.push(text.to_owned()),
            }
        }
        if !missing.is_empty() {
            let known = known(self, &missing);
            return Err(CdiError::Unresolvable { names: missing, known });
        }
        Ok(self.edits(&places))
    }
}

/// The known alternatives to the devices `missing`.
fn known(registry: &CdiRegistry, missing: &[String]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in missing.iter().filter_map(|name| alternative(registry, name)) {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    let kinds = Vec::from_iter(registry.kinds());
    parts.push(match kinds[..] {
        [] => format!("no CDI file describes a device here; {REGENERATE} makes NVIDIA's"),
        _ => format!("CDI files describe devices of {}", kinds.join(", ")),
    });
    parts.extend(registry.left_out().iter().map(ToString::to_string));
    parts.join("; ")
}

/// The alternative to one device: a similar name, or the number of known ones.
fn alternative(registry: &CdiRegistry, name: &str) -> Option<String> {
    let (kind, device) = name.split_once('=')?;
    let names: Vec<&str> = registry.names().collect();
    let of_kind: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix(kind)?.strip_prefix('=')).collect();
    if of_kind.is_empty() {
        return nearest(name, &names).map(|near| format!("did you mean {near}?"));
    }
    match similar(device, &of_kind)[..] {
        [] => {}
        [near] => return Some(format!("did you mean {kind}={near}?")),
        _ => return Some(format!("{device} is the beginning of several names")),
    }
    let count = registry.count(kind);
    let what = if kind == GPU_KIND { "GPU" } else { "device" };
    let there = if count == 1 { format!("there is 1 {what}") } else { format!("there are {count} {what}s") };
    let by = if of_kind.len() == 1 { "by the name" } else { "by the names" };
    let told = of_kind.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    let more = if of_kind.len() > MOST { ", …" } else { "" };
    let by_index_only = is_uuid(device) && kind == GPU_KIND && !of_kind.iter().any(|name| is_uuid(name));
    let uuids = if by_index_only {
        ", not by UUID (`nvidia-ctk cdi generate --device-name-strategy=uuid` does that)"
    } else {
        ""
    };
    Some(format!("{there}, {by} {told}{more}{uuids}"))
}

/// The probable devices for an unknown name: those of which it is a prefix, as NVIDIA's hook allows for UUIDs, or else
/// a similar one. Numbers are never similar.
fn similar<'a>(device: &str, names: &[&'a str]) -> Vec<&'a str> {
    if device.bytes().all(|b| b.is_ascii_digit() || b == b':') {
        return Vec::new();
    }
    let begins = |name: &&&str| {
        name.len() >= device.len() && name.as_bytes()[..device.len()].eq_ignore_ascii_case(device.as_bytes())
    };
    let begun: Vec<&str> = names.iter().filter(begins).copied().collect();
    if !begun.is_empty() && device.len() > 1 {
        return begun;
    }
    let words: Vec<&str> = names.iter().filter(|name| is_uuid(name) == is_uuid(device)).copied().collect();
    nearest(device, &words).into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

fn is_uuid(name: &str) -> bool {
    name.contains('-')
}
