//! Writing to a model: directions applied by hook.

pub mod file;
