//! A directory on disk becomes a tree.
