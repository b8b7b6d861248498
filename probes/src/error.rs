//! What can go wrong in this crate, with the thing named, what was expected and what was found.
//! Foreign numbers never panic here; they end in one of these variants.

use thiserror::Error;

/// Everything a function of this crate can refuse.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ProbeError {
    /// Fewer items than the computation needs.
    #[error("{what}: needs at least {needed}, found {found}")]
    TooFew {
        /// What was counted.
        what: &'static str,
        /// The least number that works.
        needed: usize,
        /// The number that came in.
        found: usize,
    },
    /// Two things that must have the same length do not.
    #[error("{what}: expected length {expected}, found {found}")]
    Length {
        /// The input that has the wrong length.
        what: &'static str,
        /// The length that was expected.
        expected: usize,
        /// The length that came in.
        found: usize,
    },
    /// A NaN or an infinity in the data.
    #[error(
        "{what}: non-finite value at row {row}, column {column}; drop the item or repair its activations"
    )]
    NonFinite {
        /// The input that holds it.
        what: &'static str,
        /// Row, from 0 (0 for a vector).
        row: usize,
        /// Column, from 0.
        column: usize,
    },
    /// A two-class computation was given one class only.
    #[error("both classes are needed, found {positives} positive and {negatives} negative items")]
    OneClass {
        /// Items labelled true.
        positives: usize,
        /// Items labelled false.
        negatives: usize,
    },
    /// A fold of a cross-validation in which all labels agree.
    #[error(
        "fold {fold}: all labels in one part of the fold are {label}; use fewer folds or smaller groups, or add items of the other class"
    )]
    ConstantFold {
        /// The fold, from 0.
        fold: usize,
        /// The label that they all have.
        label: bool,
    },
    /// An option or a count outside its range.
    #[error("{what}: {value} is outside {allowed}")]
    Range {
        /// The option.
        what: &'static str,
        /// The value that came in.
        value: f64,
        /// The range in words.
        allowed: &'static str,
    },
    /// A direction of length (almost) zero has no orientation.
    #[error("{what}: length {norm:e} is too small to have an orientation")]
    NoDirection {
        /// Where the vector came from.
        what: &'static str,
        /// Its Euclidean length.
        norm: f64,
    },
    /// A kind that is found on pairs was asked for on single items.
    #[error("contrast-consistent search is fitted on pairs of items, not on single ones")]
    Pairs,
    /// A numerical procedure did not reach its goal.
    #[error("{what}: {reason}")]
    Numerical {
        /// The procedure.
        what: &'static str,
        /// What happened.
        reason: String,
    },
}

/// Refuses a level, rate or probability outside the open interval (0, 1).
pub(crate) fn open_unit(what: &'static str, value: f64) -> Result<(), ProbeError> {
    if value > 0.0 && value < 1.0 {
        Ok(())
    } else {
        Err(ProbeError::Range {
            what,
            value,
            allowed: "(0, 1)",
        })
    }
}

/// Refuses an input whose length is not `expected`.
pub(crate) fn same_length(
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), ProbeError> {
    if expected == found {
        Ok(())
    } else {
        Err(ProbeError::Length {
            what,
            expected,
            found,
        })
    }
}

/// Refuses fewer than `needed` items.
pub(crate) fn at_least(what: &'static str, needed: usize, found: usize) -> Result<(), ProbeError> {
    if found >= needed {
        Ok(())
    } else {
        Err(ProbeError::TooFew {
            what,
            needed,
            found,
        })
    }
}

/// Refuses a vector that holds a NaN or an infinity.
pub(crate) fn finite(what: &'static str, values: &[f64]) -> Result<(), ProbeError> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(column) => Err(ProbeError::NonFinite {
            what,
            row: 0,
            column,
        }),
    }
}

/// Refuses a matrix that holds a NaN or an infinity.
pub(crate) fn finite_rows(
    what: &'static str,
    x: ndarray::ArrayView2<f32>,
) -> Result<(), ProbeError> {
    for (row, values) in x.outer_iter().enumerate() {
        // Without a way out of the loop it runs in vectors.
        if values.fold(true, |all, v| all & v.is_finite()) {
            continue;
        }
        if let Some(column) = values.iter().position(|v| !v.is_finite()) {
            return Err(ProbeError::NonFinite { what, row, column });
        }
    }
    Ok(())
}

/// Counts the classes and refuses labels that hold fewer than `needed` of either.
pub(crate) fn both_classes(labels: &[bool], needed: usize) -> Result<(usize, usize), ProbeError> {
    let positives = labels.iter().filter(|&&l| l).count();
    let negatives = labels.len() - positives;
    if positives == 0 || negatives == 0 {
        return Err(ProbeError::OneClass {
            positives,
            negatives,
        });
    }
    at_least(
        "items of the smaller class",
        needed,
        positives.min(negatives),
    )?;
    Ok((positives, negatives))
}
