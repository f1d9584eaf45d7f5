//! The base image: finding it, and the few facts about its filesystem that a build needs.
