//! Two traces against each other: where their tokens part, and what the lanes did until then and after.
//!
//! Always: token by token only as far as both read the same tokens; after that positions are not about the same text, and
//! only means are told.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Lane, Trace};

/// Latents that are listed.
const LATENTS: usize = 10;

/// The second trace against the first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Tokens that both begin with.
    pub shared: usize,
    /// First position with different tokens; none while one is the beginning of the other.
    pub diverges: Option<usize>,
    /// First position where latents are edited in another way.
    pub turned: Option<usize>,
    /// The lanes, in the order they were named.
    pub lanes: Vec<LaneDifference>,
    /// The latents that changed most on shared tokens, the most first.
    pub latents: Vec<LatentDifference>,
    /// KL(first ‖ second), nats, of the distributions after each shared token; empty until it is measured.
    pub kl: Vec<f64>,
}

/// A lane.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LaneDifference {
    /// Which.
    pub lane: Lane,
    /// Its name.
    pub name: String,
    /// Second less first at each shared token; none where one of them says nothing.
    pub difference: Vec<Option<f64>>,
    /// The largest of them in size, and its position.
    pub largest: Option<(usize, f64)>,
    /// Mean in each trace over the tokens that are not shared.
    pub after: [Option<f64>; 2],
}

/// A latent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatentDifference {
    /// Which.
    pub latent: usize,
    /// Second less first where it is largest in size.
    pub difference: f64,
    /// That position.
    pub at: usize,
}

/// Compares `b` with `a`.
pub fn compare(a: &Trace, b: &Trace, lanes: &[Lane]) -> Comparison {
    let pairs = a.steps.iter().zip(&b.steps);
    let shared = pairs.take_while(|(a, b)| a.id == b.id).count();
    let both = a.steps.len().min(b.steps.len());
    let lane = |&lane: &Lane| {
        let at = |t: usize| Some(b.steps[t].value(lane)? - a.steps[t].value(lane)?);
        let difference: Vec<Option<f64>> = (0..shared).map(at).collect();
        let largest = difference.iter().enumerate();
        let largest = largest.filter_map(|(t, d)| Some((t, (*d)?)));
        LaneDifference {
            lane,
            name: b.name(lane),
            largest: largest.fold(None, |most: Option<(usize, f64)>, new| match most {
                Some(most) if most.1.abs() >= new.1.abs() => Some(most),
                _ => Some(new),
            }),
            difference,
            after: [a, b].map(|trace| mean(trace, shared, lane)),
        }
    };
    Comparison {
        shared,
        diverges: (shared < both).then_some(shared),
        turned: a.turns.differ(&b.turns),
        lanes: lanes.iter().map(lane).collect(),
        latents: latents(a, b, shared),
        kl: Vec::new(),
    }
}

fn mean(trace: &Trace, from: usize, lane: Lane) -> Option<f64> {
    let rest = trace.steps.get(from..)?.iter();
    let values: Vec<f64> = rest.filter_map(|step| step.value(lane)).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn latents(a: &Trace, b: &Trace, shared: usize) -> Vec<LatentDifference> {
    let steps = a.steps.iter().zip(&b.steps).take(shared).enumerate();
    let mut most: BTreeMap<usize, LatentDifference> = BTreeMap::new();
    for (at, (a, b)) in steps {
        let fired = a.codes.iter().chain(&b.codes).map(|code| code.0 as usize);
        for latent in fired.collect::<BTreeSet<usize>>() {
            let difference = f64::from(b.code(latent)) - f64::from(a.code(latent));
            let new = LatentDifference {
                latent,
                difference,
                at,
            };
            let old = most.entry(latent).or_insert(new);
            if difference.abs() > old.difference.abs() {
                *old = new;
            }
        }
    }
    let mut all: Vec<LatentDifference> = most.into_values().collect();
    all.retain(|change| change.difference != 0.0);
    all.sort_by(|a, b| b.difference.abs().total_cmp(&a.difference.abs()));
    all.truncate(LATENTS);
    all
}
