//! Trying candidate directions on the model and choosing one.
//!
//! Everything here runs on validation prompts, never on those the directions were made of, and never on test prompts.
//! Where no candidate is admissible the best-separating one is returned with `causal: false` and the reason: a model can
//! tell harmful prompts apart and still have no direction that refusal hangs on (SmolLM2-135M-Instruct).
//!
//! Arditi et al. first drop harmful prompts with a score below 0 and harmless ones above 0. Here that filter is only
//! counted ([`FilterCounts`]): on a model that does not refuse it leaves nothing to measure, which is itself the finding.

use candlescope_probes::stats::bootstrap::{
    Bootstrap, Resampling, bootstrap_mean, bootstrap_paired_difference,
};
use serde::{Deserialize, Serialize};

use super::policy::{admissible, choose};
use super::{
    Candidate, EncodedPrompt, GridCell, KlLimit, Ledger, Measures, NullKind, Options,
    RefusalTokens, SelectionPolicy, SteerError, Tally, Unwritten, ablation, addition,
    covariance_matched_directions, kl, last_logits, log_odds, random_directions, refusal_scores,
    residuals,
};
use crate::hooks::{Hooks, Vector};
use crate::model::Decoder;

/// The prompts a direction is chosen on.
#[derive(Debug, Clone, Copy)]
pub struct Validation<'a> {
    /// Requests an aligned model declines.
    pub harmful: &'a [EncodedPrompt],
    /// Ordinary requests.
    pub harmless: &'a [EncodedPrompt],
}

/// What Arditi's filter would keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterCounts {
    /// Harmful prompts.
    pub harmful: usize,
    /// Of these, with a refusal score above 0.
    pub harmful_kept: usize,
    /// Harmless prompts.
    pub harmless: usize,
    /// Of these, with a refusal score below 0.
    pub harmless_kept: usize,
}

/// A candidate with what it does to the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The direction.
    pub candidate: Candidate,
    /// Refusal score of harmful prompts under ablation; low means that refusal is gone.
    pub bypass: Bootstrap,
    /// Base minus ablated refusal score of harmful prompts, paired.
    pub drop: Bootstrap,
    /// Refusal score of harmless prompts under addition of the mean difference at its layer.
    pub induce: Bootstrap,
    /// KL(base ‖ ablated) of harmless prompts at the last position, nats.
    pub kl: Bootstrap,
    /// (log KL − mean log KL of random directions) / their standard deviation, both on the same prompts (perhaps fewer
    /// than are behind `kl`); `None` without a random null.
    pub kl_z: Option<f64>,
    /// Whether the policy lets it be chosen, or why not.
    pub admissible: Result<(), String>,
}

/// The outcome of a selection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// The chosen candidate.
    pub chosen: Scored,
    /// True when it is admissible; false when it only separates.
    pub causal: bool,
    /// Why it is not causal.
    pub reason: Option<String>,
    /// Every candidate that was tried, in the order given.
    pub all: Vec<Scored>,
    /// Candidates that came in.
    pub n_candidates: usize,
    /// The policy.
    pub policy: SelectionPolicy,
    /// Training prompts behind each direction (harmful, harmless).
    pub n_train: (usize, usize),
    /// Refusal score of harmful validation prompts without edits.
    pub baseline_harmful: Bootstrap,
    /// Refusal score of harmless validation prompts without edits.
    pub baseline_harmless: Bootstrap,
    /// What Arditi's filter would keep of the validation prompts.
    pub filter: FilterCounts,
    /// Mean KL of each random direction on the null's prompts, nats; empty without a random null.
    pub random_kl: Vec<f64>,
}

/// Tries candidates on validation prompts and chooses one.
///
/// Costs one pass over the harmful and two over the harmless prompts for each candidate that is tried, and one over the
/// null's prompts for each random direction.
///
/// # Errors
/// No candidate, fewer than 2 prompts in a class, fewer than 8 random directions, anything a pass can fail with.
pub fn select(
    model: &impl AsRef<Decoder>,
    prompts: Validation,
    candidates: &[Candidate],
    tokens: &RefusalTokens,
    policy: &SelectionPolicy,
    options: &Options,
) -> Result<Selection, SteerError> {
    let none = &mut Unwritten;
    select_noting(model, prompts, candidates, tokens, policy, options, none)
}

/// [`select`] that asks a ledger before it tries a candidate, and notes there what it measured.
///
/// # Errors
/// As [`select`]; the ledger's; measures of another number of prompts.
pub fn select_noting(
    model: &impl AsRef<Decoder>,
    prompts: Validation,
    candidates: &[Candidate],
    tokens: &RefusalTokens,
    policy: &SelectionPolicy,
    options: &Options,
    ledger: &mut dyn Ledger,
) -> Result<Selection, SteerError> {
    let model = model.as_ref();
    for (what, needed, found) in [
        ("candidate directions", 1, candidates.len()),
        ("harmful validation prompts", 2, prompts.harmful.len()),
        ("harmless validation prompts", 2, prompts.harmless.len()),
        ("random directions", 8, random_count(policy).unwrap_or(8)),
    ] {
        if found < needed {
            return Err(SteerError::TooFew {
                what,
                needed,
                found,
            });
        }
    }
    let tried = screen(candidates, policy, model.config().n_layers);
    let trial = Trial::new(model, prompts, tokens, policy, &tried, options)?;
    let random_kl = if let Some(known) = ledger.random() {
        trial
            .tally
            .skip(known.len() * null_prompts(policy, prompts.harmless.len()));
        known
    } else {
        let found = trial.random_kl(&tried)?;
        ledger.note_random(&found)?;
        found
    };
    let all = tried
        .iter()
        .map(|candidate| {
            let measures = trial.measures(candidate, ledger)?;
            trial.score(candidate, measures, &random_kl)
        })
        .collect::<Result<Vec<_>, SteerError>>()?;
    let grid: Vec<GridCell> = all.iter().map(|s| trial.cell(s)).collect();
    let winner = choose(&grid, policy);
    let fallback = || best_separation(&all);
    let chosen = all[winner.unwrap_or_else(fallback)].clone();
    let reason = winner.is_none().then(|| {
        let why = chosen.admissible.as_ref().err().map_or("", String::as_str);
        let (n, at) = (all.len(), chosen.candidate.layer);
        format!(
            "none of {n} candidates is admissible; the best separating one, at layer {at}: {why}"
        )
    });
    let direction = &chosen.candidate.direction;
    Ok(Selection {
        causal: winner.is_some(),
        reason,
        n_candidates: candidates.len(),
        policy: policy.clone(),
        n_train: (direction.n_pos, direction.n_neg),
        baseline_harmful: trial.mean(&trial.base_harmful)?,
        baseline_harmless: trial.mean(&trial.base_harmless)?,
        filter: trial.filter(),
        random_kl,
        chosen,
        all,
    })
}

fn random_count(policy: &SelectionPolicy) -> Option<usize> {
    match policy.kl {
        KlLimit::Random { directions, .. } => Some(directions),
        KlLimit::Absolute { .. } => None,
    }
}

/// Harmless prompts that KL is compared with random directions on; at least 2.
fn null_prompts(policy: &SelectionPolicy, harmless: usize) -> usize {
    match policy.kl {
        KlLimit::Random { prompts, .. } => prompts.max(2).min(harmless),
        KlLimit::Absolute { .. } => 0,
    }
}

/// The best-separating candidate of each band of the layers that may be chosen; of equals the more reliable one.
fn screen<'a>(
    candidates: &'a [Candidate],
    policy: &SelectionPolicy,
    n_layers: usize,
) -> Vec<&'a Candidate> {
    let Some(bands) = policy.screen else {
        return candidates.iter().collect();
    };
    let limit = policy.layer_limit(n_layers).max(1);
    let mut best: Vec<Option<&Candidate>> = vec![None; bands.max(1)];
    for candidate in candidates.iter().filter(|c| c.layer < limit) {
        let band = candidate.layer * best.len() / limit;
        if best[band].is_none_or(|other| rank(candidate) > rank(other)) {
            best[band] = Some(candidate);
        }
    }
    let found: Vec<&Candidate> = best.into_iter().flatten().collect();
    if found.is_empty() {
        candidates.iter().take(1).collect()
    } else {
        found
    }
}

fn rank(candidate: &Candidate) -> (f64, f64) {
    let reliability = candidate.direction.reliability.map_or(0.0, |r| r.full);
    (candidate.separation, reliability)
}

fn best_separation(all: &[Scored]) -> usize {
    let mut best = 0;
    for (i, scored) in all.iter().enumerate() {
        if rank(&scored.candidate) > rank(&all[best].candidate) {
            best = i;
        }
    }
    best
}

/// The model, the prompts and their scores without edits.
struct Trial<'a> {
    model: &'a Decoder,
    prompts: Validation<'a>,
    tokens: &'a RefusalTokens,
    policy: &'a SelectionPolicy,
    tally: Tally<'a>,
    base_harmful: Vec<f64>,
    base_harmless: Vec<f64>,
    /// Next-token logits of harmless prompts without edits.
    base_logits: Vec<Vec<f32>>,
}

impl<'a> Trial<'a> {
    fn new(
        model: &'a Decoder,
        prompts: Validation<'a>,
        tokens: &'a RefusalTokens,
        policy: &'a SelectionPolicy,
        tried: &[&Candidate],
        options: &'a Options<'a>,
    ) -> Result<Self, SteerError> {
        let (harmful, harmless) = (prompts.harmful.len(), prompts.harmless.len());
        let random = random_count(policy).unwrap_or(0);
        let total = (1 + tried.len()) * harmful
            + (1 + 2 * tried.len()) * harmless
            + random * null_prompts(policy, harmless);
        let mut trial = Self {
            model,
            prompts,
            tokens,
            policy,
            tally: Tally::new(options, total),
            base_harmful: Vec::new(),
            base_harmless: Vec::new(),
            base_logits: vec![Vec::new(); harmless],
        };
        trial.base_harmful = trial.scores(prompts.harmful, &Hooks::new())?;
        let mut logits = vec![Vec::new(); harmless];
        trial.logits(prompts.harmless, &Hooks::new(), &mut |i, row| {
            logits[i] = row.to_vec();
        })?;
        trial.base_harmless = logits.iter().map(|row| log_odds(row, tokens)).collect();
        trial.base_logits = logits;
        Ok(trial)
    }

    fn scores(&self, prompts: &[EncodedPrompt], hooks: &Hooks) -> Result<Vec<f64>, SteerError> {
        self.tally.part(prompts.len(), |options| {
            refusal_scores(self.model, prompts, hooks, self.tokens, options)
        })
    }

    /// Next-token logits of these prompts.
    fn logits(
        &self,
        prompts: &[EncodedPrompt],
        hooks: &Hooks,
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), SteerError> {
        self.tally.part(prompts.len(), |options| {
            last_logits(self.model, prompts, hooks, options, visit)
        })
    }

    /// KL(base ‖ ablated) of each of the first `n` harmless prompts.
    fn kl_under_ablation(&self, vector: &Vector, n: usize) -> Result<Vec<f64>, SteerError> {
        let hooks = Hooks::new().edits(ablation(vector, self.model.config()));
        let mut found = vec![0.0; n];
        self.logits(&self.prompts.harmless[..n], &hooks, &mut |i, row| {
            found[i] = kl(&self.base_logits[i], row);
        })?;
        Ok(found)
    }

    fn random_kl(&self, tried: &[&Candidate]) -> Result<Vec<f64>, SteerError> {
        let KlLimit::Random {
            null, directions, ..
        } = self.policy.kl
        else {
            return Ok(Vec::new());
        };
        let drawn = match null {
            NullKind::Isotropic => {
                random_directions(directions, self.model.config().d_model, self.policy.seed)?
            }
            NullKind::CovarianceMatched => self.matched(tried, directions)?,
        };
        let n = null_prompts(self.policy, self.prompts.harmless.len());
        drawn
            .iter()
            .map(|vector| Ok(average(&self.kl_under_ablation(vector, n)?)))
            .collect()
    }

    /// Random directions matched to harmless activations, dealt out over the candidates' places.
    fn matched(&self, tried: &[&Candidate], count: usize) -> Result<Vec<Vector>, SteerError> {
        let mut layers: Vec<usize> = tried.iter().map(|c| c.layer).collect();
        let mut wheres: Vec<_> = tried.iter().map(|c| c.where_).collect();
        layers.sort_unstable();
        layers.dedup();
        wheres.sort_unstable();
        wheres.dedup();
        let quiet = self.tally.quiet();
        let read = residuals(self.model, self.prompts.harmless, &layers, &wheres, &quiet)?;
        let mut drawn = Vec::with_capacity(count);
        for (i, candidate) in tried.iter().enumerate() {
            let share = (i + 1) * count / tried.len() - i * count / tried.len();
            if let (Some(x), 1..) = (read.find(candidate.layer, candidate.where_), share) {
                let seed = self.policy.seed.wrapping_add(i as u64);
                drawn.extend(covariance_matched_directions(x, share, seed)?);
            }
        }
        Ok(drawn)
    }

    /// What is known of a candidate, or what trying it gives.
    fn measures(
        &self,
        candidate: &Candidate,
        ledger: &mut dyn Ledger,
    ) -> Result<Measures, SteerError> {
        let (harmful, harmless) = (self.prompts.harmful.len(), self.prompts.harmless.len());
        if let Some(known) = ledger.known(candidate) {
            let expected = [harmful, harmless, harmless];
            if [known.bypass.len(), known.induce.len(), known.kl.len()] != expected {
                return Err(SteerError::Places {
                    what: "kept measures",
                });
            }
            self.tally.skip(harmful + 2 * harmless);
            return Ok(known);
        }
        let config = self.model.config();
        let ablated = Hooks::new().edits(ablation(&candidate.unit(), config));
        let added = Hooks::new().edits(addition(&candidate.scaled(), candidate.layer, 1.0));
        let measures = Measures {
            layer: candidate.layer,
            where_: candidate.where_,
            method: candidate.method,
            bypass: self.scores(self.prompts.harmful, &ablated)?,
            kl: self.kl_under_ablation(&candidate.unit(), harmless)?,
            induce: self.scores(self.prompts.harmless, &added)?,
        };
        ledger.note(&measures)?;
        Ok(measures)
    }

    fn score(
        &self,
        candidate: &Candidate,
        measures: Measures,
        random_kl: &[f64],
    ) -> Result<Scored, SteerError> {
        let Measures {
            bypass, induce, kl, ..
        } = measures;
        let n_null = null_prompts(self.policy, self.prompts.harmless.len());
        let mut scored = Scored {
            candidate: candidate.clone(),
            drop: bootstrap_paired_difference(
                &bypass,
                &self.base_harmful,
                Resampling::Items,
                &self.policy.bootstrap,
            )?,
            bypass: self.mean(&bypass)?,
            induce: self.mean(&induce)?,
            kl_z: log_z(average(&kl[..n_null]), random_kl),
            kl: self.mean(&kl)?,
            admissible: Ok(()),
        };
        scored.admissible = admissible(&self.cell(&scored), self.policy);
        Ok(scored)
    }

    fn cell(&self, scored: &Scored) -> GridCell {
        GridCell {
            layer: scored.candidate.layer,
            n_layers: self.model.config().n_layers,
            bypass: scored.bypass.estimate,
            induce: scored.induce.estimate,
            kl: scored.kl.estimate,
            kl_z: scored.kl_z,
            drop_low: scored.drop.interval.map(|i| i.low),
        }
    }

    fn mean(&self, values: &[f64]) -> Result<Bootstrap, SteerError> {
        Ok(bootstrap_mean(
            values,
            Resampling::Items,
            &self.policy.bootstrap,
        )?)
    }

    fn filter(&self) -> FilterCounts {
        FilterCounts {
            harmful: self.base_harmful.len(),
            harmful_kept: self.base_harmful.iter().filter(|&&s| s > 0.0).count(),
            harmless: self.base_harmless.len(),
            harmless_kept: self.base_harmless.iter().filter(|&&s| s < 0.0).count(),
        }
    }
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// (ln value − mean of ln nulls) / their standard deviation; `None` if the nulls do not vary.
fn log_z(value: f64, nulls: &[f64]) -> Option<f64> {
    // An edit that changes nothing measurable has KL 0; the floor keeps its log finite.
    let log = |kl: f64| kl.max(1e-12).ln();
    let logs: Vec<f64> = nulls.iter().map(|&kl| log(kl)).collect();
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let variance = logs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let z = (log(value) - mean) / variance.sqrt();
    z.is_finite().then_some(z)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::steer::{Method, Where};
    use candlescope_probes::Direction;
    use ndarray::array;

    fn candidate(layer: usize, separation: f64) -> Candidate {
        Candidate {
            layer,
            where_: Where::FromEnd(1),
            method: Method::Means,
            direction: Direction::from_vector(array![1.0, 0.0].view()).unwrap(),
            separation,
        }
    }

    #[test]
    fn screening_keeps_the_best_of_each_band_of_early_enough_layers() {
        let separations = [0.6, 0.9, 0.7, 0.8, 0.95, 0.5, 0.99, 0.98, 1.0, 1.0];
        let all: Vec<Candidate> = (0..10).map(|l| candidate(l, separations[l])).collect();
        let policy = SelectionPolicy {
            screen: Some(4),
            ..SelectionPolicy::default_()
        };
        let layers = |policy: &SelectionPolicy| -> Vec<usize> {
            screen(&all, policy, 10).iter().map(|c| c.layer).collect()
        };
        // Layers 0 to 7 may be chosen; bands of two.
        assert_eq!(layers(&policy), [1, 3, 4, 6]);
        assert_eq!(layers(&SelectionPolicy::arditi()).len(), 10);
        // All too late: one is tried all the same, so that there is something to report.
        assert_eq!(screen(&all[8..], &policy, 10).len(), 1);
    }

    #[test]
    fn z_of_a_log() {
        // ln 1, ln e², ln e⁴: mean 2, sd 2; ln e³ is half a standard deviation above.
        let nulls = [1.0, 2f64.exp(), 4f64.exp()];
        assert!((log_z(3f64.exp(), &nulls).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(log_z(1.0, &[0.1, 0.1, 0.1]), None);
        assert_eq!(log_z(1.0, &[]), None);
    }
}
