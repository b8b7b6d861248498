//! What needs no model: words, length, and the token that stands where the probe reads.

use candlescope_probes::lexical::{BagOfWords, words};
use candlescope_probes::roc::auroc_value;
use candlescope_probes::{Auroc, LogisticOptions, ProbeError, auroc};
use serde::{Deserialize, Serialize};

use super::sweep::Parts;
use super::{Encoded, Labelled, Position, ProbingError};

/// One baseline on the test rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// `bag of words`, `length` or `token identity`.
    pub name: String,
    /// Where the token stands, for token identity.
    pub position: Option<Position>,
    /// On the test rows.
    pub auroc: Auroc,
    /// Scores of the test rows, in order, for paired tests.
    #[serde(skip)]
    pub scores: Vec<f64>,
}

/// Fits the baselines on the training rows and scores the test rows: a bag of words (C by cross-validation), the number of
/// tokens (its sign from the training rows), and at each position the identity of the tokens read there.
///
/// # Errors
/// A position that a row lacks.
pub fn baselines(
    data: &Labelled,
    encoded: &[Encoded],
    labels: &[bool],
    parts: &Parts,
    positions: &[Position],
    (seed, level): (u64, f64),
) -> Result<Vec<Baseline>, ProbingError> {
    let pick = |rows: &[usize]| rows.iter().map(|&i| labels[i]).collect::<Vec<bool>>();
    let (y_train, y_test) = (pick(&parts.train), pick(&parts.test));
    let made = |name: &str, position, scores: Vec<f64>| -> Result<Baseline, ProbeError> {
        Ok(Baseline {
            name: name.into(),
            position,
            auroc: auroc(&scores, &y_test, level)?,
            scores,
        })
    };
    let bag_options = LogisticOptions {
        seed,
        ..LogisticOptions::sae_probes()
    };
    let documents: Vec<Vec<String>> = data
        .rows
        .iter()
        .map(|r| match words(&r.content.words()) {
            none if none.is_empty() => vec![String::new()],
            words => words,
        })
        .collect();
    let bag = bag(&documents, &y_train, parts, &bag_options)?;
    let lengths = |rows: &[usize]| -> Vec<f64> {
        rows.iter().map(|&i| encoded[i].ids.len() as f64).collect()
    };
    let sign = if auroc_value(&lengths(&parts.train), &y_train)? < 0.5 {
        -1.0
    } else {
        1.0
    };
    let length = lengths(&parts.test).into_iter().map(|l| sign * l).collect();
    let mut out = vec![
        made("bag of words", None, bag)?,
        made("length", None, length)?,
    ];
    for &position in positions {
        let read = |row: &Encoded| Ok(row.ids[row.range(position)?].to_vec());
        let documents: Vec<Vec<u32>> = encoded
            .iter()
            .map(read)
            .collect::<Result<_, ProbingError>>()?;
        let scores = self::bag(&documents, &y_train, parts, &LogisticOptions::default())?;
        out.push(made("token identity", Some(position), scores)?);
    }
    Ok(out)
}

fn bag<T: Ord + Clone>(
    documents: &[Vec<T>],
    y_train: &[bool],
    parts: &Parts,
    options: &LogisticOptions,
) -> Result<Vec<f64>, ProbeError> {
    let pick =
        |rows: &[usize]| -> Vec<Vec<T>> { rows.iter().map(|&i| documents[i].clone()).collect() };
    let fitted = BagOfWords::fit(&pick(&parts.train), y_train, options)?;
    fitted.scores(&pick(&parts.test))
}
