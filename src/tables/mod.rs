//! Tables of TOML files, read so that every error names its position, the expected value and a fix.

mod error;
pub(crate) mod fields;
pub(crate) mod values;

pub use error::{PlanError, Position, TableFault};
pub use values::Owner;
