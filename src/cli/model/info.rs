//! `model info`: what a checkpoint is, without loading its weights.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    audit::wording::parameters,
    cli::{
        Outcome,
        args::{Dtype, ModelArgs},
        output::{Out, bytes},
    },
    config::{ModelConfig, Positions, Rope, RopeScaling},
    files::TensorSource,
    model::{Fingerprint, checkpoint},
};

/// Describe a model: family, sizes, stored tensors, positions, tokenizer, fingerprint, memory
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope model info smollm2-135m-instruct
  candlescope model info ./my-model --json")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Serialize)]
struct Info {
    model: String,
    path: String,
    config: ModelConfig,
    n_params: usize,
    stored: BTreeMap<String, Stored>,
    /// Why there are no words, where there are none.
    words: Result<Words, String>,
    fingerprint: Option<Fingerprint>,
    fingerprint_id: Option<String>,
    memory: Memory,
}

/// Tensors of one stored type.
#[derive(Serialize, Default)]
struct Stored {
    tensors: usize,
    numbers: u64,
}

#[derive(Serialize)]
struct Words {
    vocab_size: usize,
    special_tokens: BTreeMap<String, String>,
    stop: Vec<String>,
    chat_template: bool,
}

#[derive(Serialize)]
struct Memory {
    /// The dtype this is for.
    dtype: &'static str,
    weights: u64,
    cache_for_each_token: u64,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let (opened, path) = args.model.find(out)?;
    let words = checkpoint::words(&opened, &path);
    let bf16 = args.model.how.dtype == Dtype::Bf16;
    let fingerprint = match &words {
        Ok((tokenizer, template)) => Some(Fingerprint::of(
            &opened,
            tokenizer,
            template.as_ref(),
            if bf16 {
                candle_core::DType::BF16
            } else {
                candle_core::DType::F32
            },
        )?),
        Err(_) => None,
    };
    let config = opened.config();
    let info = Info {
        model: args.model.model.clone(),
        path: path.display().to_string(),
        n_params: config.n_params(),
        stored: stored(opened.source()),
        words: words
            .map_err(|e| e.to_string())
            .map(|(tokenizer, template)| Words {
                vocab_size: tokenizer.vocab_size(),
                special_tokens: tokenizer.special_tokens(),
                stop: tokenizer
                    .stop_ids()
                    .iter()
                    .map(|&id| tokenizer.token(id))
                    .collect(),
                chat_template: template.is_some(),
            }),
        fingerprint_id: fingerprint.as_ref().map(Fingerprint::id),
        fingerprint,
        memory: Memory {
            dtype: super::open_args_dtype(&args.model.how),
            weights: config.n_params() as u64 * if bf16 { 2 } else { 4 },
            cache_for_each_token: (2 * config.n_layers * config.n_kv_heads * config.d_head * 4)
                as u64,
        },
        config: config.clone(),
    };
    if out.json {
        out.json("candlescope.model.info/1", &info)?;
    } else {
        for (name, value) in info.lines() {
            out.line(&format!(
                "{name:<14}{}",
                crate::audit::report::text::visible(&value)
            ))?;
        }
    }
    Ok(Outcome::Done)
}

fn stored(source: &dyn TensorSource) -> BTreeMap<String, Stored> {
    let mut types: BTreeMap<String, Stored> = BTreeMap::new();
    for info in source.names().iter().filter_map(|name| source.info(name)) {
        let entry = types.entry(info.dtype).or_default();
        entry.tensors += 1;
        entry.numbers += info.shape.iter().product::<usize>() as u64;
    }
    types
}

impl Info {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let c = &self.config;
        let heads = if c.n_kv_heads == c.n_heads {
            format!("{} heads", c.n_heads)
        } else {
            format!("{} heads, {} key-value heads", c.n_heads, c.n_kv_heads)
        };
        let mut lines = vec![
            ("model", self.model.clone()),
            ("path", self.path.clone()),
            ("family", c.family.name().to_owned()),
            ("parameters", parameters(self.n_params as u64)),
            (
                "sizes",
                format!(
                    "{} layers, width {}, {heads} of {}, MLP {}, vocabulary {}{}",
                    c.n_layers,
                    c.d_model,
                    c.d_head,
                    c.d_mlp,
                    c.vocab_size,
                    if c.tied { ", tied" } else { "" }
                ),
            ),
            ("stored as", self.stored_line()),
            ("context", format!("{} tokens", c.n_ctx)),
            ("positions", positions(c)),
            ("windows", windows(c)),
        ];
        match &self.words {
            Ok(words) => lines.extend([
                (
                    "chat template",
                    if words.chat_template {
                        "yes"
                    } else {
                        "none; prompts are bare text"
                    }
                    .to_owned(),
                ),
                ("tokenizer", format!("{} tokens", words.vocab_size)),
                ("special", special(words)),
            ]),
            Err(why) => lines.push(("tokenizer", format!("none: {why}"))),
        }
        if let Some(id) = &self.fingerprint_id {
            lines.push(("fingerprint", id.clone()));
        }
        lines.push((
            "memory",
            format!(
                "{} for weights in {}, {} for each token of context",
                bytes(self.memory.weights),
                self.memory.dtype,
                bytes(self.memory.cache_for_each_token)
            ),
        ));
        lines
    }

    fn stored_line(&self) -> String {
        let part = |(name, stored): (&String, &Stored)| {
            format!(
                "{name} ({} tensors, {} numbers)",
                stored.tensors,
                parameters(stored.numbers)
            )
        };
        self.stored.iter().map(part).collect::<Vec<_>>().join(", ")
    }
}

fn special(words: &Words) -> String {
    let named = words
        .special_tokens
        .iter()
        .map(|(role, token)| format!("{role} {token}"));
    let stop = format!("stop {}", words.stop.join(" "));
    named.chain([stop]).collect::<Vec<_>>().join(", ")
}

fn positions(c: &ModelConfig) -> String {
    let Positions::Rotary(ropes) = &c.positions else {
        return "learned".to_owned();
    };
    let one = |rope: &Rope| {
        let scaling = match &rope.scaling {
            RopeScaling::None => "unscaled".to_owned(),
            RopeScaling::Linear { factor } => format!("linear scaling by {factor}"),
            RopeScaling::Dynamic { factor, original } => {
                format!("dynamic scaling by {factor} beyond {original}")
            }
            RopeScaling::Yarn {
                factor, original, ..
            } => format!("yarn by {factor} beyond {original}"),
            RopeScaling::Llama3 {
                factor, original, ..
            } => {
                format!("llama3 scaling by {factor} beyond {original}")
            }
            RopeScaling::LongRope { original, .. } => format!("longrope beyond {original}"),
            RopeScaling::Divisors(_) => "one divisor a frequency".to_owned(),
        };
        format!(
            "rotary, {} channels, base {}, {scaling}",
            rope.dim, rope.theta
        )
    };
    ropes.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn windows(c: &ModelConfig) -> String {
    let sliding = c
        .layers
        .iter()
        .filter(|layer| layer.window.is_some())
        .count();
    match c.layers.iter().find_map(|layer| layer.window) {
        None => "none".to_owned(),
        Some(window) => format!("{window} positions on {sliding} of {} layers", c.n_layers),
    }
}
