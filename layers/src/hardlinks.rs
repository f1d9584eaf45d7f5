//! Hard links of a tree that is being built. They may name later files, or files that are replaced later.

use std::collections::{BTreeMap, BTreeSet};

use crate::path::LayerPath;
use crate::tree::{LayerTree, NodeKind, TreeError, TreeNode};

/// The links to each path.
#[derive(Default)]
pub(crate) struct Links {
    to: BTreeMap<LayerPath, BTreeSet<LayerPath>>,
}

impl Links {
    /// The links of a tree.
    pub(crate) fn of(tree: &LayerTree) -> Self {
        let mut links = Self::default();
        for (path, node) in tree.iter() {
            if let NodeKind::Hardlink(target) = &node.kind {
                links.add(path.clone(), target.clone());
            }
        }
        links
    }

    /// The target of a new link to `target`: the target of `target` if it is a link.
    pub(crate) fn target(&self, target: LayerPath, tree: &LayerTree) -> LayerPath {
        match tree.get(&target).map(|node| &node.kind) {
            Some(NodeKind::Hardlink(file)) => file.clone(),
            _ => target,
        }
    }

    /// Records the link at `path`.
    pub(crate) fn add(&mut self, path: LayerPath, target: LayerPath) {
        self.to.entry(target).or_default().insert(path);
    }

    /// Called before the entry at `path` is replaced: links to it keep the old content.
    pub(crate) fn before_replacing(&mut self, path: &LayerPath, tree: &mut LayerTree) -> Result<(), TreeError> {
        let Some(old) = tree.get(path).cloned() else { return Ok(()) };
        if let NodeKind::Hardlink(target) = &old.kind
            && let Some(links) = self.to.get_mut(target)
        {
            links.remove(path);
        }
        let mut links = self.to.remove(path).unwrap_or_default();
        let Some(heir) = links.pop_first() else { return Ok(()) };
        for link in &links {
            let kind = NodeKind::Hardlink(heir.clone());
            tree.insert(link.clone(), TreeNode { metadata: old.metadata.clone(), kind })?;
        }
        tree.insert(heir.clone(), old)?;
        self.to.insert(heir, links);
        Ok(())
    }
}

/// Makes the first name of each group of links the file, and the other names links to it. Links to other kinds than
/// regular files become copies.
pub(crate) fn normalize(tree: &mut LayerTree) -> Result<(), TreeError> {
    let mut groups: BTreeMap<LayerPath, BTreeSet<LayerPath>> = BTreeMap::new();
    for (path, target) in ends(tree)? {
        groups.entry(target).or_default().insert(path);
    }
    for (target, mut names) in groups {
        let file = match tree.get(&target) {
            Some(node) if !matches!(node.kind, NodeKind::Directory { .. } | NodeKind::Whiteout) => node.clone(),
            _ => {
                let path = names.pop_first().unwrap_or_default();
                return Err(TreeError::Dangling { path, target });
            }
        };
        names.insert(target);
        let regular = matches!(file.kind, NodeKind::File(_));
        let first = if regular { names.pop_first() } else { None }.unwrap_or_default();
        for name in names {
            let kind = if regular { NodeKind::Hardlink(first.clone()) } else { file.kind.clone() };
            tree.insert(name, TreeNode { metadata: file.metadata.clone(), kind })?;
        }
        if regular {
            tree.insert(first, file)?;
        }
    }
    Ok(())
}

/// The final target of each link, through chains of links.
fn ends(tree: &LayerTree) -> Result<BTreeMap<LayerPath, LayerPath>, TreeError> {
    let links: BTreeMap<&LayerPath, &LayerPath> = tree
        .iter()
        .filter_map(|(path, node)| match &node.kind {
            NodeKind::Hardlink(target) => Some((path, target)),
            _ => None,
        })
        .collect();
    let mut ends: BTreeMap<&LayerPath, &LayerPath> = BTreeMap::new();
    for (path, target) in &links {
        let (mut way, mut at) = (vec![*path], *target);
        while let Some(next) = links.get(at) {
            if let Some(end) = ends.get(at).copied() {
                at = end;
                break;
            }
            if way.len() > links.len() {
                return Err(TreeError::Dangling { path: (*path).clone(), target: (*target).clone() });
            }
            way.push(at);
            at = next;
        }
        ends.extend(way.into_iter().map(|link| (link, at)));
    }
    Ok(ends.into_iter().map(|(link, end)| (link.clone(), end.clone())).collect())
}
