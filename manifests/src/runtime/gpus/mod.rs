//! `--gpus`: docker's syntax, and the form in NVIDIA's documents without the quotes that docker requires.
//!
//! Docker parses the value as one CSV record with fields `KEY=VALUE` or a bare count. `device=1,2`, as in the
//! documents, is then device 1 and a count of 2, which docker refuses. Here bare fields after an unquoted `device=`
//! continue its list, and so do those after `capabilities=` that are not a count. All values that docker accepts have
//! the same meaning here.

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
