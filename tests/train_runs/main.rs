//! Training runs: interrupted, killed, resumed, refused; always the same bits as a run that nothing happened to.
#![allow(clippy::unwrap_used)]

mod binary;
mod judged;
mod library;
mod rows;
