//! What the refusal direction does to test prompts when it is added or ablated, beside random directions.
//!
//! Always: random directions have the norm of the direction they stand beside, are drawn from the covariance of harmless
//! train activations at its place (the stricter null: a direction read off activations lies where activations vary), and
//! are compared on the same prompts. Beside that: several doses of the direction, and another checkpoint's direction.

use std::sync::Arc;

use super::gather::{Gather, place};
use super::{AtSite, Chosen, Doses, FirstTokens, Interventions, Part, Stale};
use crate::audit::work::Stage;
use crate::hooks::{Hooks, Vector};
use crate::steer::{self, EncodedPrompt, RefusalTokens, Scored, ablation, addition};

/// Prompts of each class that random directions are tried on.
pub const CONTROLS: usize = 16;

/// Random directions that are also added and ablated for the refusal score; the KL takes all of the policy's.
pub const SCORED: usize = 12;

/// Tries the chosen direction and random ones.
pub fn run(
    gather: &Gather,
    chosen: &Chosen,
    scored: &Scored,
    tokens: &RefusalTokens,
    first: &FirstTokens,
) -> Part<Interventions> {
    let (harmful, harmless) = (&gather.encoded.harmful[2], &gather.encoded.harmless[2]);
    let controls = CONTROLS.min(harmful.len()).min(harmless.len());
    let random = gather.policy.sizes.random_directions;
    let some = SCORED.min(random);
    let total = harmful.len() + 2 * harmless.len() + (random + 2 * some) * controls;
    gather.work.stage("interventions", total, |work| {
        let trial = Trial {
            gather,
            tokens,
            first,
            work,
        };
        let layer = chosen.site.layer;
        let config = gather.cp.config();
        let ablate = |vector: &Vector| Hooks::new().edits(ablation(vector, config));
        let add = |vector: &Vector| Hooks::new().edits(addition(vector, layer, 1.0));
        let own = scored.candidate.unit();
        let mut out = Interventions {
            controls,
            relative_dose: relative_dose(chosen),
            induced: trial.scores(harmless, &add(&scored.candidate.scaled()))?,
            bypassed: trial.scores(harmful, &ablate(&own))?,
            kl: trial.kl(harmless, &ablate(&own))?.0,
            ..Interventions::default()
        };
        for (i, vector) in random_directions(gather, chosen, random)?
            .iter()
            .enumerate()
        {
            let hooks = ablate(vector);
            out.kl_random
                .push(trial.kl(&harmless[..controls], &hooks)?.0);
            if i < some {
                out.bypassed_random
                    .push(trial.scores(&harmful[..controls], &hooks)?);
                let length = chosen.direction.norm as f32;
                let scaled: Vector = Arc::new(vector.iter().map(|x| x * length).collect());
                out.induced_random
                    .push(trial.scores(&harmless[..controls], &add(&scaled))?);
            }
        }
        Ok(out)
    })
}

/// Doses of the direction beside 0 and 1, which are measured anyway.
pub const DOSES: [f64; 2] = [0.5, 1.5];

/// Adds the direction to harmless test prompts at doses around its own length.
pub fn doses(
    gather: &Gather,
    scored: &Scored,
    tokens: &RefusalTokens,
    first: &FirstTokens,
    done: &Interventions,
) -> Part<Doses> {
    let harmless = &gather.encoded.harmless[2];
    let total = DOSES.len() * harmless.len();
    gather.work.stage("steering doses", total, |work| {
        let mut all = vec![
            (0.0, first.scores.harmless.clone()),
            (1.0, done.induced.clone()),
        ];
        let candidate = &scored.candidate;
        for dose in DOSES {
            let edits = addition(&candidate.scaled(), candidate.layer, dose);
            let scores = scores(gather, work, harmless, &Hooks::new().edits(edits), tokens)?;
            all.push((dose, scores));
        }
        all.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let (doses, scores) = all.into_iter().unzip();
        Ok(Doses { doses, scores })
    })
}

/// Adds and ablates another checkpoint's direction, at its place and length there.
pub fn stale(gather: &Gather, reference: &Chosen, tokens: &RefusalTokens) -> Part<Stale> {
    let (harmful, harmless) = (&gather.encoded.harmful[2], &gather.encoded.harmless[2]);
    let total = harmful.len() + harmless.len();
    gather.work.stage("stale direction", total, |work| {
        let unit: Vector = Arc::new(reference.direction.vector.clone());
        let scaled: Vector = Arc::new(reference.direction.scaled());
        let add = Hooks::new().edits(addition(&scaled, reference.site.layer, 1.0));
        let ablate = Hooks::new().edits(ablation(&unit, gather.cp.config()));
        Ok(Stale {
            induced: scores(gather, work, harmless, &add, tokens)?,
            bypassed: scores(gather, work, harmful, &ablate, tokens)?,
        })
    })
}

fn scores(
    gather: &Gather,
    work: &Stage,
    prompts: &[EncodedPrompt],
    hooks: &Hooks,
    tokens: &RefusalTokens,
) -> Part<Vec<f64>> {
    work.run(prompts.len(), |options| {
        steer::refusal_scores(gather.cp, prompts, hooks, tokens, options)
    })
}

struct Trial<'a> {
    gather: &'a Gather<'a>,
    tokens: &'a RefusalTokens,
    first: &'a FirstTokens,
    work: &'a Stage<'a>,
}

impl Trial<'_> {
    fn scores(&self, prompts: &[EncodedPrompt], hooks: &Hooks) -> Part<Vec<f64>> {
        scores(self.gather, self.work, prompts, hooks, self.tokens)
    }

    /// KL(unedited ‖ edited) of each of the first harmless test prompts, and their scores.
    fn kl(&self, prompts: &[EncodedPrompt], hooks: &Hooks) -> Part<(Vec<f64>, Vec<f64>)> {
        let mut kl = vec![0.0; prompts.len()];
        let mut scores = vec![0.0; prompts.len()];
        let base = &self.first.harmless_log_probs;
        self.work.run(prompts.len(), |options| {
            steer::last_logits(self.gather.cp, prompts, hooks, options, &mut |i, logits| {
                kl[i] = base
                    .row(i)
                    .as_slice()
                    .map_or(f64::NAN, |unedited| steer::kl(unedited, logits));
                scores[i] = steer::log_odds(logits, self.tokens);
            })
        })?;
        Ok((kl, scores))
    }
}

fn random_directions(gather: &Gather, chosen: &Chosen, count: usize) -> Part<Vec<Vector>> {
    let place = place(chosen.site);
    let train = &gather.encoded.harmless[0];
    let read = gather.work.quiet(|options| {
        steer::residuals(gather.cp, train, &[chosen.site.layer], &[place], options)
    })?;
    let seed = gather.seed.wrapping_add(1);
    steer::covariance_matched_directions(read.at(0, 0), count, seed)
        .map_err(|error| error.to_string())
}

/// Norm of the vector that is added over the mean norm of what it is added to, on harmless test prompts.
fn relative_dose(chosen: &Chosen) -> f64 {
    let Some(AtSite { harmless, .. }) = chosen.test.first() else {
        return f64::NAN;
    };
    let norms: f64 = harmless
        .rows()
        .into_iter()
        .map(|row| {
            row.iter()
                .map(|&x| f64::from(x).powi(2))
                .sum::<f64>()
                .sqrt()
        })
        .sum();
    chosen.direction.norm / (norms / harmless.nrows() as f64)
}
