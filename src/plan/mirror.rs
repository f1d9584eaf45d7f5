//! `mirror.toml`: the list of images to mirror.

use std::fs;
use std::path::Path;

use glob::Pattern;
use ociforge_layers::regular::read_limited;
use ociforge_manifests::reference::NameParts;
use ociforge_manifests::{Platform, ReferenceError};
use toml::de::DeValue;

use super::recipe::platforms;
use crate::mirror::{List, MirrorLocation, Selection};
use crate::tables::PlanError;
use crate::tables::fields::{Table, Text, Value};
use crate::tables::values::positive;

/// Largest list, in bytes.
const MAX_LIST: u64 = 256 << 20;

const TOP: &[&str] = &["to", "platforms", "image"];
const IMAGE: &[&str] = &["name", "tags", "exclude", "platforms", "latest"];
const PLACES: &[(&str, &[&str])] = &[("the list", TOP), ("[[image]]", IMAGE)];

/// Reads the list of images in `file`.
///
/// # Errors
/// When the file cannot be read, or has a fault.
pub fn read(file: &Path) -> Result<List, PlanError> {
    let read = fs::File::open(file).and_then(|input| read_limited(input, MAX_LIST));
    let bytes = read.map_err(|source| PlanError::Read { what: "the list", file: file.to_owned(), source })?;
    parse(file, &bytes)
}

fn parse(file: &Path, bytes: &[u8]) -> Result<List, PlanError> {
    Text::read(bytes, file, PLACES, |list| {
        let to = list.get("to").map(|value| place(&value)).transpose()?;
        let all = list.get("platforms").map_or_else(|| Ok(Vec::new()), |value| platforms(&value))?;
        let images = list.require("image", "[[image]]")?;
        if !matches!(images.raw(), DeValue::Array(_)) {
            return Err(images.unexpected("an array of tables", Some("write [[image]] with two brackets".into())));
        }
        let images = images.items()?;
        let images = images.iter().map(|one| image(&one.table("[[image]]")?.only(IMAGE)?, &all));
        Ok(List { to, images: images.collect::<Result<_, _>>()? })
    })
}

fn place(value: &Value<'_>) -> Result<MirrorLocation, PlanError> {
    let expected = "a place such as `docker://registry.example.com/mirror` or `oci-archive:images.tar`";
    value.line_of_text()?.parse().map_err(|why| value.unexpected(expected, Some(why)))
}

fn image(table: &Table<'_>, all: &[Platform]) -> Result<Selection, PlanError> {
    let name = table.require("name", "name = \"nvcr.io/nvidia/pytorch\"")?;
    let text = name.line_of_text()?;
    let expected = "a repository such as `nvcr.io/nvidia/pytorch`, or an image in it";
    let selection: Selection =
        text.parse().map_err(|error: ReferenceError| name.unexpected(expected, Some(error.why)))?;
    let patterns = |key: &str| table.get(key).map(|value| patterns(&value)).transpose();
    let tags = patterns("tags")?;
    if let (Some(tags), true) = (table.get("tags"), has_tag(text)) {
        let hint = "leave `tags` out, or name the repository alone";
        return Err(tags.unfit("combined with a name that has a tag or digest", "only one of them", Some(hint.into())));
    }
    let latest = table.get("latest").map(|value| positive(&value, "a number from 1")).transpose()?;
    let own = table.get("platforms").map(|value| platforms(&value)).transpose()?;
    Ok(Selection {
        tags: tags.unwrap_or(selection.tags),
        exclude: patterns("exclude")?.unwrap_or_default(),
        platforms: own.unwrap_or_else(|| all.to_vec()),
        latest,
        name: selection.name,
    })
}

/// Whether the text of a name contains a tag or digest.
fn has_tag(name: &str) -> bool {
    let parts = NameParts::of(name);
    parts.tag.is_some() || parts.digest.is_some()
}

fn patterns(value: &Value<'_>) -> Result<Vec<Pattern>, PlanError> {
    let items = value.items()?;
    if items.is_empty() {
        return Err(value.unexpected("at least one tag or pattern, such as `24.*-py3`", None));
    }
    let pattern = |item: &Value<'_>| {
        let parsed = Pattern::new(item.line_of_text()?);
        parsed.map_err(|error| item.unexpected("a tag or a pattern such as `24.*-py3`", Some(error.msg.into())))
    };
    items.iter().map(pattern).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    fn wrong(text: &str) -> String {
        let failure = Failure::from(parse(Path::new("f"), text.as_bytes()).unwrap_err());
        format!("{} | {}", failure.message, failure.hint.unwrap_or_default())
    }

    #[test]
    fn a_list_has_images_with_the_platforms_of_all() {
        let text = r#"
            to = "docker://m.example/prefix"
            platforms = ["linux/amd64"]
            [[image]]
            name = "nvcr.io/nvidia/pytorch"
            tags = ["22.12-py3", "24.*-py3"]
            exclude = ["*-igpu"]
            platforms = ["linux/amd64", "linux/arm64"]
            latest = 3
            [[image]]
            name = "nvcr.io/nvidia/cuda:12.*"
            [[image]]
            name = "debian"
        "#;
        let list = parse(Path::new("f"), text.as_bytes()).unwrap();
        assert_eq!(list.to.unwrap().to_string(), "docker://m.example/prefix");
        let [pytorch, cuda, debian] = &list.images[..] else { panic!() };
        assert_eq!((pytorch.tags.len(), pytorch.exclude.len(), pytorch.platforms.len()), (2, 1, 2));
        assert_eq!((pytorch.latest, cuda.latest), (Some(3), None));
        assert_eq!((cuda.tags[0].as_str(), cuda.platforms.len()), ("12.*", 1));
        assert_eq!(debian.name.whole(), "docker.io/library/debian:latest");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let hints = [
            ("[[image]]\nnmae = 'a'", "f:2:1: unknown key `nmae` in [[image]] | did you mean `name`?"),
            ("tags = ['a']", "f:1:1: unknown key `tags` in the list | `tags` belongs in [[image]]"),
            (
                "[[image]]\nto = 'a'",
                "f:2:1: unknown key `to` in [[image]] | `to` belongs at the top, before the first [table]",
            ),
            ("", "f:1:1: the list has no `image` | write for example `[[image]]`"),
            (
                "[image]\nname = 'a'",
                "f:1:1: `image` is a table; expected an array of tables | write [[image]] with two brackets",
            ),
            (
                "[[image]]\nname = 'a:b'\ntags = ['c']",
                "f:3:8: `tags` is combined with a name that has a tag or digest; expected only one of them | leave `tags` out, or name the repository alone",
            ),
            ("[[image]]\nname = 'a'\nlatest = 0", "f:3:10: `latest` is the number 0; expected a number from 1 | "),
            (
                "[[image]]\nname = 'a'\ntags = ['[']",
                "f:3:9: `tags` is `[`; expected a tag or a pattern such as `24.*-py3` | invalid range pattern",
            ),
            (
                "[[image]]\nname = 'a'\ntags = []",
                "f:3:8: `tags` is an empty array; expected at least one tag or pattern, such as `24.*-py3` | ",
            ),
        ];
        for (text, message) in hints {
            assert_eq!(wrong(text), message, "{text}");
        }
    }
}
