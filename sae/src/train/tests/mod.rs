//! Each architecture against SAELens's numbers, and against a dense twin in f64.
#![allow(clippy::unwrap_used)]

mod golden;
mod steps;
mod twin;
