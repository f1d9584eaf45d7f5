//! containers-certs.d(5), and Docker's directories of the same form: authorities and client certificates by host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reqwest::{Certificate, ClientBuilder, Identity};
use url::Url;

use super::address::host_of;
use super::error::HttpError;

/// The contents of a directory.
pub(super) struct Certificates {
    authorities: Vec<Certificate>,
    identity: Option<Identity>,
}

impl Certificates {
    /// Adds the authorities and the client certificate to the client's defaults.
    pub(super) fn add_to(self, builder: ClientBuilder) -> ClientBuilder {
        let builder = builder.tls_certs_merge(self.authorities);
        match self.identity {
            Some(identity) => builder.identity(identity),
            None => builder,
        }
    }
}

/// The directory of the host in `url`, in the first of `places` that has one. `None` for plain HTTP.
pub(super) fn directory(places: &[PathBuf], url: &Url) -> Option<PathBuf> {
    let host = host_of(url);
    // The URL parser accepts `..` as a host, but here it must not leave the directory.
    if url.scheme() != "https" || host.starts_with('.') {
        return None;
    }
    let mut names = vec![host.clone()];
    if url.port().is_none() {
        names.push(format!("{host}:443"));
    }
    if host == "registry-1.docker.io" {
        names.push("docker.io".into());
    }
    let directories = places.iter().flat_map(|place| names.iter().map(|name| place.join(name)));
    { directories }.find(|directory| directory.is_dir())
}

/// Reads the certificates of a directory: each `*.crt` has one or more authorities; `NAME.cert` and `NAME.key` are the
/// client's certificate and key.
///
/// # Errors
/// When a file cannot be read or is not valid, when one half of a pair is missing, or when there is more than one pair.
pub(super) fn read(directory: &Path) -> Result<Certificates, HttpError> {
    let (mut authorities, mut identity) = (Vec::new(), None);
    for file in files(directory).map_err(|error| unreadable(directory, &error))? {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => {
                let found = Certificate::from_pem_bundle(&content(&file)?).ok().filter(|found| !found.is_empty());
                authorities.extend(found.ok_or_else(|| bad(&file, "holds no certificate in PEM"))?);
            }
            Some("cert") if identity.is_some() => return Err(bad(&file, "is a second certificate for the client")),
            Some("cert") => identity = Some(read_identity(&file)?),
            Some("key") if !file.with_extension("cert").is_file() => {
                return Err(bad(
                    &file,
                    "is a key without a certificate; expected a file of the same name that ends in .cert",
                ));
            }
            _ => {}
        }
    }
    Ok(Certificates { authorities, identity })
}

fn read_identity(certificate: &Path) -> Result<Identity, HttpError> {
    let key = certificate.with_extension("key");
    if !key.is_file() {
        return Err(bad(
            certificate,
            "is a certificate without a key; expected a file of the same name that ends in .key",
        ));
    }
    let chain = content(certificate)?;
    if !Certificate::from_pem_bundle(&chain).is_ok_and(|found| !found.is_empty()) {
        return Err(bad(certificate, "holds no certificate in PEM"));
    }
    let pair = [chain, b"\n".to_vec(), content(&key)?].concat();
    Identity::from_pem(&pair).map_err(|_| bad(&key, "holds no private key in PEM that can be used without a password"))
}

/// The files in a directory, sorted by name.
fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?.map(|entry| Ok(entry?.path()));
    let mut files = entries.collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

fn content(file: &Path) -> Result<Vec<u8>, HttpError> {
    fs::read(file).map_err(|error| unreadable(file, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> HttpError {
    bad(path, &format!("can't be read: {error}"))
}

fn bad(file: &Path, what: &str) -> HttpError {
    HttpError::Certificates(format!("{} {what}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_knows_the_host_counts() {
        let root = tempfile::tempdir().unwrap();
        let places = ["user", "system"].map(|name| root.path().join(name));
        let of = |url: &str| directory(&places, &url.parse().unwrap());
        for known in ["user/a.example:5000", "system/a.example:5000", "system/b.example:443", "system/docker.io"] {
            fs::create_dir_all(root.path().join(known)).unwrap();
        }
        assert_eq!(of("https://a.example:5000/v2/"), Some(places[0].join("a.example:5000")));
        assert_eq!(of("https://b.example/v2/"), Some(places[1].join("b.example:443")));
        assert_eq!(of("https://registry-1.docker.io/v2/"), Some(places[1].join("docker.io")));
        for other in ["http://a.example:5000/v2/", "https://a.example/v2/", "https://b.example:5000/", "https://.."] {
            assert_eq!(other.parse().ok().and_then(|url| directory(&places, &url)), None, "{other}");
        }
        assert_eq!(directory(&[], &"https://a.example:5000/".parse().unwrap()), None);
    }

    #[test]
    fn what_is_missing_or_bad_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = |present: &[(&str, &str)]| {
            let place = directory.path().join("host");
            fs::create_dir(&place).unwrap();
            for (name, text) in present {
                fs::write(place.join(name), text).unwrap();
            }
            let message = read(&place).err().map(|error| error.to_string()).unwrap_or_default();
            fs::remove_dir_all(&place).unwrap();
            message.rsplit('/').next().unwrap_or_default().to_owned()
        };
        assert_eq!(error(&[("README", ""), ("old.pem", "x")]), "");
        assert_eq!(error(&[("ca.crt", "text")]), "ca.crt holds no certificate in PEM");
        let block = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert_eq!(error(&[("ca.crt", block)]), "ca.crt holds no certificate in PEM");
        assert!(error(&[("me.cert", "")]).starts_with("me.cert is a certificate without a key"));
        assert!(error(&[("me.key", "")]).starts_with("me.key is a key without a certificate"));
        assert_eq!(error(&[("me.cert", "x"), ("me.key", "x")]), "me.cert holds no certificate in PEM");
    }
}
