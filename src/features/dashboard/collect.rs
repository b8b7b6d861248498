//! One pass of some texts through a model and a dictionary, and what is kept of it.
//!
//! Always: tokens that the policy leaves out are not encoded and fire nothing, as in training. Memory is that of one batch,
//! and for each latent followed that of its examples.

use std::ops::ControlFlow;

use candlescope_sae::measure::Density;
use ndarray::Array2;
use rayon::prelude::*;

use super::cofiring::{Cofiring, CofiringOver, Together};
use super::firings::{Around, Firing, Group, Sample, Top};
use super::growing::{Bins, Growing};
use super::label::{Companions, Label};
use super::traits::{Keys, Traits};
use crate::activations::{Facts, Harvest, Policy, Reason, Tally};
use crate::features::{FeatureError, Splice};
use crate::model::{Checkpoint, ModelError};
use crate::text::Tokenizer;

/// Sampled firings of all latents together: they are held in memory.
const MOST_SAMPLED: usize = 200_000;

/// What is kept of each latent.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// Which tokens are left out.
    pub policy: Policy,
    /// Contexts of one pass.
    pub batch: usize,
    /// Top examples, one a context.
    pub top: usize,
    /// Quantile groups.
    pub groups: usize,
    /// Examples shown of each.
    pub per_group: usize,
    /// Firings sampled, from which the groups are made; fewer where very many latents are followed.
    pub sample: usize,
    /// Tokens shown before and after a firing.
    pub window: [usize; 2],
    /// Whether to count who fires with whom.
    pub cofiring: bool,
    /// Of the sample.
    pub seed: u64,
}

impl CollectOptions {
    /// What a page shows.
    pub fn page(policy: Policy) -> Self {
        Self {
            policy,
            batch: 4,
            top: 20,
            groups: 10,
            per_group: 3,
            sample: 300,
            window: [20, 10],
            cofiring: true,
            seed: 0,
        }
    }

    /// What a table of all latents shows: one example of each.
    pub fn table(policy: Policy) -> Self {
        Self {
            top: 1,
            sample: 0,
            window: [0, 0],
            cofiring: false,
            ..Self::page(policy)
        }
    }
}

/// What was kept of a latent.
#[derive(Debug)]
pub struct Followed {
    latent: usize,
    top: Top,
    sample: Sample,
    values: Growing,
    companions: Companions,
}

impl Followed {
    fn new(latent: usize, options: &CollectOptions, sample: usize) -> Self {
        Self {
            latent,
            top: Top::new(options.top),
            sample: Sample::new(sample, options.seed, latent),
            values: Growing::new(),
            companions: Companions::default(),
        }
    }

    /// Which latent.
    pub fn latent(&self) -> usize {
        self.latent
    }

    /// The strongest firings, one a context, the strongest first.
    pub fn top(&self) -> &[Firing] {
        &self.top.kept
    }

    /// Firings that were sampled.
    pub fn sampled(&self) -> usize {
        self.sample.len()
    }

    /// Counts of all values above 0.
    pub fn values(&self) -> Bins {
        self.values.bins()
    }

    /// Takes in the firings of a batch as `(row, value)`, rising.
    fn take(&mut self, firings: &[(usize, f32)], batch: &Rows) {
        let mut rest = firings;
        while let Some(&(row, _)) = rest.first() {
            let slot = batch.places[row].0;
            let end = rest.partition_point(|(row, _)| batch.places[*row].0 == slot);
            let (own, others) = rest.split_at(end);
            rest = others;
            let above = own.iter().filter(|(_, value)| *value > 0.0);
            let in_context: Vec<(usize, f32)> = above
                .map(|&(row, value)| {
                    self.values.add(value);
                    self.companions.add(&batch.keys[row]);
                    (batch.places[row].1, value)
                })
                .collect();
            let around = Around {
                context: batch.first + slot as u64,
                ids: &batch.contexts[slot],
                firings: &in_context,
                window: batch.window,
            };
            self.top.add(&around);
            self.sample.add(&around);
        }
    }
}

/// The kept tokens of a batch.
struct Rows<'a> {
    contexts: &'a [Vec<u32>],
    /// The number of the first context.
    first: u64,
    /// Context of the batch and position, row by row.
    places: Vec<(usize, usize)>,
    keys: Vec<Keys>,
    window: [usize; 2],
}

/// What was kept of a pass.
#[derive(Debug)]
pub struct Collected {
    /// What each latent of the dictionary did.
    pub density: Density,
    /// What was left out.
    pub tally: Tally,
    /// Contexts.
    pub contexts: usize,
    /// Latents that were followed, in the order asked for.
    pub followed: Vec<Followed>,
    latents: Vec<usize>,
    traits: Traits,
    together: Together,
    groups: [usize; 2],
}

impl Collected {
    /// The label of a followed latent.
    pub fn label(&self, slot: usize, tokenizer: &Tokenizer) -> Option<Label> {
        let of = &self.followed[slot];
        let counts = [self.density.fired()[of.latent], self.density.rows()];
        of.companions.label(counts, &self.traits, tokenizer)
    }

    /// Its firings in groups of equally many by value, the strongest first.
    pub fn groups(&self, slot: usize) -> Vec<Group> {
        let [groups, shown] = self.groups;
        self.followed[slot].sample.groups(groups, shown)
    }

    /// The `most` latents that fire with it.
    pub fn cofiring(&self, slot: usize, most: usize) -> Vec<Cofiring> {
        self.together.of(slot, &self.latents, &self.density, most)
    }

    /// With whom it was compared.
    pub fn cofiring_over(&self) -> CofiringOver {
        self.together.over()
    }
}

/// Runs contexts through a model and a dictionary and follows some latents; without any, only densities are counted.
/// `progress` is told of tokens that are done.
///
/// # Errors
/// A latent that the dictionary lacks, or one twice; contexts of which nothing is kept; the model;
/// [`ModelError::Cancelled`] where `progress` breaks.
pub fn collect(
    model: &Checkpoint,
    splice: &Splice,
    contexts: &[Vec<u32>],
    latents: &[usize],
    options: &CollectOptions,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Collected, FeatureError> {
    let dictionary = splice.dictionary();
    let slots = slots(splice, latents)?;
    let slot = |latent: u32| slots[latent as usize];
    let harvest = Harvest::new(&model.decoder, &[splice.read()])?;
    let medians = medians(&harvest, contexts, options)?;
    let sample = options.sample.min(MOST_SAMPLED / latents.len().max(1));
    let follow = |&latent: &usize| Followed::new(latent, options, sample);
    let mut all = Collected {
        density: Density::new(dictionary.d_sae()),
        tally: Tally::default(),
        contexts: contexts.len(),
        followed: latents.iter().map(follow).collect(),
        latents: latents.to_vec(),
        traits: Traits::default(),
        together: Together::new(latents.len(), dictionary.d_sae(), options.cofiring),
        groups: [options.groups, options.per_group],
    };
    let mut of_slot: Vec<Vec<(usize, f32)>> = vec![Vec::new(); latents.len()];
    let mut first = 0;
    for batch in contexts.chunks(options.batch.max(1)) {
        let mut rows = Rows {
            contexts: batch,
            first,
            places: Vec::new(),
            keys: Vec::new(),
            window: options.window,
        };
        let values = kept(&harvest, &mut rows, options, &medians, &mut all.tally)?;
        let codes = dictionary.encode(values.view())?;
        all.density.add(&codes)?;
        if !latents.is_empty() {
            for &(context, position) in &rows.places {
                let keys = all.traits.keys(&batch[context], position, &model.tokenizer);
                all.traits.count(&keys);
                rows.keys.push(keys);
            }
            all.together.add(&codes, slot);
            for row in 0..codes.rows() {
                let (fired, values) = codes.row(row);
                for (slot, value) in fired.iter().map(|&l| slot(l)).zip(values) {
                    if let Some(slot) = slot {
                        of_slot[slot].push((row, *value));
                    }
                }
            }
            let pairs = all.followed.par_iter_mut().zip(&mut of_slot);
            pairs.for_each(|(followed, firings)| {
                followed.take(firings, &rows);
                firings.clear();
            });
        }
        first += batch.len() as u64;
        let tokens = batch.iter().map(|ids| ids.len() as u64).sum();
        if progress(tokens).is_break() {
            return Err(ModelError::Cancelled.into());
        }
    }
    if all.density.rows() == 0 {
        let what = format!(
            "of {} contexts no token is kept; give more text or another --drop",
            contexts.len()
        );
        return Err(FeatureError::Nothing { what });
    }
    Ok(all)
}

/// The place of each latent of the dictionary among those followed.
fn slots(splice: &Splice, latents: &[usize]) -> Result<Vec<Option<usize>>, FeatureError> {
    let dictionary = splice.dictionary();
    let mut slots = vec![None; dictionary.d_sae()];
    for (at, &latent) in latents.iter().enumerate() {
        let slot = slots
            .get_mut(latent)
            .ok_or_else(|| dictionary.no_latent(latent))?;
        if slot.replace(at).is_some() {
            let what = format!("latent {latent} is asked for twice");
            return Err(FeatureError::Nothing { what });
        }
    }
    Ok(slots)
}

fn medians(
    harvest: &Harvest,
    contexts: &[Vec<u32>],
    options: &CollectOptions,
) -> Result<Vec<f64>, FeatureError> {
    if options.policy.norm.is_none() {
        return Ok(Vec::new());
    }
    let sample = contexts[..contexts.len().min(options.policy.sample)].to_vec();
    let (facts, _) = Facts::measure(harvest, &sample, &options.policy, options.batch.max(1))?;
    Ok(facts.points.iter().map(|point| point.median_norm).collect())
}

/// The values of the kept tokens of a batch, whose places are noted.
fn kept(
    harvest: &Harvest,
    rows: &mut Rows,
    options: &CollectOptions,
    medians: &[f64],
    tally: &mut Tally,
) -> Result<Array2<f32>, FeatureError> {
    let width = harvest.widths()[0];
    let mut flat = Vec::new();
    for (context, tokens) in harvest
        .pass(rows.contexts, rows.first)?
        .into_iter()
        .enumerate()
    {
        let reasons = options.policy.judge(&tokens.ids, &tokens.norms(), medians);
        tally.count(&reasons);
        let values = tokens.values[0].chunks(width);
        for (position, (row, reason)) in values.zip(reasons).enumerate() {
            if reason == Reason::Kept {
                flat.extend_from_slice(row);
                rows.places.push((context, position));
            }
        }
    }
    Array2::from_shape_vec((rows.places.len(), width), flat)
        .map_err(|e| FeatureError::Candle(candle_core::Error::wrap(e)))
}
