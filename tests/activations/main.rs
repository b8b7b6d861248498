//! Activations: captured, kept in stores, and as rows for training dictionaries.
#![allow(clippy::unwrap_used, missing_docs)]

mod capture;
mod fixture;
mod packing;
mod stores;
mod streams;
