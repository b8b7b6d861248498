//! What was recorded: a step for each token, prompt included.
//!
//! Always: plain data. Step `t` tells of token `t`: how likely it was before it came, and what the model made of it when it
//! read it. What a lane shows is looked up in the steps, so that any latent can be looked at afterwards.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use super::{ChannelInfo, Turns};
use crate::model::sample::SampleOptions;

/// A token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Its id.
    pub id: u32,
    /// Its log-probability, nats, by the model's own distribution before temperature and top-p. Nothing comes before the
    /// first token.
    pub log_prob: Option<f32>,
    /// Entropy of that distribution, nats.
    pub entropy: Option<f32>,
    /// The latents that were not 0 when it was read, rising, as they went on: after edits.
    pub codes: Vec<(u32, f32)>,
    /// Of the latents that are edited here, what they were without the edits at this token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unedited: Vec<(u32, f32)>,
    /// What the channels said, in their order.
    pub values: Vec<f64>,
}

/// Why a trace is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The model ended it.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trace {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// How tokens were drawn.
    pub sample: SampleOptions,
    /// The edits.
    pub turns: Turns,
    /// The probes and directions.
    pub channels: Vec<ChannelInfo>,
    /// The position from which on it goes another way than the trace it was branched from.
    pub branched: Option<usize>,
    /// The tokens.
    pub steps: Vec<Step>,
    /// Set when it is over.
    pub end: Option<End>,
}

/// One number for each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// −log p of the token.
    Surprise,
    /// Entropy of the distribution that it came from.
    Entropy,
    /// A latent's code.
    Latent(usize),
    /// A channel, by its place among them.
    Channel(usize),
}

impl Step {
    /// A latent's code; 0 where it did not fire.
    pub fn code(&self, latent: usize) -> f32 {
        value(&self.codes, latent).unwrap_or(0.0)
    }

    /// What a latent was before the edits at this token.
    pub fn unedited(&self, latent: usize) -> f32 {
        value(&self.unedited, latent).unwrap_or_else(|| self.code(latent))
    }

    /// What a lane shows of it.
    pub fn value(&self, lane: Lane) -> Option<f64> {
        match lane {
            Lane::Surprise => self.log_prob.map(|p| f64::from(-p)),
            Lane::Entropy => self.entropy.map(f64::from),
            Lane::Latent(latent) => Some(f64::from(self.code(latent))),
            Lane::Channel(at) => self.values.get(at).copied(),
        }
    }

    /// Its strongest latents, the strongest first; of equals the lower.
    pub fn strongest(&self, most: usize) -> Vec<(usize, f32)> {
        let mut codes: Vec<(usize, f32)> =
            self.codes.iter().map(|&(l, v)| (l as usize, v)).collect();
        codes.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        codes.truncate(most);
        codes
    }
}

fn value(entries: &[(u32, f32)], latent: usize) -> Option<f32> {
    let latent = u32::try_from(latent).ok()?;
    let at = entries
        .binary_search_by_key(&latent, |entry| entry.0)
        .ok()?;
    Some(entries[at].1)
}

impl Trace {
    /// Token ids.
    pub fn ids(&self) -> Vec<u32> {
        self.steps.iter().map(|step| step.id).collect()
    }

    /// The ids after the prompt.
    pub fn answer(&self) -> Vec<u32> {
        self.steps.iter().skip(self.prompt).map(|s| s.id).collect()
    }

    /// A lane over all tokens.
    pub fn lane(&self, lane: Lane) -> Vec<Option<f64>> {
        self.steps.iter().map(|step| step.value(lane)).collect()
    }

    /// The latents that are strongest in sum over these tokens, the strongest first; of equals the lower.
    pub fn strongest(&self, tokens: Range<usize>, most: usize) -> Vec<usize> {
        let mut sums: BTreeMap<usize, f64> = BTreeMap::new();
        let steps = self.steps.iter().take(tokens.end).skip(tokens.start);
        for &(latent, value) in steps.flat_map(|step| &step.codes) {
            *sums.entry(latent as usize).or_default() += f64::from(value);
        }
        let mut all: Vec<(usize, f64)> = sums.into_iter().collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.into_iter().take(most).map(|one| one.0).collect()
    }

    /// A latent's largest code over all tokens but the first, which is an attention sink in most models and says little of a
    /// latent's scale; before any edits.
    pub fn peak(&self, latent: usize) -> f32 {
        let later = self.steps.iter().skip(1).map(|s| s.unedited(latent));
        later.fold(0.0, f32::max)
    }

    /// What a lane is called.
    pub fn name(&self, lane: Lane) -> String {
        match lane {
            Lane::Surprise => "-log p".into(),
            Lane::Entropy => "entropy".into(),
            Lane::Latent(latent) => format!("latent {latent}"),
            Lane::Channel(at) => (self.channels.get(at))
                .map_or_else(|| format!("channel {at}"), |channel| channel.name.clone()),
        }
    }
}
