//! Why a hook cannot apply.

use super::points::POINTS;

/// Errors of the hooks room; each names what was asked for and why it cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// A name that is no point.
    #[error("unknown hook point `{name}`; {hint}`candlescope hooks MODEL` lists them all")]
    UnknownPoint {
        /// As given.
        name: String,
        /// The nearest name.
        hint: String,
    },
    /// A point this model lacks.
    #[error("hook point `{point}` does not exist in this model: {why}")]
    NotInModel {
        /// The point.
        point: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// A layer out of range.
    #[error("hook point `{point}.{layer}`: the model has layers 0 to {}", n_layers - 1)]
    Layer {
        /// The point.
        point: &'static str,
        /// As given.
        layer: usize,
        /// How many there are.
        n_layers: usize,
    },
    /// A malformed layer list.
    #[error("`{pattern}`: layers are written POINT.3, POINT.0-3, POINT.1,5 or POINT.*, within 0 to {}", n_layers - 1)]
    Layers {
        /// As given.
        pattern: String,
        /// How many there are.
        n_layers: usize,
    },
    /// A selector outside the tensor.
    #[error("{at}: {axis} {index} is out of range, the tensor has {size}")]
    OutOfRange {
        /// The address.
        at: String,
        /// The axis.
        axis: &'static str,
        /// As given.
        index: i64,
        /// The size.
        size: usize,
    },
    /// A selector on an axis the tensor does not have.
    #[error("{at}: this point has no {axis} axis (its shape is {shape})")]
    NoAxis {
        /// The address.
        at: String,
        /// The axis.
        axis: &'static str,
        /// The tensor's axes.
        shape: String,
    },
    /// An edit whose tensor does not fit.
    #[error("{at}: {edit} expects {expected}, found {found:?}")]
    EditShape {
        /// The address.
        at: String,
        /// The edit.
        edit: &'static str,
        /// What fits.
        expected: String,
        /// What was given.
        found: Vec<usize>,
    },
    /// An edit that makes no sense at a point.
    #[error("{at}: {edit} cannot apply here: {why}")]
    EditPoint {
        /// The address.
        at: String,
        /// The edit.
        edit: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// A setting that is not finite, or a zero direction.
    #[error("{at}: {edit}: {what}")]
    EditValue {
        /// The address.
        at: String,
        /// The edit.
        edit: &'static str,
        /// What is wrong.
        what: String,
    },
    /// An edit which would change what the cache already holds.
    #[error(
        "the KV cache holds {cached} positions that were computed under other edits; start a new cache, or restrict the \
         edits to positions from {cached} on"
    )]
    StaleCache {
        /// Cached positions.
        cached: usize,
    },
    /// Tensor arithmetic inside an edit.
    #[error("{at}: {source}")]
    Candle {
        /// The address.
        at: String,
        /// The failure.
        source: candle_core::Error,
    },
}

impl HookError {
    /// An unknown name, with the nearest known one.
    pub(super) fn unknown_point(name: &str) -> Self {
        let stem = name.split('.').next().unwrap_or(name);
        let near = POINTS
            .iter()
            .map(|info| (distance(stem, info.name), info))
            .filter(|(d, _)| *d <= 2.max(stem.len() / 3))
            .min_by_key(|(d, _)| *d);
        let hint = match near {
            Some((0, info)) if info.per_layer => {
                format!("it needs a layer, as in `{}.0`; ", info.name)
            }
            Some((0, info)) => format!("it takes no layer: `{}`; ", info.name),
            Some((_, info)) => format!("did you mean `{}`? ", info.name),
            None => String::new(),
        };
        Self::UnknownPoint {
            name: name.to_string(),
            hint,
        }
    }
}

/// Edits between two words, for "did you mean"; a swap of neighbours is one edit, since that is the common slip.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in table.iter_mut().enumerate() {
        row[0] = i;
    }
    table[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(table[i - 2][j - 2] + 1);
            }
            table[i][j] = least;
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits_and_swaps() {
        assert_eq!(distance("mlp_out", "mlp_uot"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
