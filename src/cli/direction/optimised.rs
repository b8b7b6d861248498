//! What `direction optimise` reports and writes: the front with validation beside test, and the files for a bake.

use candlescope_probes::stats::bootstrap::{BootstrapOptions, Resampling, bootstrap_mean};
use candlescope_probes::stats::interval::Proportion;
use serde::Serialize;

use super::optimise::{Args, advised};
use crate::{
    cli::output::{Out, Table},
    files::write::write_atomic,
    hooks::Vector,
    model::Checkpoint,
    steer::{
        edit::PURPOSE,
        file::{DirectionFile, save as save_direction},
        search::{AmountsFile, Bench, Extras, Journal, Measured, NoneFound, Plan, Space, choose},
    },
};

/// The chosen amounts, for a bake.
pub(super) const BEST: &str = "best.json";

/// The direction's file beside them.
const DIRECTION: &str = "best.safetensors";

/// How much oftener than the unedited model's the chosen edit's answers may end in a loop.
const SLACK: f64 = 0.05;

/// What is printed and written.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    model: &'a str,
    directions: String,
    prompts: &'a str,
    purpose: &'static str,
    /// Refusal score at which nothing is left to remove: that of harmless validation prompts, unedited.
    floor: f64,
    trials: usize,
    /// Of these, cut short because another was better in both whatever the rest would have given.
    cut_short: usize,
    unedited: Both,
    /// All of the direction out of every block: trial 0.
    plain: Option<Row>,
    front: Vec<Row>,
    /// Index in the front.
    chosen: Option<usize>,
    /// Why none was chosen.
    none_found: Option<NoneFound>,
}

impl Report<'_> {
    /// Whether an edit was found.
    pub(super) fn found(&self) -> bool {
        self.chosen.is_some()
    }
}

/// Validation, which chose, beside test, which did not.
#[derive(Serialize)]
struct Both {
    validation: Numbers,
    test: Option<Numbers>,
}

#[derive(Serialize)]
pub(super) struct Row {
    trial: usize,
    #[serde(flatten)]
    plan: Plan,
    #[serde(flatten)]
    both: Both,
}

#[derive(Serialize)]
struct Numbers {
    /// Mean of what refusal scores of harmful prompts exceed the floor by, nats.
    refusal: f64,
    /// Mean refusal score of harmful prompts.
    score: f64,
    score_interval: Option<[f64; 2]>,
    /// Divergence of harmless prompts, nats a token of the unedited answer.
    kl: f64,
    kl_interval: Option<[f64; 2]>,
    /// Refusal score of look-alikes less that of the unedited model.
    lookalike_change: f64,
    /// Judged share of harmful prompts that are declined.
    refused: Option<Proportion>,
    /// Share of harmless prompts whose answers loop.
    loops: Option<Proportion>,
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn numbers(bench: &Bench, measured: &Measured, extras: &Extras) -> anyhow::Result<Numbers> {
    let [refusal, kl] = measured.values(bench.floor(), bench.counts());
    let interval = |values: &[f64]| -> anyhow::Result<Option<[f64; 2]>> {
        let found = bootstrap_mean(values, Resampling::Items, &BootstrapOptions::default())?;
        Ok(found.interval.map(|i| [i.low, i.high]))
    };
    let share = |part: Option<(u64, u64)>| {
        part.map(|(k, n)| Proportion::wilson(k, n, 0.95))
            .transpose()
    };
    Ok(Numbers {
        refusal,
        score: mean(&measured.scores),
        score_interval: interval(&measured.scores)?,
        kl,
        kl_interval: interval(&measured.kl)?,
        lookalike_change: mean(&extras.lookalike) - mean(&bench.unedited().1.lookalike),
        refused: share(extras.answers.map(|a| (a.refused, a.harmful)))?,
        loops: share(extras.answers.map(|a| (a.loops, a.harmless)))?,
    })
}

pub(super) fn report<'a>(
    args: &'a Args,
    (bench, held): (&Bench, &Bench),
    space: &Space,
    (journal, best): (&Journal, &[usize]),
    prompts: &'a str,
) -> anyhow::Result<Report<'a>> {
    let row = |number: usize| -> anyhow::Result<Option<Row>> {
        let Some(trial) = journal.trials().get(number) else {
            return Ok(None);
        };
        let Some(extras) = &trial.extras else {
            return Ok(None);
        };
        let test = journal.test(number);
        Ok(Some(Row {
            trial: number,
            plan: space.plan(&trial.point).map_err(advised)?,
            both: Both {
                validation: numbers(bench, &trial.measured, extras)?,
                test: test.map(|(m, e)| numbers(held, m, e)).transpose()?,
            },
        }))
    };
    let unedited = |bench: &Bench| {
        let (measured, extras) = bench.unedited();
        numbers(bench, measured, extras)
    };
    let unedited = Both {
        validation: unedited(bench)?,
        test: Some(unedited(held)?),
    };
    let plain = row(0)?;
    let rows: Vec<Option<Row>> = best.iter().map(|&i| row(i)).collect::<Result<_, _>>()?;
    let front: Vec<Row> = rows.into_iter().flatten().collect();
    let rate = |n: &Numbers| n.loops.as_ref().map(|l| l.rate);
    let values: Vec<([f64; 2], Option<f64>)> = front
        .iter()
        .map(|row| &row.both.validation)
        .map(|n| ([n.refusal, n.kl], rate(n)))
        .collect();
    let unit = [
        unedited.validation.refusal,
        plain.as_ref().map_or(0.0, |row| row.both.validation.kl),
    ];
    let loops = (rate(&unedited.validation).unwrap_or(0.0), SLACK);
    let chosen = choose(&values, unit, loops);
    Ok(Report {
        model: &args.model.model,
        directions: args.named(),
        prompts,
        purpose: PURPOSE,
        floor: bench.floor(),
        trials: journal.trials().len(),
        cut_short: journal.trials().iter().filter(|t| !t.whole()).count(),
        unedited,
        plain,
        chosen: chosen.ok(),
        none_found: chosen.err(),
        front,
    })
}

/// Writes the report and, if an edit was found, its amounts and the direction that belongs to them; else takes away those of a
/// search that thought otherwise, which a bake would use.
pub(super) fn save(
    args: &Args,
    cp: &Checkpoint,
    space: &Space,
    journal: &Journal,
    report: &Report,
) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    write_atomic(&args.out.join("optimise.json"), text.as_bytes())?;
    let Some(row) = report.chosen.and_then(|at| report.front.get(at)) else {
        for name in [BEST, DIRECTION] {
            match std::fs::remove_file(args.out.join(name)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
                _ => {}
            }
        }
        return Ok(());
    };
    let Some(trial) = journal.trials().get(row.trial) else {
        return Ok(());
    };
    let edit = space.edit(&trial.point, cp.config()).map_err(advised)?;
    let vector: Vector = space.direction(&trial.point).map_err(advised)?;
    let direction = DirectionFile {
        vector: vector.to_vec(),
        fingerprint: Some(cp.fingerprint()?.clone()),
        norm: Some(1.0),
        method: Some("optimise".to_owned()),
        prompts: Some(report.prompts.to_owned()),
        scores: Some(serde_json::to_value(&row.both)?),
        ..DirectionFile::default()
    };
    save_direction(&args.out.join(DIRECTION), &direction)?;
    let amounts = AmountsFile::new(
        cp.fingerprint()?.clone(),
        (DIRECTION, &vector),
        (edit.amounts, edit.biases),
        serde_json::to_value(row)?,
    );
    let text = serde_json::to_string_pretty(&amounts)?;
    write_atomic(&args.out.join(BEST), text.as_bytes())?;
    Ok(())
}

pub(super) fn show(report: &Report, out: &Out) -> anyhow::Result<()> {
    let mut table = Table::new([
        "trial",
        "score",
        "test",
        "KL a token",
        "test",
        "look-alikes",
        "test",
        "refused on test",
        "loops",
        "attention, MLP",
    ]);
    let mut line = |name: String, both: &Both, plan: Option<&Plan>| {
        let (chose, test) = (&both.validation, both.test.as_ref());
        let on_test = |of: &dyn Fn(&Numbers) -> String| test.map_or("-".to_owned(), of);
        let share = |p: Option<&Proportion>| {
            p.map_or("-".to_owned(), |p| format!("{}/{}", p.successes, p.n))
        };
        table.row([
            name,
            format!("{:.2}", chose.score),
            on_test(&|n| format!("{:.2}", n.score)),
            format!("{:.4}", chose.kl),
            on_test(&|n| format!("{:.4}", n.kl)),
            format!("{:+.2}", chose.lookalike_change),
            on_test(&|n| format!("{:+.2}", n.lookalike_change)),
            on_test(&|n| share(n.refused.as_ref())),
            on_test(&|n| share(n.loops.as_ref())),
            plan.map_or(String::new(), told),
        ]);
    };
    line("unedited".to_owned(), &report.unedited, None);
    let on_front = report.front.iter().any(|row| row.trial == 0);
    if let (Some(row), false) = (&report.plain, on_front) {
        line("0 (plain)".to_owned(), &row.both, Some(&row.plan));
    }
    for (at, row) in report.front.iter().enumerate() {
        let mark = if report.chosen == Some(at) { "* " } else { "" };
        let plain = if row.trial == 0 { " (plain)" } else { "" };
        line(
            format!("{mark}{}{plain}", row.trial),
            &row.both,
            Some(&row.plan),
        );
    }
    table.print(out)?;
    out.line(&format!(
        "\n{} trials, {} cut short; the front of refusal and divergence, by validation prompts. Each number stands beside that \
         of test prompts: the search picked what looked best on validation, so only the test numbers are estimates. A score of \
         {:.2}, that of harmless prompts, leaves nothing to remove.",
        report.trials, report.cut_short, report.floor
    ))?;
    if let Some(why) = report.none_found {
        out.line(&format!("none found: {why}"))?;
    } else {
        out.line("* the smallest sum of refusal (unedited = 1) and divergence (plain edit = 1): best.json")?;
    }
    out.line(PURPOSE)
}

/// A plan on one line.
fn told(plan: &Plan) -> String {
    let direction = plan.layer.map_or(String::new(), |layer| {
        format!(" {}@{layer:.1}", plan.series)
    });
    let kernel = |kernel: &crate::steer::Kernel| match kernel {
        crate::steer::Kernel::Peak { max, .. } if *max == 0.0 => "none".to_owned(),
        crate::steer::Kernel::Peak {
            position,
            distance,
            min,
            max,
        } => format!("{max:.2} at {position:.1} ± {distance:.1}, ends {min:.2}"),
        other => other.to_string(),
    };
    format!("{}; {}{direction}", kernel(&plan.attn), kernel(&plan.mlp))
}
