//! The devices of all CDI files, and the precedence of files.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{CdiDevice, CdiDocument};
use super::edits::Edits;
use super::fault::CdiFault;
use super::lacks;
use super::parse::parse;
use super::stale::HostResource;

/// A file of one of CDI's directories.
#[derive(Debug, Clone)]
pub struct CdiFile {
    /// Its path, for messages; the extension selects JSON or YAML.
    pub path: String,
    /// The index of its directory: higher ones override lower ones.
    pub priority: usize,
    /// Its bytes, or the reason why they cannot be read.
    pub content: Result<Vec<u8>, String>,
}

/// The location of a device: the index of a document, and of the device in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeviceLocation {
    document: usize,
    device: usize,
}

/// All devices.
#[derive(Debug, Clone, Default)]
pub struct CdiRegistry {
    documents: Vec<(CdiFile, CdiDocument)>,
    /// By full name.
    pub(super) devices: BTreeMap<String, DeviceLocation>,
    left_out: Vec<LeftOut>,
}

/// A skipped file or device, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeftOut {
    /// An invalid file.
    #[error("the CDI file {path} is skipped: {fault}")]
    File {
        /// Its path.
        path: String,
        /// The fault.
        fault: CdiFault,
    },
    /// A file with the extension `.yml`, which CDI does not support.
    #[error("the CDI file {0} is skipped: only .json and .yaml are read; rename it")]
    Ending(String),
    /// A device that several files of the same priority describe.
    #[error("the CDI device {name} is skipped: {} describe it", paths.join(" and "))]
    Device {
        /// Its full name.
        name: String,
        /// The files.
        paths: Vec<String>,
    },
}

/// The content of a file.
#[derive(Debug, Clone)]
pub struct Described<'a> {
    /// The file's path.
    pub path: &'a str,
    /// The kind of its devices.
    pub kind: &'a str,
    /// The number of effective devices; a device may have several names.
    pub devices: usize,
    /// The edits of those devices.
    pub edits: Edits,
}

/// The name of all devices of a kind in NVIDIA's toolkit.
const ALL: &str = "all";

impl CdiRegistry {
    /// Loads the files. Skips invalid files ([`Self::left_out`]), and devices in two files of the same priority.
    /// Ignores files with other extensions than `.json` and `.yaml`.
    #[must_use]
    pub fn load(files: Vec<CdiFile>) -> Self {
        let mut registry = Self::default();
        for mut file in files {
            match read(&mut file) {
                Ok(Some(document)) => registry.documents.push((file, document)),
                Ok(None) if file.path.ends_with(".yml") => registry.left_out.push(LeftOut::Ending(file.path)),
                Ok(None) => {}
                Err(fault) => registry.left_out.push(LeftOut::File { path: file.path, fault }),
            }
        }
        registry.index();
        registry
    }

    /// Finds the effective file of each device.
    fn index(&mut self) {
        let mut places: BTreeMap<String, Vec<DeviceLocation>> = BTreeMap::new();
        for (index, (_, document)) in self.documents.iter().enumerate() {
            for (device, entry) in document.devices.iter().enumerate() {
                let name = format!("{}={}", document.kind, entry.name);
                places.entry(name).or_default().push(DeviceLocation { document: index, device });
            }
        }
        for (name, places) in places {
            let file = |place: &DeviceLocation| &self.documents[place.document].0;
            let highest = places.iter().map(|place| file(place).priority).max();
            let best: Vec<_> = places.iter().filter(|place| Some(file(place).priority) == highest).collect();
            if let [place] = best[..] {
                self.devices.insert(name, *place);
            } else {
                let paths = best.iter().map(|place| file(place).path.clone()).collect();
                self.left_out.push(LeftOut::Device { name, paths });
            }
        }
    }

    /// The skipped files in their order, then the skipped devices by name, with the reasons as sentences without a full
    /// stop.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// The valid files, in their order.
    pub fn files(&self) -> impl Iterator<Item = Described<'_>> {
        self.documents.iter().enumerate().map(|(index, (file, document))| {
            let places: Vec<DeviceLocation> =
                self.devices.values().filter(|place| place.document == index).copied().collect();
            let devices = count(places.iter().map(|place| self.device(place)));
            Described { path: &file.path, kind: &document.kind, devices, edits: self.edits(&places) }
        })
    }

    /// The number of devices of the kind; a device may have several names.
    #[must_use]
    pub fn count(&self, kind: &str) -> usize {
        let places = self.devices.values();
        count(places.filter(|place| self.documents[place.document].1.kind == kind).map(|place| self.device(place)))
    }

    fn device(&self, place: &DeviceLocation) -> &CdiDevice {
        &self.documents[place.document].1.devices[place.device]
    }

    /// The full names of all devices, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// The kinds of all devices, `VENDOR/CLASS`.
    #[must_use]
    pub fn kinds(&self) -> BTreeSet<&str> {
        self.devices.values().map(|place| self.documents[place.document].1.kind.as_str()).collect()
    }

    /// The host paths of all device nodes; the facts about them are an input of the application of edits.
    #[must_use]
    pub fn host_paths(&self) -> BTreeSet<&str> {
        let edits = self.documents.iter().flat_map(|(_, document)| document.all_edits());
        edits.flat_map(|edits| &edits.device_nodes).map(|node| node.host_path()).collect()
    }

    /// The host files of mounts and hooks; the facts about them are an input of the application of edits on this host.
    #[must_use]
    pub fn sources(&self) -> BTreeSet<(HostResource, &str)> {
        let edits = self.documents.iter().flat_map(|(_, document)| document.all_edits());
        edits.flat_map(lacks::sources).collect()
    }

    /// The edits of these devices, in their order.
    pub(super) fn edits(&self, places: &[DeviceLocation]) -> Edits {
        let mut all = Edits::default();
        let mut documents = BTreeSet::new();
        for place in places {
            let (file, document) = &self.documents[place.document];
            if documents.insert(place.document) {
                all.edits.append(&document.container_edits);
                all.files.push(file.path.clone());
            }
            all.edits.append(&self.device(place).container_edits);
        }
        all
    }
}

/// The number of devices: names with the same device nodes count once, and `all` counts only if it is the only name, as
/// on WSL2.
fn count<'a>(devices: impl Iterator<Item = &'a CdiDevice>) -> usize {
    let (all, each): (Vec<&CdiDevice>, Vec<&CdiDevice>) = devices.partition(|device| device.name == ALL);
    let what = |device: &'a CdiDevice| {
        let nodes: BTreeSet<&str> = device.container_edits.device_nodes.iter().map(|node| node.path.as_str()).collect();
        if nodes.is_empty() { BTreeSet::from([device.name.as_str()]) } else { nodes }
    };
    let each: BTreeSet<_> = each.into_iter().map(what).collect();
    if each.is_empty() { all.len() } else { each.len() }
}

/// The document of a file, whose bytes are dropped; `None` if it is not a CDI file.
fn read(file: &mut CdiFile) -> Result<Option<CdiDocument>, CdiFault> {
    let content = std::mem::replace(&mut file.content, Ok(Vec::new()));
    let bytes = content.map_err(CdiFault::Unreadable)?;
    match file.path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("json" | "yaml") => parse(&bytes).map(Some),
        _ => Ok(None),
    }
}
