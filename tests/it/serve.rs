//! A layout as a registry, and as an archive, for skopeo, umoci and curl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ociforge::store::archive::write_archive;
use ociforge::store::{Archive, Layout, layout::REF_NAME};
use ociforge_manifests::{Descriptor, Digest, media_type};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::served::Served;
use crate::support::{
    Layered, OCIFORGE, Packing, Place, Registry, Tar, User, curl, curl_status, files, run, skopeo, skopeo_copy,
    skopeo_raw, tool,
};

fn inspect(image: &str) -> Value {
    serde_json::from_str(&skopeo_raw(image)).unwrap()
}

/// A directory, and in it the layout `umoci` with an image `latest` of one layer with the file `/file`.
fn umoci_layout() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("umoci");
    let content = directory.path().join("content");
    fs::write(&content, vec![b'x'; 3 << 20]).unwrap();
    let image = format!("{}:latest", layout.display());
    tool("umoci", &["init", "--layout", layout.to_str().unwrap()]);
    tool("umoci", &["new", "--image", &image]);
    tool("umoci", &["insert", "--rootless", "--image", &image, content.to_str().unwrap(), "/file"]);
    (directory, layout)
}

fn oci(layout: &Path, tag: &str) -> String {
    format!("oci:{}:{tag}", layout.display())
}

#[test]
fn skopeo_pushes_and_pulls() {
    let (directory, source) = umoci_layout();
    let served = Served::new(&directory.path().join("served"));
    let image = oci(&source, "latest");
    skopeo_copy(&image, &served.name("team/app:v1"));
    assert_eq!(inspect(&served.name("team/app:v1")), inspect(&image));
    // Again: everything is there.
    skopeo_copy(&image, &served.name("team/app:v1"));
    // Blobs of another repository are mounted, or found.
    skopeo_copy(&served.name("team/app:v1"), &served.name("other:v2"));
    let tags = skopeo(&["list-tags", "--tls-verify=false", &served.name("team/app")]);
    assert_eq!(serde_json::from_str::<Value>(&tags).unwrap()["Tags"], json!(["v1"]));

    let pulled = directory.path().join("pulled");
    skopeo_copy(&served.name("other:v2"), &oci(&pulled, "x"));
    let bundle = directory.path().join("bundle");
    let image = format!("{}:x", pulled.display());
    tool("umoci", &["unpack", "--rootless", "--image", &image, bundle.to_str().unwrap()]);
    assert_eq!(fs::metadata(bundle.join("rootfs/file")).unwrap().len(), 3 << 20);

    // What was pushed can be read from the layout itself.
    let served_layout = oci(&directory.path().join("served"), "team/app:v1");
    assert_eq!(inspect(&served_layout), inspect(&served.name("team/app:v1")));
    skopeo(&["delete", "--tls-verify=false", &served.name("other:v2")]);
    assert_eq!(curl_status(&[&served.url("/v2/other/manifests/v2")]), "404");
}

#[test]
fn skopeo_pushes_docker_images() {
    let (directory, source) = umoci_layout();
    let served = Served::new(&directory.path().join("served"));
    let target = served.name("docker:v1");
    skopeo(&["copy", "--format=v2s2", "--dest-tls-verify=false", &oci(&source, "latest"), &target]);
    assert_eq!(inspect(&target)["mediaType"], media_type::DOCKER_MANIFEST);
    skopeo_copy(&target, &format!("dir:{}", directory.path().join("pulled").display()));
}

#[test]
fn what_umoci_made_can_be_pulled_under_any_name() {
    let (directory, source) = umoci_layout();
    let served = Served::new(&source);
    skopeo_copy(&served.name("whatever/it/is:latest"), &format!("dir:{}", directory.path().join("pulled").display()));
    assert_eq!(inspect(&served.name("other")), inspect(&oci(&source, "latest")));
}

/// Adds an index of the image `latest` for two platforms, called `index`.
fn with_index(layout: &Path) -> Digest {
    let layout = Layout::open(layout).unwrap();
    let image = layout.find(Some("latest")).unwrap();
    let mut manifests = vec![json!(image), json!(image)];
    for (manifest, architecture) in manifests.iter_mut().zip(["amd64", "arm64"]) {
        manifest["annotations"] = json!({});
        manifest["platform"] = json!({"os": "linux", "architecture": architecture});
    }
    let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests}).to_string();
    let mut entry = Descriptor::of(media_type::INDEX, index.as_bytes());
    layout.put(index.as_bytes()).unwrap();
    entry.annotations.insert(REF_NAME.into(), "index".into());
    let digest = entry.digest.clone();
    layout.edit_index(|entries| entries.push(entry)).unwrap();
    digest
}

#[test]
fn an_index_is_copied_with_its_images() {
    let (directory, source) = umoci_layout();
    let digest = with_index(&source);
    let (from, to) = (Served::new(&source), Served::new(&directory.path().join("served")));
    skopeo_copy(&from.name("a:index"), &to.name("b:index"));
    let digest = format!("b@{digest}");
    skopeo_copy(&to.name(&digest), &format!("dir:{}", directory.path().join("pulled").display()));
}

#[test]
fn skopeo_reads_our_archives_and_we_its() {
    let (directory, source) = umoci_layout();
    with_index(&source);
    let layout = Layout::open(&source).unwrap();
    let [ours, theirs] = ["ours.tar", "theirs.tar"].map(|name| directory.path().join(name));
    let images = [layout.find(Some("latest")).unwrap(), layout.find(Some("index")).unwrap()];
    write_archive(&layout, &images, &ours, &()).unwrap();
    for tag in ["latest", "index"] {
        let name = format!("oci-archive:{}:{tag}", ours.display());
        assert_eq!(inspect(&name), inspect(&oci(&source, tag)));
        skopeo_copy(&name, &format!("dir:{}", directory.path().join(tag).display()));
    }
    let single = directory.path().join("single.tar");
    write_archive(&layout, &images[..1], &single, &()).unwrap();
    assert_eq!(inspect(&format!("oci-archive:{}", single.display())), inspect(&oci(&source, "latest")));

    skopeo_copy(&oci(&source, "index"), &format!("oci-archive:{}:nvcr.io/a/b:t", theirs.display()));
    let archive = Archive::open(&theirs).unwrap();
    assert_eq!(archive.find(None).unwrap().digest, images[1].digest);
    assert_eq!(archive.find(Some("nvcr.io/a/b:t")).unwrap().digest, images[1].digest);
    let image = Descriptor { annotations: images[0].annotations.clone(), ..images[0].clone() };
    assert_eq!(archive.blob_size(&image.digest), Some(image.size));
}

#[test]
fn curl_uploads_in_chunks() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::new(&directory.path().join("served"));
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 253) as u8).collect();
    let file = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        format!("@{}", path.display())
    };
    let location = curl(&["-X", "POST", "-w", "%header{location}", &served.url("/v2/a/blobs/uploads/")]);
    for (start, end) in [(0, 1_500_000), (1_500_000, 2_900_000)] {
        let chunk = file("chunk", &content[start..end]);
        let range = format!("Content-Range: {start}-{}", end - 1);
        let octets = "Content-Type: application/octet-stream";
        let arguments = ["-X", "PATCH", "--data-binary", &chunk, "-H", &range, "-H", octets];
        let answer = curl(&[&arguments[..], &["-w", "%{http_code} %header{range}", &served.url(&location)]].concat());
        assert_eq!(answer, format!("202 0-{}", end - 1));
    }
    let close = format!("{}?digest={}", served.url(&location), Digest::of(&content));
    let chunk = file("chunk", &content[2_900_000..]);
    assert_eq!(curl(&["-X", "PUT", "--data-binary", &chunk, "-w", "%{http_code}", &close]), "201");

    let (first, rest) = (directory.path().join("first"), directory.path().join("rest"));
    let blob = served.url(&format!("/v2/a/blobs/{}", Digest::of(&content)));
    curl(&["-r", "0-999999", "-o", first.to_str().unwrap(), &blob]);
    curl(&["-r", "1000000-", "-o", rest.to_str().unwrap(), &blob]);
    assert!([fs::read(first).unwrap(), fs::read(rest).unwrap()].concat() == content);
}

/// An image of a layer of its own and one that all have, in the layout `name`.
fn image(place: &Place, name: &str) -> String {
    let own = Layered::of_file(name.repeat(1000));
    own.layer(Packing::Plain, Tar::new().file("common", vec![b'x'; 300_000])).write(place, name)
}

/// Pushes with skopeo and builds with ours, through two servers and into the layout itself, while garbage is collected.
#[test]
fn several_writers_lose_nothing() {
    let place = Place::new();
    let servers = [Registry::serve(&place, "served"), Registry::serve(&place, "served")];
    // Eight clients with three images each.
    let images: Vec<(usize, String, String)> = (0..24)
        .map(|n| {
            let (client, name) = (n % 8, format!("client{}/image{}", n % 8, n / 8));
            let image = if client < 4 { image(&place, &name) } else { recipe(&place, &name) };
            (client, name, image)
        })
        .collect();
    let push = |client: usize, name: &str, image: &str| {
        let server = servers[client % 2].name(&format!("{name}:t"));
        let mut command = match client {
            0..4 => {
                let copy = ["--insecure-policy", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"];
                place.wrapped("skopeo", [&copy[..], &[image, &server]].concat())
            }
            // With a store of its own, so that it pushes all there is.
            4..7 => place.build(image, &["--store", &format!("{image}/store"), "-o", &server]),
            _ => place.build(image, &["-o", &format!("oci:served:{name}:t")]),
        };
        run(&mut command).ok();
    };
    std::thread::scope(|scope| {
        let work = |whose: usize| {
            let (images, push) = (&images, &push);
            let own = images.iter().filter(move |(client, ..)| *client == whose);
            move || own.for_each(|(client, name, image)| push(*client, name, image))
        };
        let clients: Vec<_> = (0..8).map(|client| scope.spawn(work(client))).collect();
        while !clients.iter().all(|client| client.is_finished()) {
            let ran = run(&mut place.ociforge(["gc", "served", "--untagged"]));
            // It does nothing while the last client writes into the layout itself.
            if ran.code != Some(0) {
                ran.fails(1, &["another process is copying an image into the layout"]);
            }
        }
    });
    let [one, two] = &servers;
    for (client, name, _) in &images {
        // From the other server.
        let server = if client % 2 == 0 { two } else { one };
        skopeo_copy(&server.name(&format!("{name}:t")), &format!("dir:{}", place.at("pulled")));
    }
    let layout = Layout::open(place.path("served")).unwrap();
    assert_eq!(layout.index().unwrap().manifests.len(), images.len());
    for blob in files(&place.path("served/blobs")) {
        let name = blob.file_name().unwrap().to_str().unwrap();
        assert_eq!(Digest::of(&fs::read(&blob).unwrap()).hex(), name);
    }
    assert_eq!(files(&place.path("served/.uploads")), [] as [PathBuf; 0]);
}

/// A recipe of an image with a file of its own and one that all have.
fn recipe(place: &Place, name: &str) -> String {
    let text = "base = 'scratch'\n[config.env]\nPATH = '/bin'\n[[layer]]\ncopy = {from = 'file', to = '/file'}\n\
                [[layer]]\ncopy = {from = 'common', to = '/common'}\n";
    place.write(&format!("{name}/ociforge.toml"), text);
    place.write(&format!("{name}/file"), name);
    place.write(&format!("{name}/common"), vec![b'x'; 300_000]);
    place.at(name)
}

/// Names, lengths and times of all that is in a layout.
fn listing(layout: &Path) -> String {
    tool("find", &[layout.to_str().unwrap(), "-printf", "%p %s %T@ %C@\\n"])
}

#[test]
fn a_mirror_is_served_as_it_stands() {
    let place = Place::new();
    let user = User::with_one_id();
    user.move_in(&place);
    // Root's, so that the server can't write it.
    image(&place, "mirror");
    let layout = Layout::open(place.path("mirror")).unwrap();
    layout
        .edit_index(|entries| {
            let image = entries.remove(0);
            entries.extend(["nvcr.io/a/b:t", "docker.io/library/c:t"].map(|name| Descriptor {
                annotations: [(REF_NAME.to_owned(), name.to_owned())].into(),
                ..image.clone()
            }));
        })
        .unwrap();
    fs::remove_file(place.path("mirror/.lock")).unwrap();
    let before = listing(&place.path("mirror"));

    let program = || user.command(&place, &[&place.at("ociforge")]);
    let refused = program().args(["serve", "--listen", "127.0.0.1:0"]).arg(place.path("mirror")).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("Permission denied") && said.contains("--read-only"), "{said}");

    let registry = Registry::serve_with(&place, "mirror", program(), &["--read-only"]);
    for (n, name) in ["nvcr.io/a/b:t", "a/b:t", "docker.io/library/c:t", "library/c:t"].iter().enumerate() {
        skopeo_copy(&registry.name(name), &format!("dir:{}", place.at(&format!("pulled{n}"))));
    }
    let url = |path: &str| format!("http://{}/v2/{path}", registry.address);
    let blob = &layout.find(Some("nvcr.io/a/b:t")).unwrap();
    let [path, tag] = [url(&format!("a/b/blobs/{}", blob.digest)), format!("If-None-Match: \"{}\"", blob.digest)];
    let status = ["-o", "/dev/null", "-w", "%{http_code} %header{etag} %{size_download}"];
    let curl = |arguments: &[&str]| curl(&[&status, arguments].concat());
    let etag = format!("\"{}\"", blob.digest);
    assert_eq!(curl(&[&path]), format!("200 {etag} {}", blob.size));
    assert_eq!(curl(&["--head", &path]), format!("200 {etag} 0"));
    assert_eq!(curl(&["-r", "10-19", &path]), format!("206 {etag} 10"));
    assert_eq!(curl(&["-H", &tag, &path]), format!("304 {etag} 0"));
    let uploads = url("a/b/blobs/uploads/");
    let mount = format!("{uploads}?mount={}&from=a/b", blob.digest);
    for (method, path) in [("POST", &uploads), ("POST", &mount), ("DELETE", &path), ("PUT", &url("a/b/manifests/t"))] {
        assert!(curl(&["-X", method, path]).starts_with("405 "), "{method} {path}");
    }
    assert_eq!(listing(&place.path("mirror")), before);
}

/// Services begin with a limit of 1,024 open files. Clients that only connect must not use them up.
#[test]
fn clients_that_do_nothing_keep_no_others_out() {
    let place = Place::new();
    let image = image(&place, "image");
    let mut program = Command::new("sh");
    program.args(["-c", "ulimit -Sn 200 && exec \"$0\" \"$@\"", OCIFORGE]);
    let registry = Registry::serve_with(&place, "served", program, &[]);
    let connect = || std::net::TcpStream::connect(&registry.address).unwrap();
    let mut idle: Vec<_> = (0..350).map(|_| connect()).collect();
    // Some are slow to say what they want, and what they send.
    for (n, stream) in idle.iter_mut().enumerate() {
        let head = "POST /v2/a/blobs/uploads/?digest=sha256:0 HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n";
        std::io::Write::write_all(stream, &head.as_bytes()[..n % (head.len() + 1)]).unwrap();
    }
    skopeo_copy(&image, &registry.name("a:t"));
    skopeo_copy(&registry.name("a:t"), &format!("dir:{}", place.at("pulled")));
    drop(idle);
}
