//! `sae show`: one latent on one page of the terminal.

use std::path::Path;

use serde::Serialize;

use super::on::OnArgs;
use crate::cli::{
    Outcome,
    output::{Out, Table},
};
use crate::features::Labels;
use crate::features::dashboard::{
    Bins, CofiringOver, CollectOptions, Example, LATENT_SCHEMA, LatentRecord, Place, TokenValue,
    dashboard,
};
use crate::text::visible::{token_label, visible};

/// Show what a latent fires on, what it writes, and which latents are like it
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope sae show smollm2-135m-instruct sae/ 4211 --documents text.txt
  candlescope sae show smollm2-135m-instruct sae/ 4211 --jsonl texts.jsonl --examples 20 --json")]
pub struct Args {
    #[command(flatten)]
    on: OnArgs,
    /// Which latent, from 0
    latent: usize,
    /// Top examples shown
    #[arg(long, value_name = "N", default_value_t = 8)]
    examples: usize,
    /// Of the sample of firings
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    place: &'a Place,
    #[serde(flatten)]
    latent: &'a LatentRecord,
    /// What the user calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    yours: Option<&'a str>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let on = args.on.open(out)?;
    on.check(&[args.latent])?;
    let options = CollectOptions {
        batch: args.on.batch,
        top: args.examples,
        per_group: 1,
        seed: args.seed,
        ..CollectOptions::page(on.policy.clone())
    };
    let collected = on.collect(&[args.latent], &options, None, out)?;
    let names = [on.opened.name.clone(), on.policy.to_string()];
    let made = dashboard(&on.model, &on.splice, names, &collected)?;
    let Some(latent) = made.latents.first() else {
        return Ok(Outcome::Done);
    };
    let place = &made.place;
    let labels = Labels::beside(Path::new(&on.opened.name), on.splice.dictionary());
    let labels = labels.map_err(|e| out.note(&e.to_string())).ok();
    let yours = labels.as_ref().and_then(|labels| labels.of(args.latent));
    if out.json {
        let shown = Shown {
            place,
            latent,
            yours,
        };
        out.json(LATENT_SCHEMA, &shown)?;
        return Ok(Outcome::Done);
    }
    page(place, latent, yours, out)?;
    Ok(Outcome::Done)
}

fn page(
    place: &Place,
    latent: &LatentRecord,
    yours: Option<&str>,
    out: &Out,
) -> anyhow::Result<()> {
    out.line(&out.paint("1", &format!("latent {}", latent.index)))?;
    out.line(&visible(&format!(
        "{} at {} of {}, on {} tokens of {} contexts; left out: {}",
        place.dictionary, place.reads, place.model, place.tally.kept, place.contexts, place.policy
    )))?;
    if let Some(yours) = yours {
        out.line(&visible(&format!("yours    {yours}")))?;
    }
    let label = latent.label.as_ref().map(ToString::to_string);
    out.line(&visible(&format!(
        "label    {}",
        label.unwrap_or_else(|| "none: no token statistic foretells it".into())
    )))?;
    let mean = latent
        .mean
        .map_or_else(|| "-".into(), |m| format!("{m:.3}"));
    out.line(&format!(
        "density  {:.4} % ({} tokens); mean {mean}, max {:.3}; decoder norm {:.3}",
        latent.density * 100.0,
        latent.fired,
        latent.max,
        latent.decoder_norm
    ))?;
    if latent.fired == 0 {
        out.line("it fired on none of these tokens")?;
    } else {
        out.line(&format!(
            "values   {}",
            bars(&latent.histogram, latent.max, out)
        ))?;
        heading("top examples, one a context", out)?;
        for one in &latent.top {
            out.line(&example(one, latent.max, out))?;
        }
        heading("by strength, one of each tenth", out)?;
        for group in &latent.quantiles {
            for one in &group.examples {
                out.line(&example(one, latent.max, out))?;
            }
        }
    }
    writes(latent, out)?;
    others(place, latent, out)
}

fn heading(text: &str, out: &Out) -> anyhow::Result<()> {
    out.line(&format!("\n{}", out.paint("1", text)))
}

/// A line of text whose tokens are coloured by how strongly the latent fires on them; without colours, those on which it
/// fires stand in brackets, the strongest of them in two.
fn example(example: &Example, most: f32, out: &Out) -> String {
    let mut line = format!("{:>8.3}  ", example.value);
    for (i, (token, &value)) in example.tokens.iter().zip(&example.values).enumerate() {
        line += &shaded(
            &visible(token),
            value / most.max(f32::MIN_POSITIVE),
            i == example.at,
            out,
        );
    }
    line
}

/// Backgrounds from faint to strong, of the 256 colours.
const SHADES: [u8; 5] = [230, 223, 216, 209, 202];

fn shaded(token: &str, share: f32, peak: bool, out: &Out) -> String {
    if share <= 0.0 {
        return token.to_owned();
    }
    if out.style().colour {
        let shade = SHADES[((share * SHADES.len() as f32) as usize).min(SHADES.len() - 1)];
        let under = if peak { ";4" } else { "" };
        return out.paint(&format!("38;5;16;48;5;{shade}{under}"), token);
    }
    let blank = token.len() - token.trim_start().len();
    let (blank, word) = token.split_at(blank);
    if peak {
        format!("{blank}[[{word}]]")
    } else {
        format!("{blank}[{word}]")
    }
}

fn bars(bins: &Bins, max: f32, out: &Out) -> String {
    let ramp: Vec<char> = if out.style().unicode {
        "▁▂▃▄▅▆▇█".chars().collect()
    } else {
        ".:-=+*#@".chars().collect()
    };
    let most = bins.counts.iter().copied().max().unwrap_or(0) as f64;
    let bar = |&count: &u64| {
        if count == 0 {
            return ' ';
        }
        let height = (count as f64 / most).sqrt() * (ramp.len() - 1) as f64;
        ramp[height.round() as usize]
    };
    let drawn: String = bins.counts.iter().map(bar).collect();
    format!("0 {drawn} {max:.2}")
}

fn writes(latent: &LatentRecord, out: &Out) -> anyhow::Result<()> {
    heading("logits it moves directly", out)?;
    let Some(logits) = &latent.logits else {
        return out.line(
            "none: what this dictionary writes is not added to the residual stream as it is",
        );
    };
    let list = |tokens: &[TokenValue]| {
        let one = |t: &TokenValue| format!("'{}' {:+.2}", token_label(&t.token), t.value);
        tokens.iter().map(one).collect::<Vec<_>>().join("  ")
    };
    let mut table = Table::new(["", "tokens"]);
    table.row(["up".into(), list(&logits.positive)]);
    table.row(["down".into(), list(&logits.negative)]);
    table.print(out)
}

fn others(place: &Place, latent: &LatentRecord, out: &Out) -> anyhow::Result<()> {
    heading("other latents", out)?;
    let near = latent.neighbours.iter();
    let near: Vec<String> = near
        .map(|n| format!("{} {:+.2}", n.index, n.cosine))
        .collect();
    let with = latent.cofiring.iter();
    let with: Vec<String> = with.map(|c| format!("{} {:.2}", c.index, c.phi)).collect();
    let over = match place.cofiring_over {
        CofiringOver::All => "fires with (phi)",
        CofiringOver::Collected | CofiringOver::None => "fires with (not counted)",
    };
    let mut table = Table::new(["", "latents"]);
    table.row(["similar decoder rows (cosine)".into(), near.join("  ")]);
    table.row([over.into(), with.join("  ")]);
    table.print(out)
}
