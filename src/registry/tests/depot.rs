//! A registry that takes uploads in chunks as the specification says, but for what a test has it do wrong.

use std::sync::Mutex;

use super::*;

/// The registry, until it is dropped.
pub(super) struct Depot {
    pub server: Server,
    state: Arc<Mutex<State>>,
}

/// What it has.
#[derive(Default)]
pub(super) struct State {
    begun: usize,
    pub uploads: BTreeMap<usize, Vec<u8>>,
    pub blobs: Vec<Vec<u8>>,
    /// Headers of the answer that begins an upload.
    pub headers: Vec<(&'static str, &'static str)>,
    /// How many requests of this method there were, that which is being answered included.
    counts: BTreeMap<String, usize>,
}

impl State {
    /// Which request of its method this is, from 1.
    pub(super) fn nth(&self, seen: &Seen) -> usize {
        self.counts[&seen.method]
    }

    /// The only upload that has not ended.
    pub(super) fn upload(&mut self) -> &mut Vec<u8> {
        self.uploads.values_mut().next().unwrap()
    }

    /// What a good registry would answer.
    pub(super) fn answer(&mut self, seen: &Seen) -> Reply {
        if seen.method == "HEAD" {
            let digest = seen.target.rsplit('/').next().unwrap();
            let blob = self.blobs.iter().find(|blob| Digest::of(blob).as_str() == digest);
            return blob.map_or(Reply::new(404), |blob| Reply::new(200).length(blob.len()));
        }
        if seen.method == "POST" {
            self.begun += 1;
            self.uploads.insert(self.begun, Vec::new());
            let mut reply = Reply::new(202).with("location", format!("/up/{}?at=0", self.begun));
            for (name, value) in &self.headers {
                reply = reply.with(name, *value);
            }
            return reply;
        }
        let (path, query) = seen.target.split_once('?').unwrap();
        let id = path.strip_prefix("/up/").unwrap().parse().unwrap();
        let Some(upload) = self.uploads.get_mut(&id) else { return Reply::new(404) };
        let stated = |reply: Reply, there: usize| {
            let reply = reply.with("range", format!("0-{}", there.saturating_sub(1)));
            // As those of real registries do, the address changes with each request.
            reply.with("location", format!("{id}?at={there}"))
        };
        match seen.method.as_str() {
            "GET" => stated(Reply::new(204), upload.len()),
            "DELETE" => {
                self.uploads.remove(&id);
                Reply::new(204)
            }
            "PATCH" => {
                let range = seen.header("content-range").split_once('-').unwrap();
                let [first, last] = [range.0, range.1].map(|text| text.parse::<usize>().unwrap());
                assert_eq!(seen.header("content-length"), (last + 1 - first).to_string());
                if first != upload.len() {
                    return stated(Reply::new(416), upload.len());
                }
                assert_eq!(query, format!("at={first}"));
                upload.extend(&seen.body);
                stated(Reply::new(202), upload.len())
            }
            "PUT" => {
                let mut blob = self.uploads.remove(&id).unwrap();
                blob.extend(&seen.body);
                if !query.contains(&Digest::of(&blob).as_str().replace(':', "%3A")) {
                    return Reply::new(400);
                }
                self.blobs.push(blob);
                Reply::new(201)
            }
            other => panic!("{other}"),
        }
    }
}

impl Depot {
    /// `fault` answers in place of the good registry where it wants to.
    pub(super) async fn new(fault: impl Fn(&Seen, &mut State) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::reading(|_| usize::MAX, fault).await
    }

    /// Of the body of a request no more is read than `enough` says, if that is less than all.
    pub(super) async fn reading(
        enough: impl Fn(&Seen) -> usize + Send + Sync + 'static,
        fault: impl Fn(&Seen, &mut State) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let handler = move |seen: &Seen| {
            let mut state = shared.lock().unwrap();
            *state.counts.entry(seen.method.clone()).or_default() += 1;
            fault(seen, &mut state).unwrap_or_else(|| state.answer(seen))
        };
        Self { server: Server::start_reading(enough, handler).await, state }
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// Whether it has this blob and no upload that nobody ended.
    pub(super) fn has(&self, content: &[u8]) -> bool {
        self.change(|state| state.blobs.iter().any(|blob| blob == content) && state.uploads.is_empty())
    }

    /// The methods of all requests, with the ranges of chunks in kilobytes.
    pub(super) fn story(&self) -> String {
        let mut story = Vec::new();
        for seen in self.server.seen() {
            let range = seen.header("content-range").split_once('-');
            let kb = |text: &str| text.parse::<usize>().unwrap().div_ceil(1000);
            story.push(match range {
                Some((first, last)) => format!("{} {}-{}", seen.method, kb(first), kb(last)),
                None => seen.method,
            });
        }
        story.join(", ")
    }

    /// Pushes the blob in chunks of 300 kB at most; how it went, and what a bar shows at the end.
    pub(super) async fn push(&self, content: &[u8], source: &dyn Source) -> (Result<(), ContentError>, u64) {
        self.push_with(chunked(300_000), content, source).await
    }

    pub(super) async fn push_with(
        &self,
        settings: Settings,
        content: &[u8],
        source: &dyn Source,
    ) -> (Result<(), ContentError>, u64) {
        let (remote, bar) = (self.remote(settings), Bar::default());
        let pushed = remote.push(&layer(content), source, &bar).await;
        (pushed, bar.0.load(Ordering::Relaxed))
    }

    pub(super) fn remote(&self, settings: Settings) -> Remote {
        Client::new(settings).unwrap().repository(&reference(&self.server, "a/b"))
    }
}

pub(super) fn chunked(chunk: u64) -> Settings {
    Settings { chunk, ..settings() }
}
