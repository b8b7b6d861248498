//! `steer sweep`: what a steering does to prompts as its dose grows.

use clap::ValueEnum;
use serde::Serialize;

use super::{FormArgs, counted, generate::told, prompts::PromptArgs};
use crate::{
    audit::{
        detect::coherence::{Ending, coherence},
        result::{excerpt, harmful_excerpt},
    },
    cli::{
        Outcome,
        args::ModelArgs,
        edits,
        failure::Usage,
        lens,
        output::{Out, Table},
    },
    hooks::Edit,
    model::Checkpoint,
    steer::{
        Aim, EncodedPrompt, LARGE, Options, RefusalTokens, RelativeDose, Scorer, Span, Steering,
        Sweep, condition::conditional, encode_all, refusal_tokens, relative_doses, sweep,
    },
    text::suites::{Label, PromptRow},
};
use candlescope_probes::stats::interval::Proportion;

/// Try doses of one steering: score, slope and anti-steered share, KL, coherence, random directions beside it
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope steer sweep toy --add contrast:1@1*1 --doses 0.5,1,2 --suite harmless -n 16
  candlescope steer sweep toy --ablate contrast:1 --doses 0.5,1 --aim down --suite harmful --tokens 16 --json")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    forms: FormArgs,
    /// Doses to try in place of the one that is written; 0 is always tried [default: quarters of it up to it]
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    doses: Vec<f64>,
    /// What is scored
    #[arg(long, value_enum, default_value = "refusal", value_name = "WHAT")]
    score: ScoreArg,
    /// The token of --score token, leading space included
    #[arg(long, value_name = "TOKEN", required_if_eq("score", "token"))]
    token: Option<String>,
    /// The direction of --score projection
    #[arg(long, value_name = "DIR", required_if_eq("score", "projection"))]
    direction: Option<String>,
    /// Where a larger dose should move the score
    #[arg(long, value_enum, default_value = "up", value_name = "WAY")]
    aim: AimArg,
    /// Random directions of the same length at the largest dose; 0 for none
    #[arg(long, default_value_t = 32, value_name = "N")]
    random: usize,
    /// New tokens of an answer to each prompt at each dose, for coherence; 0 for none
    #[arg(long, default_value_t = 0, value_name = "N")]
    tokens: usize,
    /// Prompts of one batch; no number depends on it
    #[arg(long, default_value_t = 16, value_name = "N")]
    batch: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScoreArg {
    /// Log-odds of the words refusals open with
    Refusal,
    /// Log-odds of one token
    Token,
    /// Component of the last position along a direction, after the last block
    Projection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AimArg {
    /// Up
    Up,
    /// Down
    Down,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    steering: [String; 2],
    positions: Span,
    ids: Vec<&'a str>,
    /// Size of each dose at the place where it is largest.
    relative: Vec<RelativeDose>,
    #[serde(flatten)]
    sweep: &'a Sweep,
    /// Answers at each dose; empty without --tokens.
    coherence: Vec<Told>,
}

#[derive(Serialize)]
struct Told {
    dose: f64,
    loops: Proportion,
    /// Mean share of distinct pairs of words.
    distinct_2: f64,
    /// The first answer, cut.
    first: String,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let rows = args.prompts.rows()?;
    let steering = args.steering()?;
    let doses = args.grid(&steering)?;
    let model = args.model.open(out)?;
    let foreign = args.forms.edits.accept_foreign_direction;
    let vectors = steering.load(&model, foreign, &Options::default())?;
    let scorer = args.scorer(&model)?;
    let refs: Vec<&PromptRow> = rows.iter().collect();
    let prompts = encode_all(&model, &refs)?;
    let edits = |dose: f64| {
        let dosed = Steering {
            dose,
            ..steering.clone()
        };
        dosed.edits_of(&vectors, model.config())
    };
    let span = args.forms.span();
    let aim = match args.aim {
        AimArg::Up => Aim::Up,
        AimArg::Down => Aim::Down,
    };
    let mut relative = Vec::new();
    for &dose in &doses {
        let sizes = relative_doses(&model, &prompts, &edits(dose)?, &Options::default())?;
        relative.extend(sizes.into_iter().max_by(|a, b| a.share.total_cmp(&b.share)));
    }
    if let Some(size) = relative.iter().find(|size| size.share > LARGE) {
        out.note(&format!(
            "warning: a dose is {:.2} times the stream at {}, above {LARGE}",
            size.share, size.at
        ));
    }
    let total = (doses.len() + 1 + args.random) * prompts.len();
    let found = counted("doses", total, args.batch, out, |options| {
        let how = (&scorer, aim, span);
        let null = (args.random, args.prompts.seed);
        sweep(
            &model,
            &prompts,
            (&steering, &vectors),
            &doses,
            how,
            null,
            options,
        )
    })?;
    let mut coherence = Vec::new();
    if args.tokens > 0 {
        for dosed in &found.doses {
            let edits = if dosed.dose == 0.0 {
                Vec::new()
            } else {
                edits(dosed.dose)?
            };
            coherence.push(args.answers(&model, (&rows, &prompts), (dosed.dose, edits), out)?);
        }
    }
    let report = Report {
        model: &model.name,
        steering: steering.option(),
        positions: span,
        ids: rows.iter().map(|row| row.id.as_str()).collect(),
        relative,
        sweep: &found,
        coherence,
    };
    if out.json {
        out.json("candlescope.steer.sweep/1", &report)?;
    } else {
        show(&report, &doses, out)?;
    }
    Ok(Outcome::Done)
}

impl Args {
    /// The one steering that is swept.
    fn steering(&self) -> anyhow::Result<Steering> {
        let edits = &self.forms.edits;
        let mut found = self.forms.steerings()?;
        let others = !edits.zero.is_empty() || !edits.knockout.is_empty() || !edits.edit.is_empty();
        match (found.pop(), found.is_empty(), others) {
            (Some(one), true, false) => Ok(one),
            _ => Err(Usage::new(
                "a sweep has one steering, whose dose is changed",
                "give one of --add, --ablate, --clamp, --one-sided, --affine, --rotate and the like",
            )
            .into()),
        }
    }

    fn grid(&self, steering: &Steering) -> anyhow::Result<Vec<f64>> {
        let doses = if self.doses.is_empty() {
            [0.25, 0.5, 0.75, 1.0]
                .map(|part| part * steering.dose)
                .to_vec()
        } else {
            self.doses.clone()
        };
        if doses.iter().any(|dose| !dose.is_finite()) || doses.iter().all(|dose| *dose == 0.0) {
            let hint = "for example `--doses -2,-1,1,2`";
            return Err(
                Usage::new("--doses: expected finite numbers, one of them not 0", hint).into(),
            );
        }
        let mut doses: Vec<f64> = doses.into_iter().filter(|dose| *dose != 0.0).collect();
        doses.sort_by(f64::total_cmp);
        doses.dedup_by(|a, b| a == b);
        Ok(doses)
    }

    fn scorer(&self, model: &Checkpoint) -> anyhow::Result<Scorer> {
        let unused = match self.score {
            ScoreArg::Refusal => self.token.is_some() || self.direction.is_some(),
            ScoreArg::Token => self.direction.is_some(),
            ScoreArg::Projection => self.token.is_some(),
        };
        if unused {
            let hint = "--token belongs to `--score token`, --direction to `--score projection`";
            return Err(
                Usage::new("an option has no effect on what --score asks for", hint).into(),
            );
        }
        Ok(match (self.score, &self.token, &self.direction) {
            (ScoreArg::Token, Some(text), _) => Scorer::LogOdds(RefusalTokens {
                ids: vec![lens::target(model, text)?],
                words: vec![text.clone()],
            }),
            (ScoreArg::Projection, _, Some(spec)) => {
                let foreign = self.forms.edits.accept_foreign_direction;
                Scorer::Projection(edits::direction(spec, model, foreign)?)
            }
            _ => Scorer::LogOdds(refusal_tokens(model)?),
        })
    }

    /// Answers at one dose.
    fn answers(
        &self,
        model: &Checkpoint,
        (rows, prompts): (&[PromptRow], &[EncodedPrompt]),
        (dose, edits): (f64, Vec<Edit>),
        out: &Out,
    ) -> anyhow::Result<Told> {
        let what = format!("answers at dose {dose}");
        let applied = vec![Vec::new(); prompts.len()];
        let answers = counted(&what, prompts.len(), self.batch, out, |options| {
            let plan = (self.forms.span(), self.tokens);
            conditional(model, prompts, (&edits, &[]), &applied, plan, options)
        })?;
        let read: Vec<_> = answers
            .iter()
            .map(|steered| coherence(&steered.answer.text, Ending::LimitReached))
            .collect();
        let loops = read.iter().filter(|c| c.tail_loop.is_some()).count();
        let pairs: Vec<f64> = read.iter().filter_map(|c| c.distinct[1]).collect();
        let first = answers.first().map_or("", |steered| &steered.answer.text);
        Ok(Told {
            dose,
            loops: Proportion::wilson(loops as u64, answers.len() as u64, 0.95)?,
            distinct_2: pairs.iter().sum::<f64>() / pairs.len().max(1) as f64,
            first: match rows.first().map(|row| row.label) {
                Some(Label::Harmful) => harmful_excerpt(first),
                _ => excerpt(first),
            },
        })
    }
}

fn show(report: &Report, doses: &[f64], out: &Out) -> anyhow::Result<()> {
    out.line(&format!(
        "{} over {} prompts",
        report.steering.join(" "),
        report.ids.len()
    ))?;
    let mut table = Table::new(["dose", "of the stream", "score", "KL", "loops"]);
    for dosed in &report.sweep.doses {
        let size = doses.iter().position(|dose| *dose == dosed.dose);
        let size = size.and_then(|at| report.relative.get(at));
        let loops = report.coherence.iter().find(|told| told.dose == dosed.dose);
        table.row([
            dosed.dose.to_string(),
            size.map_or_else(|| "0".into(), |size| format!("{:.3}", size.share)),
            format!("{:+.3}", dosed.mean),
            format!("{:.4}", dosed.kl),
            loops.map_or_else(String::new, |told| super::generate::told(&told.loops)),
        ]);
    }
    table.print(out)?;
    let health = &report.sweep.health;
    out.line(&format!(
        "slope {:+.4} a unit of dose on average; anti-steered {}; sign test p = {:.3}; monotone {:+.2} (1 always, -1 never)",
        health.mean_slope,
        told(&health.anti_steered),
        health.sign_p,
        health.monotone
    ))?;
    if let Some(null) = &report.sweep.null {
        let mean = null.effects.iter().sum::<f64>() / null.effects.len() as f64;
        let kl = null.kl.iter().sum::<f64>() / null.kl.len() as f64;
        out.line(&format!(
            "at the largest dose the score moves by {:+.3}; {} random directions of the same length move it by {mean:+.3} on \
             average (z = {:.1}, p = {:.3}) at KL {kl:.4}",
            null.effect,
            null.effects.len(),
            null.z,
            null.p
        ))?;
    }
    Ok(())
}
