//! How fast training steps are here, and in how much memory: SFT, reward models and DPO, all weights or an adapter, on the
//! shapes of SmolLM2-135M and of a Llama of 5 or 8 million parameters. One JSON line a run, so that the lines can stand
//! beside those of another program on the same shapes; each phase apart. Weights and tokens are drawn: speed does not depend
//! on them.
//!
//! `cargo run --release --example train_speed -- 135m|5m|8m sft|rm|dpo full|lora [STEPS] [ROWS] [TOKENS] [PRODUCTS] [checkpointing]`

use std::time::Instant;

use candle_core::{Tensor, Var};
use candlescope::model::{
    Batch, Decoder, LoraSpec, ScoreModel, Trainable, fresh::FreshShape, score,
};
use candlescope::train::loss::{
    Kind, Options, Pairs, Preference, RewardLoss, Sft, sft_loss, sum_runs,
};
use candlescope_ops::{
    self as ops, AdamW, AdamWOptions, Gradients, HeadOptions, Products, set_products,
};

type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "usage: train_speed 135m|5m|8m sft|rm|dpo full|lora [STEPS] [ROWS] [TOKENS] [f32|bf16x6|bf16x3|bf16] [checkpointing]";

fn main() -> Result<(), Failure> {
    ops::fast_alloc();
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let checkpointing = args.last().is_some_and(|last| last == "checkpointing");
    args.truncate(args.len() - usize::from(checkpointing));
    let products = args.last().and_then(|last| products(last));
    args.truncate(args.len() - usize::from(products.is_some()));
    let products = products.unwrap_or(Products::split(3));
    set_products(products);
    let [model, method, how, sizes @ ..] = args.as_slice() else {
        return Err(USAGE.into());
    };
    let size = |i: usize, usual: usize| sizes.get(i).map_or(Ok(usual), |n| n.parse());
    let (steps, rows, tokens) = (size(0, 5)?, size(1, 4)?, size(2, 128)?);
    let decoder = Decoder::fresh(&shape(model)?.config()?, 1)?;
    let mut work = Work::new(decoder, method, how, (rows, tokens))?;
    work.policy.set_checkpointing(checkpointing);
    // The first step touches new memory.
    work.step()?;
    let times = (0..steps).map(|_| work.step());
    let times = times.collect::<Result<Vec<_>, _>>()?;
    let median = |of: fn(&Phases) -> f64| {
        let mut sorted: Vec<f64> = times.iter().map(of).collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let seen = (work.batch.rows() * work.batch.len()) as f64;
    let whole = median(|t| t.forward + t.backward + t.optimiser);
    let row = serde_json::json!({
        "name": format!("{method}.{how}.{model}"),
        "median_s": whole,
        "forward_s": median(|t| t.forward),
        "backward_s": median(|t| t.backward),
        "optimiser_s": median(|t| t.optimiser),
        "cpu_s": median(|t| t.cpu),
        "steps": times.len(),
        "tokens": seen,
        "tok_s": (seen / whole).round(),
        "trained": work.params.iter().map(|(_, var)| var.elem_count()).sum::<usize>(),
        "checkpointing": checkpointing,
        "products": format!("{products:?}"),
        "peak_rss_mb": peak_rss_mb(),
    });
    print_line(&row.to_string());
    Ok(())
}

#[allow(clippy::print_stdout)]
fn print_line(line: &str) {
    println!("{line}");
}

fn products(name: &str) -> Option<Products> {
    Some(match name {
        "f32" => Products::F32,
        "bf16x6" => Products::split(3),
        "bf16x3" => Products::split(2),
        "bf16" => Products::split(1),
        _ => return None,
    })
}

fn shape(model: &str) -> Result<FreshShape, Failure> {
    // d_model, layers, heads, key heads, d_mlp, vocabulary
    let [d_model, n_layers, n_heads, n_kv_heads, d_mlp, vocab] = match model {
        "135m" => [576, 30, 9, 3, 1536, 49152],
        "5m" => [256, 5, 8, 4, 704, 4096],
        "8m" => [320, 6, 8, 4, 896, 4096],
        _ => return Err(USAGE.into()),
    };
    Ok(FreshShape {
        family: "llama".to_owned(),
        d_model,
        n_layers,
        n_heads,
        n_kv_heads,
        d_mlp,
        n_ctx: 2048,
        tied: true,
        vocab,
        bos: None,
        eos: None,
    })
}

/// Seconds of one step; `cpu` is that of all threads.
struct Phases {
    forward: f64,
    backward: f64,
    optimiser: f64,
    cpu: f64,
}

enum Loss {
    Sft,
    Reward,
    Dpo(Box<Preference>),
}

struct Work {
    policy: Trainable,
    params: Vec<(String, Var)>,
    optimiser: AdamW,
    gradients: Gradients,
    loss: Loss,
    batch: Batch,
    places: Vec<u32>,
    targets: Vec<u32>,
}

impl Work {
    /// `rows` are pairs for the methods that take pairs; a DPO answer is the second half of a row.
    fn new(
        decoder: Decoder,
        method: &str,
        how: &str,
        (rows, tokens): (usize, usize),
    ) -> Result<Self, Failure> {
        let vocab = decoder.config().vocab_size as u32;
        let (loss, rows, first) = match method {
            "sft" => (Loss::Sft, rows, 1),
            "rm" => (Loss::Reward, 2 * rows, tokens),
            "dpo" => {
                let loss = Preference::new(Kind::default(), &Options::default())?;
                (Loss::Dpo(Box::new(loss)), 2 * rows, tokens / 2)
            }
            _ => return Err(USAGE.into()),
        };
        let spec = LoraSpec {
            dropout: 0.0,
            ..LoraSpec::default()
        };
        let scored = matches!(loss, Loss::Reward);
        let policy = match (how, scored) {
            ("full", false) => Trainable::full(decoder)?,
            ("lora", false) => Trainable::lora(decoder, &spec, 1)?,
            ("full", true) => Trainable::scored(&ScoreModel::fresh(decoder, 1)?)?,
            ("lora", true) => Trainable::lora_scored(&ScoreModel::fresh(decoder, 1)?, &spec, 1)?,
            _ => return Err(USAGE.into()),
        };
        let id = |row: usize, at: usize| (row * 7919 + at * at * 31 + at * 17) as u32 % vocab;
        let ids: Vec<Vec<u32>> = (0..rows)
            .map(|row| (0..tokens).map(|at| id(row, at)).collect())
            .collect();
        let wanted = (0..rows).flat_map(|row| (first..tokens).map(move |at| (row, at)));
        let (places, targets) = wanted
            .map(|(row, at)| ((row * tokens + at - 1) as u32, id(row, at)))
            .unzip();
        let each = policy.params().iter();
        let params: Vec<_> = each.map(|p| (p.name.clone(), p.var.clone())).collect();
        Ok(Self {
            optimiser: AdamW::new(AdamWOptions::default(), []),
            gradients: Gradients::new(params.len()),
            batch: Batch::new(&ids)?,
            policy,
            params,
            loss,
            places,
            targets,
        })
    }

    fn step(&mut self) -> Result<Phases, Failure> {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let loss = self.forward()?;
        let forward = start.elapsed().as_secs_f64();
        let found = ops::backward(&loss)?;
        drop(loss);
        let backward = start.elapsed().as_secs_f64() - forward;
        self.gradients.add(&self.params, found)?;
        self.gradients.clip(1.0)?;
        self.optimiser.step(&self.params, &self.gradients, 1e-5)?;
        self.gradients.clear();
        Ok(Phases {
            forward,
            backward,
            optimiser: start.elapsed().as_secs_f64() - forward - backward,
            cpu: cpu_seconds() - cpu,
        })
    }

    fn forward(&self) -> Result<Tensor, Failure> {
        let hidden = self.policy.hidden(&self.batch)?;
        if let Loss::Reward = self.loss {
            let scores = score::scores(&hidden, self.policy.score_head()?)?;
            let pairs = self.batch.rows() / 2;
            let (chosen, rejected) = (scores.narrow(0, 0, pairs)?, scores.narrow(0, pairs, pairs)?);
            let loss = RewardLoss::default();
            return Ok(loss.of(&chosen, &rejected, None, pairs)?.loss);
        }
        let (rows, slots, width) = hidden.dims3()?;
        let flat = ops::reshape(&hidden, (rows * slots, width))?;
        let states = ops::embedding(&flat, &self.places)?;
        let head = self.policy.head();
        let said = ops::token_logprobs(&states, head, &self.targets, HeadOptions::default())?;
        let Loss::Dpo(preference) = &self.loss else {
            let count = self.targets.len();
            let kind = Sft::default();
            return Ok(sft_loss(kind, &said.logps, &said.entropy, &said.top1, count)?.loss);
        };
        let pairs = self.batch.rows() / 2;
        let lengths = vec![self.targets.len() / self.batch.rows(); 2 * pairs];
        let sums = sum_runs(&said.logps, &lengths)?;
        let (chosen, rejected) = (sums.narrow(0, 0, pairs)?, sums.narrow(0, pairs, pairs)?);
        let both = Pairs {
            chosen: &chosen,
            rejected: &rejected,
            // That of the first step; it is computed once, before a run.
            reference: Some((&chosen.detach(), &rejected.detach())),
            chosen_tokens: &lengths[..pairs],
            rejected_tokens: &lengths[pairs..],
            likelihood: None,
        };
        Ok(preference.of(&both, pairs)?.loss)
    }
}

/// User and system time of this process, in hundredths of a second as Linux counts them.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = (stat.rsplit(')').next().unwrap_or(""))
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    fields.get(11..13).map_or(0.0, |t| (t[0] + t[1]) / 100.0)
}

/// The most memory this process has held.
fn peak_rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
