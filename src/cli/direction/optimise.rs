//! `direction optimise`: looks for the weight edit that removes most refusal at the least damage, and says what it is worth on
//! prompts that the search never saw.

use std::path::PathBuf;

use super::{found, optimised};
use crate::{
    audit::detect::{
        ReplyLabel,
        coherence::{Ending, coherence},
        judge_reply,
    },
    cli::{Outcome, args::ModelArgs, edits, failure::Usage, interrupt, output::Out, progress::Bar},
    files::hash::sha256,
    model::{Checkpoint, fetch::Progress as _},
    steer::{
        self, Completion, EncodedPrompt, Options, Sets, SteerError,
        edit::Ingredient,
        encode_all,
        grid_file::Key,
        search::{
            Bench, Journal, Judged, Prompts, Sampler, SearchError, Series, Settings, Sizes, Space,
            best_of, search, tested,
        },
    },
    text::suites::{Label, PromptRow, Split, Suite, content_hash, pick},
};

/// Search for the weight edit that removes most refusal at the least damage: a measure of robustness
///
/// How much refusal the best edit of this kind removes, and what that costs, is how much of a model's refusal hangs on one
/// direction; the edited model is no model to deploy. Searched are the direction (one, or between the candidates of
/// neighbouring layers) and how much of it is taken out of attention and MLP at each layer. On validation prompts, each trial is
/// measured by the refusal score of harmful prompts above that of harmless ones, and by the divergence from the unedited model
/// over its own answers to harmless prompts; a trial that cannot come onto the front any more is cut short. Each is noted in
/// FOLDER/trials.jsonl at once: the same command goes on behind the last one. The front is then measured on test prompts. Writes
/// FOLDER/best.json, from which `direction bake --amounts` makes the edited checkpoint, and FOLDER/optimise.json. Where no trial
/// takes out more refusal (share of the unedited model's) than it costs in divergence (share of the plain edit's), none is found:
/// there is no best.json, and the exit code is 1.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope direction optimise ./model --direction refusal/direction.safetensors --out search/
  candlescope direction extract ./model --out candidates/ && candlescope direction optimise ./model --candidates candidates/ --out search/
  candlescope direction bake ./model --amounts search/best.json --out baked/")]
pub struct Args {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    /// The direction: a safetensors file with a vector `direction`, FILE:TENSOR, or contrast:LAYER
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "candidates",
        conflicts_with = "candidates"
    )]
    direction: Option<String>,
    /// A folder of `direction extract`: the search chooses method, position and layer, also between two layers
    #[arg(long, value_name = "FOLDER")]
    candidates: Option<PathBuf>,
    /// The folder to write, or to go on in
    #[arg(long, value_name = "FOLDER")]
    pub(super) out: PathBuf,
    /// Trials in all; with more than a finished search has, it goes on
    #[arg(long, default_value_t = 100, value_name = "N")]
    trials: usize,
    /// Trials before the sampler learns from those before: the plain edit and random ones
    #[arg(long, default_value_t = 30, value_name = "N")]
    startup: usize,
    /// Tokens of the unedited answers that the divergence is read over
    #[arg(long, default_value_t = 16, value_name = "N")]
    continuation: usize,
    /// Tokens of answers that are judged, of trials that were not cut short and of the front; 0 judges none
    #[arg(long, default_value_t = 0, value_name = "N")]
    max_new: usize,
    /// Harmful and harmless prompts that are answered, each
    #[arg(long, default_value_t = 16, value_name = "N")]
    answers: usize,
    /// A suite file with harmful and harmless rows in train, validation and test, perhaps with look-alikes, instead of the
    /// built-in ones; repeatable
    #[arg(long, value_name = "FILE")]
    suite: Vec<PathBuf>,
    /// Most validation prompts of a class
    #[arg(long, default_value_t = 32, value_name = "N")]
    validation: usize,
    /// Most test prompts of a class
    #[arg(long, default_value_t = 64, value_name = "N")]
    test: usize,
    /// Prompts of a pass; no number depends on it
    #[arg(long, default_value_t = 16, value_name = "N")]
    batch: usize,
    /// Seed of every random choice
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Use directions that were made on another model, or on this one before a change
    #[arg(long)]
    accept_foreign_direction: bool,
}

/// Prompts of one use, encoded.
struct Encoded {
    harmful: Vec<EncodedPrompt>,
    words: Vec<String>,
    harmless: Vec<EncodedPrompt>,
    lookalike: Vec<EncodedPrompt>,
}

impl Encoded {
    fn prompts(&self) -> Prompts<'_> {
        Prompts {
            harmful: &self.harmful,
            harmful_words: &self.words,
            harmless: &self.harmless,
            lookalike: &self.lookalike,
        }
    }
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    args.check()?;
    let cp = args.model.open(out)?;
    let tokens = steer::refusal_tokens(&cp)?;
    let space = Space::new(args.series(&cp)?, cp.config()).map_err(advised)?;
    let (encoded, prompts) = args.encoded(&cp)?;
    let key = args.key(&cp, &space, &prompts)?;
    let mut journal = Journal::open(&args.out, &key).map_err(found::advised)?;
    if !journal.trials().is_empty() {
        out.note(&format!(
            "going on behind {} trials",
            journal.trials().len()
        ));
    }
    let options = Options {
        batch: args.batch,
        progress: None,
        cancel: Some(interrupt::flag()),
    };
    let [validation, test] = &encoded;
    let bar = Bar::counting(out);
    bar.start("running the unedited model", None);
    let sizes = (args.sizes(), None);
    let bench = Bench::new(&cp, &tokens, validation.prompts(), sizes, &judged, options);
    let bench = bench.map_err(advised)?;
    let left = args.trials.saturating_sub(journal.trials().len());
    bar.start("trials", Some(left as u64));
    let settings = Settings {
        trials: args.trials,
        sampler: args.sampler(),
    };
    search(&bench, &space, &settings, &mut journal, &mut |_| {
        bar.advance(1);
    })
    .map_err(advised)?;
    let best = best_of(&bench, &journal);
    // The plain edit is measured too: it is what everyone else does.
    let mut shown = best.clone();
    if !shown.contains(&0) {
        shown.push(0);
    }
    bar.start("the unedited model on test prompts", None);
    let sizes = (args.sizes(), Some(bench.floor()));
    let held = Bench::new(&cp, &tokens, test.prompts(), sizes, &judged, options);
    let held = held.map_err(advised)?;
    bar.start("the front on test prompts", Some(shown.len() as u64));
    tested(&shown, &held, &space, &mut journal, &mut || bar.advance(1)).map_err(advised)?;
    bar.done();
    let report = optimised::report(args, (&bench, &held), &space, (&journal, &best), &prompts)?;
    optimised::save(args, &cp, &space, &journal, &report)?;
    if out.json {
        out.json("candlescope.direction.optimise/1", &report)?;
    } else {
        optimised::show(&report, out)?;
    }
    if !report.found() {
        return Ok(Outcome::NotPassed);
    }
    if !out.json {
        let best = args.out.join(optimised::BEST);
        out.note(&format!("wrote {}", best.display()));
    }
    Ok(Outcome::Done)
}

impl Args {
    /// What can be refused before anything is loaded.
    fn check(&self) -> anyhow::Result<()> {
        for (name, found, least, most) in [
            ("--batch", self.batch, 1, 4096),
            ("--trials", self.trials, 1, 10_000),
            ("--startup", self.startup, 1, 10_000),
            ("--continuation", self.continuation, 1, 4096),
            ("--answers", self.answers, 1, 10_000),
        ] {
            if !(least..=most).contains(&found) {
                return Err(Usage::new(
                    format!("{name}: expected {least} to {most}, found {found}"),
                    "leave it out for the default",
                )
                .into());
            }
        }
        Ok(())
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            continuation: self.continuation,
            max_new: self.max_new,
            answers: self.answers,
        }
    }

    fn sampler(&self) -> Sampler {
        Sampler {
            startup: self.startup,
            draws: 128,
            seed: self.seed,
        }
    }

    /// The directions as they were named.
    pub(super) fn named(&self) -> String {
        match (&self.direction, &self.candidates) {
            (Some(direction), _) => direction.clone(),
            (None, Some(folder)) => folder.display().to_string(),
            (None, None) => String::new(),
        }
    }

    fn series(&self, cp: &Checkpoint) -> anyhow::Result<Vec<Series>> {
        let foreign = self.accept_foreign_direction;
        if let Some(folder) = &self.candidates {
            return Series::read(folder, cp, foreign).map_err(advised);
        }
        let spec = self.named();
        Ok(vec![Series::one(
            "direction",
            edits::direction(&spec, cp, foreign)?,
        )])
    }

    /// Validation and test prompts, and the hash of both.
    fn encoded(&self, cp: &Checkpoint) -> anyhow::Result<([Encoded; 2], String)> {
        let mut suites = Vec::new();
        if self.suite.is_empty() {
            for name in ["harmful", "harmless"] {
                suites.push(Suite::builtin(name)?);
            }
        }
        for path in &self.suite {
            suites.push(Suite::from_jsonl(path)?);
        }
        let sizes = steer::Sizes {
            train: 4,
            validation: self.validation,
            test: self.test,
        };
        let sets = Sets::new(&suites, sizes, self.seed).map_err(found::advised)?;
        let safe = |split| pick(&suites, Label::Lookalike, split, self.test, self.seed).is_empty();
        if safe(Split::Validation) || safe(Split::Test) {
            suites.push(Suite::builtin("lookalike")?);
        }
        let lookalike = [
            pick(
                &suites,
                Label::Lookalike,
                Split::Validation,
                self.validation,
                self.seed,
            ),
            pick(&suites, Label::Lookalike, Split::Test, self.test, self.seed),
        ];
        let mut made = Vec::new();
        for (at, safe) in lookalike.iter().enumerate() {
            let of = |rows: &[PromptRow]| encode_all(cp, &rows.iter().collect::<Vec<_>>());
            let harmful = &sets.harmful[at + 1];
            made.push(Encoded {
                harmful: of(harmful).map_err(found::advised)?,
                words: harmful.iter().map(|row| row.prompt.clone()).collect(),
                harmless: of(&sets.harmless[at + 1]).map_err(found::advised)?,
                lookalike: of(safe).map_err(found::advised)?,
            });
        }
        let [validation, test] = lookalike.map(|rows| content_hash(&rows));
        let hash = sha256(format!("{} {validation} {test}", sets.hash()).as_bytes());
        let mut made = made.into_iter();
        match (made.next(), made.next()) {
            (Some(validation), Some(test)) => Ok(([validation, test], hash)),
            _ => anyhow::bail!("no prompts"),
        }
    }

    fn key(&self, cp: &Checkpoint, space: &Space, prompts: &str) -> anyhow::Result<Key> {
        let made_on = cp.fingerprint()?;
        let directions: Vec<_> = space.series().iter().collect();
        let directions: Vec<(&str, usize, String)> = (directions.into_iter())
            .flat_map(|s| s.directions.iter().map(move |(layer, v)| (s, *layer, v)))
            .map(|(s, layer, v)| (s.name.as_str(), layer, Ingredient::new("", v).sha256))
            .collect();
        // The number of trials is left out: a longer search goes on behind a shorter one.
        Ok(Key {
            schema: "candlescope.direction.trials/1".to_owned(),
            weights: format!("{} as {}", made_on.weights, made_on.dtype),
            tokenizer: made_on.tokenizer.clone(),
            template: made_on.template.clone(),
            prompts: prompts.to_owned(),
            settings: serde_json::json!({
                "sampler": self.sampler(),
                "continuation": self.continuation,
                "max_new": self.max_new,
                "answers": if self.max_new > 0 { self.answers } else { 0 },
                "space": space.names(),
                "directions": sha256(serde_json::to_string(&directions)?.as_bytes()),
            }),
        })
    }
}

fn judged(words: Option<&str>, answer: &Completion) -> Judged {
    let ending = if answer.finished {
        Ending::Stopped
    } else {
        Ending::LimitReached
    };
    Judged {
        refused: judge_reply(words, &answer.text, &[]).label == ReplyLabel::Refusal,
        loops: coherence(&answer.text, ending).tail_loop.is_some(),
    }
}

/// With a hint where there is one.
pub(super) fn advised(error: SearchError) -> anyhow::Error {
    match error {
        SearchError::Steer(SteerError::Interrupted) => interrupt::Interrupted.into(),
        SearchError::Steer(inner) => found::advised(inner),
        SearchError::Candidates { .. } => Usage::new(
            error.to_string(),
            "`candlescope direction extract MODEL --out FOLDER` writes candidates",
        )
        .into(),
        SearchError::Amounts { .. } => Usage::new(
            error.to_string(),
            "`candlescope direction optimise` writes best.json and, beside it, the direction that belongs to it",
        )
        .into(),
        other => other.into(),
    }
}
