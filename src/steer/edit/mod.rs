//! Exact weight edits: directions taken out of what a checkpoint's weights write to its residual stream.
//!
//! Always: the residual axis is a fact of a weight's role ([`Writer`], [`Reader`]), sums are in f64, and every edit comes with
//! a [`Certificate`] of what is left. Such edits measure how much of a behaviour hangs on one direction; they are no way to
//! ship a model.
//! `writer.rs` says who writes, `basis.rs` what is taken out, `matrix.rs` how from one matrix, `plan.rs` from a whole model,
//! `certificate.rs` what is left, `save.rs` puts it on disk, `forensics/` looks for such edits in somebody else's checkpoint.

mod basis;
mod certificate;
mod error;
pub mod forensics;
mod matrix;
mod plan;
mod save;
mod writer;

pub use basis::Basis;
pub use certificate::{
    Certificate, Gap, Left, LogitDifference, Outcome, REMOVED, certificate, logit_difference,
};
pub use error::EditError;
pub use matrix::{Axis, Removal, removed, written, written_length};
pub use plan::{Amounts, Tied, WeightEdit};
pub use save::{Form, Ingredient, NOTE, Note, Order, PURPOSE, SCHEMA, Saved, save};
pub use writer::{Reader, Site, Through, Writer, readers, writers};
