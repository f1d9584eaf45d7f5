//! A wheel becomes the tree that pip would install (PEP 427, PEP 491).
