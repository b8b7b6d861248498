//! Training runs: interrupted, killed, resumed, refused; always the same bits as a run that nothing happened to.
#![allow(clippy::unwrap_used)]

mod binary;
mod judged;
mod kills;
mod library;
mod origins;
mod references;
mod rows;
