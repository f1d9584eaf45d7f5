//! `--gpus`: docker's text, and what NVIDIA's documents write without the quotes that docker wants.
//!
//! Docker reads the value as one CSV record whose fields are `KEY=VALUE` or a bare count. `device=1,2`, as the documents
//! have it, is then device 1 and a count of 2, which docker refuses. Here the bare fields after an unquoted `device=`
//! go on with the list, and so do those after `capabilities=` that are no count. What docker accepts otherwise means
//! here what it means there.

mod csv;
mod driver;
mod error;
mod parse;
mod request;

pub use driver::{Driver, DriverCapability};
pub use error::{GpuError, GpuFault};
pub use request::{GpuRequest, GpuSelection};

#[cfg(test)]
mod tests;
