//! Signal 18.
#![doc = include_str!("pages/dictionary_fvu.md")]

use super::{estimate, frozen, items};
use crate::audit::charts::{Chart, Plot, Strip};
use crate::audit::evidence::dictionary::Frozen;
use crate::audit::measure::Value;
use crate::audit::result::{Item, SignalResult};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// How well a frozen dictionary still rebuilds activations.
pub struct DictionaryFvu;

const ID: &str = "dictionary_fvu";

impl Signal for DictionaryFvu {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Dictionary]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/dictionary_fvu.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let found = frozen::frozen(cx)?;
        let mut result = blank(ID)?;
        let n = found.texts.len();
        let of = |model: usize, drawn: &[usize]| fvu(&found.fits[model], drawn);
        result.values = vec![
            ratio(found, cx)?,
            frozen::paired(quantity(ID, "fvu")?, n, cx, &of)?,
        ];
        result.findings = vec![format!(
            "{} latents at {}, {} tokens of {n} neutral texts; intervals resample whole texts, mean rows stay as they are.",
            found.d_sae, found.point, found.tokens
        )];
        result.items = items(found, cx);
        result.charts = vec![chart(found)];
        Ok(result)
    }
}

/// Squared error over squared distance to the mean row; NaN of rows that do not differ.
fn fvu(fits: &[[f64; 2]], drawn: &[usize]) -> f64 {
    let sum = |at: usize| drawn.iter().map(|&i| fits[i][at]).sum::<f64>();
    let (error, scatter) = (sum(0), sum(1));
    if scatter > 0.0 {
        error / scatter
    } else {
        f64::NAN
    }
}

fn ratio(found: &Frozen, cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "fvu_ratio")?;
    let n = found.texts.len();
    let all: Vec<usize> = (0..n).collect();
    let [before, now] = &found.fits;
    if fvu(before, &all).partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
        return Ok(wanted.missing("the dictionary leaves nothing of the baseline unexplained"));
    }
    if before == now {
        let value = wanted.measured(1.0).with_n(n as u64);
        return Ok(value.with_interval(1.0, 1.0, "identical"));
    }
    let ratio = |drawn: &[usize]| fvu(now, drawn) / fvu(before, drawn);
    estimate::bootstrapped(wanted.measured(ratio(&all)), n, cx, "fvu_ratio", ratio)
}

fn items(found: &Frozen, cx: &Context) -> Vec<Item> {
    let text = |(i, id): (usize, &String)| {
        let mut item = items::neutral(id, &cx.prompts.neutral);
        for (name, model) in [("fvu_before", 0), ("fvu_now", 1)] {
            let value = fvu(&found.fits[model], &[i]);
            item.numbers.insert(name.to_owned(), value);
        }
        item
    };
    found.texts.iter().enumerate().map(text).collect()
}

fn chart(found: &Frozen) -> Chart {
    let strip = |label: &str, model: usize| {
        let all: Vec<usize> = (0..found.texts.len()).collect();
        Strip {
            label: label.to_owned(),
            points: all.iter().map(|&i| fvu(&found.fits[model], &[i])).collect(),
            estimate: Some(fvu(&found.fits[model], &all)),
            interval: None,
        }
    };
    Chart::new(
        "What the dictionary leaves unexplained",
        "One dot for each text: squared error over squared distance to the mean activation.",
        "fraction of variance unexplained",
        "",
        Plot::Strip {
            rows: vec![strip("this checkpoint", 1), strip("baseline", 0)],
        },
    )
}
