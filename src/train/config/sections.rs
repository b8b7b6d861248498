//! The sections of `run.toml` with their defaults.
//!
//! Always: defaults are TRL's where TRL has the option (version 1.16); `resolve.rs` fills in what depends on other keys.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{fresh::FreshShape, lora::Targets};
use crate::text::dataset::{Sampler, Supervise, Truncation, Unusable};
use crate::train::{
    loss::{Kind, Kto as KtoLoss, Options, Sft as SftLoss},
    reference::Reference,
    schedule::Shape,
};

/// `[model]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// A folder, a .gguf file, a known name, ORG/NAME, or `toy`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Instead of a name: a model that does not exist yet, with the words it gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<New>,
    /// The folder of a LoRA adapter, ours or PEFT's, that goes on training; without a name its own config names the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Config keys that are unknown and vouched for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept_config_keys: Vec<String>,
}

/// `[model] new`: the shape of a fresh model, and its tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    /// `llama`, `mistral`, `qwen2`, `qwen3` or `olmo2`.
    #[serde(default = "New::family")]
    pub family: String,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Blocks.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; as many as query heads where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_kv_heads: Option<usize>,
    /// Neurons of an MLP; 8/3 of the width, in whole 64s, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d_mlp: Option<usize>,
    /// Longest context.
    pub n_ctx: usize,
    /// The unembedding is the embedding.
    #[serde(default = "New::tied")]
    pub tied: bool,
    /// Words of the tokenizer that is trained on `data.train`, or embedding rows if `tokenizer` names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab: Option<usize>,
    /// Control tokens of a trained tokenizer; the first begins and ends a document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub special_tokens: Vec<String>,
    /// A folder with a tokenizer, instead of one that is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
}

impl New {
    fn family() -> String {
        "llama".to_owned()
    }

    fn tied() -> bool {
        true
    }

    /// The shape for this tokenizer.
    pub fn shape(&self, vocab: usize, bos: Option<u32>, eos: Option<u32>) -> FreshShape {
        FreshShape {
            family: self.family.clone(),
            d_model: self.d_model,
            n_layers: self.n_layers,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads.unwrap_or(self.n_heads),
            d_mlp: self
                .d_mlp
                .unwrap_or_else(|| (8 * self.d_model / 3).next_multiple_of(64)),
            n_ctx: self.n_ctx,
            tied: self.tied,
            vocab,
            bos,
            eos,
        }
    }
}

/// `[data]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Files of rows: JSONL, JSON or Parquet, with TRL's columns; for lm with a text each, or plain .txt.
    pub train: Vec<PathBuf>,
    /// Files of rows that are evaluated on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eval: Vec<PathBuf>,
    /// Most tokens of a row: prompt and answer together.
    #[serde(default = "Data::max_length")]
    pub max_length: usize,
    /// Longer rows of sft: `keep_start`, `keep_end`, `drop`. Rows of two answers are always dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncation: Option<Truncation>,
    /// Targets of sft's loss: `auto`, `all`, `completion`, `assistant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervise: Option<Supervise>,
    /// Plain prompts and answers become turns of a chat.
    #[serde(default)]
    pub chat: bool,
    /// Rows that cannot be used: `refuse`, `drop`.
    #[serde(default)]
    pub unusable: Unusable,
    /// Columns that go by other names in the files, as `prompt=question,completion=answer`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub columns: String,
    /// False takes the rows in the order of the files, in every epoch; otherwise each epoch is shuffled by the seed.
    #[serde(default = "Data::shuffled", skip_serializing_if = "Data::is_shuffled")]
    pub shuffle: bool,
    /// The day that a chat template is told, as 2026-01-31; the day on which the run began.
    #[serde(default)]
    pub date: Option<String>,
}

impl Data {
    fn max_length() -> usize {
        1024
    }

    fn shuffled() -> bool {
        true
    }

    // serde gives a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_shuffled(shuffle: &bool) -> bool {
        *shuffle
    }

    /// At the beginning of the rows.
    pub fn sampler(&self, seed: u64) -> Sampler {
        if self.shuffle {
            Sampler::new(seed)
        } else {
            Sampler::in_order(seed)
        }
    }
}

/// `[optim]`: AdamW.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optim {
    /// Learning rate after the warm-up; the method's own default where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Decay of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled; on matrices alone.
    pub weight_decay: f64,
    /// Gradients of a larger global norm are scaled down to it; 0 leaves them.
    pub max_grad_norm: f64,
    /// Rows of one pass.
    pub batch_size: usize,
    /// Passes of one step.
    pub accumulation: usize,
    /// Keep of each block its input alone and compute the block again on the way back: the same bits, slower.
    pub checkpointing: bool,
}

impl Default for Optim {
    fn default() -> Self {
        Self {
            lr: None,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            batch_size: 8,
            accumulation: 1,
            checkpointing: false,
        }
    }
}

/// `[schedule]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Planning {
    /// After the warm-up.
    pub shape: Shape,
    /// Times through the data; or `steps`. The default is 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Steps of the optimiser; or `epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Steps of warm-up; or `warmup_ratio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// Share of the steps that is warm-up; or `warmup_steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_ratio: Option<f64>,
    /// Where a falling rate ends, as a share of `optim.lr`.
    pub floor: f64,
}

/// `[lora]`; of an adapter that goes on training everything but the dropout is its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lora {
    /// Rank of each update: 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// The update is scaled by alpha / rank: 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Share of a layer's inputs that the adapter does not see in training: 0.05 for sft; 0 for the others, whose policy
    /// would not be their reference at the first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// `all-linear`, or the names of linear layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<Targets>,
    /// Scale by alpha / sqrt(rank) instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rslora: Option<bool>,
}

/// `[alerts]`: limits; an alert is a row of the log, the run goes on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerting {
    /// Most divergence from the reference, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// Most growth or shrinkage of the answers, as a ratio to the first steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length_ratio: Option<f64>,
    /// Most fall of the preferred answers' log-probability while the margin grows, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen_drop: Option<f64>,
}

/// `[output]`: may change between the sessions of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Output {
    /// Steps between rows of metrics.
    pub log_every: u64,
    /// Steps between checkpoints; there is always one at the end.
    pub checkpoint_every: u64,
    /// Steps between evaluations; with `data.eval` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_every: Option<u64>,
    /// Checkpoints that are kept, the best one apart.
    pub keep_last: usize,
    /// The evaluation metric whose best checkpoint is kept, such as `eval_loss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_best: Option<String>,
    /// Whether the highest value of it is the best one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub best_is_highest: bool,
    /// Prompts of `data.eval` that are answered in the log before the first step and at each checkpoint, by sft, dpo and
    /// kto; 4 where it is left out. PPO and RLOO log answers of their rollouts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Write TensorBoard's files too.
    pub tensorboard: bool,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            log_every: 1,
            checkpoint_every: 100,
            eval_every: None,
            keep_last: 2,
            keep_best: None,
            best_is_highest: false,
            samples: None,
            tensorboard: true,
        }
    }
}

/// `[method.sft]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sft {
    /// `nll`, or `dft`: each token's loss times its probability (arXiv:2508.05629).
    pub loss: SftLoss,
    /// Rows are put together without padding, and do not see each other.
    pub packing: bool,
}

/// `[method.lm]`: the language-model loss on texts; it has no options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lm {}

/// `[method.dpo]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dpo {
    /// Which loss of the family.
    pub loss: Kind,
    /// What the policy is compared with: `base`, the model that the run begins with; `adapter`, a frozen copy of
    /// `model.adapter`, the default where there is one; or another checkpoint with the same words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// The reference runs over all rows once, before the first step, and its numbers are kept in the run's folder: true. Each
    /// row is then seen once, however many epochs there are, and a reference with weights of its own is freed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precompute_reference: Option<bool>,
    /// LD-DPO (Liu et al. 2024): what the tokens beyond the length of the pair's shorter answer count, in the policy's
    /// log-probabilities and in the reference's; 1, as in DPO.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ld_alpha: Option<f64>,
    /// Its options.
    pub options: Options,
}

/// `[method.kto]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kto {
    /// `β`.
    pub beta: f64,
    /// Weight of good completions. Choose the weights so that `good·n_good / (bad·n_bad)` lies in 1 to 4/3.
    pub desirable_weight: f64,
    /// Weight of bad completions.
    pub undesirable_weight: f64,
    /// As for dpo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// As for dpo, and each prompt with its neighbour's answer, which the order of the data decides, for every step of the run.
    /// That is no less work than running beside the policy, so it is done only where it frees a reference with weights of its
    /// own: another checkpoint, or the copy that is there when all weights train.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precompute_reference: Option<bool>,
}

impl Default for Kto {
    fn default() -> Self {
        let loss = KtoLoss::default();
        Self {
            beta: loss.beta,
            desirable_weight: loss.desirable_weight,
            undesirable_weight: loss.undesirable_weight,
            reference: None,
            precompute_reference: None,
        }
    }
}

impl Kto {
    /// The loss.
    pub fn loss(&self) -> KtoLoss {
        KtoLoss {
            beta: self.beta,
            desirable_weight: self.desirable_weight,
            undesirable_weight: self.undesirable_weight,
        }
    }
}
