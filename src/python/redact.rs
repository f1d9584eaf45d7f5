//! Removal of credentials from messages.

/// `text` with the user and password of every URL replaced by `***`, and without the queries.
#[must_use]
pub fn redacted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + 3);
        shown.push_str(before);
        let end =
            url.find(|c: char| c.is_whitespace() || matches!(c, '`' | '"' | '\'' | ')' | '>')).unwrap_or(url.len());
        let (url, after) = url.split_at(end);
        let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
        // A `:` that no port follows belongs to a password that contains one of these characters.
        let cut = authority.rsplit_once(':').is_some_and(|(_, port)| !port.bytes().all(|byte| byte.is_ascii_digit()));
        let user = if cut && !authority.contains('@') { url } else { authority };
        let host = user.rfind('@').map_or(0, |at| at + 1);
        if host > 0 {
            shown.push_str("***@");
        }
        // Signed URLs have their secret in the query.
        let url = &url[host..];
        shown.push_str(&url[..url.find('?').unwrap_or(url.len())]);
        rest = after;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_left_out() {
        for (text, shown) in [
            ("no url", "no url"),
            ("see https://u:p@host:1/a/b, then", "see https://***@host:1/a/b, then"),
            ("(http://tok:en@h) `https://x/y?sig=1#f`", "(http://***@h) `https://x/y`"),
            ("https://a@b@c/d@e", "https://***@c/d@e"),
            ("https://u:p/a?s@h:1/d", "https://***@h:1/d"),
            ("git+https://h:1/d@e", "git+https://h:1/d@e"),
            ("file:///tmp/a@b", "file:///tmp/a@b"),
            ("://", "://"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }
}
