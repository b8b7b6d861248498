//! `direction select`: tries candidates on the model, chooses one by a policy, and reports on prompts that chose nothing.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use super::extract::name;
use super::found::{CandidateArgs, Found, advised};
use crate::{
    audit::effect::{Condition, Effect, HeldOut, Sizes, effect},
    cli::{
        Outcome,
        args::ModelArgs,
        output::{Out, Table},
    },
    files::write::write_atomic,
    model::Checkpoint,
    steer::{
        Candidate, KlLimit, Scored, Selection, SelectionPolicy, Validation,
        file::{self, DirectionFile},
        grid_file::{GridFile, Key},
        select_noting,
    },
    text::suites::PromptRow,
};

/// Find the direction that refusal hangs on, and prove it on held-out prompts
///
/// Candidates are made on train prompts and tried on validation prompts: what ablating each does to refusal (bypass) and to
/// ordinary answers (KL), and whether adding it makes the model refuse (induce). The policy chooses. The chosen one is then
/// measured on test prompts, beside random directions, with judged answers. Each candidate is noted in FOLDER/grid.jsonl as soon
/// as it is tried: the same command goes on behind the last one. Writes FOLDER/direction.safetensors and FOLDER/selection.json.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope direction select qwen2.5-coder-0.5b-instruct --out refusal/
  candlescope direction select ./model --policy arditi --method means --method logistic --out refusal/")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The folder to write, or to go on in
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// How one is chosen
    #[arg(long, value_enum, default_value = "default", value_name = "POLICY")]
    policy: PolicyArg,
    /// Try the best-separating candidate of each of this many bands of layers; 0 tries all [default: 12 for default, 0 for
    /// arditi]
    #[arg(long, value_name = "N")]
    screen: Option<usize>,
    /// Random directions that the chosen one is measured beside, at least 8
    #[arg(long, default_value_t = Sizes::default().random, value_name = "N")]
    random: usize,
    /// Tokens of the answers that are judged on test prompts; 0 judges none
    #[arg(long, default_value_t = Sizes::default().max_new, value_name = "N")]
    max_new: usize,
    #[command(flatten)]
    find: CandidateArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PolicyArg {
    /// KL against random directions, a drop that is not noise, refusal induced
    Default,
    /// Arditi et al.: KL at most 0.1, refusal induced, layers below 80 %; prompts filtered by the model's own refusals
    Arditi,
}

/// What is printed and written.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    prompts: &'a str,
    causal: bool,
    reason: Option<&'a str>,
    chosen: Row,
    candidates: Vec<Row>,
    selection: Summary<'a>,
    /// On test prompts.
    effect: &'a Effect,
    /// Work of trying candidates.
    cost: Cost,
}

#[derive(Serialize)]
struct Summary<'a> {
    policy: &'a SelectionPolicy,
    candidates: usize,
    tried: usize,
    validation: [usize; 2],
    baseline_harmful: f64,
    baseline_harmless: f64,
    filter: &'a crate::steer::FilterCounts,
    random_kl: &'a [f64],
}

#[derive(Serialize)]
struct Row {
    name: String,
    layer: usize,
    position: String,
    auroc: f64,
    bypass: f64,
    drop: [Option<f64>; 2],
    induce: f64,
    kl: f64,
    kl_z: Option<f64>,
    admissible: Option<String>,
}

/// Products of the passes over validation prompts, in units of 10^12.
#[derive(Serialize)]
struct Cost {
    /// Tokens that were run, prefixes once for each edit.
    tokens: u64,
    tera_flop: f64,
    seconds: f64,
    tera_flop_per_second: f64,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let cp = args.model.open(out)?;
    let policy = args.policy();
    let found = args.find.find(&cp, args.policy == PolicyArg::Arditi, out)?;
    let mut grid = GridFile::open(&args.out, &key(&cp, &found, &policy)?).map_err(advised)?;
    if !grid.is_empty() {
        out.note(&format!("going on behind {} candidates", grid.len()));
    }
    let [harmful, harmless] = &found.encoded;
    let validation = Validation {
        harmful: &harmful[1],
        harmless: &harmless[1],
    };
    let known = grid.len();
    let began = std::time::Instant::now();
    let selection = (args.find).counted(out, "trying candidates", |options| {
        let (tokens, all) = (&found.tokens, &found.candidates);
        select_noting(&cp, validation, all, tokens, &policy, options, &mut grid)
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let cost = cost(
        &cp,
        &found,
        selection.all.len() - known.min(selection.all.len()),
        seconds,
    );
    let measured = args.measured(&cp, &found, &selection, out)?;
    let report = report(args, &found, &selection, &measured, cost);
    save(args, &cp, &found, &selection, &report)?;
    if out.json {
        out.json("candlescope.direction.select/1", &report)?;
    } else {
        show(&report, out)?;
        out.note(&format!(
            "wrote {}",
            args.out.join("direction.safetensors").display()
        ));
    }
    Ok(Outcome::Done)
}

impl Args {
    fn policy(&self) -> SelectionPolicy {
        let mut policy = match self.policy {
            PolicyArg::Default => SelectionPolicy::default_(),
            PolicyArg::Arditi => SelectionPolicy::arditi(),
        };
        policy.seed = self.find.seed;
        policy.bootstrap.seed = self.find.seed;
        if let Some(screen) = self.screen {
            policy.screen = (screen > 0).then_some(screen);
        }
        policy
    }

    fn measured(
        &self,
        cp: &Checkpoint,
        found: &Found,
        selection: &Selection,
        out: &Out,
    ) -> anyhow::Result<Effect> {
        let words = |rows: &[PromptRow]| -> Vec<String> {
            rows.iter().map(|row| row.prompt.clone()).collect()
        };
        let (harmful, harmless) = (
            words(&found.sets.harmful[2]),
            words(&found.sets.harmless[2]),
        );
        let held = HeldOut {
            harmful: &found.encoded[0][2],
            harmful_words: &harmful,
            harmless: &found.encoded[1][2],
            harmless_words: &harmless,
            spread: &found.encoded[1][0],
        };
        let sizes = Sizes {
            max_new: self.max_new,
            random: self.random,
            seed: self.find.seed,
            ..Sizes::default()
        };
        (self.find).counted(out, "measuring on test prompts", |options| {
            let chosen = &selection.chosen.candidate;
            effect(cp, chosen, &found.tokens, held, sizes, options)
        })
    }
}

/// What a grid belongs to.
fn key(cp: &Checkpoint, found: &Found, policy: &SelectionPolicy) -> anyhow::Result<Key> {
    let made_on = cp.fingerprint()?;
    Ok(Key {
        schema: "candlescope.direction.grid/1".to_owned(),
        weights: format!("{} as {}", made_on.weights, made_on.dtype),
        tokenizer: made_on.tokenizer.clone(),
        template: made_on.template.clone(),
        prompts: found.prompts.clone(),
        settings: serde_json::to_value(policy)?,
    })
}

/// Tokens and products of trying `tried` candidates: each runs harmful prompts once and harmless ones twice, each time with its
/// prefix. A token costs two operations a weight that it is multiplied with; attention and the unembedding of last positions are
/// left out.
fn cost(cp: &Checkpoint, found: &Found, tried: usize, seconds: f64) -> Cost {
    let of = |prompts: &[crate::steer::EncodedPrompt]| {
        let shared = crate::steer::PromptSet::new(prompts).shared();
        let own: usize = prompts.iter().map(|p| p.ids.len() - shared).sum();
        (own + shared) as u64
    };
    let [harmful, harmless] = &found.encoded;
    let tokens = tried as u64 * (of(&harmful[1]) + 2 * of(&harmless[1]));
    let config = cp.config();
    // Looking an embedding up multiplies with nothing; a head that is the embedding is counted once.
    let tables = config.vocab_size * config.d_model * if config.tied { 1 } else { 2 };
    let weights = config.n_params().saturating_sub(tables) as f64;
    let tera_flop = 2.0 * weights * tokens as f64 / 1e12;
    Cost {
        tokens,
        tera_flop,
        seconds,
        tera_flop_per_second: tera_flop / seconds,
    }
}

fn row(scored: &Scored) -> Row {
    let candidate: &Candidate = &scored.candidate;
    let drop = scored.drop.interval;
    Row {
        name: name(candidate),
        layer: candidate.layer,
        position: candidate.where_.to_string(),
        auroc: candidate.separation,
        bypass: scored.bypass.estimate,
        drop: [drop.map(|i| i.low), drop.map(|i| i.high)],
        induce: scored.induce.estimate,
        kl: scored.kl.estimate,
        kl_z: scored.kl_z,
        admissible: scored.admissible.clone().err(),
    }
}

fn report<'a>(
    args: &'a Args,
    found: &'a Found,
    selection: &'a Selection,
    effect: &'a Effect,
    cost: Cost,
) -> Report<'a> {
    Report {
        model: &args.model.model,
        prompts: &found.prompts,
        causal: selection.causal,
        reason: selection.reason.as_deref(),
        chosen: row(&selection.chosen),
        candidates: selection.all.iter().map(row).collect(),
        selection: Summary {
            policy: &selection.policy,
            candidates: selection.n_candidates,
            tried: selection.all.len(),
            validation: [found.encoded[0][1].len(), found.encoded[1][1].len()],
            baseline_harmful: selection.baseline_harmful.estimate,
            baseline_harmless: selection.baseline_harmless.estimate,
            filter: &selection.filter,
            random_kl: &selection.random_kl,
        },
        effect,
        cost,
    }
}

fn save(
    args: &Args,
    cp: &Checkpoint,
    found: &Found,
    selection: &Selection,
    report: &Report,
) -> anyhow::Result<()> {
    let chosen = &selection.chosen.candidate;
    let (layer, place) = (chosen.layer, chosen.where_);
    let reliability = match chosen.direction.reliability {
        Some(known) => Some(known),
        None => match (
            found.train[0].find(layer, place),
            found.train[1].find(layer, place),
        ) {
            (Some(x), Some(y)) => Some(chosen.method.reliability(x, y, args.find.seed)?),
            _ => None,
        },
    };
    let direction = DirectionFile {
        vector: chosen.direction.scaled(),
        fingerprint: Some(cp.fingerprint()?.clone()),
        layer: Some(layer),
        position: place.from_end(),
        norm: Some(chosen.direction.norm),
        method: Some(chosen.method.name().to_owned()),
        reliability: reliability.map(|r| r.full),
        prompts: Some(found.prompts.clone()),
        scores: Some(serde_json::to_value(report.effect)?),
    };
    file::save(&args.out.join("direction.safetensors"), &direction)?;
    let text = serde_json::to_string_pretty(report)?;
    write_atomic(&args.out.join("selection.json"), text.as_bytes())?;
    Ok(())
}

fn show(report: &Report, out: &Out) -> anyhow::Result<()> {
    let mut table = Table::new([
        "candidate",
        "AUROC",
        "bypass",
        "induce",
        "KL",
        "z",
        "refused because",
    ]);
    for row in &report.candidates {
        table.row([
            row.name.clone(),
            format!("{:.3}", row.auroc),
            format!("{:.2}", row.bypass),
            format!("{:.2}", row.induce),
            format!("{:.3}", row.kl),
            row.kl_z.map_or("-".to_owned(), |z| format!("{z:.1}")),
            row.admissible.clone().unwrap_or_default(),
        ]);
    }
    table.print(out)?;
    let summary = &report.selection;
    out.line(&format!(
        "\n{} of {} candidates tried on {} harmful and {} harmless validation prompts, by the policy `{}`; unedited scores {:.2} and {:.2}",
        summary.tried,
        summary.candidates,
        summary.validation[0],
        summary.validation[1],
        summary.policy.name,
        summary.baseline_harmful,
        summary.baseline_harmless,
    ))?;
    if let KlLimit::Random { directions, .. } = summary.policy.kl {
        out.line(&format!(
            "z is of KL against {directions} random directions"
        ))?;
    }
    out.line(&format!(
        "chosen: {} ({})",
        report.chosen.name, report.chosen.position
    ))?;
    if let Some(reason) = report.reason {
        out.line(&format!("not causal: {reason}"))?;
    }
    let cost = &report.cost;
    if cost.tokens > 0 {
        out.line(&format!(
            "{:.1} TFLOP over {} tokens in {:.0} s: {:.3} TFLOP/s",
            cost.tera_flop, cost.tokens, cost.seconds, cost.tera_flop_per_second
        ))?;
    }
    out.line("")?;
    effects(report.effect, out)
}

/// The table of conditions on test prompts.
pub(super) fn effects(effect: &Effect, out: &Out) -> anyhow::Result<()> {
    let mut table = Table::new([
        "test prompts",
        "refused",
        "score",
        "random",
        "z",
        "KL",
        "random",
        "z",
        "loops, unusable",
    ]);
    let z = |z: Option<f64>| z.map_or("-".to_owned(), |z| format!("{z:.1}"));
    for condition in &effect.conditions {
        let beside = condition.random.as_ref();
        let part = |of: &dyn Fn(&crate::audit::effect::Beside) -> String| {
            beside.map_or("-".to_owned(), of)
        };
        table.row([
            condition.name.clone(),
            refused(condition),
            format!("{:.2}", condition.score.estimate),
            part(&|b| format!("{:.2} ± {:.2}", b.score.mean, b.score.sd)),
            part(&|b| z(b.score.z)),
            (condition.kl.as_ref()).map_or("-".to_owned(), |kl| format!("{:.3}", kl.estimate)),
            part(&|b| format!("{:.3}", b.log_kl.mean.exp())),
            part(&|b| z(b.log_kl.z)),
            match (&condition.loops, &condition.unusable) {
                (Some(loops), Some(unusable)) => {
                    format!(
                        "{:.0} %, {:.0} %",
                        100.0 * loops.rate,
                        100.0 * unusable.rate
                    )
                }
                _ => "-".to_owned(),
            },
        ]);
    }
    table.print(out)?;
    out.line(&format!(
        "\n{} harmful and {} harmless prompts; {} random directions of the same length on {} of each class; what is added is {:.2} of the stream's length there",
        effect.n_harmful,
        effect.n_harmless,
        effect.sizes.random,
        effect.sizes.random_prompts,
        effect.relative_dose
    ))
}

fn refused(condition: &Condition) -> String {
    let Some(share) = &condition.refused else {
        return "-".to_owned();
    };
    let per = |x: f64| 100.0 * x;
    format!(
        "{:.1} % [{:.1}, {:.1}]",
        per(share.rate),
        per(share.interval.low),
        per(share.interval.high)
    )
}
