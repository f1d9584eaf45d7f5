//! A layout that came from elsewhere, and has in it what no layout has.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// A registry, and a file outside of its layout.
async fn scene() -> (Registry, PathBuf) {
    let registry = Registry::new().await;
    let victim = registry.layout.root().parent().unwrap().join("victim");
    fs::write(&victim, "precious").unwrap();
    (registry, victim)
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
}

async fn message(response: Response) -> String {
    assert_eq!(response.status(), 500);
    parse(response).await["errors"][0]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn nothing_outside_is_shown_or_written() {
    let (registry, victim) = scene().await;
    let digest = Digest::of(b"precious");
    std::os::unix::fs::symlink(&victim, registry.layout.blob_path(&digest)).unwrap();
    let path = format!("/v2/a/b/blobs/{digest}");
    assert!(message(registry.get(&path).await).await.contains("is a symbolic link"));
    // Who pushes it replaces the link.
    registry.blob("x", b"precious").await;
    assert_eq!(registry.get(&path).await.bytes().await.unwrap(), "precious");

    type Link = fn(&Path, &Path) -> std::io::Result<()>;
    let links: [Link; 2] = [|to, at| std::os::unix::fs::symlink(to, at), |to, at| fs::hard_link(to, at)];
    for link in links {
        let location = registry.begin("").await;
        let upload = registry.layout.root().join(".uploads").join(location.rsplit('/').next().unwrap());
        fs::remove_file(&upload).unwrap();
        link(&victim, &upload).unwrap();
        for method in ["PATCH", "PUT", "DELETE"] {
            let path = format!("{location}?digest={}", Digest::of(b"preciousATTACK"));
            let refused = registry.request(method, &path).body("ATTACK").send().await.unwrap();
            assert_eq!(refused.status(), 500, "{method}");
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }

    let outside = victim.with_file_name("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, registry.layout.root().join("blobs/sha512")).unwrap();
    let path = format!("/v2/a/b/blobs/uploads/?digest={}", sha512(b"x"));
    let refused = registry.request("POST", &path).body("x").send().await.unwrap();
    assert!(message(refused).await.contains("blobs/sha512 is a symbolic link"));
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
    assert_eq!(registry.status("DELETE", &format!("/v2/a/b/blobs/{}", sha512(b"x"))).await, 404);
}

#[tokio::test]
async fn what_is_no_file_is_an_error_at_once() {
    let (registry, _) = scene().await;
    let image = registry.image(b"layer").await;
    registry.put("t", &image).await;
    let (pipe, directory) = (Digest::of(b"pipe"), Digest::of(b"directory"));
    fifo(&registry.layout.blob_path(&pipe));
    fs::create_dir(registry.layout.blob_path(&directory)).unwrap();
    for (digest, is) in [(&pipe, "a named pipe"), (&directory, "a directory")] {
        let path = format!("/v2/a/b/blobs/{digest}");
        assert!(message(registry.get(&path).await).await.contains(is));
        assert_eq!(registry.status("DELETE", &path).await, 404);
    }
    registry.blob("x", b"pipe").await;
    let path = format!("/v2/a/b/blobs/uploads/?digest={directory}");
    let refused = registry.request("POST", &path).body("directory").send().await.unwrap();
    assert!(message(refused).await.contains("is a directory"));
    let location = registry.begin("").await;
    let upload = registry.layout.root().join(".uploads").join(location.rsplit('/').next().unwrap());
    fs::remove_file(&upload).unwrap();
    fifo(&upload);
    assert_eq!(registry.request("PATCH", &location).body("x").send().await.unwrap().status(), 500);

    for name in ["index.json", ".lock"] {
        let path = registry.layout.root().join(name);
        let sound = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fifo(&path);
        let said = message(registry.put("u", &image).await).await;
        assert!(said.contains(&format!("{name} is a named pipe")), "{said}");
        fs::remove_file(&path).unwrap();
        fs::write(path, sound).unwrap();
    }
    assert_eq!(registry.put("u", &image).await.status(), 201);
}
