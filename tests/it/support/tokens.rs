//! A token server inside a proxy, and the registry's part in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{Answer, Fault, Proxy, Request};

/// How a registry wants tokens.
pub(crate) struct Tokens {
    /// What follows `Bearer realm="/token"` in the challenge, such as `,service="x"`.
    pub(crate) service: &'static str,
    /// For how many requests a token is good in truth; what the server says is five minutes.
    pub(crate) uses: usize,
    /// After this many challenges the realm is another one, which leads nowhere.
    pub(crate) realm_lasts: usize,
}

/// For what each token is good, and for how many requests more.
type Given = HashMap<String, (Vec<String>, usize)>;

impl Tokens {
    /// Has the proxy let only requests pass whose token is good for them: `push` for what writes, `pull` for what reads,
    /// and for a mount also `pull` from where it comes. Gives the number of tokens that were asked for.
    pub(crate) fn guard(self, proxy: &Proxy) -> Arc<AtomicUsize> {
        let (asked, given) = (Arc::new(AtomicUsize::new(0)), Mutex::new(Given::new()));
        let (count, challenged) = (Arc::clone(&asked), AtomicUsize::new(0));
        let check = move |request: &Request| {
            let mut given = given.lock().unwrap();
            if request.path.starts_with("/token") {
                let token = format!("token-{}", count.fetch_add(1, Ordering::Relaxed));
                let query = url::form_urlencoded::parse(request.path.split('?').nth(1)?.as_bytes());
                let scopes = query.filter(|(key, _)| key == "scope").flat_map(|(_, scope)| granted(&scope));
                given.insert(token.clone(), (scopes.collect(), self.uses));
                let body = format!(r#"{{"token":"{token}","expires_in":300}}"#).into_bytes();
                return Some(Answer { body, ..Answer::status(200) });
            }
            if request.path.starts_with("/dead-end") {
                return Some(Answer::status(403));
            }
            let needed = needed(request);
            let token = request.header("authorization").strip_prefix("Bearer ").and_then(|token| given.get_mut(token));
            if let Some((scopes, uses @ 1..)) = token
                && needed.iter().all(|scope| scopes.contains(scope))
            {
                *uses -= 1;
                return None;
            }
            let lasts = challenged.fetch_add(1, Ordering::Relaxed) < self.realm_lasts;
            let realm = if lasts { "/token" } else { "/dead-end" };
            // As real registries do, it does not tell of the source of a mount.
            let scope = needed.first().map(|scope| format!(r#",scope="repository:{scope}""#)).unwrap_or_default();
            let challenge = format!(r#"Bearer realm="{realm}"{}{scope}"#, self.service);
            Some(Answer::status(401).header("WWW-Authenticate", challenge))
        };
        proxy.on("* /", .., Fault::make(check));
        asked
    }
}

/// `repository:a/b:pull,push` as `a/b:pull` and `a/b:push`.
fn granted(scope: &str) -> Vec<String> {
    let Some((name, actions)) = scope.strip_prefix("repository:").and_then(|scope| scope.rsplit_once(':')) else {
        return Vec::new();
    };
    actions.split(',').map(|action| format!("{name}:{action}")).collect()
}

/// What a request needs.
fn needed(request: &Request) -> Vec<String> {
    let path = request.path.strip_prefix("/v2/").unwrap_or_default();
    let ends = ["/blobs/", "/manifests/", "/tags/", "/referrers/"];
    let Some(end) = ends.iter().filter_map(|end| path.find(end)).min() else { return Vec::new() };
    let action = if matches!(request.method.as_str(), "GET" | "HEAD") { "pull" } else { "push" };
    let mut needed = vec![format!("{}:{action}", &path[..end])];
    let query = url::form_urlencoded::parse(path.split('?').nth(1).unwrap_or_default().as_bytes());
    needed.extend(query.filter(|(key, _)| key == "from").map(|(_, from)| format!("{from}:pull")));
    needed
}
