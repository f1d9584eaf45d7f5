//! The versions of CDI, and the required version of a document (SPEC.md, "Released versions").

use super::document::{CdiDocument, ContainerEdits};
use super::fault::CdiFault;

/// Known versions, oldest first. Versions before 0.3.0 were never released.
const KNOWN: [&str; 10] = ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// Checks that the version is known and not older than the document's features.
pub(super) fn check(document: &CdiDocument) -> Result<(), CdiFault> {
    let declared = document.cdi_version.as_str();
    let declared = declared.strip_prefix('v').unwrap_or(declared);
    let age = |version| KNOWN.iter().position(|known| *known == version);
    let have = age(declared).ok_or_else(|| CdiFault::Version(document.cdi_version.clone()))?;
    let (feature, needed) = needs(document);
    if age(needed).is_some_and(|needed| have < needed) {
        return Err(CdiFault::TooOld { declared: declared.to_owned(), feature, needed });
    }
    Ok(())
}

/// The newest feature in the document, and its version.
///
/// For features before 0.6.0, CDI's own library checks only the edits of the file and of the last device, and accepts
/// some files only for this reason.
fn needs(document: &CdiDocument) -> (&'static str, &'static str) {
    let any = |uses: fn(&ContainerEdits) -> bool| document.all_edits().any(uses);
    let last = document.devices.last().map(|device| &device.container_edits);
    let any_of_last = |uses: fn(&ContainerEdits) -> bool| uses(&document.container_edits) || last.is_some_and(uses);
    let annotated =
        !document.annotations.is_empty() || document.devices.iter().any(|device| !device.annotations.is_empty());
    let class = document.kind.split_once('/').map_or("", |(_, class)| class);
    let features = [
        ("netDevices", "1.1.0", any(|edits| !edits.net_devices.is_empty())),
        (
            "intelRdt's schemata and enableMonitoring",
            "1.1.0",
            any(|edits| edits.intel_rdt.as_ref().is_some_and(|rdt| rdt.schemata.is_some() || rdt.enable_monitoring)),
        ),
        ("intelRdt", "0.7.0", any(|edits| edits.intel_rdt.is_some())),
        ("additionalGids", "0.7.0", any(|edits| !edits.additional_gids.is_empty())),
        ("annotations", "0.6.0", annotated),
        ("a dot in the class", "0.6.0", class.contains('.')),
        (
            "hostPath of a device node",
            "0.5.0",
            any_of_last(|edits| {
                edits.device_nodes.iter().any(|node| node.host_path.as_ref().is_some_and(|path| !path.is_empty()))
            }),
        ),
        (
            "a device's name with a digit first",
            "0.5.0",
            document.devices.iter().any(|device| device.name.starts_with(|c: char| c.is_ascii_digit())),
        ),
        (
            "the type of a mount",
            "0.4.0",
            any_of_last(|edits| {
                edits.mounts.iter().any(|mount| mount.kind.as_ref().is_some_and(|kind| !kind.is_empty()))
            }),
        ),
    ];
    let used = features.into_iter().find(|(_, _, used)| *used);
    used.map_or(("the first release", "0.3.0"), |(feature, version, _)| (feature, version))
}
