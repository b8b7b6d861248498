//! `sae compare`: what a fine-tune changed, read through a frozen dictionary or a crosscoder.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use candlescope_sae::measure::Quality;
use serde::Serialize;

use super::input::TextArgs;
use crate::activations::{Policy, SourceInfo};
use crate::cli::{
    Outcome,
    args::OpenArgs,
    interrupt,
    output::{Out, Table},
    progress::Bar,
};
use crate::features::{
    self, CompareOptions, Crosscoded, Frozen, Opened, Splice,
    compare::{Example, Reading, frozen::LEVEL},
    compare_crosscoder, compare_frozen,
};
use crate::hooks::HookPoint;
use crate::model::{Checkpoint, Fingerprint, fetch::Progress as _};

/// Say what differs between two checkpoints, latent by latent, on the same tokens
///
/// A dictionary of one model is put, frozen, on both: how well it still fits, which latents were born, died or fire more or
/// less often, tested over contexts and corrected for their number. A crosscoder over both (`[data] stores` of `sae train`)
/// says whose each latent is by its two decoder norms, and by latent scaling (Minder et al. 2025) whether the other model
/// really lacks it.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope sae compare smollm2-135m-instruct runs/dpo/merged sae/ --documents texts/
  candlescope sae compare base/ tuned/ runs/cross/checkpoints/step-500/both --jsonl texts.jsonl --tokens 100000 --json")]
pub struct Args {
    /// The first model: the base, or the earlier checkpoint
    #[arg(value_name = "MODEL_A")]
    first: String,
    /// The second model
    #[arg(value_name = "MODEL_B")]
    second: String,
    /// A dictionary's folder or file
    dictionary: PathBuf,
    #[command(flatten)]
    how: OpenArgs,
    #[command(flatten)]
    text: TextArgs,
    /// The hook point a dictionary of one model reads, where its file does not say
    #[arg(long, value_name = "POINT")]
    reads: Option<HookPoint>,
    /// Tokens that are left out on both models: none, or a list of first[:N], special, id:N, norm[:X]
    /// [default: first,special,norm:10, as in training]
    #[arg(long, value_name = "WHICH")]
    drop: Option<String>,
    /// Contexts of one pass
    #[arg(long, value_name = "N", default_value_t = 4)]
    batch: usize,
    /// Latents that are shown, with examples
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Use a dictionary that was made on another forward pass
    #[arg(long)]
    accept_foreign: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    models: [&'a str; 2],
    fingerprints: [&'a Fingerprint; 2],
    dictionary: &'a str,
    reads: &'a [String],
    source: &'a SourceInfo,
    policy: &'a Policy,
    /// `frozen` or `crosscoder`; the other is null.
    frozen: Option<&'a Frozen>,
    crosscoder: Option<&'a Crosscoded>,
    /// Texts of the examples, in their order: what stands before the token, and the token.
    examples: Vec<Text>,
}

/// An example as text.
#[derive(Serialize)]
struct Text {
    latent: usize,
    context: usize,
    position: usize,
    values: [f32; 2],
    before: String,
    token: String,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let opened = features::open(&args.dictionary)?;
    let reading = Reading::of(&opened)?;
    let first = args.how.open(&args.first, out)?;
    let second = args.how.open(&args.second, out)?;
    if !args.accept_foreign {
        opened.expect(&first)?;
    }
    let about = opened.dictionary.about();
    let (contexts, source) = args.text.read(&first, about.context, about.prepend_bos)?;
    let policy = match &args.drop {
        Some(text) => Policy::parse(text, &first.tokenizer)?,
        None => Policy::training(&first.tokenizer),
    };
    let options = CompareOptions {
        batch: args.batch,
        top: args.top,
        ..CompareOptions::new(policy)
    };
    let tokens = contexts.iter().map(Vec::len).sum::<usize>();
    let bar = Bar::counting(out);
    bar.start("comparing tokens", Some(tokens as u64));
    let mut progress = |more| {
        bar.advance(more);
        if interrupt::requested() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    let models = [&first, &second];
    let found = match &reading {
        Some(reading) => {
            compare_crosscoder(models, &opened, reading, &contexts, &options, &mut progress)
                .map(|found| (None, Some(found)))
        }
        None => {
            let splice = args.splice(&opened, models)?;
            compare_frozen(models, &splice, &contexts, &options, &mut progress)
                .map(|found| (Some(found), None))
        }
    };
    bar.done();
    interrupt::check()?;
    let (frozen, crosscoder) = found?;
    let report = Report {
        models: [&first.name, &second.name],
        fingerprints: [first.fingerprint()?, second.fingerprint()?],
        dictionary: &opened.name,
        reads: &about.reads,
        source: &source,
        policy: &options.policy,
        examples: texts(frozen.as_ref(), crosscoder.as_ref(), &contexts, &first),
        frozen: frozen.as_ref(),
        crosscoder: crosscoder.as_ref(),
    };
    if out.json {
        out.json("candlescope.sae.compare/1", &report)?;
        return Ok(Outcome::Done);
    }
    out.line(&format!(
        "{}: {} beside {}; left out on both: {}",
        report.dictionary, report.models[0], report.models[1], report.policy
    ))?;
    if let Some(found) = &frozen {
        show_frozen(found, &report, args.top, out)?;
    }
    if let Some(found) = &crosscoder {
        show_crosscoder(found, &report, args.top, out)?;
    }
    Ok(Outcome::Done)
}

impl Args {
    /// The dictionary on either model, which must have its point in the same width.
    fn splice(&self, opened: &Opened, models: [&Checkpoint; 2]) -> anyhow::Result<Splice> {
        let points = match self.reads {
            Some(at) => [at, at],
            None => [opened.read()?, opened.write()?],
        };
        let dictionary = Arc::new(opened.dictionary.clone());
        let on = |model: &Checkpoint| {
            let dictionary = Arc::clone(&dictionary);
            Splice::new(dictionary, &opened.name, points, model.config())
        };
        on(models[1])?;
        Ok(on(models[0])?)
    }
}

/// Tokens shown before that of an example.
const BEFORE: usize = 6;

fn texts(
    frozen: Option<&Frozen>,
    crosscoder: Option<&Crosscoded>,
    contexts: &[Vec<u32>],
    model: &Checkpoint,
) -> Vec<Text> {
    let changed = frozen.iter().flat_map(|f| &f.latents);
    let changed = changed.map(|l| (l.latent, &l.examples));
    let crossed = crosscoder.iter().flat_map(|c| &c.latents);
    let crossed = crossed.map(|l| (l.pair.latent, &l.examples));
    let all = changed.chain(crossed);
    let all = all.flat_map(|(latent, examples)| examples.iter().map(move |e| (latent, e)));
    let text = |(latent, example): (usize, &Example)| {
        let ids = contexts.get(example.context).map_or(&[][..], Vec::as_slice);
        let from = example.position.saturating_sub(BEFORE);
        let words = |ids: &[u32]| -> String {
            let each = ids.iter().map(|id| model.tokenizer.token(*id));
            each.collect()
        };
        let token = ids.get(example.position);
        Text {
            latent,
            context: example.context,
            position: example.position,
            values: example.values,
            before: words(ids.get(from..example.position).unwrap_or_default()),
            token: token.map_or_else(String::new, |id| model.tokenizer.token(*id)),
        }
    };
    all.map(text).collect()
}

/// The first example of a latent, the token in brackets.
fn example(report: &Report, latent: usize) -> String {
    let found = report.examples.iter().find(|text| text.latent == latent);
    found.map_or_else(String::new, |text| {
        format!("{}⟦{}⟧", text.before, text.token)
    })
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |v| format!("{v:.4}"))
}

fn qualities(quality: &[Quality; 2], report: &Report, out: &Out) -> anyhow::Result<()> {
    let mut table = Table::new(["model", "tokens", "L0", "FVU", "cosine", "never fired"]);
    for (name, quality) in report.models.iter().zip(quality) {
        table.row([
            (*name).to_owned(),
            quality.rows.to_string(),
            quality
                .l0
                .map_or_else(|| "-".into(), |l0| format!("{l0:.1}")),
            number(quality.fvu.pooled),
            number(quality.cosine),
            format!("{:.1} %", quality.latents.dead * 100.0),
        ]);
    }
    table.print(out)
}

fn show_frozen(found: &Frozen, report: &Report, top: usize, out: &Out) -> anyhow::Result<()> {
    qualities(&found.quality, report, out)?;
    if let Some(ratio) = &found.fvu_ratio {
        let ends = ratio.interval.as_ref();
        let ends = ends.map_or_else(String::new, |i| format!(" [{:.3}, {:.3}]", i.low, i.high));
        out.line(&format!(
            "FVU ratio {:.3}{ends}, 95 % over {} contexts",
            ratio.estimate, ratio.n
        ))?;
    }
    let shifts = &found.shifts;
    out.line(&format!(
        "{} latents alive on either; {} born, {} died, {} fire at least twice or half as often (by chance {:.1}, at most {} \
         in {} draws; p = {:.3}); {} changed at an adjusted p of {LEVEL}\n",
        found.alive,
        found.births,
        found.deaths,
        shifts.shifted,
        shifts.mean,
        shifts.largest,
        shifts.draws,
        shifts.p,
        found.significant
    ))?;
    let mut table = Table::new([
        "latent",
        "became",
        "fired",
        "change of density, 95 %",
        "adjusted p",
        "where it changed most",
    ]);
    for change in found.latents.iter().take(top) {
        let [low, middle, high] = change.change;
        table.row([
            change.latent.to_string(),
            format!("{:?}", change.became).to_lowercase(),
            format!("{} to {}", change.fired[0], change.fired[1]),
            format!("{middle:+.5} [{low:+.5}, {high:+.5}]"),
            format!("{:.2e}", change.adjusted),
            example(report, change.latent),
        ]);
    }
    table.print(out)?;
    out.note("tests are of signs over contexts, adjusted by Benjamini and Hochberg over all latents that are alive");
    Ok(())
}

fn show_crosscoder(
    found: &Crosscoded,
    report: &Report,
    top: usize,
    out: &Out,
) -> anyhow::Result<()> {
    qualities(&found.quality, report, out)?;
    let [first, shared, second, between, neither] = found.classes.map(|(_, n)| n);
    let [fired, new] = found.new_in_second;
    out.line(&format!(
        "latents by decoder norm: {first} of {} alone, {shared} shared, {second} of {} alone, {between} between, {neither} of \
         neither; of the second's own {fired} fired, {new} are new by latent scaling (both ratios below {})\n",
        report.models[0], report.models[1], found.scaling_limit
    ))?;
    let mut table = Table::new([
        "latent",
        "class",
        "norm",
        "cosine",
        "density",
        "ν error",
        "ν rebuilt",
        "is",
        "where it fires most",
    ]);
    for latent in found.latents.iter().take(top) {
        table.row([
            latent.pair.latent.to_string(),
            words(&latent.pair.class),
            number(latent.pair.relative),
            number(latent.pair.cosine),
            format!("{:.5}", latent.density),
            number(latent.scaled.nu_error),
            number(latent.scaled.nu_rebuilt),
            words(&latent.presence),
            example(report, latent.pair.latent),
        ]);
    }
    table.print(out)?;
    out.note("norm: 0 is the first model's alone, 0.5 both models', 1 the second's alone");
    Ok(())
}

/// A name as JSON has it, with spaces.
fn words(of: &impl Serialize) -> String {
    let value = serde_json::to_value(of).unwrap_or_default();
    value.as_str().unwrap_or_default().replace('_', " ")
}
