//! The files in `/etc` for a container's network.

use std::collections::BTreeMap;
use std::fs;

use ociforge_manifests::runtime::{ContainerRequest, Host, Network, RuntimeSettings};

use super::bundle::{Bundle, BundleError};

/// The files of a bundle.
pub(super) struct EtcFiles<'a> {
    /// The directory of the files.
    pub(super) bundle: &'a Bundle<'a>,
    /// Whether the container is on the host's network.
    pub(super) shared: bool,
}

impl EtcFiles<'_> {
    /// `/etc/hostname` and `/etc/hosts` of a container with a host name; on the host's network, its `/etc/hosts` has
    /// precedence.
    pub(super) fn named(&self, request: &ContainerRequest) -> Result<BTreeMap<String, String>, BundleError> {
        let Some(hostname) = request.hostname.as_ref().map(|name| name.as_str()) else { return Ok(BTreeMap::new()) };
        let mut files = BTreeMap::new();
        for (name, content) in
            [("hostname", format!("{hostname}\n")), ("hosts", format!("{HOSTS}127.0.1.1\t{hostname}\n"))]
        {
            if name == "hostname" || !self.shared {
                files.insert(format!("/etc/{name}"), self.bundle.write(name, content.as_bytes())?);
            }
        }
        Ok(files)
    }

    /// Writable copies of the host's files for the container: `/etc/resolv.conf`, empty if the host has none, and on
    /// the host's network `/etc/hosts`.
    pub(super) fn copies(&self, facts: &Host) -> Result<BTreeMap<String, String>, BundleError> {
        let mut copies = BTreeMap::new();
        for name in ["resolv.conf", "hosts"].into_iter().filter(|name| self.shared || *name != "hosts") {
            let place = format!("/etc/{name}");
            let content = match facts.network_files.get(&place) {
                Some(file) => fs::read(file).map_err(|source| BundleError::Read { path: file.into(), source })?,
                None => Vec::new(),
            };
            copies.insert(place, self.bundle.write(name, &content)?);
        }
        Ok(copies)
    }
}

/// The default content of `/etc/hosts`.
const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
                     ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// Whether the container uses the host's network: by the request, or else by the image's annotations.
pub(super) fn shares_network(
    annotations: &BTreeMap<String, String>,
    request: &ContainerRequest,
) -> Result<bool, BundleError> {
    Ok(request.settings.or(RuntimeSettings::from_annotations(annotations)?).network == Some(Network::Host))
}
