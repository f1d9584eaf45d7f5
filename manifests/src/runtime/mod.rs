//! The runtime spec of an image.
