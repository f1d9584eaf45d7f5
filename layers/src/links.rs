//! Symbolic links, followed without ever leaving the root.

use std::collections::VecDeque;

use crate::path::LayerPath;

/// How many links one path may go through, as in Linux.
const MAX_LINKS: usize = 40;

/// `path` with every symbolic link in it followed, its last component included; `None` for a loop.
///
/// `link_at` tells the target of the link at a path, if there is one. Targets count from the directory of their link or,
/// with a leading slash, from the root; a `..` at the root stays there.
///
/// # Errors
/// Those of `link_at`.
pub fn follow<E>(
    path: &LayerPath,
    mut link_at: impl FnMut(&LayerPath) -> Result<Option<Vec<u8>>, E>,
) -> Result<Option<LayerPath>, E> {
    let mut left = components(path.as_bytes());
    let mut here = LayerPath::root();
    let mut links = 0;
    while let Some(component) = left.pop_front() {
        if component == b".." {
            here = here.parent().unwrap_or_default();
            continue;
        }
        // A target may have components that no path can have.
        let Ok(next) = here.join(&component) else { return Ok(None) };
        match link_at(&next)? {
            None => here = next,
            Some(_) if links == MAX_LINKS => return Ok(None),
            Some(target) => {
                links += 1;
                if target.starts_with(b"/") {
                    here = LayerPath::root();
                }
                let mut all = components(&target);
                all.append(&mut left);
                left = all;
            }
        }
    }
    Ok(Some(here))
}

fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn followed(path: &str, links: &[(&str, &str)]) -> Option<String> {
        let link_at = |path: &LayerPath| {
            let found = links.iter().find(|(name, _)| path.as_bytes() == name.as_bytes());
            Ok::<_, Infallible>(found.map(|(_, target)| target.as_bytes().to_vec()))
        };
        follow(&path.parse().unwrap(), link_at)
            .unwrap()
            .map(|path| String::from_utf8(path.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn links_lead_everywhere_but_out() {
        let links = [
            ("lib", "usr/lib"),
            ("usr/lib/here", "../../etc"),
            ("up", "../../../etc/x"),
            ("absolute", "/lib/y"),
            ("loop", "pool"),
            ("pool", "loop"),
            ("self", "self/x"),
            ("dots", "./usr/./lib//"),
        ];
        for (path, expected) in [
            ("lib/x", Some("usr/lib/x")),
            ("lib", Some("usr/lib")),
            ("lib/here/y", Some("etc/y")),
            ("up", Some("etc/x")),
            ("absolute/z", Some("usr/lib/y/z")),
            ("dots/z", Some("usr/lib/z")),
            ("a/b", Some("a/b")),
            ("", Some("")),
            ("loop/x", None),
            ("self", None),
        ] {
            assert_eq!(followed(path, &links).as_deref(), expected, "{path}");
        }
    }
}
