//! Writes the installed form of a wheel to a directory, to compare it with what pip installs, and lists its paths.
//!
//! `install_wheel [--venv] [--pip X.Y] WHEEL SITE_PACKAGES PYTHON EXECUTABLE OUTPUT`

use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use ociforge_layers::source::wheel::{InstallOptions, Scheme, Wheel};
use ociforge_layers::{Content, LayerPath, LayerTree, NodeKind};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let venv = take(&mut arguments, "--venv", 0).is_some();
    let pip = take(&mut arguments, "--pip", 1);
    let [wheel, site_packages, python, executable, output] = &arguments[..] else {
        return Err("usage: install_wheel [--venv] [--pip X.Y] WHEEL SITE_PACKAGES PYTHON EXECUTABLE OUTPUT".into());
    };
    let mut scheme = Scheme::new(LayerPath::new(site_packages)?, version(python)?, executable.clone())?;
    if venv {
        scheme = scheme.in_venv()?;
    }
    if let Some(pip) = pip {
        scheme = scheme.like_pip(version(&pip)?);
    }
    let started = Instant::now();
    let wheel = Wheel::open(Path::new(wheel))?;
    let opened = started.elapsed();
    let correction = wheel.verify()?;
    let verified = started.elapsed() - opened;
    let wheel = match &correction {
        Some(correction) => wheel.with_record(&correction.record),
        None => wheel,
    };
    let tree = wheel.install(&scheme, InstallOptions { mtime: 0, requested: true })?;
    let installed = started.elapsed() - verified - opened;
    write(&tree, Path::new(output))?;
    for (path, _) in tree.iter() {
        writeln!(io::stdout(), "{path}")?;
    }
    for discrepancy in correction.iter().flat_map(|correction| &correction.discrepancies).take(3) {
        writeln!(io::stderr(), "{discrepancy}")?;
    }
    writeln!(io::stderr(), "open {opened:?}, verify {verified:?}, install {installed:?}, {} entries", tree.len())?;
    Ok(())
}

fn take(arguments: &mut Vec<String>, name: &str, values: usize) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.drain(at..=at + values).next_back()
}

fn version(text: &str) -> Result<(u32, u32), Box<dyn Error>> {
    let (major, minor) = text.split_once('.').ok_or("a version is X.Y")?;
    Ok((major.parse()?, minor.parse()?))
}

fn write(tree: &LayerTree, output: &Path) -> Result<(), Box<dyn Error>> {
    for (path, node) in tree.iter() {
        let at = output.join(path.as_path());
        match &node.kind {
            NodeKind::Directory { .. } => fs::create_dir_all(&at)?,
            NodeKind::File(content) => {
                fs::create_dir_all(at.parent().ok_or("a file has a parent")?)?;
                fs::write(&at, bytes(content)?)?;
            }
            other => return Err(format!("a wheel has no {other:?}").into()),
        }
        fs::set_permissions(&at, fs::Permissions::from_mode(node.metadata.mode))?;
    }
    Ok(())
}

fn bytes(content: &Content) -> io::Result<Vec<u8>> {
    Ok(match content {
        Content::Bytes(bytes) => bytes.clone(),
        Content::Path { path, .. } => fs::read(path)?,
        Content::Slice { file, range, .. } => file[range.clone()].to_vec(),
        Content::Deflated(slice) => {
            let mut bytes = Vec::new();
            flate2::read::DeflateDecoder::new(&slice.file[slice.range.clone()]).read_to_end(&mut bytes)?;
            bytes
        }
    })
}
