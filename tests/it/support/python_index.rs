//! An index of Python packages on the loopback.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{Answer, Liar, Wheel, digest_of};

/// An index that has `wheel`, as the package `name`, for `user` with `password`.
pub(crate) fn python_index(name: &str, wheel: &Wheel, user: &str, password: &str) -> Liar {
    let (file, bytes) = (wheel.file_name(), wheel.bytes());
    let page = format!("<a href='/files/{file}#{}'>{file}</a>", digest_of(&bytes).replace(':', "="));
    let right = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
    let (listed, content) = (format!("/simple/{name}/"), format!("/files/{file}"));
    Liar::answering(move |asked| {
        if asked.headers.get("authorization") != Some(&right) {
            return Answer::status(401).header("WWW-Authenticate", "Basic realm=\"index\"");
        }
        match &asked.path {
            path if *path == listed => {
                Answer { body: page.clone().into(), ..Answer::status(200) }.header("Content-Type", "text/html")
            }
            path if *path == content => Answer { body: bytes.clone(), ..Answer::status(200) },
            _ => Answer::status(404),
        }
    })
}
