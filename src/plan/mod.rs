//! The recipe: what the user writes, read into a plan.
