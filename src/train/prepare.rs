//! From a config and an open model to a run in memory: data encoded, method built, steps counted.
//!
//! Always: nothing is written here; the same config, model and files give the same run. What is planned can be shown before
//! the first step: `preflight.rs`.

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};

use super::{
    Bench, Config, Facts, Manifest, Method, Parts, TrainError, config, data,
    dpo::Dpo,
    kto::Kto,
    lm::Lm,
    loss::Preference,
    ppo::{self, Critic, Ppo, Sharing},
    reward::Reward,
    rloo::{self, Rloo},
    rollout::{Actor, Setting},
    schedule::Schedule,
    sft::Sft,
};
use crate::model::{Checkpoint, Decoder, LoadOptions, Opened, ScoreModel, Trainable};
use crate::text::dataset::{
    DataError, Dataset, Encoded, Encoder, Example, Labelled, Pair, Sampler,
};
use crate::text::{ChatTemplate, Tokenizer};

/// Makes a run ready. The model's weights are moved into it.
///
/// # Errors
/// Data that cannot be used, an adapter that does not fit the model, a file that cannot be read.
pub fn prepare(config: Config, checkpoint: Checkpoint) -> Result<Parts, TrainError> {
    let context = checkpoint.config().n_ctx;
    if config.data.max_length > context {
        let expected = format!("at most the model's context of {context}");
        let found = config.data.max_length;
        return Err(TrainError::config("data.max_length", expected, found));
    }
    let name = config.method.name();
    let manifest = Manifest::of(&checkpoint, name, config.seed, &config.files())?;
    let Checkpoint {
        decoder,
        tokenizer,
        template,
        ..
    } = checkpoint;
    let words = (&tokenizer, template.as_ref());
    let method = method(&config, words, &decoder)?;
    let policy = policy(&config, decoder, &manifest.model)?;
    let schedule = schedule(&config, method.facts());
    let sampler = Sampler::new(config.seed);
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

/// What trains: all weights or an adapter, with a fresh score head for a reward model.
fn policy(config: &Config, decoder: Decoder, name: &str) -> Result<Trainable, TrainError> {
    let scored = matches!(config.method, config::Method::Rm(_));
    let spec = config.lora.as_ref().map(config::Lora::spec);
    let mut policy = match (scored, spec) {
        (false, None) => Trainable::full(decoder)?,
        (false, Some(spec)) => Trainable::lora(decoder, &spec, config.seed)?,
        (true, None) => Trainable::scored(&ScoreModel::fresh(decoder, config.seed)?)?,
        (true, Some(spec)) => {
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
    model: &Decoder,
) -> Result<Box<dyn Method>, TrainError> {
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
            Ok(Box::new(Dpo::new(config, loss, pairs()?, model)?))
        }
        config::Method::Ppo(options) => Ok(Box::new(ppo(config, options, words, model)?)),
        config::Method::Rloo(options) => Ok(Box::new(rloo(config, options, words, model)?)),
        config::Method::Kto(loss) => {
            let load = |files| data::load(files, config, words, labelled_of);
            let eval = (!eval.is_empty()).then(|| load(eval)).transpose()?;
            Ok(Box::new(Kto::new(
                config,
                *loss,
                (load(train)?, eval),
                model,
            )?))
        }
    }
}

/// Who draws and scores for PPO and RLOO.
fn actor(
    config: &Config,
    setting: Setting<'_>,
    (tokenizer, template): (&Tokenizer, Option<&ChatTemplate>),
    (model, reference): (&Decoder, Option<&PathBuf>),
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
    let reference = reference.map(|path| {
        let options = LoadOptions {
            dtype: DType::F32,
            ..LoadOptions::default()
        };
        Opened::at(path, &options)?.decoder(&options)
    });
    let models = (model, reference.transpose()?);
    Actor::new(config, setting, prompts, models, tokenizer)
}

fn ppo(
    config: &Config,
    options: &Ppo,
    words: (&Tokenizer, Option<&ChatTemplate>),
    model: &Decoder,
) -> Result<ppo::Trainer, TrainError> {
    let setting = Setting {
        sampling: &options.rollout,
        reward: &options.reward,
        monitor: &options.monitor,
        controller: options.kl,
        estimator: options.estimator,
    };
    let actor = actor(config, setting, words, (model, options.reference.as_ref()))?;
    let schedule = schedule(config, &actor.facts());
    let critic = Critic::new(config, options, schedule, model, words.0)?;
    let passes = (config.optim.batch_size, config.optim.accumulation);
    Ok(ppo::Trainer::new(options.clone(), actor, critic, passes))
}

fn rloo(
    config: &Config,
    options: &Rloo,
    words: (&Tokenizer, Option<&ChatTemplate>),
    model: &Decoder,
) -> Result<rloo::Trainer, TrainError> {
    let setting = Setting {
        sampling: &options.rollout,
        reward: &options.reward,
        monitor: &options.monitor,
        controller: options.kl,
        estimator: options.estimator,
    };
    let actor = actor(config, setting, words, (model, options.reference.as_ref()))?;
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
