//! Listening, and serving connections.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connections::{Connection, ConnectionTimeouts, Connections};
use super::sending::ResponseBody;
use super::{Registry, ServeError, ServeOptions, Service, handle};
use crate::store::Layout;
use crate::store::abandoned::WEEK;
use crate::store::descriptors::descriptor_limit;
use crate::store::gc::sweep_uploads;

/// The time for running requests after the shutdown.
const GRACE: Duration = Duration::from_secs(5);
/// The time for closing idle connections after the shutdown.
const FAREWELL: Duration = Duration::from_millis(100);
/// The backlog of connections. The system limits it, too (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;
/// The pause after a failed accept for lack of resources.
const PAUSE: Duration = Duration::from_millis(20);

/// A registry that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    service: Arc<Service>,
    pub(super) patience: ConnectionTimeouts,
}

impl Server {
    /// Listens on `listen`; port 0 selects a free port. Unless the registry is read-only, removes uploads older than a
    /// week.
    ///
    /// # Errors
    /// When the address cannot be used, or the layout cannot be written and is not read-only.
    pub async fn bind(layout: Layout, listen: SocketAddr, options: ServeOptions) -> Result<Self, ServeError> {
        if !options.read_only {
            let writable = access(layout.root(), Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from);
            let swept = writable.and_then(|()| sweep_uploads(&layout, WEEK));
            let directory = layout.root().display().to_string();
            swept.map_err(|source| ServeError::Layout { directory, source })?;
        }
        let failed = |source| ServeError::Listen { address: listen, source };
        let listener = self::listen(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let registry = Registry::new(layout, &options);
        let service = Arc::new(Service { registry, options });
        Ok(Self { listener, address, service, patience: ConnectionTimeouts::default() })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` ends, then gives running requests a few seconds.
    ///
    /// # Errors
    /// When connections can no longer be taken.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), ServeError> {
        let connections = Connections::new(descriptor_limit());
        let (stop, stopped) = watch::channel(());
        let mut serving = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                Some(_) = serving.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => {
                    if let Some(connection) = connections.admit(client.ip()) {
                        let serve = Serve { connection, service: Arc::clone(&self.service), patience: self.patience };
                        serving.spawn(serve.run(stream, stopped.clone()));
                    }
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK) => {
                        return Err(ServeError::Run { address: self.address, source: error });
                    }
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                        connections.make_room();
                        sleep(PAUSE).await;
                    }
                    // The client has disconnected.
                    _ => {}
                },
            }
        }
        drop((self.listener, stopped, stop));
        let _ = timeout(GRACE, async { while serving.join_next().await.is_some() {} }).await;
        Ok(())
    }
}

/// One connection being served.
struct Serve {
    connection: Arc<Connection>,
    service: Arc<Service>,
    patience: ConnectionTimeouts,
}

impl Serve {
    /// Serves the connection until the client closes it, has lost its claim to it, or the server stops.
    async fn run(self, stream: TcpStream, stopped: watch::Receiver<()>) {
        // Without it small answers would wait for the client's acknowledgement. Should it fail, they do.
        let _ = stream.set_nodelay(true);
        tokio::select! {
            () = self.talk(stream, stopped) => {}
            () = self.connection.given_up(&self.patience) => {}
        }
    }

    async fn talk(&self, stream: TcpStream, stopped: watch::Receiver<()>) {
        let Some(tls) = &self.service.options.tls else {
            return self.answer(TokioIo::new(stream), stopped).await;
        };
        let Some(handshake) = self.connection.handshake() else { return };
        let agreed = tls.accept(stream).await;
        drop(handshake);
        if let Some(stream) = agreed {
            self.answer(TokioIo::new(stream), stopped).await;
        }
    }

    async fn answer(&self, stream: impl Read + Write + Unpin + Send + 'static, mut stopped: watch::Receiver<()>) {
        let service = service_fn(|request: Request<Incoming>| {
            let (service, patience) = (Arc::clone(&self.service), self.patience.body);
            let pending = self.connection.begin();
            async move {
                let response = handle(&service, request.map(Body::new), patience).await;
                Ok::<_, Infallible>(response.map(|body| ResponseBody::new(body, pending)))
            }
        });
        let builder = Builder::new(TokioExecutor::new());
        let mut conversation = pin!(builder.serve_connection(stream, service));
        tokio::select! {
            _ = conversation.as_mut() => return,
            _ = stopped.changed() => {}
        }
        conversation.as_mut().graceful_shutdown();
        if self.connection.is_idle() {
            // A connection before its first request does not end by itself.
            let _ = timeout(FAREWELL, conversation).await;
        } else {
            let _ = conversation.await;
        }
    }
}

pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}
