//! A proxy before a real registry that does to requests and answers what networks, gateways and other registries do.

use std::fmt;
use std::io::{self, BufReader};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Answer;
use super::exchange::{After, Exchange, read_head};
use super::gate::Gate;

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// When its head was there.
    pub(crate) at: Instant,
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Bytes of its body that came so far.
    pub(crate) taken: u64,
    /// The status that was answered; 0 where the connection ended before.
    pub(crate) status: u16,
    /// Bytes of the answer's body that were sent so far.
    pub(crate) given: u64,
}

impl Request {
    fn new(method: &str, path: &str, headers: Vec<(String, String)>) -> Self {
        let (method, path) = (method.to_owned(), path.to_owned());
        Self { at: Instant::now(), method, path, headers, taken: 0, status: 0, given: 0 }
    }

    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The length of the body that its head announces.
    pub(crate) fn length(&self) -> u64 {
        self.header("content-length").parse().unwrap_or(0)
    }

    /// Whether it is one of those that `pattern` speaks of: a method or `*`, and a part of the path.
    pub(crate) fn is(&self, pattern: &str) -> bool {
        let (method, part) = pattern.split_once(' ').unwrap();
        (method == "*" || method == self.method) && self.path.contains(part)
    }
}

/// How a connection ends before its time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// In good order, which looks like the end of the body.
    Close,
    /// By a reset.
    Reset,
}

type Make = dyn Fn(&Request) -> Option<Answer> + Send + Sync;
type Alter = dyn Fn(&mut Answer) + Send + Sync;

/// What goes wrong.
#[derive(Clone)]
pub(crate) enum Fault {
    /// The registry never hears of the request; when its body is there, this is answered. `None` lets it pass.
    Answer(Arc<Make>),
    /// The same, but before the body is read.
    Early(Answer),
    /// The true answer gets another status or other headers.
    Alter(Arc<Alter>),
    /// The connection ends after so many bytes of the request's body, which the registry gets.
    Up(u64, End),
    /// The connection ends after so many bytes of the answer's body.
    Down(u64, End),
    /// The registry does what it is asked, but nobody hears of it.
    Lost(End),
    /// This byte of the request's body is changed.
    FlipUp(u64),
    /// This byte of the answer's body is changed.
    FlipDown(u64),
    /// The answer takes this long.
    Delay(Duration),
}

impl Fault {
    /// Always the same answer.
    pub(crate) fn answer(answer: Answer) -> Self {
        Self::Answer(Arc::new(move |_| Some(answer.clone())))
    }

    /// An answer that depends on the request.
    pub(crate) fn make(make: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self::Answer(Arc::new(make))
    }

    /// Another head of the true answer.
    pub(crate) fn alter(alter: impl Fn(&mut Answer) + Send + Sync + 'static) -> Self {
        Self::Alter(Arc::new(alter))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(make) => {
                write!(f, "Answer({:?})", make(&Request::new("", "", Vec::new())).map(|answer| answer.status))
            }
            Self::Early(answer) => write!(f, "Early({})", answer.status),
            Self::Alter(_) => f.write_str("Alter"),
            Self::Up(at, end) => write!(f, "Up({at}, {end:?})"),
            Self::Down(at, end) => write!(f, "Down({at}, {end:?})"),
            Self::Lost(end) => write!(f, "Lost({end:?})"),
            Self::FlipUp(at) => write!(f, "FlipUp({at})"),
            Self::FlipDown(at) => write!(f, "FlipDown({at})"),
            Self::Delay(time) => write!(f, "Delay({time:?})"),
        }
    }
}

/// A fault, and to which of the requests that fit it happens.
struct Rule {
    pattern: String,
    which: (Bound<usize>, Bound<usize>),
    fault: Fault,
    met: usize,
    hit: bool,
}

/// A request that is still going on.
pub(super) type Shared = Arc<Mutex<Request>>;

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    requests: Vec<Shared>,
}

/// The proxy; it goes with the process.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
    gate: Arc<Gate>,
}

impl Proxy {
    /// A proxy before the registry at `upstream`, without faults.
    pub(crate) fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy =
            Self { address: listener.local_addr().unwrap().to_string(), state: Arc::default(), gate: Arc::default() };
        let (of_thread, upstream) = (proxy.clone(), upstream.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (proxy, upstream) = (of_thread.clone(), upstream.clone());
                // Connections that end early are what it is made for.
                std::thread::spawn(move || proxy.serve(client, &upstream).ok());
            }
        });
        proxy
    }

    /// From now on this happens to those of the requests that `pattern` ([`Request::is`]) fits that `which` counts,
    /// from 0. Of several faults for one request the first counts.
    pub(crate) fn on(&self, pattern: &str, which: impl RangeBounds<usize>, fault: Fault) -> &Self {
        let which = (which.start_bound().cloned(), which.end_bound().cloned());
        let rule = Rule { pattern: pattern.to_owned(), which, fault, met: 0, hit: false };
        self.state.lock().unwrap().rules.push(rule);
        self
    }

    /// Ends all faults and forgets all requests; how many of the faults were met, each counted once.
    pub(crate) fn calm(&self) -> usize {
        let state = std::mem::take(&mut *self.state.lock().unwrap());
        state.rules.iter().filter(|rule| rule.hit).count()
    }

    /// From now on the requests that `pattern` fits, and the answers to them, move together so many bytes of bodies, and a
    /// little more; then they stand still.
    pub(crate) fn hold_after(&self, pattern: &str, bytes: u64) {
        self.gate.close_after(pattern, bytes);
    }

    /// Whether any stands still.
    pub(crate) fn is_holding(&self) -> bool {
        self.gate.is_holding()
    }

    /// All of them go on.
    pub(crate) fn release(&self) {
        self.gate.open();
    }

    /// The requests so far that fit `pattern`, in the order in which they came.
    pub(crate) fn requests(&self, pattern: &str) -> Vec<Request> {
        let state = self.state.lock().unwrap();
        let requests = state.requests.iter().map(|request| request.lock().unwrap().clone());
        requests.filter(|request| request.is(pattern)).collect()
    }

    /// How many there were.
    pub(crate) fn count(&self, pattern: &str) -> usize {
        self.requests(pattern).len()
    }

    /// Bytes of their bodies.
    pub(crate) fn taken(&self, pattern: &str) -> u64 {
        self.requests(pattern).iter().map(|request| request.taken).sum()
    }

    /// Bytes of the bodies of the answers to them.
    pub(crate) fn given(&self, pattern: &str) -> u64 {
        self.requests(pattern).iter().map(|request| request.given).sum()
    }

    fn serve(&self, client: TcpStream, upstream: &str) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(64 << 10, client.try_clone()?);
        while let Some((first, headers)) = read_head(&mut reader)? {
            let mut words = first.split(' ');
            let request = Request::new(words.next().unwrap_or_default(), words.next().unwrap_or_default(), headers);
            let fault = self.fault_for(&request);
            let record = self.record(&request);
            let gate = Arc::clone(&self.gate);
            let mut exchange = Exchange { request, record, fault, gate, reader, client: client.try_clone()? };
            match exchange.run(upstream)? {
                After::Next => reader = exchange.reader,
                After::Close => return exchange.linger(),
                After::End(End::Close) => return client.shutdown(Shutdown::Both),
                After::End(End::Reset) => {
                    // Sockets are closed by the last clone; with no time to linger that is a reset.
                    return Ok(rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO))?);
                }
            }
        }
        Ok(())
    }

    fn record(&self, request: &Request) -> Shared {
        let record = Arc::new(Mutex::new(request.clone()));
        self.state.lock().unwrap().requests.push(Arc::clone(&record));
        record
    }

    fn fault_for(&self, request: &Request) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        let mut found = None;
        for rule in state.rules.iter_mut().filter(|rule| request.is(&rule.pattern)) {
            rule.met += 1;
            if found.is_none() && rule.which.contains(&(rule.met - 1)) {
                found = match &rule.fault {
                    Fault::Answer(make) => make(request).map(Fault::answer),
                    other => Some(other.clone()),
                };
                rule.hit |= found.is_some();
            }
        }
        found
    }
}
