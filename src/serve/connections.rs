//! The open connections: their number per address, their state, and the idle ones.
//!
//! An idle client must not block others. The connections of one address are limited (except for loopback, which stands
//! for all programs of this machine, or for a proxy). At the total limit, a new connection replaces the one that has
//! been idle the longest.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The timeouts of idle connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionTimeouts {
    /// From the accept until the headers of the first request.
    pub(super) first: Duration,
    /// Between requests, until the headers of the next one.
    pub(super) idle: Duration,
    /// Until a client reads the next part of an answer.
    pub(super) stalled: Duration,
    /// Until enough of a request's body has arrived, see [`super::pace`].
    pub(super) body: Duration,
}

impl Default for ConnectionTimeouts {
    fn default() -> Self {
        // Clients keep idle connections for 90 s; they should close them first.
        Self {
            first: Duration::from_secs(20),
            idle: Duration::from_secs(120),
            stalled: Duration::from_secs(300),
            body: Duration::from_secs(120),
        }
    }
}

/// The maximum number of simultaneous TLS handshakes with one address.
const HANDSHAKES: usize = 256;

/// All connections.
pub(super) struct Connections {
    /// The maximum number of connections.
    most: usize,
    /// The maximum number of connections of one address.
    most_of_one: usize,
    known: Mutex<ConnectionTable>,
}

#[derive(Default)]
struct ConnectionTable {
    all: usize,
    clients: HashMap<IpAddr, ClientConnections>,
    /// The idle connections, the longest idle first, each with its handle to close it.
    idle: BTreeMap<u64, Arc<Notify>>,
    next: u64,
}

/// The connections of one address.
#[derive(Default)]
struct ClientConnections {
    connections: usize,
    handshakes: usize,
}

/// One connection, until it is dropped.
pub(super) struct Connection {
    connections: Arc<Connections>,
    client: Option<IpAddr>,
    end: Arc<Notify>,
    activity: Mutex<Activity>,
}

struct Activity {
    /// Requests whose answers have not been sent to their end.
    requests: usize,
    /// The number of connections that wait for the client to read the answer.
    waiting: usize,
    /// Whether there has been a request.
    served: bool,
    /// When the last of this changed.
    since: Instant,
    /// Its key among the idle ones.
    idle: Option<u64>,
}

/// A request, until its answer was sent to the end.
pub(super) struct Pending {
    connection: Arc<Connection>,
    waiting: bool,
}

/// A TLS handshake under way.
pub(super) struct Handshake<'a>(&'a Connection);

impl Connections {
    /// No connections. Some of the process's `descriptors` are reserved for files.
    pub(super) fn new(descriptors: u64) -> Arc<Self> {
        let most = usize::try_from(descriptors / 4 * 3).unwrap_or(usize::MAX).clamp(16, 1 << 20);
        Arc::new(Self { most, most_of_one: most / 4, known: Mutex::default() })
    }

    /// Accepts a connection of this address, possibly in place of an idle one, or refuses it.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Arc<Connection>> {
        let client = client(address);
        let mut known = self.known();
        if known.all >= self.most && !known.end_idle() {
            return None;
        }
        if let Some(client) = client {
            let count = known.clients.entry(client).or_default();
            if count.connections >= self.most_of_one {
                return None;
            }
            count.connections += 1;
        }
        known.all += 1;
        let end = Arc::new(Notify::new());
        let idle = Some(known.add_idle(&end));
        let activity = Activity { requests: 0, waiting: 0, served: false, since: Instant::now(), idle };
        Some(Arc::new(Connection { connections: Arc::clone(self), client, end, activity: Mutex::new(activity) }))
    }

    /// Ends the connection that has been idle the longest, if one is.
    pub(super) fn make_room(&self) {
        self.known().end_idle();
    }

    fn known(&self) -> MutexGuard<'_, ConnectionTable> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionTable {
    fn add_idle(&mut self, end: &Arc<Notify>) -> u64 {
        self.next += 1;
        self.idle.insert(self.next, Arc::clone(end));
        self.next
    }

    fn end_idle(&mut self) -> bool {
        let first = self.idle.pop_first();
        first.inspect(|(_, end)| end.notify_one()).is_some()
    }
}

impl Connection {
    /// Begins a request.
    pub(super) fn begin(self: &Arc<Self>) -> Pending {
        let mut activity = self.activity();
        activity.requests += 1;
        activity.served = true;
        activity.since = Instant::now();
        if let Some(idle) = activity.idle.take() {
            self.connections.known().idle.remove(&idle);
        }
        drop(activity);
        Pending { connection: Arc::clone(self), waiting: false }
    }

    /// Begins a TLS handshake, unless there are too many with the same address.
    pub(super) fn handshake(&self) -> Option<Handshake<'_>> {
        if let Some(client) = self.client {
            let mut known = self.connections.known();
            let count = known.clients.entry(client).or_default();
            if count.handshakes >= HANDSHAKES {
                return None;
            }
            count.handshakes += 1;
        }
        Some(Handshake(self))
    }

    /// Whether no request is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.activity().requests == 0
    }

    /// Waits until the client has lost its claim to the connection.
    pub(super) async fn given_up(&self, patience: &ConnectionTimeouts) {
        // Polling costs less than a notification of every change.
        let pause = patience.first.min(patience.idle).min(patience.stalled);
        loop {
            let again = Instant::now() + pause;
            let deadline = self.deadline(patience);
            tokio::select! {
                () = self.end.notified() => if self.is_idle() { return },
                () = sleep_until(deadline.map_or(again, |deadline| deadline.min(again))) => {}
            }
            if self.deadline(patience).is_some_and(|deadline| deadline <= Instant::now()) {
                return;
            }
        }
    }

    /// The deadline of the connection; `None` while the server does not wait for the client.
    fn deadline(&self, patience: &ConnectionTimeouts) -> Option<Instant> {
        let activity = self.activity();
        match *activity {
            Activity { requests: 0, served: false, since, .. } => Some(since + patience.first),
            Activity { requests: 0, since, .. } => Some(since + patience.idle),
            Activity { requests, waiting, since, .. } => (requests == waiting).then(|| since + patience.stalled),
        }
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// Records whether the answer waits for the client or for the server.
    pub(super) fn waits_for_client(&mut self, waits: bool) {
        let mut activity = self.connection.activity();
        activity.since = Instant::now();
        match (self.waiting, waits) {
            (false, true) => activity.waiting += 1,
            (true, false) => activity.waiting -= 1,
            _ => {}
        }
        self.waiting = waits;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.waits_for_client(false);
        let mut activity = self.connection.activity();
        activity.requests -= 1;
        if activity.requests == 0 {
            activity.idle = Some(self.connection.connections.known().add_idle(&self.connection.end));
        }
    }
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        let mut known = self.0.connections.known();
        if let Some(count) = self.0.client.and_then(|client| known.clients.get_mut(&client)) {
            count.handshakes -= 1;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let idle = self.activity().idle.take();
        let mut known = self.connections.known();
        known.all -= 1;
        if let Some(idle) = idle {
            known.idle.remove(&idle);
        }
        if let Some(client) = self.client {
            let count = known.clients.entry(client).or_default();
            count.connections -= 1;
            if count.connections == 0 {
                known.clients.remove(&client);
            }
        }
    }
}

/// The key of an address: an IPv6 client has a whole network. `None` for loopback.
fn client(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
        address => Some(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "127.0.0.1";
    const THERE: &str = "192.0.2.1";

    fn admit(connections: &Arc<Connections>, address: &str) -> Option<Arc<Connection>> {
        connections.admit(address.parse().unwrap())
    }

    /// Whether the connection must close for a new one.
    async fn is_ended(connection: &Connection) -> bool {
        let patience = ConnectionTimeouts { first: Duration::from_secs(3600), ..ConnectionTimeouts::default() };
        tokio::time::timeout(Duration::from_millis(1), connection.given_up(&patience)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_is_idle_the_longest_makes_room() {
        let connections = Connections::new(64);
        let all: Vec<_> = (0..48).map(|_| admit(&connections, HERE).unwrap()).collect();
        let busy = all[0].begin();
        drop(all[1].begin());
        let more = admit(&connections, HERE).unwrap();
        assert!(is_ended(&all[2]).await);
        for other in [&all[0], &all[1], &all[3], &more] {
            assert!(!is_ended(other).await);
        }
        let requests: Vec<_> = all.iter().chain([&more]).map(Connection::begin).collect();
        assert!(admit(&connections, HERE).is_none());
        drop((busy, requests));
        assert!(admit(&connections, HERE).is_some());
    }

    #[test]
    fn one_address_has_its_share_and_loopback_more() {
        let connections = Connections::new(64);
        let mut all: Vec<_> = (0..12).map(|_| admit(&connections, THERE).unwrap()).collect();
        assert!(admit(&connections, THERE).is_none() && admit(&connections, "::ffff:192.0.2.1").is_none());
        assert!(admit(&connections, "192.0.2.2").is_some());
        all.pop();
        assert!(admit(&connections, THERE).is_some());
        let here: Vec<_> = (0..13).map(|_| admit(&connections, HERE).unwrap()).collect();
        drop((all, here));
        assert!(connections.known().clients.is_empty() && connections.known().all == 0);
        let [one, same, other] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        assert!(
            client(one) == client(same) && client(one) != client(other) && client("::1".parse().unwrap()).is_none()
        );
    }

    #[test]
    fn handshakes_of_one_address_are_limited() {
        let connections = Connections::new(1 << 20);
        let there: Vec<_> = (0..=HANDSHAKES).map(|_| admit(&connections, THERE).unwrap()).collect();
        let mut handshakes: Vec<_> = there.iter().map(|connection| connection.handshake()).collect();
        assert!(handshakes.pop().unwrap().is_none() && handshakes.iter().all(Option::is_some));
        handshakes.pop();
        assert!(there[0].handshake().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_nothing_loses_the_connection() {
        let connections = Connections::new(64);
        let patience = ConnectionTimeouts::default();
        let connection = admit(&connections, HERE).unwrap();
        let begun = Instant::now();
        connection.given_up(&patience).await;
        assert_eq!(begun.elapsed(), patience.first);

        let mut pending = connection.begin();
        // The work of the server has no timeout.
        let working = tokio::time::timeout(patience.stalled * 5, connection.given_up(&patience));
        assert!(working.await.is_err());
        pending.waits_for_client(true);
        let begun = Instant::now();
        connection.given_up(&patience).await;
        assert_eq!(begun.elapsed(), patience.stalled);
        drop(pending);
        let begun = Instant::now();
        connection.given_up(&patience).await;
        assert_eq!(begun.elapsed(), patience.idle);
    }
}
