//! A tar archive becomes a tree, or is read entry by entry.
