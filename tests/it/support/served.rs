//! `serve` inside the test's process.

use std::path::Path;
use std::thread::JoinHandle;

use ociforge::serve::{ServeOptions, Server};
use ociforge::store::Layout;
use tokio::sync::oneshot;

/// A server in a thread of its own, on a free port of the loopback.
pub(crate) struct Served {
    pub(crate) address: String,
    scheme: &'static str,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub(crate) fn new(layout: &Path) -> Self {
        Self::with(layout, ServeOptions::default())
    }

    pub(crate) fn with(layout: &Path, options: ServeOptions) -> Self {
        let layout = if options.read_only { Layout::open(layout) } else { Layout::create(layout) }.unwrap();
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let server = Server::bind(layout, ([127, 0, 0, 1], 0).into(), options).await.unwrap();
                tell.send(server.local_addr().to_string()).unwrap();
                let stopped = async {
                    let _ = stopped.await;
                };
                server.run(stopped).await.unwrap();
            });
        });
        Self { address: told.recv().unwrap(), scheme, stop: Some(stop), thread: Some(thread) }
    }

    /// The image as tools name it.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("docker://{}/{image}", self.address)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking());
        }
    }
}
