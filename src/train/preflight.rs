//! What a run will be, before its first step: what trains, on how much, for how long, in how much memory.
//!
//! Always: the numbers of the data are counted, not estimated; memory is an estimate and says how it was made.

use serde::Serialize;

use super::{Config, Facts, Parts, Reference, prepare::steps_per_epoch};
use crate::config::ModelConfig;

/// Bytes by what they are for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All weights in f32.
    pub weights: u64,
    /// One f32 for each trained parameter.
    pub gradients: u64,
    /// Two f32 for each trained parameter.
    pub moments: u64,
    /// What the passes of one micro-batch of the longest rows keep for their backward: per token and layer four streams of
    /// d_model, queries, keys and values, four rows of d_mlp; and the logits of one tile.
    pub activations: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.moments + self.activations
    }
}

/// A run about to begin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preflight {
    /// The method.
    pub method: String,
    /// The model.
    pub model: String,
    /// All parameters.
    pub parameters: u64,
    /// Those that train.
    pub trained: u64,
    /// The data, counted.
    pub data: Facts,
    /// Steps of one time through the data.
    pub steps_per_epoch: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// Rows of a step.
    pub rows_per_step: usize,
    /// Bytes.
    pub memory: Memory,
    /// What should be known before it begins.
    pub warnings: Vec<String>,
}

/// Logits of one tile of the head.
const TILE: usize = 256;

impl Preflight {
    /// Of a run in memory.
    pub fn of(parts: &Parts) -> Self {
        let config = &parts.config;
        let data = parts.method.facts().clone();
        let params = parts.bench.policy.params();
        let trained: usize = params.iter().map(|p| p.var.elem_count()).sum();
        let model = parts.bench.policy.decoder().config();
        let frozen = if config.lora.is_some() {
            parameters(model)
        } else {
            0
        };
        let parameters = (trained + frozen) as u64;
        let float = |n: usize| 4 * n as u64;
        let tokens = config.optim.batch_size * data.longest;
        let memory = Memory {
            weights: 4 * parameters,
            gradients: float(trained),
            moments: float(2 * trained),
            activations: float(activations(model, tokens, config.optim.checkpointing)),
        };
        Self {
            method: parts.method.name().to_owned(),
            model: parts.manifest.model.clone(),
            parameters,
            trained: trained as u64,
            steps_per_epoch: steps_per_epoch(config, &data),
            steps: parts.bench.total(),
            warmup_steps: parts.bench.warmup(),
            rows_per_step: config.rows_per_step(),
            memory,
            warnings: warnings(config, &data),
            data,
        }
    }
}

fn warnings(config: &Config, data: &Facts) -> Vec<String> {
    let mut said = Vec::new();
    if config.model.adapter.is_some() && config.method.reference() == Some(&Reference::Base) {
        said.push(format!(
            "{} is the model without model.adapter: the policy begins away from it, at a divergence that is not 0",
            config.method.key("reference")
        ));
    }
    if data.end_trained < 0.5 {
        said.push(format!(
            "only {:.0}% of the rows train the token that ends an answer: the model may not learn to stop",
            100.0 * data.end_trained
        ));
    }
    if data.truncated > 0 {
        let (cut, all) = (data.truncated, data.examples);
        said.push(format!("{cut} of {all} rows are cut to data.max_length"));
    }
    for (reason, rows) in &data.dropped {
        said.push(format!("{rows} rows are left out: {reason}"));
    }
    said
}

/// Weights of a decoder of this config; biases and norms apart, which are few.
fn parameters(c: &ModelConfig) -> usize {
    let attention = c.d_model * c.d_head * (2 * c.n_heads + 2 * c.n_kv_heads);
    let mlp = c.d_model * c.d_mlp * if c.gated_mlp { 3 } else { 2 };
    let tables = c.vocab_size * c.d_model * if c.tied { 1 } else { 2 };
    c.n_layers * (attention + mlp) + tables
}

/// Floats that are kept for the backward of `tokens` tokens; with checkpointing the inputs of all blocks and one block whole.
fn activations(c: &ModelConfig, tokens: usize, checkpointing: bool) -> usize {
    let heads = c.d_head * (2 * c.n_heads + 2 * c.n_kv_heads);
    let layer = 4 * c.d_model + heads + 4 * c.d_mlp;
    let layers = if checkpointing {
        layer + c.n_layers * c.d_model
    } else {
        c.n_layers * layer
    };
    tokens * (layers + 2 * c.d_model) + TILE.min(tokens) * c.vocab_size
}
