//! What can go wrong while a model is steered or measured.

use candlescope_probes::ProbeError;

use crate::model::ModelError;

/// Errors of the steering room.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// A prompt that does not fit the model.
    #[error(
        "prompt `{id}` has {tokens} tokens, the model's context {n_ctx}; drop or shorten the prompt"
    )]
    PromptTooLong {
        /// The row.
        id: String,
        /// Its length under the template.
        tokens: usize,
        /// Positions of the model.
        n_ctx: usize,
    },
    /// A prompt of which nothing is left, or whose end cannot be found under the template.
    #[error(
        "prompt `{id}`: the end of the instruction cannot be found in the encoded prompt (is it empty, or does the \
         chat template rewrite it?)"
    )]
    NoInstruction {
        /// The row.
        id: String,
    },
    /// A position that a prompt does not have.
    #[error("prompt `{id}` has {tokens} tokens and no {position}")]
    NoPosition {
        /// The row.
        id: String,
        /// Its length.
        tokens: usize,
        /// What was asked for.
        position: String,
    },
    /// A layer the model does not have.
    #[error(
        "layer {layer}: the residual stream of this model has layers 0 to {n_layers} (its end)"
    )]
    Layer {
        /// What was asked for.
        layer: usize,
        /// Blocks of the model.
        n_layers: usize,
    },
    /// An input of which there is too little.
    #[error("{what}: needs at least {needed}, found {found}")]
    TooFew {
        /// What was counted.
        what: &'static str,
        /// The least number that works.
        needed: usize,
        /// The number that came in.
        found: usize,
    },
    /// Two sets of activations that were not read at the same places.
    #[error(
        "{what} were read at other layers, positions or of another width than the harmful training activations"
    )]
    Places {
        /// Which set.
        what: &'static str,
    },
    /// None of the words a refusal opens with is one token.
    #[error(
        "none of the words {words} is a single token of this tokenizer, so a refusal score is not defined"
    )]
    NoRefusalToken {
        /// The words.
        words: String,
    },
    /// A model whose numbers have left the real line.
    #[error("prompt `{id}`: the {what} is not finite; the weights or the edit are broken")]
    NotFinite {
        /// The row.
        id: String,
        /// What was computed.
        what: &'static str,
    },
    /// A direction for models of another width.
    #[error(
        "{file}: tensor `{tensor}`: expected {expected} numbers (d_model of {model}), found {found}"
    )]
    Width {
        /// The file.
        file: String,
        /// Its tensor.
        tensor: String,
        /// Numbers that fit.
        expected: usize,
        /// The model.
        model: String,
        /// Numbers that are there.
        found: usize,
    },
    /// Steering that is written in another form.
    #[error("expected {expected}")]
    Written {
        /// The form.
        expected: &'static str,
        /// Something of that form.
        example: &'static str,
    },
    /// A form with another number of directions.
    #[error("{form}: expected {expected}, found {found}")]
    Directions {
        /// The form.
        form: &'static str,
        /// What it takes.
        expected: &'static str,
        /// How many were given.
        found: usize,
    },
    /// Weights by layer on a form that has no amount, or by component on one that acts on the stream.
    #[error("{form}: {why}")]
    Weighted {
        /// The form.
        form: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// Pairs of which one side is missing.
    #[error(
        "pairs need as many prompts that meet the condition as that do not, found {positive} and {negative}"
    )]
    Pairs {
        /// That meet it.
        positive: usize,
        /// That do not.
        negative: usize,
    },
    /// A rule that cannot be read.
    #[error("rule `{rule}`: {what}")]
    Rule {
        /// As written.
        rule: String,
        /// What is wrong, and where.
        what: String,
    },
    /// A condition that no rule knows, or that is defined twice.
    #[error("condition `{name}` {why}; known are: {known}")]
    Condition {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
        /// The conditions there are.
        known: String,
    },
    /// A prompt suite that cannot be read.
    #[error("prompt suite: {why}")]
    Suite {
        /// The reason.
        why: String,
    },
    /// Prompts that stand in more than one of train, validation and test.
    #[error(
        "{count} prompts stand in two of train, validation and test: {list}; leave each in one"
    )]
    Straddling {
        /// How many.
        count: usize,
        /// The first of them.
        list: String,
    },
    /// Measures that cannot be kept, or belong to something else.
    #[error("{file}: {why}")]
    Ledger {
        /// The file.
        file: String,
        /// The reason, and what to try.
        why: String,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The model or a hook refused.
    #[error(transparent)]
    Model(Box<ModelError>),
    /// A statistic refused.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

impl From<ModelError> for SteerError {
    fn from(error: ModelError) -> Self {
        Self::Model(Box::new(error))
    }
}

impl From<candle_core::Error> for SteerError {
    fn from(error: candle_core::Error) -> Self {
        ModelError::from(error).into()
    }
}
