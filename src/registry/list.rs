//! Paginated lists (distribution-spec, "Listing Tags" and "Listing Referrers").

use std::collections::HashSet;
use std::io::{BufReader, Seek, SeekFrom};
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::{HeaderMap, LINK};
use tempfile::SpooledTempFile;
use url::Url;

use super::challenge::Scopes;
use super::fault::{Fault, Subject};
use super::origin::{Origin, Request};
use crate::content::Cause;
use crate::http::HttpResponse;

/// The maximum number of pages of a list.
const MAX_PAGES: usize = 1000;
/// The timeout for reading a list. A thousand pages of a distant registry take some minutes.
const MAX_TIME: Duration = Duration::from_secs(600);
/// The maximum size in bytes of a page in memory; longer pages go to a temporary file.
const IN_MEMORY: u64 = 1 << 20;
/// The maximum total size in bytes of all pages of a list.
const MAX_LIST: u64 = 64 << 20;

/// The pages of a list, from the first to the last.
pub(super) struct Pages<'a> {
    origin: &'a Origin,
    headers: HeaderMap,
    next: Option<Url>,
    seen: HashSet<Url>,
    size: u64,
    begun: Instant,
}

impl<'a> Pages<'a> {
    /// The list whose first page is at `first`. Each request has these `headers`.
    pub(super) fn new(origin: &'a Origin, first: Url, headers: HeaderMap) -> Self {
        Self { origin, headers, next: Some(first), seen: HashSet::new(), size: 0, begun: Instant::now() }
    }

    /// The next page, to be read from its beginning.
    pub(super) async fn next(&mut self) -> Result<Option<BufReader<SpooledTempFile>>, Fault> {
        let Some(url) = self.next.take() else { return Ok(None) };
        let registry = &self.origin.endpoint.registry;
        if self.seen.len() == MAX_PAGES || !self.seen.insert(url.clone()) {
            return Err(Fault::wrong(format!("the list of {registry} does not end")));
        }
        if self.begun.elapsed() > MAX_TIME {
            let minutes = MAX_TIME.as_secs() / 60;
            let so_far = format!("{} pages in {minutes} minutes", self.seen.len());
            return Err(Fault::wrong(format!("the list of {registry} does not end: {so_far}")));
        }
        let scopes = Scopes::pull(&self.origin.repository);
        let mut request = Request::new(Method::GET, url, &scopes);
        request.headers = self.headers.clone();
        let left = MAX_LIST - self.size;
        let (answer, mut page) = self.origin.spool(&request, Subject::Manifest, left, IN_MEMORY).await?;
        self.size += page.seek(SeekFrom::End(0)).map_err(Cause::Io)?;
        page.rewind().map_err(Cause::Io)?;
        self.next =
            next_page(&answer).map_err(|bad| Fault::wrong(format!("the list of {registry} continues {bad}")))?;
        Ok(Some(BufReader::new(page)))
    }
}

/// The address of the next page, if any (RFC 8288). A registry behind a proxy may not know its external scheme and
/// port, so only path and query are used; another host is an error. The text of the error follows "continues".
fn next_page(answer: &HttpResponse) -> Result<Option<Url>, String> {
    let here = answer.url();
    let mut links = answer.headers().get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let Some(target) = links.find_map(next_link) else { return Ok(None) };
    let there = here.join(target).map_err(|error| format!("at an invalid address: {error}"))?;
    if there.host_str() != here.host_str() {
        return Err(format!("at another host, {}", there.host_str().unwrap_or_default()));
    }
    let mut next = here.clone();
    next.set_path(there.path());
    next.set_query(there.query());
    Ok(Some(next))
}

/// The target of the link whose relation is `next`, as in `</v2/a/tags/list?last=b>; rel="next"`.
fn next_link(header: &str) -> Option<&str> {
    let is_next = |parameter: &str| {
        let relation = parameter.trim().split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("rel"));
        relation.is_some_and(|(_, value)| value.trim().trim_matches('"').eq_ignore_ascii_case("next"))
    };
    let mut rest = header;
    while let Some((target, after)) = rest.split_once('<').and_then(|(_, link)| link.split_once('>')) {
        let parameters = unquoted(after, ',').next().unwrap_or(after);
        if unquoted(parameters, ';').any(is_next) {
            return Some(target);
        }
        rest = &after[parameters.len()..];
    }
    None
}

/// The parts of `text` between separators that are in no quoted string (RFC 9110, section 5.6.4).
fn unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        c == separator && !quoted
    })
}

/// The error of an invalid page.
pub(super) fn no_list(registry: &str, of: &str) -> Cause {
    Cause::Other {
        message: format!("the answer of {registry} is not a list of {of}"),
        hint: Some("check that the address is that of a registry".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::next_link;

    #[test]
    fn links_are_read() {
        assert_eq!(next_link(r#"</v2/a/tags/list?last=b&n=1>; rel="next""#), Some("/v2/a/tags/list?last=b&n=1"));
        assert_eq!(next_link(" <x>;title=y ; REL=next"), Some("x"));
        assert_eq!(next_link(r#"</a?x=1,2>; rel="prev", </b,c>; rel="next""#), Some("/b,c"));
        assert_eq!(next_link(r#"</b>; title="a,b;\",<c>"; rel="next""#), Some("/b"));
        for other in [r#"</a>; rel="prev""#, "</a>", "/a; rel=next", "</a; rel=next", r#"</a>; title="; rel=next""#, ""]
        {
            assert_eq!(next_link(other), None, "{other}");
        }
    }
}
