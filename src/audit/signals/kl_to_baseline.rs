//! Signal 33.
#![doc = include_str!("pages/kl_to_baseline.md")]

use candlescope_probes::Resampling;
use candlescope_probes::stats::bootstrap::bootstrap;

use super::{estimate, items};
use crate::audit::charts::{Chart, Plot, Strip};
use crate::audit::evidence::{Evidence, TextKl, need};
use crate::audit::measure::Value;
use crate::audit::result::{Item, SignalResult};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// How far the distributions of tokens have moved.
pub struct KlToBaseline;

const ID: &str = "kl_to_baseline";

impl Signal for KlToBaseline {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Texts, Need::FirstTokens]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/kl_to_baseline.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let base = cx.required_baseline()?;
        let texts = need(&cx.required_pair()?.texts, "divergence on neutral texts")?;
        let mut result = blank(ID)?;
        let tokens: usize = texts.iter().map(|text| text.kl.len()).sum();
        if tokens == 0 {
            return Err(SignalError::Missing {
                what: "neutral texts",
                why: "none has a token to predict".to_owned(),
            });
        }
        let mean = over_texts("mean_kl", texts, cx, estimate::average)?;
        let tail = over_texts("kl_p99", texts, cx, |kl| quantile(kl, 0.99))?;
        let first = first_token(cx.subject, base, cx)?;
        let ratio = ratio(&mean, &first)?;
        result.findings = vec![format!(
            "{tokens} tokens of {} neutral texts; intervals resample whole texts.",
            texts.len()
        )];
        result.items = items(cx, texts);
        result.charts = vec![chart(texts)];
        result.values = vec![mean, tail, first, ratio];
        Ok(result)
    }
}

/// A statistic of all tokens, resampled by text.
fn over_texts(
    name: &str,
    texts: &[TextKl],
    cx: &Context,
    statistic: impl Fn(&[f64]) -> f64 + Sync,
) -> Result<Value, SignalError> {
    let wanted = quantity(ID, name)?;
    let all: Vec<f64> = texts
        .iter()
        .flat_map(|text| text.kl.iter().copied())
        .collect();
    let value = wanted.measured(statistic(&all)).with_n(texts.len() as u64);
    if all.iter().all(|kl| *kl == 0.0) {
        return Ok(value.with_interval(0.0, 0.0, "identical"));
    }
    let found = bootstrap(
        texts.len(),
        Resampling::Items,
        &cx.bootstrap(name),
        |drawn| {
            let tokens: Vec<f64> = drawn
                .iter()
                .flat_map(|&text| texts[text].kl.iter().copied())
                .collect();
            statistic(&tokens)
        },
    )?;
    Ok(estimate::with_bootstrap(value, &found))
}

/// The quantile of unsorted values, interpolated linearly.
fn quantile(values: &[f64], p: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = p * (sorted.len().max(1) - 1) as f64;
    let below = place.floor() as usize;
    let Some(low) = sorted.get(below) else {
        return f64::NAN;
    };
    let high = sorted.get(below + 1).unwrap_or(low);
    low + (place - below as f64) * (high - low)
}

/// KL(baseline ‖ this) at the first token of the answer to each harmless test prompt.
fn first_token(here: &Evidence, base: &Evidence, cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "first_token_kl")?;
    let now = &need(&here.first, "first tokens")?.harmless_log_probs;
    let before = &need(&base.first, "the baseline's first tokens")?.harmless_log_probs;
    if now.dim() != before.dim() || now.is_empty() {
        return Ok(wanted.missing("the vocabularies differ, or there are no harmless prompts"));
    }
    let kl: Vec<f64> = before
        .rows()
        .into_iter()
        .zip(now.rows())
        .map(|(p, q)| divergence(p.iter().copied(), q.iter().copied()))
        .collect();
    if kl.iter().all(|kl| *kl == 0.0) {
        let value = wanted.measured(0.0).with_n(kl.len() as u64);
        return Ok(value.with_interval(0.0, 0.0, "identical"));
    }
    estimate::mean(wanted, &kl, None, cx)
}

/// KL(p ‖ q) from log-probabilities; tokens that p never gives count for nothing.
fn divergence(p: impl Iterator<Item = f32>, q: impl Iterator<Item = f32>) -> f64 {
    let sum: f64 = p
        .zip(q)
        .filter(|(p, q)| p != q && *p > f32::NEG_INFINITY)
        .map(|(p, q)| f64::from(p).exp() * (f64::from(p) - f64::from(q)))
        .sum();
    sum.max(0.0)
}

fn ratio(mean: &Value, first: &Value) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "later_over_first")?;
    Ok(match (mean.value, first.value) {
        (Some(later), Some(first)) if later == 0.0 && first == 0.0 => wanted.measured(1.0),
        (Some(later), Some(first)) if first > 0.0 => wanted.measured(later / first),
        _ => wanted.missing("there is no divergence at the first token to compare with"),
    })
}

fn items(cx: &Context, texts: &[TextKl]) -> Vec<Item> {
    texts
        .iter()
        .map(|text| {
            let mut item = items::neutral(&text.id, &cx.prompts.neutral);
            item.numbers
                .insert("mean_kl".to_owned(), estimate::average(&text.kl));
            let most = text.kl.iter().copied().fold(0.0, f64::max);
            item.numbers.insert("max_kl".to_owned(), most);
            item
        })
        .collect()
}

fn chart(texts: &[TextKl]) -> Chart {
    let means: Vec<f64> = texts
        .iter()
        .map(|text| estimate::average(&text.kl))
        .collect();
    Chart::new(
        "KL of neutral texts",
        "One dot for each text: its mean KL per token.",
        "KL per token, nats",
        "",
        Plot::Strip {
            rows: vec![Strip {
                label: "texts".to_owned(),
                estimate: Some(estimate::average(&means)),
                interval: None,
                points: means,
            }],
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_by_hand() {
        let ln = |p: f32| p.ln();
        let p = [ln(0.75), ln(0.25), f32::NEG_INFINITY];
        let q = [ln(0.5), ln(0.5), f32::NEG_INFINITY];
        let expected = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        assert!((divergence(p.into_iter(), q.into_iter()) - expected).abs() < 1e-7);
        assert_eq!(divergence(p.into_iter(), p.into_iter()), 0.0);
    }

    #[test]
    fn quantiles_are_interpolated() {
        let values: Vec<f64> = (0..101).rev().map(f64::from).collect();
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert_eq!(quantile(&[1.0, 2.0], 0.5), 1.5);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
