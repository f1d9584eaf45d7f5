//! The errors of serving a layout.

use std::io;
use std::net::SocketAddr;

use crate::error::Explain;

/// The errors of serving a layout.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be used.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The layout cannot be used.
    #[error("cannot serve the layout {directory}")]
    Layout {
        /// The layout's directory.
        directory: String,
        /// Why.
        source: io::Error,
    },
    /// The server ended by a fault.
    #[error("the server at {address} failed")]
    Run {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl Explain for ServeError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => Some("choose another port with --listen, or 0 for any free port".into()),
                io::ErrorKind::PermissionDenied => Some("choose a port from 1024 on with --listen".into()),
                io::ErrorKind::AddrNotAvailable => Some("choose an address of this machine with --listen".into()),
                _ => None,
            },
            Self::Layout { source, .. }
                if matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                Some("check the owner of the directory, or serve it with --read-only".into())
            }
            Self::Layout { .. } | Self::Run { .. } => None,
        }
    }
}
