//! Images written entry by entry, sound or not.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::{Place, digest_of};

/// An entry: its header, what it is called, what it leads to, its content, and extended attributes.
struct Entry {
    header: Header,
    name: Vec<u8>,
    target: Vec<u8>,
    content: Vec<u8>,
    xattrs: Vec<(String, Vec<u8>)>,
}

/// A layer's tar to be. What changes an entry changes the last one.
#[derive(Default)]
pub(crate) struct Tar(Vec<Entry>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn entry(mut self, kind: EntryType, name: &str, target: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        let [name, target] = [name, target].map(|text| text.as_bytes().to_vec());
        self.0.push(Entry { header, name, target, content: content.to_vec(), xattrs: Vec::new() });
        self
    }

    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, name, "", 0o644, content.as_ref())
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.entry(EntryType::Directory, &format!("{name}/"), "", 0o755, b"")
    }

    pub(crate) fn link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, 0o777, b"")
    }

    pub(crate) fn hard(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, target, 0o644, b"")
    }

    pub(crate) fn fifo(self, name: &str) -> Self {
        self.entry(EntryType::Fifo, name, "", 0o644, b"")
    }

    pub(crate) fn device(mut self, name: &str, major: u32, minor: u32) -> Self {
        self = self.entry(EntryType::Char, name, "", 0o666, b"");
        let header = &mut self.0.last_mut().unwrap().header;
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.0.last_mut().unwrap().header.set_mode(mode);
        self
    }

    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Self {
        let header = &mut self.0.last_mut().unwrap().header;
        header.set_uid(uid);
        header.set_gid(gid);
        self
    }

    pub(crate) fn mtime(mut self, seconds: u64) -> Self {
        self.0.last_mut().unwrap().header.set_mtime(seconds);
        self
    }

    pub(crate) fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        self.0.last_mut().unwrap().xattrs.push((format!("SCHILY.xattr.{name}"), value.to_vec()));
        self
    }

    /// The tar's bytes. Names are written as they are given, however wrong.
    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for Entry { mut header, name, target, content, xattrs } in self.0 {
            if !xattrs.is_empty() {
                let pairs = xattrs.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
                tar.append_pax_extensions(pairs).unwrap();
            }
            assert!(name.len() < 100 && target.len() < 100);
            let old = header.as_old_mut();
            old.name[..name.len()].copy_from_slice(&name);
            old.linkname[..target.len()].copy_from_slice(&target);
            header.set_cksum();
            tar.append(&header, content.as_slice()).unwrap();
        }
        tar.into_inner().unwrap()
    }
}

/// How a layer is packed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Packing {
    Gzip,
    Zstd,
    Plain,
}

/// An image in the making.
pub(crate) struct Layered {
    layers: Vec<(Vec<u8>, &'static str)>,
    diff_ids: Vec<String>,
    config: Value,
    architecture: String,
}

impl Layered {
    pub(crate) fn new() -> Self {
        Self { layers: vec![], diff_ids: vec![], config: json!({"Cmd": ["/bin/sh"]}), architecture: "amd64".into() }
    }

    /// One whose lowest layer has the file `file`.
    pub(crate) fn of_file(content: impl AsRef<[u8]>) -> Self {
        Self::new().layer(Packing::Gzip, Tar::new().file("file", content))
    }

    /// One whose lowest layer has busybox as all of `/bin`, accounts, and the usual directories.
    pub(crate) fn busybox() -> Self {
        Self::new().with_busybox()
    }

    /// The same on top of the layers that there are.
    pub(crate) fn with_busybox(self) -> Self {
        let busybox = fs::read("/usr/bin/busybox").expect("busybox must be installed (Debian: busybox-static)");
        let directories = ["bin", "etc", "root", "usr", "usr/lib", "dev", "proc", "sys"];
        let mut tar = directories.iter().fold(Tar::new(), |tar, name| tar.dir(name)).dir("tmp").mode(0o1777);
        tar = tar.file("bin/busybox", busybox).mode(0o755);
        let applets = "sh cat echo ls id pwd env touch rm mkdir stat sleep true false kill hostname df find chown wc \
                       head grep printf readlink tty seq ln cp test nproc dd od";
        tar = applets.split_whitespace().fold(tar, |tar, name| tar.hard(&format!("bin/{name}"), "bin/busybox"));
        let passwd = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
        let group = "root:x:0:\nme:x:1000:\nvideo:x:44:me\nrender:x:105:root,me\nnogroup:x:65534:\n";
        self.layer(Packing::Gzip, tar.file("etc/passwd", passwd).file("etc/group", group))
    }

    pub(crate) fn layer(self, packing: Packing, tar: Tar) -> Self {
        self.tar(packing, &tar.bytes())
    }

    pub(crate) fn tar(mut self, packing: Packing, tar: &[u8]) -> Self {
        self.diff_ids.push(digest_of(tar));
        self.layers.push(match packing {
            Packing::Plain => (tar.to_vec(), "application/vnd.oci.image.layer.v1.tar"),
            Packing::Zstd => (zstd::encode_all(tar, 1).unwrap(), "application/vnd.oci.image.layer.v1.tar+zstd"),
            Packing::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(tar).unwrap();
                (encoder.finish().unwrap(), "application/vnd.oci.image.layer.v1.tar+gzip")
            }
        });
        self
    }

    /// Changes the last layer's blob, as its manifest knows it.
    pub(crate) fn blob(mut self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        change(&mut self.layers.last_mut().unwrap().0);
        self
    }

    /// Has the config lie about the last layer.
    pub(crate) fn diff_id(mut self, diff_id: &str) -> Self {
        *self.diff_ids.last_mut().unwrap() = diff_id.into();
        self
    }

    /// The config's `config`.
    pub(crate) fn config(self, config: Value) -> Self {
        Self { config, ..self }
    }

    pub(crate) fn architecture(self, architecture: &str) -> Self {
        Self { architecture: architecture.into(), ..self }
    }

    /// Writes it into the layout `name` of `place`, and gives its name.
    pub(crate) fn write(self, place: &Place, name: &str) -> String {
        let put = |bytes: &[u8], media_type: &str| {
            let digest = digest_of(bytes);
            place.write(&format!("{name}/blobs/{}", digest.replace(':', "/")), bytes);
            json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let layers: Vec<_> = self.layers.iter().map(|(blob, kind)| put(blob, kind)).collect();
        let config = json!({"os": "linux", "architecture": self.architecture, "config": self.config,
                            "rootfs": {"type": "layers", "diff_ids": self.diff_ids}});
        let config = put(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        let mut manifest = put(manifest.to_string().as_bytes(), kind);
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "x"});
        place.write(&format!("{name}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        place.write(&format!("{name}/index.json"), index.to_string());
        format!("oci:{}:x", place.at(name))
    }

    /// The digest of the layer `number`.
    pub(crate) fn digest(&self, number: usize) -> String {
        digest_of(&self.layers[number].0)
    }
}
