//! What the refusal direction does to test prompts when it is added or ablated, beside random directions: to refusal, and to
//! answers that have nothing to do with it.
//!
//! Always: random directions have the norm of the direction they stand beside, are drawn from the covariance of harmless
//! train activations at its place (the stricter null: a direction read off activations lies where activations vary), and
//! are compared on the same prompts. Beside that: several doses of the direction, and another checkpoint's direction.

use std::sync::Arc;

use super::direction::place;
use super::gather::Gather;
use super::{AtSite, Chosen, Doses, FirstTokens, Interventions, Part, SideEffects, Stale};
use crate::audit::work::Stage;
use crate::hooks::{Hooks, Vector};
use crate::steer::{self, EncodedPrompt, RefusalTokens, Scored, ablation, addition};

/// Prompts of each class that random directions are tried on.
pub const CONTROLS: usize = 16;

/// Random directions that are added and ablated for the refusal score; the KL takes all of the policy's.
pub const SCORED: usize = 12;

/// Tries the chosen direction and random ones.
pub fn run(
    gather: &Gather,
    chosen: &Chosen,
    scored: &Scored,
    tokens: &RefusalTokens,
    random: &[Vector],
) -> Part<Interventions> {
    let (harmful, harmless) = (&gather.encoded.harmful[2], &gather.encoded.harmless[2]);
    let controls = controls(gather);
    let random = &random[..SCORED.min(random.len())];
    let total = harmful.len() + harmless.len() + 2 * random.len() * controls;
    gather.work.stage("interventions", total, |work| {
        let scores =
            |prompts: &[EncodedPrompt], hooks: &Hooks| scores(gather, work, prompts, hooks, tokens);
        let layer = chosen.site.layer;
        let config = gather.cp.config();
        let ablate = |vector: &Vector| Hooks::new().edits(ablation(vector, config));
        let add = |vector: &Vector| Hooks::new().edits(addition(vector, layer, 1.0));
        let own = scored.candidate.unit();
        let mut out = Interventions {
            controls,
            relative_dose: relative_dose(chosen),
            induced: scores(harmless, &add(&scored.candidate.scaled()))?,
            bypassed: scores(harmful, &ablate(&own))?,
            ..Interventions::default()
        };
        for vector in random {
            out.bypassed_random
                .push(scores(&harmful[..controls], &ablate(vector))?);
            let length = chosen.direction.norm as f32;
            let scaled: Vector = Arc::new(vector.iter().map(|x| x * length).collect());
            out.induced_random
                .push(scores(&harmless[..controls], &add(&scaled))?);
        }
        Ok(out)
    })
}

/// Ablates the chosen direction and random ones on harmless prompts.
pub fn side_effects(
    gather: &Gather,
    scored: &Scored,
    first: &FirstTokens,
    random: &[Vector],
) -> Part<SideEffects> {
    let harmless = &gather.encoded.harmless[2];
    let controls = controls(gather);
    let total = harmless.len() + random.len() * controls;
    gather.work.stage("side effects", total, |work| {
        let kl = |prompts: &[EncodedPrompt], vector: &Vector| {
            let hooks = Hooks::new().edits(ablation(vector, gather.cp.config()));
            divergence(gather, work, prompts, &hooks, first)
        };
        let few = &harmless[..controls];
        let by_random = random.iter().map(|vector| kl(few, vector));
        Ok(SideEffects {
            kl: kl(harmless, &scored.candidate.unit())?,
            kl_random: by_random.collect::<Part<_>>()?,
            controls,
        })
    })
}

fn controls(gather: &Gather) -> usize {
    let (harmful, harmless) = (&gather.encoded.harmful[2], &gather.encoded.harmless[2]);
    CONTROLS.min(harmful.len()).min(harmless.len())
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

/// KL(unedited ‖ edited) of each of the first harmless test prompts.
fn divergence(
    gather: &Gather,
    work: &Stage,
    prompts: &[EncodedPrompt],
    hooks: &Hooks,
    first: &FirstTokens,
) -> Part<Vec<f64>> {
    let mut kl = vec![0.0; prompts.len()];
    let base = &first.harmless_log_probs;
    work.run(prompts.len(), |options| {
        steer::last_logits(gather.cp, prompts, hooks, options, &mut |i, logits| {
            kl[i] = base
                .row(i)
                .as_slice()
                .map_or(f64::NAN, |unedited| steer::kl(unedited, logits));
        })
    })?;
    Ok(kl)
}

/// Directions that the chosen one is held against, of length 1.
pub fn random_directions(gather: &Gather, chosen: &Chosen) -> Part<Vec<Vector>> {
    let place = place(chosen.site);
    let train = &gather.encoded.harmless[0];
    let read = gather.work.quiet(|options| {
        steer::residuals(gather.cp, train, &[chosen.site.layer], &[place], options)
    })?;
    let count = gather.policy.sizes.random_directions;
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
