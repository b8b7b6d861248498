//! Directions learned by gradient through hooks: refusal direction optimisation and cones of it (Wollschläger et al. 2025,
//! arXiv 2502.17420).
//!
//! Where a difference of means is read off, this asks for the direction that *does* what a refusal direction should: taken out,
//! the model answers; added, it refuses; and what is harmless stays as it was. It measures how much of refusal directions can
//! carry, and whether one is all there is. Always: weights are frozen, directions have length 1 and are orthogonal after every
//! step, and a state continues to the bit where it was left.
//! `lessons.rs` makes what is learned from, `loss.rs` the three losses, `sphere.rs` the optimiser, `learn.rs` the loop, `state.rs`
//! the file.

mod learn;
mod lessons;
mod loss;
mod sphere;
mod state;

pub use learn::{Settings, begun, learn, measured};
pub use lessons::{Example, Lessons, Start};
pub use loss::{Losses, Place, WEIGHTS, losses};
pub use sphere::Sphere;
pub use state::{NAME, State, Step};
