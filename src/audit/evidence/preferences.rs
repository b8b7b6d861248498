//! How probable a checkpoint finds both answers of each preference pair.
//!
//! Always: an answer's log-probability is the sum over its tokens after the prompt, the one that ends it included.

use super::Part;
use super::choices::log_probs;
use crate::audit::pairs::Preference;
use crate::audit::work::Work;
use crate::model::Checkpoint;
use crate::text::trials::EncodedTrial;

/// The log-probabilities of a pair's answers, nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// Of the preferred one.
    pub chosen: f64,
    /// Of the other.
    pub rejected: f64,
}

/// Scores every pair.
///
/// # Errors
/// In words: a pass that fails, a log-probability that is not finite, an interruption.
pub fn likelihoods(cp: &Checkpoint, pairs: &[Preference], work: &Work) -> Part<Vec<Likelihood>> {
    if pairs.is_empty() {
        return Err("no preference pairs were given".to_owned());
    }
    work.stage("preferences", pairs.len(), |stage| {
        let mut all = Vec::with_capacity(pairs.len());
        for (done, preference) in pairs.iter().enumerate() {
            if work.cancelled() {
                return Err("interrupted before it was measured".to_owned());
            }
            let named = |why: String| format!("pair {}: {why}", preference.id);
            let pair = &preference.pair;
            let encoded = EncodedTrial {
                prompt: pair.prompt.clone(),
                options: vec![pair.chosen.clone(), pair.rejected.clone()],
            };
            let sums =
                log_probs(&cp.decoder, &encoded).map_err(|error| named(error.to_string()))?;
            let [chosen, rejected] = sums[..] else {
                return Err(named(
                    "two answers were scored, and one is not there".to_owned(),
                ));
            };
            if !(chosen.is_finite() && rejected.is_finite()) {
                return Err(named(format!(
                    "its answers have the log-probabilities {chosen} and {rejected}"
                )));
            }
            all.push(Likelihood { chosen, rejected });
            stage.at(done + 1);
        }
        Ok(all)
    })
}
