//! Low-rank adapters (LoRA, Hu et al. 2021): `y = W x + b + s·B A x` beside any linear layer of a block.
//!
//! Always: a linear layer carries its adapter itself (`weights.rs`), so every use of the decoder sees it: hooks, cache,
//! sampling, reading; the base weights never change and get no gradients; a fused module of a checkpoint (GPT-2's `c_attn`)
//! has one adapter, whose B is cut like the module's weight.
//!
//! `adapter.rs` is a whole model's adapter, `pair.rs` one layer's, `peft.rs` with `peft_config.rs` its form on
//! disk, `opened.rs` an adapter folder as a model, `base.rs` where its base lies.

mod adapter;
pub mod base;
mod opened;
mod pair;
mod peft;
mod peft_config;

pub use adapter::LoraAdapter;
pub use opened::Adapted;
pub use pair::Pair;
pub(super) use peft::score_name;

use serde::{Deserialize, Serialize};

use super::{
    ModelError,
    names::{Role, Scheme, Take, layer_place},
};
use crate::config::ModelConfig;

/// What kind of adapter; PEFT's options under their own meaning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraSpec {
    /// Rows of A.
    pub rank: usize,
    /// The factor `s` is `alpha / rank`.
    pub alpha: f64,
    /// Share of a layer's inputs that the adapter does not see in a training pass.
    pub dropout: f64,
    /// Which linear layers.
    pub targets: Targets,
    /// Rank-stabilised: `s` is `alpha / √rank` (Kalajdzievski 2023).
    pub rslora: bool,
}

impl Default for LoraSpec {
    /// Rank 16, alpha 32, dropout 0.05 (TRL's choice), every linear layer of the blocks.
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.05,
            targets: Targets::default(),
            rslora: false,
        }
    }
}

impl LoraSpec {
    /// `s`.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    fn check(&self, config: &ModelConfig) -> Result<(), ModelError> {
        let widest = config.d_model.max(config.d_mlp);
        let refuse = |option: &str, expected: String, found: String| {
            Err(ModelError::Adapter {
                of: format!("option `{option}`"),
                expected,
                found,
            })
        };
        if self.rank == 0 || self.rank > widest {
            return refuse("rank", format!("1 to {widest}"), self.rank.to_string());
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return refuse("alpha", "above 0".into(), self.alpha.to_string());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return refuse("dropout", "0 to below 1".into(), self.dropout.to_string());
        }
        Ok(())
    }
}

/// Which linear layers have an adapter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Targets {
    /// Every linear layer of the blocks: PEFT's `all-linear`.
    #[default]
    AllLinear,
    /// Modules whose name is one of these or ends in one after a dot: `q_proj`, `layers.3.mlp.up_proj`.
    Modules(Vec<String>),
}

/// [`Targets`] as a config has them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Word(String),
    List(Vec<String>),
}

/// The word for every linear layer.
const ALL_LINEAR: &str = "all-linear";

impl From<Targets> for Written {
    fn from(targets: Targets) -> Self {
        match targets {
            Targets::AllLinear => Self::Word(ALL_LINEAR.to_owned()),
            Targets::Modules(names) => Self::List(names),
        }
    }
}

impl TryFrom<Written> for Targets {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Word(word) if word == ALL_LINEAR => Ok(Self::AllLinear),
            Written::Word(word) => Err(format!(
                "expected \"{ALL_LINEAR}\" or a list of module names, found {word:?}"
            )),
            Written::List(names) => Ok(Self::Modules(names)),
        }
    }
}

impl Targets {
    /// The modules of a model that are meant, in its order.
    fn pick(&self, config: &ModelConfig) -> Result<Vec<Module>, ModelError> {
        let all = modules(config);
        let Self::Modules(patterns) = self else {
            return Ok(all);
        };
        let hits = |pattern: &str, name: &str| {
            name == pattern || name.strip_suffix(pattern).is_some_and(|s| s.ends_with('.'))
        };
        let unmet = |p: &&String| !all.iter().any(|m| hits(p, &m.name));
        if patterns.is_empty() || patterns.iter().any(|p| unmet(&p)) {
            let found = patterns
                .iter()
                .find(unmet)
                .map_or("no targets", String::as_str);
            return Err(ModelError::Adapter {
                of: "option `targets`".to_owned(),
                expected: format!("all-linear, or names among {}", kinds(&all).join(", ")),
                found: found.to_owned(),
            });
        }
        let meant = |m: &Module| patterns.iter().any(|p| hits(p, &m.name));
        Ok(all.into_iter().filter(meant).collect())
    }
}

/// A linear layer of a checkpoint, and what it is here.
#[derive(Debug, Clone)]
struct Module {
    /// As in transformers: `model.layers.0.self_attn.q_proj`.
    name: String,
    layer: usize,
    /// One role, or those that a fused module serves, with the cut of its rows.
    roles: Vec<(Role, Take)>,
}

/// All linear layers of the blocks.
fn modules(config: &ModelConfig) -> Vec<Module> {
    let mut all: Vec<Module> = Vec::new();
    for layer in 0..config.n_layers {
        for role in [
            Role::Q,
            Role::K,
            Role::V,
            Role::O,
            Role::Gate,
            Role::Up,
            Role::Down,
        ] {
            if role == Role::Gate && !config.gated_mlp {
                continue;
            }
            let place = layer_place(config, Scheme::HuggingFace, layer, role, "weight");
            let name = place.name.trim_end_matches(".weight").to_owned();
            // B is `[out, rank]` whatever the orientation of the weight.
            let take = match place.take {
                Take::ColumnsTransposed(part) => Take::Rows(part),
                Take::Transposed => Take::All,
                take => take,
            };
            match all.last_mut() {
                Some(last) if last.name == name => last.roles.push((role, take)),
                _ => all.push(Module {
                    name,
                    layer,
                    roles: vec![(role, take)],
                }),
            }
        }
    }
    all
}

/// The last parts of the modules' names, each once.
fn kinds(all: &[Module]) -> Vec<&str> {
    let mut kinds = Vec::new();
    for module in all {
        let kind = module.name.rsplit('.').next().unwrap_or_default();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}
