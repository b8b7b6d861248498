//! What can be wrong with a loss's options and inputs, by name.

/// Errors of the losses.
#[derive(Debug, thiserror::Error)]
pub enum LossError {
    /// An option that the loss would not read.
    #[error("loss `{loss}` has no use for `{option}`: {why}; remove it")]
    Ignored {
        /// The loss.
        loss: &'static str,
        /// The option.
        option: &'static str,
        /// Why it would be ignored, or what reads it.
        why: &'static str,
    },
    /// An option outside its range.
    #[error("loss `{loss}`: `{option}`: expected {expected}, found {found}")]
    Option {
        /// The loss.
        loss: &'static str,
        /// The option.
        option: &'static str,
        /// The range.
        expected: &'static str,
        /// The value.
        found: String,
    },
    /// An input that the loss needs.
    #[error("loss `{loss}` needs {what}")]
    Missing {
        /// The loss.
        loss: &'static str,
        /// The input.
        what: &'static str,
    },
    /// Inputs that do not pair up, or are empty.
    #[error("{what}: expected {expected} (more than 0), found {found}")]
    Count {
        /// Which.
        what: &'static str,
        /// By the other inputs.
        expected: usize,
        /// Given.
        found: usize,
    },
    /// Tensor arithmetic.
    #[error("tensor arithmetic: {0}")]
    Candle(#[from] candle_core::Error),
}

/// Refuses a value outside its range.
pub(super) fn within(
    ok: bool,
    loss: &'static str,
    option: &'static str,
    expected: &'static str,
    found: impl ToString,
) -> Result<(), LossError> {
    if ok {
        return Ok(());
    }
    Err(LossError::Option {
        loss,
        option,
        expected,
        found: found.to_string(),
    })
}
