//! `lens`: what the model would say if it stopped at each layer.

use anyhow::Context;

use super::{
    Outcome,
    args::ModelArgs,
    edits::EditArgs,
    output::{self, Out},
};
use crate::{
    lens::{
        LensError, LensOptions, Positions, json, logit_lens, parse_layers,
        table::{Look, detail, legend, table},
    },
    model::Checkpoint,
    text::visible::visible,
};

/// Read every layer through the logit lens: its likeliest next tokens, entropy, KL to the final layer, a target's rank
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  candlescope lens smollm2-135m-instruct \"The capital of France is\" --target \" Paris\"\n  candlescope lens smollm2-135m-instruct \"How are you?\" --chat --positions last:4 --json"
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
    /// Follow this token, leading space included [default: what the model itself says next at each position]
    #[arg(long, value_name = "TOKEN")]
    target: Option<String>,
    /// How many of the likeliest tokens to keep
    #[arg(long, value_name = "K", default_value_t = 5)]
    top_k: usize,
    /// Positions: all, last, last:N, or a list such as 0-3,-1
    #[arg(
        long,
        value_name = "LIST",
        default_value = "all",
        allow_hyphen_values = true
    )]
    positions: String,
    /// Layers: *, or a list such as embed,0-3,29
    #[arg(long, value_name = "LIST", default_value = "*")]
    layers: String,
    /// Show every number of this position below the table [default: the last one shown]
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    detail: Option<String>,
    #[command(flatten)]
    edits: EditArgs,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let positions: Positions = args.positions.parse()?;
    let model = args.model.open(out)?;
    let options = LensOptions {
        top_k: args.top_k,
        positions,
        rows: parse_layers(&args.layers, model.config().n_layers)?,
        target: args
            .target
            .as_deref()
            .map(|text| target(&model, text))
            .transpose()?,
    };
    let ids = if args.chat {
        model
            .encode_chat(
                &[crate::text::Message::user(&args.text)],
                &crate::text::Vars::default(),
            )?
            .ids
    } else {
        model.tokenizer.encode(&args.text, true)?
    };
    anyhow::ensure!(!ids.is_empty(), "the text has no tokens; give some text");
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

/// A target must be one token: the probability of several is not in any one cell.
fn target(model: &Checkpoint, text: &str) -> Result<u32, LensError> {
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
