//! `direction learn`: a refusal direction, or a cone of them, by gradient through hooks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use candlescope_probes::direction::cosine;
use serde::Serialize;

use super::found::advised;
use crate::{
    cli::{
        Outcome,
        args::ModelArgs,
        edits,
        failure::Usage,
        interrupt,
        output::{Out, Table},
        progress::Bar,
    },
    files::{
        hash::sha256,
        write::{WriteOptions, write_atomic, write_safetensors_file},
    },
    hooks::{Hooks, Vector},
    model::{Checkpoint, fetch::Progress as _},
    steer::{
        self, EncodedPrompt, Options, RefusalTokens, Sets, SteerError, ablation, addition,
        edit::PURPOSE,
        file::{self, DirectionFile},
        grid_file::Key,
        learned::{Lessons, Place, Settings, Start, State, begun, learn},
        random_directions, refusal_scores,
    },
    text::suites::Suite,
};

/// Learn a refusal direction by gradient: what refusal hangs on, not only what separates
///
/// Starts from a direction and changes it so that with it taken out the model answers harmful prompts as it did under the
/// starting one, with it added it refuses harmless ones, and with it taken out it answers harmless ones as before (Wollschläger et
/// al. 2025). --cone looks for several at once, of which every positive mixture does the same. The weights stay as they are.
/// This measures what refusal hangs on, and how robustly; it is no way to ship a model. FOLDER/learning.json is written after
/// every step: the same command goes on where it was stopped. Writes FOLDER/direction.safetensors (and FOLDER/cone.safetensors),
/// reported on test prompts.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope direction learn ./model --direction refusal/direction.safetensors --out learned/
  candlescope direction learn ./model --direction contrast:12 --layer 12 --cone 3 --out cone/")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Where to start: a safetensors file with a vector `direction`, FILE:TENSOR, or contrast:LAYER
    #[arg(long, value_name = "DIR")]
    direction: String,
    /// The folder to write, or to go on in
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// The block at whose input it is added [default: the one that the file says it was read at]
    #[arg(long, value_name = "N")]
    layer: Option<usize>,
    /// Directions to learn together
    #[arg(long, default_value_t = 1, value_name = "K")]
    cone: usize,
    /// Most steps
    #[arg(long, default_value_t = Settings::default().steps, value_name = "N")]
    steps: usize,
    /// Learning rate; cut to a tenth twice when validation no longer gets better, then learning ends
    #[arg(long, default_value_t = Settings::default().rate, value_name = "LR")]
    rate: f64,
    /// Harmful and harmless prompts of a step, each
    #[arg(long, default_value_t = Settings::default().examples, value_name = "N")]
    examples: usize,
    /// Measurements without a better one before the rate is cut
    #[arg(long, default_value_t = Settings::default().patience, value_name = "N")]
    patience: usize,
    /// Tokens of the answers that are learned from
    #[arg(long, default_value_t = 30, value_name = "N")]
    tokens: usize,
    /// A suite file with harmful and harmless rows in train, validation and test, instead of the built-in ones; repeatable
    #[arg(long, value_name = "FILE")]
    suite: Vec<PathBuf>,
    /// Most train prompts of a class
    #[arg(long, default_value_t = 64, value_name = "N")]
    train: usize,
    /// Most validation prompts of a class
    #[arg(long, default_value_t = 16, value_name = "N")]
    validation: usize,
    /// Most test prompts of a class
    #[arg(long, default_value_t = 64, value_name = "N")]
    test: usize,
    /// Prompts that are run together
    #[arg(long, default_value_t = Settings::default().batch, value_name = "N")]
    batch: usize,
    /// Seed of every random choice
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Use a direction that was made on another model, or on this one before a change
    #[arg(long)]
    accept_foreign_direction: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    start: &'a str,
    place: Place,
    purpose: &'static str,
    steps: usize,
    /// Whether learning ended by itself, before its steps ran out.
    settled: bool,
    /// Weighted validation loss of the directions kept.
    validation_loss: f64,
    history: &'a [steer::learned::Step],
    unedited: Effect,
    before: Effect,
    learned: Vec<Effect>,
}

/// What a direction does to test prompts.
#[derive(Serialize)]
struct Effect {
    name: String,
    cosine_with_start: Option<f64>,
    /// Mean refusal score of harmful prompts with it taken out.
    bypass: f64,
    /// Mean refusal score of harmless prompts with it added.
    induce: f64,
    /// KL(unedited ‖ taken out) of harmless prompts at the last position, nats.
    kl: f64,
}

/// Train, validation and test prompts of both classes.
type Prompts = [[Vec<EncodedPrompt>; 3]; 2];

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    args.check()?;
    let cp = args.model.open(out)?;
    let start = edits::direction(&args.direction, &cp, args.accept_foreign_direction)?;
    let place = args.place(&start, &cp)?;
    let tokens = steer::refusal_tokens(&cp)?;
    let sets = args.sets()?;
    let prompts = sets.encoded(&cp).map_err(advised)?;
    let options = Options {
        batch: args.batch,
        progress: None,
        cancel: Some(interrupt::flag()),
    };
    let bar = Bar::counting(out);
    let from = Start {
        direction: &start,
        place,
    };
    let lessons = |at: usize| {
        let of = [&prompts[0][at][..], &prompts[1][at][..]];
        Lessons::new(&cp, of, &from, args.tokens, &options).map_err(stopped)
    };
    bar.start("the model's own answers", None);
    let (train, validation) = (lessons(0)?, lessons(1)?);
    let key = args.key(&cp, &start, place, &sets.hash())?;
    let settings = args.settings();
    let model = &cp.decoder;
    let mut state = match State::read(&args.out, &key).map_err(advised)? {
        Some(state) => {
            out.note(&format!("going on behind {} steps", state.history.len()));
            state
        }
        None => {
            let rows = (args.rows(&start)?, args.batch);
            begun(model, place, &validation, rows, key).map_err(stopped)?
        }
    };
    let left = args.steps.saturating_sub(state.history.len());
    bar.start("steps", Some(left as u64));
    let keep = &mut |state: &State| {
        bar.advance(1);
        state.write(&args.out)
    };
    let both = [&train, &validation];
    let cancel = Some(interrupt::flag());
    learn(model, place, both, &settings, &mut state, cancel, keep).map_err(stopped)?;
    bar.start("measuring on test prompts", None);
    let trial = Trial {
        cp: &cp,
        tokens: &tokens,
        prompts: &prompts,
        place,
        options,
        start: &start,
    };
    let report = args.report(&trial, &state)?;
    bar.done();
    args.save(&cp, &state, place, &report, &sets.hash())?;
    if out.json {
        out.json("candlescope.direction.learn/1", &report)?;
    } else {
        show(&report, out)?;
        let written = args.out.join("direction.safetensors");
        out.note(&format!("wrote {}", written.display()));
    }
    Ok(Outcome::Done)
}

impl Args {
    fn check(&self) -> anyhow::Result<()> {
        for (name, found, most) in [
            ("--cone", self.cone, 16),
            ("--steps", self.steps, 100_000),
            ("--examples", self.examples, 4096),
            ("--patience", self.patience, 100_000),
            ("--tokens", self.tokens, 4096),
            ("--batch", self.batch, 4096),
        ] {
            if !(1..=most).contains(&found) {
                let what = format!("{name}: expected 1 to {most}, found {found}");
                return Err(Usage::new(what, "leave it out for the default").into());
            }
        }
        if !(self.rate.is_finite() && self.rate > 0.0) {
            let what = format!("--rate: expected a number above 0, found {}", self.rate);
            return Err(Usage::new(what, "the paper's is 0.01").into());
        }
        Ok(())
    }

    fn settings(&self) -> Settings {
        Settings {
            steps: self.steps,
            rate: self.rate,
            examples: self.examples,
            batch: self.batch,
            patience: self.patience,
            seed: self.seed,
            ..Settings::default()
        }
    }

    /// Where additions go in, and how much: the starting direction's own length.
    fn place(&self, start: &Vector, cp: &Checkpoint) -> anyhow::Result<Place> {
        let said = || {
            let (path, tensor) = file::parse(&self.direction);
            file::load(&path, tensor).ok()?.layer
        };
        let contrast = || self.direction.strip_prefix("contrast:")?.parse().ok();
        let layer = self.layer.or_else(contrast).or_else(said).ok_or_else(|| {
            let what = format!("{} does not say at which layer it was read", self.direction);
            Usage::new(what, "name it with --layer")
        })?;
        let n_layers = cp.config().n_layers;
        if layer >= n_layers {
            let what = format!("--layer: expected 0 to {}, found {layer}", n_layers - 1);
            return Err(Usage::new(what, "additions go into the input of a block").into());
        }
        let alpha = length(start);
        anyhow::ensure!(
            alpha > 0.0,
            "{}: the direction has length 0, so it points nowhere",
            self.direction
        );
        Ok(Place { layer, alpha })
    }

    fn sets(&self) -> anyhow::Result<Sets> {
        let mut suites = Vec::new();
        for path in &self.suite {
            suites.push(Suite::from_jsonl(path)?);
        }
        if suites.is_empty() {
            suites = vec![Suite::builtin("harmful")?, Suite::builtin("harmless")?];
        }
        let sizes = steer::Sizes {
            train: self.train,
            validation: self.validation,
            test: self.test,
        };
        Sets::new(&suites, sizes, self.seed).map_err(advised)
    }

    /// The start, and random directions for the rest of a cone.
    fn rows(&self, start: &Vector) -> anyhow::Result<Vec<Vec<f64>>> {
        let mut all = vec![start.clone()];
        if self.cone > 1 {
            let more = random_directions(self.cone - 1, start.len(), self.seed);
            all.extend(more.map_err(advised)?);
        }
        let wide = |v: &Vector| v.iter().map(|&x| f64::from(x)).collect();
        Ok(all.iter().map(wide).collect())
    }

    fn key(
        &self,
        cp: &Checkpoint,
        start: &Vector,
        place: Place,
        prompts: &str,
    ) -> anyhow::Result<Key> {
        let made_on = cp.fingerprint()?;
        let bytes: Vec<u8> = start.iter().flat_map(|x| x.to_le_bytes()).collect();
        // The number of steps is left out: a longer run goes on behind a shorter one.
        let settings = Settings {
            steps: 0,
            ..self.settings()
        };
        Ok(Key {
            schema: "candlescope.direction.learning/1".to_owned(),
            weights: format!("{} as {}", made_on.weights, made_on.dtype),
            tokenizer: made_on.tokenizer.clone(),
            template: made_on.template.clone(),
            prompts: prompts.to_owned(),
            settings: serde_json::json!({
                "settings": settings,
                "cone": self.cone,
                "tokens": self.tokens,
                "place": place,
                "start": sha256(&bytes),
            }),
        })
    }

    fn report<'a>(&'a self, trial: &Trial, state: &'a State) -> anyhow::Result<Report<'a>> {
        let rows = state.best.1.iter().map(|row| narrow(row, 1.0));
        let learned = rows.enumerate().map(|(k, row)| {
            let name = format!("learned {k}");
            trial.effect(&name, Some(&row))
        });
        Ok(Report {
            model: &self.model.model,
            start: &self.direction,
            place: trial.place,
            purpose: PURPOSE,
            steps: state.history.len(),
            settled: state.history.len() < self.steps,
            validation_loss: state.best.0,
            history: &state.history,
            unedited: trial.effect("unedited", None)?,
            before: trial.effect("start", Some(trial.start))?,
            learned: learned.collect::<anyhow::Result<_>>()?,
        })
    }

    fn save(
        &self,
        cp: &Checkpoint,
        state: &State,
        place: Place,
        report: &Report,
        prompts: &str,
    ) -> anyhow::Result<()> {
        let rows = &state.best.1;
        let first = rows.first().map(|row| narrow(row, place.alpha));
        let direction = DirectionFile {
            vector: first.map(|v| v.to_vec()).unwrap_or_default(),
            fingerprint: Some(cp.fingerprint()?.clone()),
            layer: Some(place.layer),
            norm: Some(place.alpha),
            method: Some("learned".to_owned()),
            prompts: Some(prompts.to_owned()),
            scores: Some(serde_json::to_value(&report.learned)?),
            ..DirectionFile::default()
        };
        file::save(&self.out.join("direction.safetensors"), &direction)?;
        if rows.len() > 1 {
            let named: BTreeMap<String, Vector> = (rows.iter().enumerate())
                .map(|(k, row)| (format!("cone.{k}"), narrow(row, place.alpha)))
                .collect();
            let plan: Vec<(String, Vec<usize>)> = (named.iter())
                .map(|(name, v)| (name.clone(), vec![v.len()]))
                .collect();
            let fingerprint = serde_json::to_string(cp.fingerprint()?)?;
            let options = WriteOptions {
                metadata: BTreeMap::from([
                    ("schema".to_owned(), "candlescope.direction/1".to_owned()),
                    ("fingerprint".to_owned(), fingerprint),
                    ("layer".to_owned(), place.layer.to_string()),
                ]),
                ..WriteOptions::default()
            };
            let file = self.out.join("cone.safetensors");
            write_safetensors_file(&file, &plan, &options, |name| {
                let vector = named.get(name).map_or(&[][..], |v| v.as_slice());
                Tensor::from_slice(vector, vector.len(), &Device::Cpu)
            })?;
        }
        let text = serde_json::to_string_pretty(report)?;
        Ok(write_atomic(&self.out.join("learn.json"), text.as_bytes())?)
    }
}

/// What effects on test prompts are measured with.
struct Trial<'a> {
    cp: &'a Checkpoint,
    tokens: &'a RefusalTokens,
    prompts: &'a Prompts,
    place: Place,
    options: Options<'a>,
    start: &'a Vector,
}

impl Trial<'_> {
    fn effect(&self, name: &str, direction: Option<&Vector>) -> anyhow::Result<Effect> {
        let [harmful, harmless] = [&self.prompts[0][2], &self.prompts[1][2]];
        let (mut out, mut put) = (Hooks::new(), Hooks::new());
        if let Some(direction) = direction {
            let dose = self.place.alpha / length(direction);
            out = out.edits(ablation(direction, self.cp.config()));
            put = put.edits(addition(direction, self.place.layer, dose));
        }
        let score = |prompts: &[EncodedPrompt], hooks: &Hooks| {
            let found = refusal_scores(self.cp, prompts, hooks, self.tokens, &self.options);
            found.map(|s| mean(&s)).map_err(stopped)
        };
        let mut base = vec![Vec::new(); harmless.len()];
        let read = steer::last_logits(
            self.cp,
            harmless,
            &Hooks::new(),
            &self.options,
            &mut |i, row| {
                base[i] = row.to_vec();
            },
        );
        read.map_err(stopped)?;
        let mut kl = vec![0.0; harmless.len()];
        let read = steer::last_logits(self.cp, harmless, &out, &self.options, &mut |i, row| {
            kl[i] = steer::kl(&base[i], row);
        });
        read.map_err(stopped)?;
        let cosine = direction.and_then(|d| cosine(d, self.start).ok());
        Ok(Effect {
            name: name.to_owned(),
            cosine_with_start: cosine,
            bypass: score(harmful, &out)?,
            induce: score(harmless, &put)?,
            kl: mean(&kl),
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn length(vector: &Vector) -> f64 {
    let squares = vector.iter().map(|&x| f64::from(x).powi(2));
    squares.sum::<f64>().sqrt()
}

fn narrow(row: &[f64], scale: f64) -> Vector {
    Arc::new(row.iter().map(|x| (x * scale) as f32).collect())
}

fn stopped(error: SteerError) -> anyhow::Error {
    match error {
        SteerError::Interrupted => interrupt::Interrupted.into(),
        other => advised(other),
    }
}

fn show(report: &Report, out: &Out) -> anyhow::Result<()> {
    let mut table = Table::new([
        "test prompts",
        "taken out, harmful",
        "added, harmless",
        "KL",
        "cos(start)",
    ]);
    let all = [&report.unedited, &report.before];
    for effect in all.into_iter().chain(&report.learned) {
        let cosine = effect.cosine_with_start;
        table.row([
            effect.name.clone(),
            format!("{:.2}", effect.bypass),
            format!("{:.2}", effect.induce),
            format!("{:.4}", effect.kl),
            cosine.map_or("-".to_owned(), |c| format!("{c:.3}")),
        ]);
    }
    table.print(out)?;
    out.line(&format!(
        "\nmean refusal scores; {} steps{}; validation loss {:.4}; added at block {} at length {:.2}",
        report.steps,
        if report.settled { ", settled" } else { "" },
        report.validation_loss,
        report.place.layer,
        report.place.alpha
    ))?;
    out.line(PURPOSE)
}
