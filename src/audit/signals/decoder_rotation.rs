//! Signal 22.
#![doc = include_str!("pages/decoder_rotation.md")]

use super::frozen;
use crate::audit::evidence::dictionary::{Turn, Turned};
use crate::audit::evidence::need;
use crate::audit::measure::Value;
use crate::audit::result::{Item, SignalResult};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// Decoder rows that a refit on this checkpoint turned.
pub struct DecoderRotation;

const ID: &str = "decoder_rotation";
/// Latents that are listed.
const LISTED: usize = 20;
const NO_CONTROL: &str = "no refit on the baseline was given; try --refit-control PATH";

impl Signal for DecoderRotation {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Refit]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/decoder_rotation.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let found = need(&frozen::dictionaries(cx)?.turned, "refit of the dictionary")?;
        let mut result = blank(ID)?;
        let here: Vec<f64> = found.turns.iter().map(|turn| turn.here).collect();
        let excess: Option<Vec<f64>> = found.turns.iter().map(excess).collect();
        for (name, p) in [("median_turn", 0.5), ("largest_turns", 0.99)] {
            result.values.push(value(name, Some(&here), p)?);
        }
        for (name, p) in [("median_excess", 0.5), ("largest_excesses", 0.99)] {
            result.values.push(value(name, excess.as_deref(), p)?);
        }
        result.findings = findings(found);
        result.items = items(found);
        Ok(result)
    }
}

fn excess(turn: &Turn) -> Option<f64> {
    turn.control.map(|control| turn.here - control)
}

fn value(name: &str, numbers: Option<&[f64]>, p: f64) -> Result<Value, SignalError> {
    let wanted = quantity(ID, name)?;
    Ok(match numbers {
        None => wanted.missing(NO_CONTROL),
        Some([]) => wanted.missing("no latent has a decoder row in all of them"),
        Some(numbers) => {
            let mut sorted = numbers.to_vec();
            sorted.sort_by(f64::total_cmp);
            let place = (p * (sorted.len() - 1) as f64).round() as usize;
            wanted.measured(sorted[place]).with_n(sorted.len() as u64)
        }
    })
}

fn findings(found: &Turned) -> Vec<String> {
    let mut all = Vec::new();
    if found.without_row > 0 {
        all.push(format!(
            "{} latents have a decoder row of zeros and are left out.",
            found.without_row
        ));
    }
    if found.turns.iter().any(|turn| turn.control.is_none()) {
        all.push(
            "Turns hold what the data does, too: a refit on the baseline would tell it.".to_owned(),
        );
    }
    all
}

/// Those that turned most, more than by the control where there is one.
fn items(found: &Turned) -> Vec<Item> {
    let mut order = found.turns.clone();
    let by = |turn: &Turn| excess(turn).unwrap_or(turn.here);
    order.sort_by(|a, b| by(b).total_cmp(&by(a)));
    let item = |turn: &Turn| {
        let mut item = Item {
            id: format!("latent {}", turn.latent),
            label: "turned".to_owned(),
            ..Item::default()
        };
        item.numbers.insert("turn".to_owned(), turn.here);
        if let Some(control) = turn.control {
            item.numbers.insert("control_turn".to_owned(), control);
        }
        item
    };
    order.iter().take(LISTED).map(item).collect()
}
