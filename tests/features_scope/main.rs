//! The oscilloscope on tiny models of several families.
#![allow(clippy::unwrap_used, missing_docs)]

mod fixture;
mod reading;
mod runs;
