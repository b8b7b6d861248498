//! A config made whole: values checked, what depends on other keys filled in, options that the method ignores refused.

use super::{Config, Method, sections::Lora};
use crate::model::lora::{LoraAdapter, LoraSpec};
use crate::train::{TrainError, loss::Preference, reference::Reference, schedule::Shape};

/// Whether `value` is within the range, named as the field is.
fn within(
    field: &str,
    value: f64,
    range: impl std::ops::RangeBounds<f64>,
    words: &str,
) -> Result<(), TrainError> {
    if value.is_finite() && range.contains(&value) {
        Ok(())
    } else {
        Err(TrainError::config(field, words, value))
    }
}

fn ignored(field: &str, why: &str) -> TrainError {
    TrainError::Ignored {
        field: field.into(),
        why: why.into(),
    }
}

impl Config {
    /// Checks every value and fills in what depends on others.
    pub(super) fn resolve(&mut self) -> Result<(), TrainError> {
        self.resolve_model()?;
        self.resolve_data()?;
        self.resolve_optim()?;
        self.resolve_schedule()?;
        self.resolve_lora()?;
        self.resolve_reference()?;
        self.resolve_output()?;
        self.refuse_ignored()
    }

    fn resolve_model(&mut self) -> Result<(), TrainError> {
        let named = !self.model.name.is_empty() || self.model.adapter.is_some();
        let Some(new) = &mut self.model.new else {
            let found = "neither";
            let expected = "a name, an adapter, or a `new` model for `train lm`";
            return if named {
                Ok(())
            } else {
                Err(TrainError::config("model", expected, found))
            };
        };
        if named {
            let field = if self.model.adapter.is_some() {
                "model.adapter"
            } else {
                "model.name"
            };
            return Err(ignored(field, "`model.new` makes a fresh model"));
        }
        if !matches!(self.method, Method::Lm(_)) {
            let why = "a fresh model has learnt nothing yet; `train lm` trains one";
            return Err(ignored("model.new", why));
        }
        if self.lora.is_some() {
            let why = "an adapter on random weights leaves them random";
            return Err(ignored("lora", why));
        }
        if new.tokenizer.is_some() {
            if !new.special_tokens.is_empty() {
                let why = "`model.new.tokenizer` brings its own";
                return Err(ignored("model.new.special_tokens", why));
            }
        } else {
            let vocab = *new.vocab.get_or_insert(4096);
            let words = "257 to 1000000: every byte is a word";
            within("model.new.vocab", vocab as f64, 257.0..=1e6, words)?;
            if new.special_tokens.is_empty() {
                new.special_tokens.push("<|endoftext|>".to_owned());
            }
        }
        let words = new.vocab.unwrap_or(4096);
        new.shape(words, None, None).config()?;
        Ok(())
    }

    fn resolve_data(&mut self) -> Result<(), TrainError> {
        if self.data.train.is_empty() {
            return Err(TrainError::config(
                "data.train",
                "at least one file",
                "none",
            ));
        }
        if self.data.max_length < 2 {
            let found = self.data.max_length;
            return Err(TrainError::config(
                "data.max_length",
                "at least 2 tokens",
                found,
            ));
        }
        let today = || jiff::Zoned::now().date().to_string();
        let date = self.data.date.get_or_insert_with(today);
        match date.parse::<jiff::civil::Date>() {
            Ok(_) => Ok(()),
            Err(_) => Err(TrainError::config("data.date", "a day as 2026-01-31", date)),
        }
    }

    fn resolve_optim(&mut self) -> Result<(), TrainError> {
        let method = match &self.method {
            Method::Sft(_) => 2e-5,
            Method::Rm(_) => 1e-4,
            Method::Dpo(_) | Method::Kto(_) | Method::Rloo(_) => 1e-6,
            Method::Ppo(_) => 3e-6,
            // GPT-2's smallest, as nanoGPT trains it.
            Method::Lm(_) => 6e-4,
        };
        let o = &mut self.optim;
        let lr = *o.lr.get_or_insert(method);
        within("optim.lr", lr, 0.0.., "a rate of at least 0")?;
        for beta in o.betas {
            within(
                "optim.betas",
                beta,
                0.0..1.0,
                "two numbers from 0 to below 1",
            )?;
        }
        within("optim.eps", o.eps, f64::MIN_POSITIVE.., "a number above 0")?;
        within("optim.weight_decay", o.weight_decay, 0.0.., "at least 0")?;
        within("optim.max_grad_norm", o.max_grad_norm, 0.0.., "at least 0")?;
        let counts = [
            ("optim.batch_size", o.batch_size),
            ("optim.accumulation", o.accumulation),
        ];
        for (field, count) in counts {
            within(field, count as f64, 1.0..=65536.0, "1 to 65536")?;
        }
        Ok(())
    }

    fn resolve_schedule(&mut self) -> Result<(), TrainError> {
        let s = &mut self.schedule;
        if s.steps.is_some() && s.epochs.is_some() {
            return Err(ignored("schedule.epochs", "`schedule.steps` says how long"));
        }
        if s.steps.is_none() {
            let epochs = *s.epochs.get_or_insert(3.0);
            within(
                "schedule.epochs",
                epochs,
                f64::MIN_POSITIVE..=1e6,
                "above 0",
            )?;
        }
        if s.steps == Some(0) {
            return Err(TrainError::config("schedule.steps", "at least 1", 0));
        }
        if s.warmup_steps.is_some() && s.warmup_ratio.is_some() {
            let why = "`schedule.warmup_steps` says how long";
            return Err(ignored("schedule.warmup_ratio", why));
        }
        if let Some(ratio) = s.warmup_ratio {
            within("schedule.warmup_ratio", ratio, 0.0..=1.0, "0 to 1")?;
        }
        within("schedule.floor", s.floor, 0.0..=1.0, "0 to 1")?;
        if s.shape == Shape::Constant && s.floor != 0.0 {
            return Err(ignored("schedule.floor", "a constant rate does not fall"));
        }
        Ok(())
    }

    fn resolve_lora(&mut self) -> Result<(), TrainError> {
        let trains_on_texts = matches!(self.method, Method::Sft(_) | Method::Lm(_));
        let continued = self.model.adapter.is_some();
        if continued {
            self.lora.get_or_insert_default();
        }
        let Some(lora) = &mut self.lora else {
            return Ok(());
        };
        if !continued {
            let usual = LoraSpec::default();
            lora.rank.get_or_insert(usual.rank);
            lora.alpha.get_or_insert(usual.alpha);
            lora.targets.get_or_insert(usual.targets);
            lora.rslora.get_or_insert(usual.rslora);
        }
        let rank = lora.rank.unwrap_or(1);
        within("lora.rank", rank as f64, 1.0..=4096.0, "1 to 4096")?;
        let alpha = lora.alpha.unwrap_or(1.0);
        within("lora.alpha", alpha, f64::MIN_POSITIVE.., "above 0")?;
        let usual = if trains_on_texts { 0.05 } else { 0.0 };
        let dropout = *lora.dropout.get_or_insert(usual);
        within("lora.dropout", dropout, 0.0..1.0, "0 to below 1")
    }

    /// What the policy is compared with: a fresh adapter with the model without it, one that goes on with a copy of itself.
    fn resolve_reference(&mut self) -> Result<(), TrainError> {
        let continued = self.model.adapter.is_some();
        let whole = self.lora.is_none();
        let usual = || {
            if continued {
                Reference::Adapter
            } else {
                Reference::Base
            }
        };
        let key = |method: &str, key: &str| format!("method.{method}.{key}");
        let name = self.method.name();
        match &mut self.method {
            Method::Dpo(dpo) if !dpo.loss.needs_reference() => {
                let said = [
                    ("reference", dpo.reference.is_some()),
                    ("precompute_reference", dpo.precompute_reference.is_some()),
                    ("ld_alpha", dpo.ld_alpha.is_some()),
                ];
                if let Some((field, _)) = said.iter().find(|(_, said)| *said) {
                    let why = format!("the loss {} has no reference", dpo.loss.name());
                    return Err(ignored(&key(name, field), &why));
                }
            }
            Method::Dpo(dpo) => {
                dpo.reference.get_or_insert_with(usual);
                dpo.precompute_reference.get_or_insert(true);
                let alpha = dpo.ld_alpha.unwrap_or(1.0);
                within("method.dpo.ld_alpha", alpha, 0.0..=1.0, "0 to 1")?;
            }
            Method::Kto(kto) => {
                let apart = match kto.reference.get_or_insert_with(usual) {
                    Reference::Base => whole,
                    Reference::Adapter => false,
                    Reference::Model(_) => true,
                };
                kto.precompute_reference.get_or_insert(apart);
            }
            Method::Ppo(ppo) => drop(ppo.reference.get_or_insert_with(usual)),
            Method::Rloo(rloo) => drop(rloo.reference.get_or_insert_with(usual)),
            Method::Sft(_) | Method::Rm(_) | Method::Lm(_) => {}
        }
        if self.method.reference() == Some(&Reference::Adapter) && !continued {
            let expected =
                "`base`, or another checkpoint: there is no model.adapter to keep a copy of";
            return Err(TrainError::config(
                key(name, "reference"),
                expected,
                "adapter",
            ));
        }
        Ok(())
    }

    fn resolve_output(&mut self) -> Result<(), TrainError> {
        let evaluates = !self.data.eval.is_empty();
        let o = &mut self.output;
        for (field, every) in [
            ("output.log_every", o.log_every),
            ("output.checkpoint_every", o.checkpoint_every),
            ("output.eval_every", o.eval_every.unwrap_or(1)),
        ] {
            within(field, every as f64, 1.0.., "at least 1 step")?;
        }
        within("output.keep_last", o.keep_last as f64, 1.0.., "at least 1")?;
        if evaluates {
            o.eval_every.get_or_insert(o.checkpoint_every);
        } else if o.eval_every.is_some() {
            return Err(ignored("output.eval_every", "there is no data.eval"));
        } else if o.keep_best.is_some() {
            return Err(ignored("output.keep_best", "there is no data.eval"));
        }
        if o.best_is_highest && o.keep_best.is_none() {
            let why = "there is no output.keep_best";
            return Err(ignored("output.best_is_highest", why));
        }
        Ok(())
    }

    /// Options that the method would not read.
    fn refuse_ignored(&self) -> Result<(), TrainError> {
        let (data, alerts) = (&self.data, &self.alerts);
        let answers = "this method generates no answers and has no running reference";
        let pairs = "rows of two answers are taken whole";
        let checks: &[(&str, bool, &str)] = match &self.method {
            Method::Sft(_) => &[(
                "alerts.chosen_drop",
                alerts.chosen_drop.is_some(),
                "sft has no preferred answers",
            )],
            Method::Ppo(_) | Method::Rloo(_) => &[
                (
                    "data.truncation",
                    data.truncation.is_some(),
                    "prompts are taken whole",
                ),
                (
                    "data.supervise",
                    data.supervise.is_some(),
                    "answers are drawn",
                ),
                (
                    "alerts.chosen_drop",
                    alerts.chosen_drop.is_some(),
                    "this method has no preferred answers",
                ),
            ],
            Method::Lm(_) => &[
                (
                    "data.supervise",
                    data.supervise.is_some(),
                    "every token of a text is a target",
                ),
                (
                    "data.truncation",
                    data.truncation.is_some(),
                    "long documents go on in the next window",
                ),
                ("data.chat", data.chat, "texts are no turns"),
                (
                    "alerts.chosen_drop",
                    alerts.chosen_drop.is_some(),
                    "texts have no preferred answers",
                ),
            ],
            Method::Rm(_) | Method::Dpo(_) | Method::Kto(_) => &[
                ("data.truncation", data.truncation.is_some(), pairs),
                ("data.supervise", data.supervise.is_some(), pairs),
            ],
        };
        let draws = matches!(self.method, Method::Ppo(_) | Method::Rloo(_));
        let measured = draws || matches!(self.method, Method::Kto(_));
        let common = [
            ("alerts.kl", alerts.kl.is_some() && !measured, answers),
            (
                "alerts.length_ratio",
                alerts.length_ratio.is_some() && !draws,
                answers,
            ),
        ];
        if let Some((field, _, why)) = checks.iter().chain(&common).find(|(_, set, _)| *set) {
            return Err(ignored(field, why));
        }
        match &self.method {
            Method::Rm(_) if alerts.chosen_drop.is_some() => Err(ignored(
                "alerts.chosen_drop",
                "a reward model gives no log-probabilities",
            )),
            Method::Ppo(_) | Method::Rloo(_)
                if self.lora.as_ref().is_some_and(|l| l.dropout != Some(0.0)) =>
            {
                let why = "the policy that trains would not be the one that answered; set it to 0";
                Err(TrainError::config("lora.dropout", why, "dropout"))
            }
            Method::Ppo(ppo) => ppo.check(),
            Method::Rloo(rloo) => rloo.check(self.optim.batch_size * self.optim.accumulation),
            Method::Kto(_) if self.optim.batch_size < 2 => {
                let found = self.optim.batch_size;
                Err(TrainError::config(
                    "optim.batch_size",
                    "2 or more for kto",
                    found,
                ))
            }
            // The loss says which of its options it does not read.
            Method::Dpo(dpo) => Ok(Preference::new(dpo.loss, &dpo.options).map(drop)?),
            _ => Ok(()),
        }
    }
}

impl Lora {
    /// For the model.
    pub fn spec(&self) -> LoraSpec {
        let usual = LoraSpec::default();
        LoraSpec {
            rank: self.rank.unwrap_or(usual.rank),
            alpha: self.alpha.unwrap_or(usual.alpha),
            dropout: self.dropout.unwrap_or_default(),
            targets: self.targets.clone().unwrap_or_default(),
            rslora: self.rslora.unwrap_or_default(),
        }
    }
}

impl Config {
    /// Fills in what an adapter that goes on training brings with it.
    ///
    /// # Errors
    /// Another value in `[lora]`, by its name.
    pub fn continue_adapter(
        &mut self,
        adapter: &LoraAdapter,
        model: &crate::config::ModelConfig,
    ) -> Result<(), TrainError> {
        let spec = adapter.spec();
        let lora = self.lora.get_or_insert_default();
        let differs = |field: &str, its: &dyn ToString, found: &dyn ToString| {
            let expected = format!("{}, as model.adapter has it, or nothing", its.to_string());
            Err(TrainError::config(field, expected, found.to_string()))
        };
        match (lora.rank, lora.alpha, lora.rslora) {
            (Some(rank), ..) if rank != spec.rank => {
                return differs("lora.rank", &spec.rank, &rank);
            }
            (_, Some(alpha), _) if alpha.to_bits() != spec.alpha.to_bits() => {
                return differs("lora.alpha", &spec.alpha, &alpha);
            }
            (.., Some(rslora)) if rslora != spec.rslora => {
                return differs("lora.rslora", &spec.rslora, &rslora);
            }
            _ => {}
        }
        if let Some(targets) = &lora.targets
            && !adapter.is_on(targets, model)?
        {
            let names: Vec<&str> = adapter.modules().take(3).collect();
            let its = format!("{} and the others it is on", names.join(", "));
            return differs("lora.targets", &its, &format!("{targets:?}"));
        }
        lora.rank = Some(spec.rank);
        lora.alpha = Some(spec.alpha);
        lora.rslora = Some(spec.rslora);
        lora.targets = Some(spec.targets.clone());
        Ok(())
    }
}
