//! `lens`: what the model would say if it stopped at each layer, or the stream's length and projection there.
//! A probe at every token: `lens_probe.rs`.

use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use super::{
    Outcome,
    args::ModelArgs,
    edits::{self, EditArgs},
    failure::Usage,
    lens_probe,
    output::{self, Out},
};
use crate::{
    lens::{
        LensError, LensOptions, Positions, StreamLens, StreamOptions,
        grid::Grid,
        json, logit_lens, parse_layers, stream_lens,
        table::{Look, detail, legend, table},
    },
    model::Checkpoint,
    text::{
        Message, Vars,
        visible::{cut, token_label, visible},
    },
};

/// Columns of a token in a heading.
const WIDEST: usize = 12;

/// Read every layer through the logit lens: its likeliest next tokens, entropy, KL to the final layer, a target's rank
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  candlescope lens smollm2-135m-instruct \"The capital of France is\" --target \" Paris\"\n  candlescope lens smollm2-135m-instruct \"How are you?\" --chat --positions last:4 --json\n  candlescope lens toy \"The capital of France is\" --show norm\n  candlescope lens smollm2-135m-instruct \"How are you?\" --chat --show probe --probe harm.safetensors\n  candlescope lens smollm2-135m-instruct \"How are you?\" --chat --show probe --probe harm.safetensors --layers '*'"
)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What the model reads
    text: String,
    /// Wrap the text in the model's chat template, as a user's turn
    #[arg(long, conflicts_with = "raw")]
    chat: bool,
    /// Give the text as it is (the default)
    #[arg(long)]
    raw: bool,
    /// What to show: the likeliest tokens, the stream's norm, its projection on --direction, or the score of --probe
    #[arg(long, value_enum, default_value = "tokens", value_name = "WHAT")]
    show: Show,
    /// Project on this: a safetensors file with a vector `direction`, FILE:TENSOR, or contrast:LAYER for the refusal direction
    /// of the built-in prompts; with --show projection
    #[arg(long, value_name = "FILE", required_if_eq("show", "projection"))]
    direction: Option<String>,
    /// Score every token with this probe, at the point that it was fitted at, or at all of --layers; with --show probe
    #[arg(long, value_name = "FILE", required_if_eq("show", "probe"))]
    probe: Option<PathBuf>,
    /// Follow this token, leading space included [default: what the model itself says next at each position]
    #[arg(long, value_name = "TOKEN")]
    target: Option<String>,
    /// How many of the likeliest tokens to keep [default: 5]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Positions: all, last, last:N, or a list such as 0-3,-1
    #[arg(
        long,
        value_name = "LIST",
        default_value = "all",
        allow_hyphen_values = true
    )]
    positions: String,
    /// Layers: *, or a list such as embed,0-3,29 [default: *; with --show probe the layer that the probe was fitted at, and
    /// with --layers its weights on the stream of these]
    #[arg(long, value_name = "LIST")]
    layers: Option<String>,
    /// Show every number of this position below the table [default: the last one shown]
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    detail: Option<String>,
    #[command(flatten)]
    edits: EditArgs,
}

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Show {
    /// The logit lens
    Tokens,
    /// Euclidean norm of the residual stream
    Norm,
    /// Its part along a direction: dot product with the unit vector, and cosine
    Projection,
    /// A probe's score at each token
    Probe,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let positions: Positions = args.positions.parse()?;
    args.check()?;
    let model = args.model.open(out)?;
    if let Some(file) = &args.probe {
        let ids = encode(&model, &args.text, args.chat)?;
        let foreign = args.edits.accept_foreign_direction;
        let edits = args.edits.edits(&model)?;
        let probe = lens_probe::load(file, &model, foreign)?;
        let Some(layers) = &args.layers else {
            return lens_probe::run(&model, (file, &probe), (&ids, positions), &edits, out);
        };
        let rows = parse_layers(layers, model.config().n_layers)?;
        return lens_probe::layers(
            &model,
            (file, &probe),
            (&ids, positions),
            (rows, &edits),
            out,
        );
    }
    if args.show != Show::Tokens {
        return stream(args, &model, positions, out);
    }
    let options = LensOptions {
        top_k: args.top_k.unwrap_or(5),
        positions,
        rows: parse_layers(args.layers(), model.config().n_layers)?,
        target: args
            .target
            .as_deref()
            .map(|text| target(&model, text))
            .transpose()?,
    };
    let ids = encode(&model, &args.text, args.chat)?;
    let edits = args.edits.edits(&model)?;
    let lens = logit_lens(&model.decoder, &ids, &options, &edits)?;
    let token = |id| model.tokenizer.token(id);
    if out.json {
        let value = json::json(&lens, token);
        let text = serde_json::to_string_pretty(&value).context("cannot write the lens as JSON")?;
        out.line(&text)?;
        return Ok(Outcome::Done);
    }
    let shown = match &args.detail {
        None => lens.positions.len() - 1,
        Some(at) => {
            let at = at.parse::<Positions>()?.resolve(ids.len())?;
            let found = lens.positions.iter().position(|p| at.contains(p));
            found.context("--detail: that position is not among --positions")?
        }
    };
    let look = Look {
        colour: out.style().colour,
        width: output::width(),
    };
    out.text(&table(&lens, token, look))?;
    out.line(legend())?;
    out.line("")?;
    out.text(&detail(&lens, shown, token, look))?;
    Ok(Outcome::Done)
}

impl Args {
    fn layers(&self) -> &str {
        self.layers.as_deref().unwrap_or("*")
    }

    /// An option that what is shown does not use is refused.
    fn check(&self) -> anyhow::Result<()> {
        let tokens = self.show == Show::Tokens;
        let probe = self.show == Show::Probe;
        let unused = [
            (
                "--direction",
                self.show != Show::Projection && self.direction.is_some(),
            ),
            ("--probe", !probe && self.probe.is_some()),
            ("--target", !tokens && self.target.is_some()),
            ("--top-k", !tokens && self.top_k.is_some()),
            ("--detail", !tokens && self.detail.is_some()),
        ];
        match unused.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((option, _)) => Err(Usage::new(
                format!("{option} has no effect on what --show asks for"),
                "--direction belongs to `--show projection`, --probe to `--show probe`; --target, --top-k and --detail belong to `--show tokens`",
            )
            .into()),
        }
    }
}

/// The stream's norm or projection by layer and position.
fn stream(
    args: &Args,
    model: &Checkpoint,
    positions: Positions,
    out: &Out,
) -> anyhow::Result<Outcome> {
    #[derive(Serialize)]
    struct Report<'a> {
        model: &'a str,
        points: Vec<String>,
        words: Vec<String>,
        #[serde(flatten)]
        lens: &'a StreamLens,
    }
    let direction = args.direction.as_deref();
    let foreign = args.edits.accept_foreign_direction;
    let options = StreamOptions {
        positions,
        rows: parse_layers(args.layers(), model.config().n_layers)?,
        direction: direction
            .map(|spec| edits::direction(spec, model, foreign))
            .transpose()?
            .map(|vector| vector.to_vec()),
    };
    let ids = encode(model, &args.text, args.chat)?;
    let lens = stream_lens(&model.decoder, &ids, &options, &args.edits.edits(model)?)?;
    if out.json {
        let report = Report {
            model: &model.name,
            points: lens.rows.iter().map(|r| r.point().to_string()).collect(),
            words: lens
                .tokens
                .iter()
                .map(|&id| model.tokenizer.token(id))
                .collect(),
            lens: &lens,
        };
        out.json("candlescope.lens.stream/1", &report)?;
        return Ok(Outcome::Done);
    }
    let show = |title: &str, values: &[Vec<f64>], digits: usize| {
        let heading = |(p, &id): (&usize, &u32)| format!("{p}:{}", label(model, id));
        let mut grid = Grid::new(
            "layer",
            lens.positions.iter().zip(&lens.tokens).map(heading),
        );
        for (row, values) in lens.rows.iter().zip(values) {
            let cells = values.iter().map(|x| format!("{x:.digits$}")).collect();
            grid.row(row.label(), cells);
        }
        out.text(&format!("{title}\n{}", grid.draw(output::width())))
    };
    match &lens.projections {
        None => show(
            "Euclidean norm of the residual stream after each layer",
            &lens.norms,
            2,
        )?,
        Some(along) => {
            show(
                "residual stream after each layer: dot product with the direction at length 1",
                &along.dots,
                2,
            )?;
            out.line("")?;
            show("cosine with the direction", &along.cosines, 3)?;
        }
    }
    Ok(Outcome::Done)
}

/// A token as a heading of a column.
pub(super) fn label(model: &Checkpoint, id: u32) -> String {
    cut(&token_label(&model.tokenizer.token(id)), WIDEST)
}

/// The tokens of a text, as it is or as a user's turn.
pub(super) fn encode(model: &Checkpoint, text: &str, chat: bool) -> anyhow::Result<Vec<u32>> {
    let ids = if chat {
        model
            .encode_chat(&[Message::user(text)], &Vars::default())?
            .ids
    } else {
        model.tokenizer.encode(text, true)?
    };
    anyhow::ensure!(!ids.is_empty(), "the text has no tokens; give some text");
    Ok(ids)
}

/// A target must be one token: the probability of several is not in any one cell.
pub(super) fn target(model: &Checkpoint, text: &str) -> Result<u32, LensError> {
    let ids = model
        .tokenizer
        .encode(text, false)
        .map_err(crate::model::ModelError::from)?;
    match ids.as_slice() {
        [id] => Ok(*id),
        ids => {
            let shown = |id: &u32| format!("{:?}", visible(&model.tokenizer.token(*id)));
            Err(LensError::Target {
                text: text.into(),
                count: ids.len(),
                tokens: ids.iter().map(shown).collect::<Vec<_>>().join(" "),
            })
        }
    }
}
