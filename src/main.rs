//! The `ociforge` command.

fn main() {}
