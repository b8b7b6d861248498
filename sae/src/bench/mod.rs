//! The planted-feature benchmark as a contest: each architecture is trained on the same planted rows and scored alike.
//!
//! [`Kind`] names the architectures and gives each its plain recipe, [`World`] holds the rows, [`train`] trains on them, and
//! [`tune`] finds the coefficient of a penalty at which as many latents fire as asked: architectures are compared at one L0.
//! What the scores mean is [`crate::synthetic`].

mod kind;
#[cfg(test)]
mod tests;
mod train;
mod tune;
mod world;

pub use kind::Kind;
pub use train::{Ended, train};
pub use tune::{Tuned, tune};
pub use world::World;
