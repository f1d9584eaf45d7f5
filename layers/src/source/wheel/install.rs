//! The installed files of a wheel, as `pip install --no-compile` creates them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::Wheel;
use super::archive::Member;
use super::entry_points::EntryPoints;
use super::error::WheelFault;
use super::record::{self, RecordRow};
use super::scheme::Scheme;
use crate::path::LayerPath;
use crate::tree::{Content, LayerTree, Metadata, NodeKind, TreeNode};

/// Maximum size of a script whose first line is rewritten; it is read into memory.
const MAX_SCRIPT: u64 = 16 << 20;
pub(super) const MAX_ENTRY_POINTS: u64 = 4 << 20;
/// The placeholder for the interpreter in the first line (PEP 427, "Recommended installer features").
const PYTHON: &[u8] = b"#!python";

/// The options of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstallOptions {
    /// Modification time of every file and directory, whole seconds since 1970.
    pub mtime: i64,
    /// Whether the user requested this distribution, as opposed to a dependency (PEP 376, `REQUESTED`).
    pub requested: bool,
}

/// The destination of a member.
pub(super) enum InstallPath {
    /// This path.
    At(LayerPath),
    /// This path, as a script whose first line may need the interpreter's path.
    Script(LayerPath),
    /// None: the installer creates the script itself.
    Nowhere,
}

pub(super) fn install(wheel: &Wheel, scheme: &Scheme, options: InstallOptions) -> Result<LayerTree, WheelFault> {
    let library = if wheel.root_is_purelib { &scheme.purelib } else { &scheme.platlib };
    let entry_points = match wheel.member("entry_points.txt") {
        Some(member) => EntryPoints::parse(&member.text(&wheel.file, MAX_ENTRY_POINTS)?)?,
        None => EntryPoints::default(),
    };
    let mut installation = WheelInstallation {
        wheel,
        scheme,
        library,
        base: scheme.base_directories()?,
        mtime: options.mtime,
        tree: LayerTree::new(),
        rows: Vec::new(),
        generated: Vec::new(),
    };
    installation.place_members(&entry_points)?;
    for script in entry_points.scripts(scheme.python)? {
        let content = scheme.launcher.script(&scheme.executable, &script.module, &script.function);
        installation.generate(scheme.scripts.join(script.name)?, 0o755, content)?;
    }
    let dist_info = library.join(&wheel.dist_info)?;
    installation.generate(dist_info.join("INSTALLER")?, 0o644, b"pip\n".to_vec())?;
    if options.requested {
        installation.generate(dist_info.join("REQUESTED")?, 0o644, Vec::new())?;
    }
    let rows = [std::mem::take(&mut installation.rows), std::mem::take(&mut installation.generated)];
    installation.file(dist_info.join("RECORD")?, 0o644, Content::Bytes(record::write(rows.concat())))?;
    Ok(installation.tree)
}

struct WheelInstallation<'a> {
    wheel: &'a Wheel,
    scheme: &'a Scheme,
    library: &'a LayerPath,
    base: BTreeSet<LayerPath>,
    mtime: i64,
    tree: LayerTree,
    /// The rows of the wheel's own files.
    rows: Vec<RecordRow>,
    /// The rows of the files that the installer creates.
    generated: Vec<RecordRow>,
}

impl WheelInstallation<'_> {
    /// Adds the members at their destinations, and their RECORD rows with the new paths to `rows`. Of two members with
    /// one destination, pip's later one counts: members of `.data` after those of the root, scripts last.
    fn place_members(&mut self, entry_points: &EntryPoints) -> Result<(), WheelFault> {
        let mut new_rows: BTreeMap<&[u8], RecordRow> = BTreeMap::new();
        let mut placed: BTreeMap<LayerPath, &Member> = BTreeMap::new();
        let mut replaced: BTreeSet<&[u8]> = BTreeSet::new();
        let rows = self.wheel.record.rows.iter();
        let sha256: BTreeMap<&[u8], _> = rows.filter_map(|row| Some((&row.path[..], row.sha256()?))).collect();
        let mut members: Vec<&Member> = self.wheel.archive.members.iter().collect();
        members.sort_by_key(|member| install_order(&member.name));
        for member in members {
            let (path, content) =
                match place(&member.name, &self.wheel.name.name, self.library, self.scheme, entry_points)? {
                    InstallPath::At(path) => (path, None),
                    InstallPath::Script(path) => (path, self.rewrite(member)?),
                    InstallPath::Nowhere => continue,
                };
            let recorded = relative(&path, self.library);
            let row = content
                .as_ref()
                .map_or_else(|| RecordRow::bare(recorded.clone()), |c| RecordRow::of(recorded.clone(), c));
            match placed.insert(path.clone(), member) {
                None if self.tree.get(&path).is_none() => {}
                None => return Err(WheelFault::Collision(path)),
                // Both are listed, as in pip, and both rows are right.
                Some(other) if other.is_same(member, &self.wheel.file) => {}
                Some(other) => {
                    new_rows.remove(other.name.as_bytes());
                    replaced.insert(other.name.as_bytes());
                }
            }
            new_rows.insert(member.name.as_bytes(), row);
            let content = content.map_or_else(
                || member.content(&self.wheel.file, sha256.get(member.name.as_bytes()).copied()),
                Content::Bytes,
            );
            self.file(path, if member.executable { 0o755 } else { 0o644 }, content)?;
        }
        for old in self.wheel.record.rows.iter().filter(|row| !replaced.contains(&row.path[..])) {
            // A script that the installer replaces keeps its row, as in pip. So does a path that is listed twice.
            let mut row = new_rows.remove(&old.path[..]).unwrap_or_else(|| RecordRow::bare(old.path.clone()));
            if row.hash.is_empty() {
                row = RecordRow { path: row.path, ..old.clone() };
            }
            self.rows.push(row);
        }
        self.rows.extend(new_rows.into_values());
        Ok(())
    }

    /// A script's new content, if its first line must have the interpreter's path.
    fn rewrite(&self, member: &Member) -> Result<Option<Vec<u8>>, WheelFault> {
        let mut start = [0; PYTHON.len()];
        let read = member.reader(&self.wheel.file).read_exact(&mut start);
        if read.is_err() || start != PYTHON {
            return Ok(None);
        }
        let script = member.read(&self.wheel.file, MAX_SCRIPT)?;
        let rest = script.iter().position(|b| *b == b'\n').map_or(&[][..], |end| &script[end + 1..]);
        Ok(Some([b"#!", self.scheme.executable.as_bytes(), b"\n", rest].concat()))
    }

    /// Adds a file that the installer creates, with a row; it replaces a member.
    fn generate(&mut self, path: LayerPath, mode: u32, content: Vec<u8>) -> Result<(), WheelFault> {
        let row = RecordRow::of(relative(&path, self.library), &content);
        // If two entry points have the same script, both rows describe the remaining one.
        self.generated.iter_mut().filter(|other| other.path == row.path).for_each(|other| other.clone_from(&row));
        self.generated.push(row);
        self.file(path, mode, Content::Bytes(content))
    }

    fn file(&mut self, path: LayerPath, mode: u32, content: Content) -> Result<(), WheelFault> {
        path.check_limits()?;
        for above in path.ancestors() {
            if self.base.contains(&above) || self.tree.get(&above).is_some() {
                break;
            }
            let kind = NodeKind::Directory { opaque: false };
            self.tree.insert(above, TreeNode { metadata: Metadata::root(0o755, self.mtime), kind })?;
        }
        let metadata = Metadata::root(mode, self.mtime);
        Ok(self.tree.insert(path, TreeNode { metadata, kind: NodeKind::File(content) })?)
    }
}

/// pip's order of destinations: the root's files first, the scripts of `.data` last.
fn install_order(name: &str) -> u8 {
    match in_data(name) {
        None => 0,
        Some(rest) if rest.starts_with("scripts/") => 2,
        Some(_) => 1,
    }
}

/// Whether a member is a script of `.data`, whose first line may be rewritten.
pub(super) fn is_script(name: &str) -> bool {
    install_order(name) == 2
}

/// The path of a member inside `.data`.
fn in_data(name: &str) -> Option<&str> {
    name.split_once('/').filter(|(top, _)| top.ends_with(".data")).map(|(_, rest)| rest)
}

/// The destination of the member `name` of a wheel of `distribution`; `library` is the directory of its modules.
pub(super) fn place(
    name: &str,
    distribution: &str,
    library: &LayerPath,
    scheme: &Scheme,
    entry_points: &EntryPoints,
) -> Result<InstallPath, WheelFault> {
    let Some(rest) = in_data(name) else {
        return Ok(InstallPath::At(library.join(name)?));
    };
    let unknown = || WheelFault::DataDirectory(name.to_owned());
    let (key, path) = rest.split_once('/').ok_or_else(unknown)?;
    Ok(match key {
        "purelib" => InstallPath::At(scheme.purelib.join(path)?),
        "platlib" => InstallPath::At(scheme.platlib.join(path)?),
        "data" => InstallPath::At(scheme.data.join(path)?),
        "headers" => InstallPath::At(scheme.headers.join(distribution)?.join(path)?),
        "scripts" if entry_points.replaces(path.rsplit('/').next().unwrap_or(path)) => InstallPath::Nowhere,
        "scripts" => InstallPath::Script(scheme.scripts.join(path)?),
        _ => return Err(unknown()),
    })
}

/// `path` relative to `directory`, with `..` if it is outside: the form of RECORD's paths.
fn relative(path: &LayerPath, directory: &LayerPath) -> Vec<u8> {
    let common = components(path).zip(components(directory)).take_while(|(a, b)| a == b).count();
    let up = components(directory).skip(common).map(|_| &b".."[..]);
    up.chain(components(path).skip(common)).collect::<Vec<_>>().join(&b'/')
}

fn components(path: &LayerPath) -> impl Iterator<Item = &[u8]> {
    path.as_bytes().split(|b| *b == b'/').filter(|component| !component.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_seen_from_the_library() {
        for (path, from, seen) in [
            ("l/p/s/a/b", "l/p/s", "a/b"),
            ("bin/x", "l/p/s", "../../../bin/x"),
            ("l/x", "l/p/s", "../../x"),
            ("a", "", "a"),
        ] {
            let seen_from = relative(&path.parse().unwrap(), &from.parse().unwrap());
            assert_eq!(String::from_utf8(seen_from).unwrap(), seen);
        }
    }
}
