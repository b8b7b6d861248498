//! What the model thought of a token: its log-probability, the entropy before it, the likeliest tokens.

use crate::model::ModelError;

/// Alternatives that are kept with each token.
pub const ALTERNATIVES: usize = 5;

/// The log-probability of a token, the entropy, and the best tokens with their log-probabilities.
///
/// # Errors
/// Logits that are NaN.
pub(crate) fn describe(
    logits: &[f32],
    id: usize,
) -> Result<(f32, f32, Vec<(u32, f32)>), ModelError> {
    let count = logits.iter().filter(|x| x.is_nan()).count();
    if count > 0 {
        return Err(ModelError::NotANumber {
            what: "logits",
            count,
        });
    }
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut product) = (0.0, 0.0);
    for below in logits.iter().map(|&x| f64::from(x - highest)) {
        let weight = below.exp();
        sum += weight;
        // A token of no mass adds nothing.
        product += if weight > 0.0 { weight * below } else { 0.0 };
    }
    let log_prob = |i: usize| (f64::from(logits[i] - highest) - sum.ln()) as f32;
    // One pass that keeps the best few in order.
    let mut best: Vec<usize> = Vec::with_capacity(ALTERNATIVES + 1);
    for (i, &value) in logits.iter().enumerate() {
        if best.len() == ALTERNATIVES && best.last().is_some_and(|&last| logits[last] >= value) {
            continue;
        }
        let at = best.partition_point(|&other| logits[other] >= value);
        best.insert(at, i);
        best.truncate(ALTERNATIVES);
    }
    let top = best.iter().map(|&i| (i as u32, log_prob(i))).collect();
    let entropy = (sum.ln() - product / sum) as f32;
    Ok((log_prob(id), entropy, top))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn probabilities_of_logs_are_found_again() {
        // Weights 1 2 4 1: probabilities in eighths.
        let logits: Vec<f32> = [1f32, 2.0, 4.0, 1.0].map(|x| x.ln() + 3.0).into();
        let (log_prob, entropy, top) = describe(&logits, 1).unwrap();
        assert!((log_prob - 0.25f32.ln()).abs() < 1e-6);
        // 2/8 ln 8 + 1/4 ln 4 + 1/2 ln 2 = 7/4 ln 2.
        assert!((entropy - 1.75 * 2f32.ln()).abs() < 1e-6);
        let ids: Vec<u32> = top.iter().map(|&(id, _)| id).collect();
        assert_eq!(ids, [2, 1, 0, 3]);
        assert!((top[0].1 - 0.5f32.ln()).abs() < 1e-6);
        assert!((top[3].1 - 0.125f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn only_the_best_are_kept_in_order() {
        let logits: Vec<f32> = [3, 9, 1, 7, 7, 2, 8, 0, 5].map(|x| x as f32).into();
        let ids: Vec<u32> = describe(&logits, 0)
            .unwrap()
            .2
            .iter()
            .map(|t| t.0)
            .collect();
        assert_eq!(ids, [1, 6, 3, 4, 8]);
        assert!(describe(&[1.0, f32::NAN], 0).is_err());
    }
}
