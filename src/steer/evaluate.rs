//! What a steering does to prompts as its dose grows, beside random directions of the same length.
//!
//! Always: dose 0 is the unedited model, which every dose is compared with; the random directions take the place of the
//! steering's first vector in the same form at the same layers. Next: `dose.rs`, which sums it up.

use std::collections::BTreeMap;

use candle_core::DType;
use serde::Serialize;

use super::form::{dot, norm, times};
use super::pass::each_batch;
use super::{
    Aim, EncodedPrompt, Health, Options, PromptSet, RefusalTokens, Span, SteerError, Steering,
    health, kl, log_odds, random_directions,
};
use crate::hooks::{Edit, HookPoint, Hooks, Keep, Point, Vector};
use crate::model::{Decoder, LogitsAt};

/// A score of a prompt, cheap enough for every dose: one pass.
#[derive(Debug, Clone)]
pub enum Scorer {
    /// Log-odds of these tokens as the next: refusal openings, or any token.
    LogOdds(RefusalTokens),
    /// Component of the last position along a direction at the end of the last block.
    Projection(Vector),
}

/// What one dose does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dosed {
    /// The dose.
    pub dose: f64,
    /// Score of each prompt.
    pub scores: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// KL(unedited ‖ edited) of the next token, mean over prompts, nats.
    pub kl: f64,
}

/// Random directions in the steering's place at its largest dose.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Null {
    /// Mean change of the score of each random direction.
    pub effects: Vec<f64>,
    /// Mean KL of each, nats.
    pub kl: Vec<f64>,
    /// The steering's own change at that dose.
    pub effect: f64,
    /// How many standard deviations of the random effects it lies from their mean.
    pub z: f64,
    /// Share of random directions with as large a change in size, the steering counted among them.
    pub p: f64,
}

/// A whole sweep.
#[derive(Debug, Clone, Serialize)]
pub struct Sweep {
    /// One for each dose, rising; 0 is among them.
    pub doses: Vec<Dosed>,
    /// What the doses do to each prompt.
    pub health: Health,
    /// None if no random directions were asked for.
    pub null: Option<Null>,
}

/// Runs a steering at each of `doses` over the prompts, and `random` directions of its first vector's length at the largest.
///
/// # Errors
/// Fewer than two different doses, fewer than 8 random directions where there are any, anything a pass can fail with.
pub fn sweep(
    model: &impl AsRef<Decoder>,
    prompts: &[EncodedPrompt],
    (steering, vectors): (&Steering, &[Vector]),
    doses: &[f64],
    (scorer, aim, span): (&Scorer, Aim, Span),
    (random, seed): (usize, u64),
    options: &Options,
) -> Result<Sweep, SteerError> {
    let model = model.as_ref();
    let config = model.config();
    if (1..8).contains(&random) {
        return Err(SteerError::TooFew {
            what: "random directions",
            needed: 8,
            found: random,
        });
    }
    let mut doses: Vec<f64> = doses.iter().copied().chain([0.0]).collect();
    doses.sort_by(f64::total_cmp);
    doses.dedup_by(|a, b| a == b);
    let total = (doses.len() + random) * prompts.len();
    let mut run = Runs {
        model,
        prompts,
        scorer,
        span,
        options,
        total,
        done: 0,
        base: Vec::new(),
    };
    let edits = |dose: f64, vectors: &[Vector]| -> Result<Vec<Edit>, SteerError> {
        if dose == 0.0 {
            return Ok(Vec::new());
        }
        let dosed = Steering {
            dose,
            ..steering.clone()
        };
        dosed.edits_of(vectors, config)
    };
    let base = run.score(Vec::new())?;
    let mut told = Vec::with_capacity(doses.len());
    for &dose in &doses {
        let (scores, kl) = if dose == 0.0 {
            base.clone()
        } else {
            run.score(edits(dose, vectors)?)?
        };
        told.push(Dosed {
            dose,
            mean: average(&scores),
            scores,
            kl: average(&kl),
        });
    }
    let scores: Vec<Vec<f64>> = told.iter().map(|dosed| dosed.scores.clone()).collect();
    let health = health(&doses, &scores, aim)?;
    let largest = told
        .iter()
        .max_by(|a, b| a.dose.abs().total_cmp(&b.dose.abs()))
        .filter(|_| random > 0);
    let null = match (largest, vectors.first()) {
        (Some(largest), Some(first)) => {
            let (mut effects, mut divergences) = (Vec::new(), Vec::new());
            for direction in random_directions(random, config.d_model, seed)? {
                let mut drawn = vectors.to_vec();
                drawn[0] = times(&direction, norm(first) / norm(&direction));
                let (scores, kl) = run.score(edits(largest.dose, &drawn)?)?;
                effects.push(average(&scores) - average(&base.0));
                divergences.push(average(&kl));
            }
            Some(null(effects, divergences, largest.mean - average(&base.0)))
        }
        _ => None,
    };
    Ok(Sweep {
        doses: told,
        health,
        null,
    })
}

fn null(effects: Vec<f64>, kl: Vec<f64>, effect: f64) -> Null {
    let mean = average(&effects);
    let variance = effects.iter().map(|e| (e - mean).powi(2)).sum::<f64>()
        / effects.len().saturating_sub(1).max(1) as f64;
    let as_large = effects.iter().filter(|e| e.abs() >= effect.abs()).count();
    Null {
        z: (effect - mean) / variance.sqrt().max(f64::MIN_POSITIVE),
        p: (1 + as_large) as f64 / (1 + effects.len()) as f64,
        effects,
        kl,
        effect,
    }
}

/// Passes with progress over all of them.
struct Runs<'a> {
    model: &'a Decoder,
    prompts: &'a [EncodedPrompt],
    scorer: &'a Scorer,
    span: Span,
    options: &'a Options<'a>,
    total: usize,
    done: usize,
    /// Next-token logits without edits, from the first run.
    base: Vec<Vec<f32>>,
}

impl Runs<'_> {
    /// Score and KL of each prompt; the first run is the unedited one.
    fn score(&mut self, edits: Vec<Edit>) -> Result<(Vec<f64>, Vec<f64>), SteerError> {
        let first = self.base.is_empty();
        let n = self.prompts.len();
        let (mut scores, mut divergences) = (vec![0.0; n], vec![0.0; n]);
        let mut base = std::mem::take(&mut self.base);
        base.resize(n, Vec::new());
        let before = self.done;
        let step = |done: usize, _: usize| {
            if let Some(progress) = self.options.progress {
                progress(before + done, self.total);
            }
        };
        let options = Options {
            progress: Some(&step),
            ..*self.options
        };
        // Prompts with equally many tokens after the instruction run together.
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, prompt) in self.prompts.iter().enumerate() {
            let tail = if self.span == Span::After {
                prompt.tail.len()
            } else {
                0
            };
            groups.entry(tail).or_default().push(i);
        }
        for (tail, members) in groups {
            let own: Vec<EncodedPrompt> =
                members.iter().map(|&i| self.prompts[i].clone()).collect();
            let hooks = Hooks::new().edits(self.span.restrict(edits.clone(), tail));
            self.visit(&own, &hooks, &options, &mut |index, logits, along| {
                let i = members[index];
                scores[i] = match (self.scorer, along) {
                    (Scorer::LogOdds(tokens), _) => log_odds(logits, tokens),
                    (Scorer::Projection(_), along) => along,
                };
                if first {
                    base[i] = logits.to_vec();
                } else {
                    divergences[i] = kl(&base[i], logits);
                }
            })?;
        }
        self.base = base;
        self.done += n;
        Ok((scores, divergences))
    }

    /// `visit(index, logits [vocab], component along the scorer's direction)` for each prompt.
    fn visit(
        &self,
        prompts: &[EncodedPrompt],
        hooks: &Hooks,
        options: &Options,
        visit: &mut dyn FnMut(usize, &[f32], f64),
    ) -> Result<(), SteerError> {
        let model = self.model;
        let at = HookPoint::new(Point::ResidPost, model.config().n_layers - 1);
        let along = match self.scorer {
            Scorer::Projection(direction) => Some(times(direction, 1.0 / norm(direction))),
            Scorer::LogOdds(_) => None,
        };
        let set = PromptSet::under(prompts, model, hooks);
        each_batch(model, &set, hooks, options, &mut |prefix, indices, rows| {
            let (mut cache, batch) = prefix.split(rows, 0)?;
            let capturing = match &along {
                Some(_) => hooks.clone().capture_kept(at, Keep::Last(1)),
                None => hooks.clone(),
            };
            let out = model.forward_cached(&batch, &mut cache, &capturing, LogitsAt::Last)?;
            let last = out.captured.get(&at).cloned();
            let logits = out.logits()?.squeeze(1)?.to_dtype(DType::F32)?;
            for (row, &index) in indices.iter().enumerate() {
                let values = logits.get(row)?.to_vec1::<f32>()?;
                let component = match (&along, &last) {
                    (Some(direction), Some(last)) => {
                        let state = last
                            .get(row)?
                            .get(0)?
                            .to_dtype(DType::F32)?
                            .to_vec1::<f32>()?;
                        dot(&state, direction)
                    }
                    _ => 0.0,
                };
                if !component.is_finite() || values.iter().any(|x| x.is_nan()) {
                    return Err(SteerError::NotFinite {
                        id: prompts[index].id.clone(),
                        what: "next-token distribution",
                    });
                }
                visit(index, &values, component);
            }
            Ok(())
        })
    }
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
