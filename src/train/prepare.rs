//! From a config and an open model to a run in memory: data encoded, method built, steps counted.
//!
//! Always: nothing is written here; the same config, model and files give the same run. What is planned can be shown before
//! the first step: `preflight.rs`.

use std::path::PathBuf;

use candle_core::{Device, Tensor};

use super::{
    Bench, Config, Facts, Manifest, Method, Parts, TrainError, config, data,
    dpo::Dpo,
    kto::Kto,
    lm::Lm,
    loss::Preference,
    ppo::{self, Critic, Ppo, Sharing},
    reference::{Beginning, Frozen},
    reward::Reward,
    rloo::{self, Rloo},
    rollout::{Actor, Setting},
    schedule::Schedule,
    sft::Sft,
};
use crate::config::ModelConfig;
use crate::model::{Checkpoint, Decoder, LoraAdapter, ScoreModel, Trainable};
use crate::text::dataset::{DataError, Dataset, Encoded, Encoder, Example, Labelled, Pair};
use crate::text::{ChatTemplate, Tokenizer};

/// Makes a run ready. The model's weights are moved into it.
///
/// # Errors
/// Data that cannot be used, an adapter that does not fit the model, a file that cannot be read.
pub fn prepare(mut config: Config, checkpoint: Checkpoint) -> Result<Parts, TrainError> {
    let context = checkpoint.config().n_ctx;
    if config.data.max_length > context {
        let expected = format!("at most the model's context of {context}");
        let found = config.data.max_length;
        return Err(TrainError::config("data.max_length", expected, found));
    }
    if config.lora.is_some() && checkpoint.opened().adapted().is_some() {
        let expected = "a model without an adapter; name the folder in model.adapter to go on with it, \
                        or merge it with `candlescope model merge`";
        return Err(TrainError::config("model.name", expected, &checkpoint.name));
    }
    let continued = Continued::read(&mut config, checkpoint.config())?;
    let manifest = Manifest::of(&checkpoint, &config)?;
    let Checkpoint {
        decoder,
        tokenizer,
        template,
        ..
    } = checkpoint;
    let begins = match &continued {
        Some(continued) => continued.adapter.on(&decoder)?,
        None => decoder.clone(),
    };
    let models = Beginning {
        base: &decoder,
        policy: &begins,
        tokenizer: &tokenizer,
    };
    let frozen = Frozen::of(&config, &manifest, &models)?;
    let words = (&tokenizer, template.as_ref());
    let method = method(&config, words, &manifest, (&begins, frozen))?;
    drop(begins);
    let policy = policy(&config, decoder, continued, &manifest.model)?;
    let schedule = schedule(&config, method.facts());
    let sampler = config.data.sampler(config.seed);
    let bench = Bench::new(policy, sampler, schedule, &config);
    Ok(Parts {
        config,
        manifest,
        bench,
        method,
        tokenizer,
        template,
    })
}

/// An adapter that goes on training.
struct Continued {
    adapter: LoraAdapter,
    /// Of a reward model.
    head: Option<Tensor>,
}

impl Continued {
    /// Reads it, and completes `[lora]` with what it brings.
    fn read(config: &mut Config, model: &ModelConfig) -> Result<Option<Self>, TrainError> {
        let Some(folder) = config.model.adapter.clone() else {
            return Ok(None);
        };
        let (adapter, head) = LoraAdapter::read_with_head(&folder, model)?;
        if head.is_some() && !matches!(config.method, config::Method::Rm(_)) {
            let expected = "an adapter of a language model";
            let found = format!("one of a reward model in {}", folder.display());
            return Err(TrainError::config("model.adapter", expected, found));
        }
        config.continue_adapter(&adapter, model)?;
        let dropout = config.lora.as_ref().and_then(|lora| lora.dropout);
        let adapter = adapter.with_dropout(dropout.unwrap_or_default());
        Ok(Some(Self { adapter, head }))
    }
}

/// What trains: all weights or an adapter, with a fresh score head for a reward model.
fn policy(
    config: &Config,
    decoder: Decoder,
    continued: Option<Continued>,
    name: &str,
) -> Result<Trainable, TrainError> {
    let scored = matches!(config.method, config::Method::Rm(_));
    let spec = config.lora.as_ref().map(config::Lora::spec);
    let mut policy = match (scored, continued, spec) {
        (false, Some(continued), _) => Trainable::lora_from(decoder, &continued.adapter)?,
        (false, None, None) => Trainable::full(decoder)?,
        (false, None, Some(spec)) => Trainable::lora(decoder, &spec, config.seed)?,
        (true, Some(Continued { adapter, head }), _) => {
            let model = match head {
                Some(head) => ScoreModel::new(decoder, head)?,
                None => ScoreModel::fresh(decoder, config.seed)?,
            };
            Trainable::lora_scored_from(&model, &adapter)?
        }
        (true, None, None) => Trainable::scored(&ScoreModel::fresh(decoder, config.seed)?)?,
        (true, None, Some(spec)) => {
            let model = ScoreModel::fresh(decoder, config.seed)?;
            Trainable::lora_scored(&model, &spec, config.seed)?
        }
    };
    if let config::Method::Ppo(ppo) = &config.method
        && ppo.value == Sharing::Shared
    {
        let model = policy.decoder();
        let shape = (1, model.config().d_model);
        let head = Tensor::zeros(shape, model.compute_dtype(), &Device::Cpu)?;
        policy = policy.with_value_head(&head)?;
    }
    policy.set_base_name(name);
    policy.set_checkpointing(config.optim.checkpointing);
    Ok(policy)
}

fn method(
    config: &Config,
    words: (&Tokenizer, Option<&ChatTemplate>),
    manifest: &Manifest,
    (model, frozen): (&Decoder, Option<Frozen>),
) -> Result<Box<dyn Method>, TrainError> {
    let none = || TrainError::config(config.method.key("reference"), "a reference", "none");
    let (train, eval) = (&config.data.train, &config.data.eval);
    let pairs = || -> Result<_, TrainError> {
        let load = |files| data::load(files, config, words, pairs_of);
        let eval = (!eval.is_empty()).then(|| load(eval)).transpose()?;
        Ok((load(train)?, eval))
    };
    match &config.method {
        config::Method::Sft(options) => {
            let load = |files| data::load(files, config, words, examples_of);
            let eval = (!eval.is_empty()).then(|| load(eval)).transpose()?;
            let options = (options.loss, options.packing);
            Ok(Box::new(Sft::new(config, options, load(train)?, eval)?))
        }
        config::Method::Lm(_) => Ok(Box::new(Lm::new(config, words.0)?)),
        config::Method::Rm(loss) => Ok(Box::new(Reward::new(config, *loss, pairs()?))),
        config::Method::Dpo(dpo) => {
            let loss = Preference::new(dpo.loss, &dpo.options)?;
            let reference = frozen.map(|frozen| {
                let key = frozen.key(config, manifest);
                (frozen, key)
            });
            Ok(Box::new(Dpo::new(config, (loss, dpo), pairs()?, reference)))
        }
        config::Method::Ppo(options) => {
            let models = (model, frozen.ok_or_else(none)?);
            Ok(Box::new(ppo(config, options, words, models)?))
        }
        config::Method::Rloo(options) => {
            let models = (model, frozen.ok_or_else(none)?);
            Ok(Box::new(rloo(config, options, words, models)?))
        }
        config::Method::Kto(kto) => {
            let load = |files| data::load(files, config, words, labelled_of);
            let eval = (!eval.is_empty()).then(|| load(eval)).transpose()?;
            let frozen = frozen.ok_or_else(none)?;
            let key = frozen.key(config, manifest);
            let reference = (frozen, key, kto.precompute_reference.unwrap_or_default());
            let data = (load(train)?, eval);
            Ok(Box::new(Kto::new(config, kto.loss(), data, reference)?))
        }
    }
}

/// Who draws and scores for PPO and RLOO.
fn actor(
    config: &Config,
    setting: Setting<'_>,
    (tokenizer, template): (&Tokenizer, Option<&ChatTemplate>),
    (model, reference): (&Decoder, &Frozen),
) -> Result<Actor, TrainError> {
    let room = setting.sampling.response_length;
    let mut shorter = config.clone();
    let longest = &mut shorter.data.max_length;
    *longest = longest.saturating_sub(room);
    if *longest == 0 {
        let expected = format!("more than the {room} tokens that an answer may have");
        let found = config.data.max_length;
        return Err(TrainError::config("data.max_length", expected, found));
    }
    let load = |files: &[PathBuf]| {
        data::load(files, &shorter, (tokenizer, template), |encoder, rows| {
            encoder.prompts(rows)
        })
    };
    let eval = &config.data.eval;
    let eval = (!eval.is_empty()).then(|| load(eval)).transpose()?;
    let prompts = (load(&config.data.train)?, eval);
    let reference = (reference.decoder()?, reference.begins_there);
    Actor::new(config, setting, prompts, (model, reference), tokenizer)
}

fn ppo(
    config: &Config,
    options: &Ppo,
    words: (&Tokenizer, Option<&ChatTemplate>),
    (model, reference): (&Decoder, Frozen),
) -> Result<ppo::Trainer, TrainError> {
    let setting = Setting {
        sampling: &options.rollout,
        reward: &options.reward,
        monitor: &options.monitor,
        controller: options.kl,
        estimator: options.estimator,
    };
    let actor = actor(config, setting, words, (model, &reference))?;
    let schedule = schedule(config, &actor.facts());
    // The value model trains whole, so what the policy begins with has its adapter in the weights there.
    let critic = Critic::new(config, options, schedule, &model.merged()?, words.0)?;
    let passes = (config.optim.batch_size, config.optim.accumulation);
    Ok(ppo::Trainer::new(options.clone(), actor, critic, passes))
}

fn rloo(
    config: &Config,
    options: &Rloo,
    words: (&Tokenizer, Option<&ChatTemplate>),
    (model, reference): (&Decoder, Frozen),
) -> Result<rloo::Trainer, TrainError> {
    let setting = Setting {
        sampling: &options.rollout,
        reward: &options.reward,
        monitor: &options.monitor,
        controller: options.kl,
        estimator: options.estimator,
    };
    let actor = actor(config, setting, words, (model, &reference))?;
    let passes = (config.optim.batch_size, config.optim.accumulation);
    Ok(rloo::Trainer::new(options.clone(), actor, passes))
}

fn examples_of(encoder: &Encoder<'_>, rows: &Dataset) -> Result<Encoded<Example>, DataError> {
    encoder.examples(rows)
}

fn pairs_of(encoder: &Encoder<'_>, rows: &Dataset) -> Result<Encoded<Pair>, DataError> {
    encoder.pairs(rows)
}

fn labelled_of(encoder: &Encoder<'_>, rows: &Dataset) -> Result<Encoded<Labelled>, DataError> {
    encoder.labelled_rows(rows)
}

/// Steps and warm-up; an epoch's last step may be of fewer rows.
fn schedule(config: &Config, facts: &Facts) -> Schedule {
    let plan = &config.schedule;
    let per_epoch = steps_per_epoch(config, facts);
    let epochs = plan.epochs.unwrap_or_default();
    let total = plan
        .steps
        .unwrap_or_else(|| (epochs * per_epoch as f64).ceil() as u64);
    let share = (plan.warmup_ratio.unwrap_or_default() * total as f64).ceil() as u64;
    Schedule {
        shape: plan.shape,
        total,
        warmup: plan.warmup_steps.unwrap_or(share),
        floor: plan.floor,
    }
}

/// Steps of one time through the data.
pub(super) fn steps_per_epoch(config: &Config, facts: &Facts) -> u64 {
    facts.rows.div_ceil(config.rows_per_step()) as u64
}
