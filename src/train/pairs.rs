//! What methods on pairs of answers share: the pairs as batches, their facts, and the batch of a loss that is no number.
//!
//! Always: a batch has the chosen rows first, then the rejected ones, in the order of the pairs.

use serde_json::json;

use super::{Bench, TrainError, data::Loaded, log::Numbers, loss::Metrics, method::Facts};
use crate::model::Batch;
use crate::text::dataset::Pair;

/// Prompt and answer of each row: the chosen ones, then the rejected ones.
///
/// # Errors
/// No pairs.
pub fn batch(pairs: &[&Pair]) -> Result<Batch, TrainError> {
    let chosen = pairs.iter().map(|pair| (&pair.prompt, &pair.chosen));
    let rejected = pairs.iter().map(|pair| (&pair.prompt, &pair.rejected));
    let rows: Vec<Vec<u32>> = chosen
        .chain(rejected)
        .map(|(prompt, answer)| [prompt.as_slice(), answer].concat())
        .collect();
    Ok(Batch::new(&rows)?)
}

/// Tokens of each answer: the chosen ones, then the rejected ones.
pub fn lengths(pairs: &[&Pair]) -> Vec<usize> {
    let chosen = pairs.iter().map(|pair| pair.chosen.len());
    chosen
        .chain(pairs.iter().map(|pair| pair.rejected.len()))
        .collect()
}

/// Both rows of a pair.
pub fn tokens(pair: &Pair) -> usize {
    2 * pair.prompt.len() + pair.chosen.len() + pair.rejected.len()
}

/// The data, counted.
pub fn facts(train: &Loaded<Pair>, eval: usize) -> Facts {
    let mut facts = train.facts();
    let longest = |pair: &Pair| pair.prompt.len() + pair.chosen.len().max(pair.rejected.len());
    facts.tokens = train.items.iter().map(tokens).sum();
    let answers = |pair: &Pair| pair.chosen.len() + pair.rejected.len();
    facts.supervised = train.items.iter().map(answers).sum();
    facts.longest = train.items.iter().map(longest).max().unwrap_or(0);
    facts.end_trained =
        train.share(|pair, stop| pair.chosen.last().is_some_and(|id| stop.contains(id)));
    facts.eval_rows = eval;
    facts
}

/// A loss that is no number on these pairs.
pub fn not_finite(
    train: &Loaded<Pair>,
    rows: &[usize],
    (step, what, value): (u64, &'static str, f64),
) -> TrainError {
    let names: Vec<String> = rows.iter().map(|&row| train.name(row)).collect();
    let batch: Vec<_> = rows
        .iter()
        .zip(&names)
        .map(|(&row, name)| json!({"row": name, "pair": train.items[row]}))
        .collect();
    TrainError::NotFinite {
        step,
        what,
        value,
        batch: json!({"step": step, "what": what, "value": value.to_string(), "batch": batch}),
        rows: names,
    }
}

/// Ends a step on these pairs: the optimiser is applied and the numbers of the step are named.
pub fn finish(
    bench: &mut Bench,
    train: &Loaded<Pair>,
    window: &[usize],
    (step, loss): (u64, f64),
    metrics: &Metrics,
) -> Result<Numbers, TrainError> {
    let applied = match bench.apply() {
        Err(TrainError::NotFinite { what, value, .. }) => {
            return Err(not_finite(train, window, (step, what, value)));
        }
        applied => applied?,
    };
    let mut numbers = Numbers::new();
    numbers.set("loss", loss);
    numbers.set("grad_norm", applied.grad_norm);
    numbers.set_all(metrics);
    Ok(numbers)
}
