//! Why a lens cannot be read.

use crate::model::ModelError;

/// Errors of the lens room.
#[derive(Debug, thiserror::Error)]
pub enum LensError {
    /// A malformed list of positions or layers.
    #[error("{axis} `{found}`: expected {expected}")]
    Selection {
        /// `positions` or `layers`.
        axis: &'static str,
        /// As given.
        found: String,
        /// The grammar.
        expected: String,
    },
    /// A position or layer that is not there.
    #[error("{axis} {index} is out of range: there are {size}")]
    OutOfRange {
        /// Which axis.
        axis: &'static str,
        /// As given.
        index: i64,
        /// How many there are.
        size: usize,
    },
    /// More top tokens than tokens, or none.
    #[error("top-k is {found}; expected 1 to {vocab}, the size of the vocabulary")]
    TopK {
        /// As given.
        found: usize,
        /// The most there can be.
        vocab: usize,
    },
    /// A target that is not exactly one token.
    #[error(
        "target {text:?} is {count} tokens ({tokens}); expected exactly one. A leading space usually matters: try \
         {text:?} with and without it"
    )]
    Target {
        /// As given.
        text: String,
        /// How many tokens it is.
        count: usize,
        /// The tokens, quoted.
        tokens: String,
    },
    /// An edit after the stream: the lens would not see what the model says.
    #[error(
        "an edit at `{point}` comes after the residual stream: the lens puts every layer through the model's own final norm \
         and unembedding, so its last row would not be the model's output. Edit resid_post instead"
    )]
    EditAfterStream {
        /// The point.
        point: String,
    },
    /// A direction that does not fit the stream or has no direction.
    #[error("the direction: expected {expected}, found {found}")]
    Direction {
        /// What fits.
        expected: String,
        /// What was given.
        found: String,
    },
    /// More attention weights than are kept at once.
    #[error(
        "{layers} layer(s) of {heads} heads over {tokens} tokens are {weights} attention weights, and at most {most} are kept \
         at once; ask for fewer layers or a shorter text"
    )]
    TooLarge {
        /// Layers asked for.
        layers: usize,
        /// Heads of a layer.
        heads: usize,
        /// Length of the text.
        tokens: usize,
        /// How many weights that makes.
        weights: usize,
        /// The bound.
        most: usize,
    },
    /// A text in which a score has no meaning.
    #[error("{what} needs at least {least} tokens, found {found}")]
    TooShort {
        /// The score.
        what: &'static str,
        /// The fewest.
        least: usize,
        /// How many there are.
        found: usize,
    },
    /// Logits that are no numbers.
    #[error(
        "the logits of {row} at position {position} are not finite; the activations have overflowed"
    )]
    NotFinite {
        /// The row of the lens.
        row: String,
        /// The position.
        position: usize,
    },
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
}
