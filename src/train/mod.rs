//! Post-training. `loss/` holds every loss as a pure function.

pub mod loss;
