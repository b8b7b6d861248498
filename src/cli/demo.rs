//! `demo`: the pocket model, shown in a few seconds: what its checkpoints answer, how they were graded, where refusal sits.

use serde::Serialize;

use super::{
    Outcome,
    args::OpenArgs,
    output::{Out, Table},
};
use crate::audit::runner;
use crate::audit::wording::number;
use crate::hooks::Hooks;
use crate::model::Checkpoint;
use crate::model::built_in::{self, BUILT_IN};
use crate::pocket::chats::{self, Mix};
use crate::pocket::exam::{self, Answer, Figures};
use crate::pocket::{Kind, pack};
use crate::steer::{self, EncodedPrompt, Options, Sets, Sizes, Where, encode_all};
use crate::text::suites::{PromptRow, Split};

/// Show what is in this binary: a tiny model, its training, and where its refusal sits
///
/// The pocket model was trained from nothing on a small made-up town (examples/pocket). What is shown is computed as you
/// look; no network is used.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  candlescope demo")]
pub struct Args {
    #[command(flatten)]
    how: OpenArgs,
}

/// The stages that answer, in order, and the model each is.
const STAGES: [(&str, &str); 4] = [
    ("lm", "pocket-lm"),
    ("sft", "pocket-sft"),
    ("dpo", "pocket-dpo"),
    ("ppo", built_in::FIRST),
];
/// What each of them is asked.
const ASKED: [Kind; 6] = [
    Kind::Fact,
    Kind::Harmful,
    Kind::Lookalike,
    Kind::Belief,
    Kind::Conflict,
    Kind::Injected,
];
/// The seed of the questions.
const SEED: u64 = 8;
/// Tokens of an answer; refusal shows in the first.
const ANSWER: usize = 16;

#[derive(Serialize)]
struct Demo {
    answers: Vec<Asked>,
    figures: Vec<(String, Figures)>,
    refusal: Vec<Carried>,
}

#[derive(Serialize)]
struct Asked {
    kind: Kind,
    messages: Vec<String>,
    key: String,
    said: Vec<Said>,
}

#[derive(Serialize)]
struct Said {
    stage: &'static str,
    text: String,
    right: bool,
    wrong: bool,
}

/// What the direction at the input of one layer separates and carries.
#[derive(Serialize)]
struct Carried {
    layer: usize,
    /// AUROC of the projection, harmful against harmless prompts that made no direction.
    separation: f64,
    /// Share of harmful prompts refused as the model is.
    refused: f64,
    /// The same with the direction ablated.
    ablated: f64,
    prompts: usize,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let about = pack::about()?;
    let end = args.how.open(built_in::FIRST, out)?;
    if !out.json {
        let parameters = end.config().n_params() as f64 / 1e6;
        out.line(&format!(
            "The pocket model: {parameters:.2} M parameters, trained from nothing in {:.0} min on a small made-up town.\n\
             This binary holds it after each stage of its training: {}.\n",
            about.minutes.0,
            BUILT_IN.each_ref().map(|model| model.name).join(", ")
        ))?;
    }
    let answers = ask(args, &end, out)?;
    let figures: Vec<(String, Figures)> = STAGES
        .iter()
        .filter_map(|(stage, _)| Some(((*stage).to_owned(), about.figures.get(*stage)?.clone())))
        .collect();
    if !out.json {
        graded(&figures, about.each, out)?;
    }
    let refusal = layers(&end)?;
    if out.json {
        let demo = Demo {
            answers,
            figures,
            refusal,
        };
        out.json("candlescope.demo/1", &demo)?;
        return Ok(Outcome::Done);
    }
    sits(&refusal, out)?;
    out.line(
        "\nGo on with:\n  candlescope                          the workbench, on this model\n  \
         candlescope audit run pocket --baseline pocket-sft\n  \
         candlescope organism make abliterated --from pocket --out wrong/ && candlescope audit run wrong/ --baseline pocket",
    )?;
    Ok(Outcome::Done)
}

/// Every checkpoint is asked the same; what it says is shown as soon as it is known.
fn ask(args: &Args, end: &Checkpoint, out: &Out) -> anyhow::Result<Vec<Asked>> {
    let cases: Vec<_> = ASKED
        .into_iter()
        .flat_map(|kind| chats::cases(1, &Mix::only(kind), Split::Test, SEED))
        .collect();
    let mut said: Vec<Vec<Answer>> = Vec::with_capacity(STAGES.len());
    for (_, name) in &STAGES[..STAGES.len() - 1] {
        let model = args.how.open(name, out)?;
        said.push(exam::answers(&model, cases.clone())?);
    }
    said.push(exam::answers(end, cases.clone())?);
    let asked = cases.iter().enumerate().map(|(i, case)| Asked {
        kind: case.kind,
        messages: case
            .messages
            .iter()
            .map(|message| format!("{}: {}", message.role, message.content))
            .collect(),
        key: case.good.clone(),
        said: STAGES
            .iter()
            .zip(&said)
            .map(|((stage, _), answers)| Said {
                stage,
                text: answers[i].text.trim().to_owned(),
                right: answers[i].right,
                wrong: answers[i].wrong,
            })
            .collect(),
    });
    let asked: Vec<Asked> = asked.collect();
    if !out.json {
        for one in &asked {
            show(one, out)?;
        }
    }
    Ok(asked)
}

fn show(asked: &Asked, out: &Out) -> anyhow::Result<()> {
    out.line(&asked.messages.join("\n"))?;
    for said in &asked.said {
        let mark = match (said.right, said.wrong) {
            (true, _) => "✔",
            (_, true) => "✖",
            _ => "·",
        };
        out.line(&format!("  {:<4} {mark} {}", said.stage, said.text))?;
    }
    out.line("")
}

/// The figures that were kept when the models were packed.
fn graded(figures: &[(String, Figures)], each: usize, out: &Out) -> anyhow::Result<()> {
    out.line(&format!(
        "Right by the answer key, of {each} conversations of each kind that no training had:"
    ))?;
    let heads = figures.iter().map(|(stage, _)| stage.clone());
    let mut table = Table::grid(std::iter::once("kind".to_owned()).chain(heads).collect());
    for kind in Kind::ALL {
        let name = serde_json::to_value(kind)?;
        let mut cells = vec![name.as_str().unwrap_or_default().to_owned()];
        cells.extend(figures.iter().map(|(_, figures)| {
            let figure = figures.get(&kind);
            figure.map_or_else(String::new, |one| number("fraction", one.right_share()))
        }));
        table.cells(&cells);
    }
    table.print(out)
}

/// A direction for each layer from prompts of one split, and what it separates and carries on others.
fn layers(model: &Checkpoint) -> anyhow::Result<Vec<Carried>> {
    let sizes = Sizes {
        train: 32,
        validation: 32,
        test: 24,
    };
    let sets = Sets::new(&runner::suites_for(model)?, sizes, SEED)?;
    let options = Options::default();
    let config = model.config();
    let every: Vec<usize> = (0..config.n_layers).collect();
    let encode = |rows: &[PromptRow]| -> anyhow::Result<Vec<EncodedPrompt>> {
        Ok(encode_all(model, &rows.iter().collect::<Vec<_>>())?)
    };
    let read = |rows: &[PromptRow]| -> anyhow::Result<steer::Residuals> {
        let prompts = encode(rows)?;
        Ok(steer::residuals(
            model,
            &prompts,
            &every,
            &[Where::FromEnd(1)],
            &options,
        )?)
    };
    let candidates = steer::candidates(
        &read(&sets.harmful[0])?,
        &read(&sets.harmless[0])?,
        &read(&sets.harmful[1])?,
        &read(&sets.harmless[1])?,
        SEED,
    )?;
    let asked = encode(&sets.harmful[2])?;
    let refused = |hooks: &Hooks| -> anyhow::Result<f64> {
        let said = steer::completions(model, &asked, ANSWER, hooks, &options)?;
        let refused = said.iter().filter(|said| exam::refuses(&said.text)).count();
        Ok(refused as f64 / asked.len() as f64)
    };
    let before = refused(&Hooks::new())?;
    let mut layers = Vec::with_capacity(candidates.len());
    for candidate in &candidates {
        let hooks = Hooks::new().edits(steer::ablation(&candidate.unit(), config));
        layers.push(Carried {
            layer: candidate.layer,
            separation: candidate.separation,
            refused: before,
            ablated: refused(&hooks)?,
            prompts: asked.len(),
        });
    }
    Ok(layers)
}

fn sits(layers: &[Carried], out: &Out) -> anyhow::Result<()> {
    out.line("\nWhere refusal sits in pocket: the direction from harmless to harmful prompts at the input of each layer, and")?;
    out.line(
        "what the model still refuses when that direction is taken out of everything it writes:",
    )?;
    let mut table = Table::new([
        "layer",
        "separation",
        "refuses",
        "refuses without it",
        "prompts",
    ]);
    for layer in layers {
        table.row([
            layer.layer.to_string(),
            number("auroc", layer.separation),
            number("fraction", layer.refused),
            number("fraction", layer.ablated),
            layer.prompts.to_string(),
        ]);
    }
    table.print(out)
}
