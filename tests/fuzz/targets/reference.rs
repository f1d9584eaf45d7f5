//! Names of images, digests and platforms: what is printed is read again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ociforge_manifests::reference::{EntryName, NameParts};
use ociforge_manifests::{Digest, ImageName, Platform};

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<ImageName>() {
        if let ImageName::Registry(reference) = &name
            && !text.starts_with("docker://")
            && !text.starts_with('[')
        {
            assert_eq!(text.parse().as_ref(), Ok(reference), "the parser of oci-spec differs");
        }
        let printed = name.to_string();
        assert_eq!(printed.parse(), Ok(name), "{printed}");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.as_str(), text);
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse(), Ok(platform));
    }
    let NameParts { repository, tag, digest } = NameParts::of(text);
    let rest = [tag.map(|tag| format!(":{tag}")), digest.map(|digest| format!("@{digest}"))];
    assert_eq!(format!("{repository}{}", rest.into_iter().flatten().collect::<String>()), text);
    let entry = EntryName::of(text);
    assert!(entry.repository.is_some() || entry.tag.is_some());
});
