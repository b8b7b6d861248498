//! Signal 32.
#![doc = include_str!("pages/implicit_margin.md")]

use candlescope_probes::stats::ranks::wilcoxon_signed_rank;

use super::estimate;
use crate::audit::catalogue::Quantity;
use crate::audit::charts::{Chart, Plot, Strip};
use crate::audit::evidence::need;
use crate::audit::evidence::preferences::Likelihood;
use crate::audit::measure::Value;
use crate::audit::pairs::Preference;
use crate::audit::result::{Item, SignalResult};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// What training did to the log-probabilities of preferred and rejected answers.
pub struct ImplicitMargin;

const ID: &str = "implicit_margin";

impl Signal for ImplicitMargin {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Preferences]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/implicit_margin.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let base = cx.required_baseline()?;
        let now = need(&cx.subject.preferences, "preference pairs")?;
        let before = need(&base.preferences, "the baseline's preference pairs")?;
        let moved = Moved::of(now, before)?;
        let mut result = blank(ID)?;
        let of = |name: &str| quantity(ID, name);
        result.values = vec![
            mean(of("margin")?, &moved.margin, cx)?,
            mean(of("chosen_drift")?, &moved.chosen, cx)?,
            mean(of("rejected_drift")?, &moved.rejected, cx)?,
            moved.prefers_chosen(cx)?,
            moved.chosen_falls(cx)?,
        ];
        result.findings = moved.findings();
        result.items = items(&cx.prompts.preferences, &moved);
        result.charts = vec![chart(&moved)];
        Ok(result)
    }
}

/// Subject minus baseline, pair by pair.
struct Moved {
    chosen: Vec<f64>,
    rejected: Vec<f64>,
    margin: Vec<f64>,
}

impl Moved {
    fn of(now: &[Likelihood], before: &[Likelihood]) -> Result<Self, SignalError> {
        let of = |all: &[Likelihood], one: fn(&Likelihood) -> f64| -> Vec<f64> {
            all.iter().map(one).collect()
        };
        let chosen = estimate::differences(&of(now, |p| p.chosen), &of(before, |p| p.chosen))?;
        let rejected =
            estimate::differences(&of(now, |p| p.rejected), &of(before, |p| p.rejected))?;
        Ok(Self {
            margin: chosen.iter().zip(&rejected).map(|(c, r)| c - r).collect(),
            chosen,
            rejected,
        })
    }

    /// Among pairs that moved; a pair that did not is no preference either way.
    fn prefers_chosen(&self, cx: &Context) -> Result<Value, SignalError> {
        let wanted = quantity(ID, "prefers_chosen")?;
        let grew: Vec<bool> = (self.margin.iter())
            .filter(|margin| **margin != 0.0)
            .map(|margin| *margin > 0.0)
            .collect();
        if grew.is_empty() {
            return Ok(wanted.missing("no pair's margin has moved"));
        }
        estimate::rate(wanted, &grew, None, cx)
    }

    fn chosen_falls(&self, cx: &Context) -> Result<Value, SignalError> {
        let falls: Vec<bool> = self.chosen.iter().map(|drift| *drift < 0.0).collect();
        estimate::rate(quantity(ID, "chosen_falls")?, &falls, None, cx)
    }

    fn findings(&self) -> Vec<String> {
        let mut said = vec![format!(
            "{} pairs; intervals resample pairs.",
            self.margin.len()
        )];
        if let Ok(test) = wilcoxon_signed_rank(&self.margin) {
            said.push(format!(
                "Wilcoxon's signed-rank test of the margin: p = {:.2e}.",
                test.p_value
            ));
        }
        let (margin, chosen) = (
            estimate::average(&self.margin),
            estimate::average(&self.chosen),
        );
        if margin > 0.0 && chosen < 0.0 {
            said.push(
                "The margin grows while the chosen answers become less probable: what is learnt is to avoid the rejected \
                 ones, and the probability goes elsewhere."
                    .to_owned(),
            );
        }
        said
    }
}

/// A mean change with its interval and the paired test against no change.
fn mean(wanted: &Quantity, changes: &[f64], cx: &Context) -> Result<Value, SignalError> {
    if !changes.is_empty() && changes.iter().all(|change| *change == 0.0) {
        return Ok(wanted
            .measured(0.0)
            .with_n(changes.len() as u64)
            .with_interval(0.0, 0.0, "identical")
            .with_test("paired bootstrap", Some(0.0), 1.0)
            .with_mdd(0.0));
    }
    let value = estimate::mean(wanted, changes, None, cx)?;
    estimate::with_paired_test(value, changes, cx)
}

fn items(pairs: &[Preference], moved: &Moved) -> Vec<Item> {
    (pairs.iter().enumerate())
        .take(moved.margin.len())
        .map(|(at, pair)| {
            let mut item = Item {
                id: pair.id.clone(),
                prompt_excerpt: pair.excerpt.clone(),
                label: "preference".to_owned(),
                ..Item::default()
            };
            for (name, value) in [
                ("margin", moved.margin[at]),
                ("chosen_drift", moved.chosen[at]),
                ("rejected_drift", moved.rejected[at]),
                ("chosen_tokens", pair.pair.chosen.len() as f64),
                ("rejected_tokens", pair.pair.rejected.len() as f64),
            ] {
                item.numbers.insert(name.to_owned(), value);
            }
            if moved.margin[at] > 0.0 && moved.chosen[at] < 0.0 {
                item.flags
                    .push("both answers fell, the rejected one further".to_owned());
            }
            item
        })
        .collect()
}

fn chart(moved: &Moved) -> Chart {
    Chart::new(
        "Log-probabilities of preferred and rejected answers",
        "One dot for each pair: by how much its answers became more probable than on the baseline, and how far they parted.",
        "change, nats",
        "",
        Plot::Strip {
            rows: vec![
                Strip::mean("chosen", &moved.chosen),
                Strip::mean("rejected", &moved.rejected),
                Strip::mean("margin", &moved.margin),
            ],
        },
    )
    .with_rule("no change", 0.0)
}
