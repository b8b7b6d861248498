//! `steer generate`: prompts answered without edits and with them, each under what its conditions ask for.

use std::path::Path;

use anyhow::Context;
use candlescope_probes::stats::interval::Proportion;
use serde::Serialize;

use super::{FormArgs, counted, prompts::PromptArgs, tell_doses};
use crate::{
    audit::{
        detect::{
            ReplyLabel,
            coherence::{Ending, coherence},
            judge_reply,
        },
        report::text::visible,
        result::harmful_excerpt,
    },
    cli::{
        Outcome,
        args::ModelArgs,
        failure::Usage,
        output::{Out, Table},
    },
    hooks::Edit,
    model::Checkpoint,
    steer::{
        Completion, Options, RelativeDose, Span, SteerError,
        condition::{self, Condition, Rule, conditional, fired, firing},
        content, encode_all, relative_doses,
    },
    text::suites::{Label, PromptRow},
};

/// Answer prompts without edits and with them, side by side
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope steer generate toy \"How are you?\" \"Write a poem\" --add contrast:1@1*4 --positions after
  candlescope steer generate toy --suite harmless -n 4 --one-sided \"contrast:1@peak(p=1,d=2)*1\" --max-new 16
  candlescope steer generate toy --suite harmful --suite harmless --condition harmful=c.safetensors --rule \"if harmful then +contrast:1@1*4\"")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    forms: FormArgs,
    /// A condition that rules may name: NAME=FILE, or a FILE that is named after itself; repeatable
    #[arg(long, value_name = "NAME=FILE")]
    condition: Vec<String>,
    /// Steer only where conditions hold: `if harmful and not medical then +DIR@LAYER*ALPHA`; repeatable
    #[arg(long, value_name = "RULE", requires = "condition")]
    rule: Vec<String>,
    /// Most new tokens
    #[arg(long, default_value_t = 64, value_name = "N")]
    max_new: usize,
    /// Prompts of one batch; no answer depends on it
    #[arg(long, default_value_t = 16, value_name = "N")]
    batch: usize,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    positions: Span,
    edits: &'a [Edit],
    rules: Vec<RuleReport<'a>>,
    dose: Vec<RelativeDose>,
    items: Vec<Item<'a>>,
    rates: Vec<Rates>,
}

#[derive(Serialize)]
struct RuleReport<'a> {
    rule: &'a str,
    edits: &'a [Edit],
}

#[derive(Serialize)]
struct Item<'a> {
    id: &'a str,
    prompt: &'a str,
    label: Label,
    /// Score of each condition.
    scores: Vec<f64>,
    /// Whether each condition fired.
    fired: Vec<bool>,
    /// Whether each rule was applied.
    applied: Vec<bool>,
    unedited: Answer,
    edited: Answer,
}

/// An answer, cut where its prompt is harmful.
#[derive(Serialize)]
struct Answer {
    text: String,
    label: ReplyLabel,
    finished: bool,
    tail_loop: bool,
}

/// What became of the prompts of one label.
#[derive(Serialize)]
struct Rates {
    label: Label,
    steered: Proportion,
    refusals_unedited: Proportion,
    refusals_edited: Proportion,
    loops_unedited: Proportion,
    loops_edited: Proportion,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let rows = args.prompts.rows()?;
    let rules: Vec<Rule> = args
        .rule
        .iter()
        .map(|rule| rule.parse())
        .collect::<Result<_, _>>()?;
    if args.max_new == 0 {
        return Err(Usage::new("--max-new 0 leaves nothing to generate", "give 1 or more").into());
    }
    let model = args.model.open(out)?;
    let edits = args.forms.edits(&model)?;
    if edits.is_empty() && rules.is_empty() {
        let hint = "for example `--add direction.safetensors@12*4`, or --rule with --condition";
        return Err(Usage::new("no edits: nothing to compare", hint).into());
    }
    let conditions = args.conditions(&model)?;
    let actions = args.actions(&rules, &model)?;
    let refs: Vec<&PromptRow> = rows.iter().collect();
    let prompts = encode_all(&model, &refs)?;
    let all: Vec<Edit> = edits
        .iter()
        .chain(actions.iter().flatten())
        .cloned()
        .collect();
    let dose = relative_doses(&model, &prompts, &all, &Options::default())?;
    tell_doses(&dose, out);
    let held: Vec<&Condition> = conditions.iter().map(|(_, condition)| condition).collect();
    let names: Vec<&str> = conditions.iter().map(|(name, _)| name.as_str()).collect();
    let decided = if held.is_empty() {
        Vec::new()
    } else {
        let content = content(&model, &refs, &prompts)?;
        counted("conditions", prompts.len(), args.batch, out, |options| {
            firing(&model, &prompts, &content, &held, options)
        })?
    };
    let applied = if decided.is_empty() {
        vec![Vec::new(); prompts.len()]
    } else {
        let hold = |prompt| fired(&rules, &names, prompt);
        decided.iter().map(hold).collect::<Result<Vec<_>, _>>()?
    };
    let span = args.forms.span();
    let answers = |what: &str, always: &[Edit], applied: &[Vec<bool>]| {
        counted(what, prompts.len(), args.batch, out, |options| {
            let plan = (span, args.max_new);
            conditional(&model, &prompts, (always, &actions), applied, plan, options)
        })
    };
    let nothing: Vec<Vec<bool>> = vec![vec![false; actions.len()]; prompts.len()];
    let unedited = answers("answers without edits", &[], &nothing)?;
    let edited = answers("answers with edits", &edits, &applied)?;
    let items: Vec<Item> = rows
        .iter()
        .enumerate()
        .map(|(i, row)| Item {
            id: &row.id,
            prompt: &row.prompt,
            label: row.label,
            scores: decided.get(i).map_or_else(Vec::new, |d| d.scores.clone()),
            fired: decided.get(i).map_or_else(Vec::new, |d| d.fired.clone()),
            applied: edited[i].applied.clone(),
            unedited: answer(row, &unedited[i].answer),
            edited: answer(row, &edited[i].answer),
        })
        .collect();
    let report = Report {
        model: &model.name,
        positions: span,
        edits: &edits,
        rules: rules
            .iter()
            .zip(&actions)
            .map(|(rule, edits)| RuleReport {
                rule: &rule.text,
                edits,
            })
            .collect(),
        dose,
        rates: rates(&items, !edits.is_empty())?,
        items,
    };
    if out.json {
        out.json("candlescope.steer.generate/1", &report)?;
    } else {
        show(&report, out)?;
    }
    Ok(Outcome::Done)
}

impl Args {
    fn conditions(&self, model: &Checkpoint) -> anyhow::Result<Vec<(String, Condition)>> {
        let mut found: Vec<(String, Condition)> = Vec::new();
        for spec in &self.condition {
            let (name, file) = match spec.split_once('=') {
                Some((name, file)) if !Path::new(spec).exists() => {
                    (name.to_owned(), Path::new(file))
                }
                _ => {
                    let file = Path::new(spec);
                    let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned());
                    (stem.unwrap_or_default(), file)
                }
            };
            if found.iter().any(|(known, _)| *known == name) {
                let known: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
                return Err(SteerError::Condition {
                    name,
                    why: "is given twice",
                    known: known.join(", "),
                }
                .into());
            }
            let condition = condition::load(file)?;
            super::condition::fits(
                &condition,
                model,
                file,
                self.forms.edits.accept_foreign_direction,
            )?;
            found.push((name, condition));
        }
        Ok(found)
    }

    fn actions(&self, rules: &[Rule], model: &Checkpoint) -> anyhow::Result<Vec<Vec<Edit>>> {
        let edits = |rule: &Rule| {
            let made = self.forms.of(&rule.then, model);
            made.with_context(|| format!("--rule {}", rule.text))
        };
        rules.iter().map(edits).collect()
    }
}

fn answer(row: &PromptRow, completion: &Completion) -> Answer {
    let ending = if completion.finished {
        Ending::Stopped
    } else {
        Ending::LimitReached
    };
    let text = &completion.text;
    Answer {
        label: judge_reply(Some(&row.prompt), text, &[]).label,
        tail_loop: coherence(text, ending).tail_loop.is_some(),
        finished: completion.finished,
        text: match row.label {
            Label::Harmful => harmful_excerpt(text),
            _ => text.clone(),
        },
    }
}

fn rates(items: &[Item], always: bool) -> anyhow::Result<Vec<Rates>> {
    let mut found = Vec::new();
    for label in Label::ALL {
        let own: Vec<&Item> = items.iter().filter(|item| item.label == label).collect();
        if own.is_empty() {
            continue;
        }
        let share = |which: &dyn Fn(&Item) -> bool| {
            let count = own.iter().filter(|item| which(item)).count();
            Proportion::wilson(count as u64, own.len() as u64, 0.95)
        };
        let refuses = |answer: &Answer| answer.label == ReplyLabel::Refusal;
        found.push(Rates {
            label,
            steered: share(&|item| always || item.applied.contains(&true))?,
            refusals_unedited: share(&|item| refuses(&item.unedited))?,
            refusals_edited: share(&|item| refuses(&item.edited))?,
            loops_unedited: share(&|item| item.unedited.tail_loop)?,
            loops_edited: share(&|item| item.edited.tail_loop)?,
        });
    }
    Ok(found)
}

fn show(report: &Report, out: &Out) -> anyhow::Result<()> {
    for item in &report.items {
        let conditional = !report.rules.is_empty();
        let steered = match (conditional, item.applied.contains(&true)) {
            (false, _) => String::new(),
            (true, true) => "  [a rule fired]".into(),
            (true, false) => "  [no rule fired]".into(),
        };
        out.line(&format!("{}: {}{steered}", item.id, visible(item.prompt)))?;
        for (name, answer) in [("unedited", &item.unedited), ("edited", &item.edited)] {
            let text = visible(&answer.text);
            out.line(&format!("  {name:<9} {text}"))?;
        }
    }
    out.line("")?;
    let mut table = Table::new([
        "prompts",
        "n",
        "steered",
        "refuses unedited",
        "refuses edited",
        "loops edited",
    ]);
    for row in &report.rates {
        table.row([
            row.label.name().to_owned(),
            row.steered.n.to_string(),
            told(&row.steered),
            told(&row.refusals_unedited),
            told(&row.refusals_edited),
            told(&row.loops_edited),
        ]);
    }
    table.print(out)?;
    out.line(
        "95 % Wilson intervals; a reply refuses by the vote of three text detectors on its opening",
    )
}

/// `12/32 = 37.5 % [22.9, 54.7]`
pub(super) fn told(share: &Proportion) -> String {
    format!(
        "{}/{} = {:.1} % [{:.1}, {:.1}]",
        share.successes,
        share.n,
        100.0 * share.rate,
        100.0 * share.interval.low,
        100.0 * share.interval.high
    )
}
