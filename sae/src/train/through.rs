//! What a loss behind the dictionary pulls: end-to-end training, where the reconstruction goes on through the model.
//!
//! Such a loss only enters as its gradient at the reconstruction; from there on the way back is that of the squared error.
//! [`Weight::Balanced`] makes it weigh as much as the squared error (Karvonen 2025, arXiv 2503.17272).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::pass::Batch;

/// A loss of the reconstruction other than its squared error.
#[derive(Clone, Copy, Debug)]
pub struct Through<'a> {
    /// The loss.
    pub loss: f64,
    /// Its gradient at the reconstruction in units of the rows, `[n, d_out]`.
    pub gradient: &'a [f32],
    /// What it weighs.
    pub weight: Weight,
}

/// What such a loss weighs beside the squared error, which is summed over the width, averaged over rows, of scaled rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Weight {
    /// So much.
    Fixed(f64),
    /// As much as the squared error, in every step anew.
    Named(Balanced),
}

/// The weight that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Balanced {
    /// See [`Weight`].
    Balanced,
}

/// A term of the loss, by name.
pub(super) type Term = (&'static str, f64);

/// One step's.
#[derive(Clone, Copy)]
pub(super) struct Felt<'a> {
    pub through: Through<'a>,
    /// What rows were multiplied with.
    pub scale: f32,
}

impl Felt<'_> {
    fn weight(&self, mse: f64) -> f64 {
        match self.through.weight {
            Weight::Fixed(weight) => weight,
            Weight::Named(Balanced::Balanced) if self.through.loss > 0.0 => mse / self.through.loss,
            Weight::Named(Balanced::Balanced) => 0.0,
        }
    }
}

impl Batch<'_> {
    /// The error that has, as the mean square's, the gradient of all losses of the reconstruction; with the term that is not
    /// the square's and its name.
    pub fn felt<'e>(&self, error: &'e [f32], squares: f64) -> (Cow<'e, [f32]>, Option<Term>) {
        let Some(felt) = &self.felt else {
            return (Cow::Borrowed(error), None);
        };
        let weight = felt.weight(squares / self.rows as f64);
        let share = (weight / f64::from(felt.scale) / f64::from(self.pull())) as f32;
        let both = error.iter().zip(felt.through.gradient);
        let all = both.map(|(error, pull)| error + share * pull).collect();
        (
            Cow::Owned(all),
            Some(("through", weight * felt.through.loss)),
        )
    }
}
