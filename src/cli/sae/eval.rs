//! `sae eval`: what a dictionary rebuilds, how sparsely, and what the model still does with it in its forward pass.

use std::ops::ControlFlow;

use candlescope_probes::{Bootstrap, BootstrapOptions};
use candlescope_sae::measure::ByDefinition;
use serde::Serialize;

use super::{
    further::{self, Further, FurtherArgs},
    on::OnArgs,
};
use crate::activations::{Policy, SourceInfo};
use crate::cli::{
    Outcome, interrupt,
    output::{Out, Table},
    progress::Bar,
};
use crate::features::{self, Evaluation, QualityOptions};
use crate::hooks::HookPoint;
use crate::model::{Fingerprint, fetch::Progress as _};

/// Measure a dictionary on text: L0, FVU, explained variance (all three definitions), densities, CE and KL recovered
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope sae eval smollm2-135m-instruct sae/ --documents held-out.txt
  candlescope sae eval smollm2-135m-instruct sae/ --jsonl texts.jsonl --tokens 100000 --json
  candlescope sae eval smollm2-135m-instruct sae/ --documents held-out.txt --probe-suites harmful,harmless --letters 60
  candlescope sae eval google/gemma-2-2b params.npz --reads resid_post.12 --documents held-out.txt --drop first")]
pub struct Args {
    #[command(flatten)]
    on: OnArgs,
    /// Measure the reconstruction only, without running the model behind the point
    #[arg(long)]
    no_downstream: bool,
    #[command(flatten)]
    further: FurtherArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    fingerprint: &'a Fingerprint,
    dictionary: &'a str,
    format: &'static str,
    reads: HookPoint,
    writes: HookPoint,
    source: &'a SourceInfo,
    contexts: usize,
    tokens: usize,
    policy: &'a Policy,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    #[serde(flatten)]
    further: Further,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let on = args.on.open(out)?;
    let (model, splice, contexts) = (&on.model, &on.splice, &on.contexts);
    let options = QualityOptions {
        policy: on.policy.clone(),
        batch: args.on.batch,
        downstream: !args.no_downstream,
        bootstrap: BootstrapOptions::default(),
    };
    let tokens = on.tokens();
    let bar = Bar::counting(out);
    bar.start("measuring tokens", Some(tokens as u64));
    let evaluation = features::quality(model, splice, contexts, &options, &mut |more| {
        bar.advance(more);
        if interrupt::requested() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    bar.done();
    interrupt::check()?;
    let evaluation = evaluation?;
    let further = args.further.run(model, splice, &options.policy, out)?;
    let report = Report {
        model: &model.name,
        fingerprint: model.fingerprint()?,
        dictionary: &on.opened.name,
        format: on.opened.found.format.name(),
        reads: splice.read(),
        writes: splice.write(),
        source: &on.source,
        contexts: contexts.len(),
        tokens,
        policy: &options.policy,
        evaluation: &evaluation,
        further,
    };
    if out.json {
        out.json("candlescope.sae.eval/1", &report)?;
        return Ok(Outcome::Done);
    }
    show(&report, out)?;
    further::show(&report.further, out)?;
    Ok(Outcome::Done)
}

fn show(report: &Report, out: &Out) -> anyhow::Result<()> {
    let (quality, tally) = (&report.evaluation.quality, &report.evaluation.tally);
    out.line(&format!(
        "{} at {}{} of {}: {} contexts, {} tokens, {} measured; left as they are: {} ({:.1} %)",
        report.dictionary,
        report.reads,
        if report.reads == report.writes {
            String::new()
        } else {
            format!(" to {}", report.writes)
        },
        report.model,
        report.contexts,
        report.tokens,
        quality.rows,
        report.policy,
        tally.share() * 100.0
    ))?;
    let mut table = Table::new(["what", "value", "definition"]);
    let mut row = |what: &str, value: String, definition: &str| {
        table.row([what.into(), value, definition.into()]);
    };
    let spread = quality
        .l0_deviation
        .map_or_else(String::new, |d| format!(" ± {d:.1}"));
    row(
        "L0",
        format!("{}{spread}", number(quality.l0, 1)),
        "latents that are not 0, mean ± deviation over tokens",
    );
    let names = [
        ("pooled", "Σ|x−x̂|² / Σ|x−mean|² over all tokens (SAELens 6)"),
        (
            "batch variance",
            "Σvar(x−x̂) / Σvar(x), mean over batches (dictionary_learning): forgives an offset",
        ),
        (
            "batch mean",
            "Σ|x−x̂|² / Σ|x−mean of batch|², mean over batches (sparsify)",
        ),
    ];
    let three = |d: &ByDefinition| [d.pooled, d.batch_variance, d.batch_mean];
    for ((name, definition), value) in names.iter().zip(three(&quality.fvu)) {
        row(&format!("FVU, {name}"), number(value, 4), definition);
    }
    for ((name, _), value) in names.iter().zip(three(&quality.explained_variance)) {
        row(
            &format!("explained variance, {name}"),
            number(value, 4),
            "1 − that FVU",
        );
    }
    row(
        "cosine",
        number(quality.cosine, 4),
        "of x and x̂, mean over tokens",
    );
    row(
        "l2 ratio",
        number(quality.l2_ratio, 4),
        "|x̂| / |x|, mean over tokens",
    );
    row(
        "relative bias",
        number(quality.relative_bias, 4),
        "E|x̂|² / E[x·x̂]: below 1 it shrinks",
    );
    row(
        "MSE",
        number(quality.mse, 4),
        "|x−x̂|² summed over dimensions, mean over tokens",
    );
    let latents = &quality.latents;
    let few = format!(
        "of {} latents, never fired in these {} tokens",
        latents.latents, quality.rows
    );
    row("dead", percent(latents.dead), &few);
    row(
        "rare",
        percent(latents.rare),
        &format!("fired, in less than {} of them", latents.rare_below),
    );
    row(
        "dense",
        percent(latents.dense),
        &format!("fired in more than {} of them", latents.dense_above),
    );
    if let Some(found) = &report.evaluation.recovered {
        let nats = "nats a token: clean, spliced, zeros";
        let values =
            [found.ce_clean, found.ce_spliced, found.ce_ablated].map(|v| format!("{v:.4}"));
        row("CE", values.join(", "), nats);
        let interval = format!(
            "(CE zeros − CE spliced) / (CE zeros − CE clean), 95 % over {} contexts",
            found.contexts
        );
        row(
            "CE recovered",
            score(found.ce_recovered.as_ref()),
            &interval,
        );
        let values = [found.kl_spliced, found.kl_ablated].map(|v| format!("{v:.4}"));
        row(
            "KL",
            values.join(", "),
            "KL(clean ‖ edited), nats a token: spliced, zeros",
        );
        row(
            "KL score",
            score(found.kl_score.as_ref()),
            "1 − KL spliced / KL zeros",
        );
    }
    table.print(out)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "undefined".into(), |v| format!("{v:.digits$}"))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn score(found: Option<&Bootstrap>) -> String {
    let Some(found) = found else {
        return "undefined: zeros do no harm".into();
    };
    match &found.interval {
        Some(i) => format!("{:.4} [{:.4}, {:.4}]", found.estimate, i.low, i.high),
        None => format!("{:.4}", found.estimate),
    }
}
