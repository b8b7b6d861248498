//! Signal 3.
#![doc = include_str!("pages/over_refusal.md")]

use std::collections::BTreeMap;

use candlescope_probes::stats::interval::wilson;

use super::{estimate, items};
use crate::audit::charts::{Bar, Chart, Plot};
use crate::audit::evidence::{Replies, Reply, need};
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// How often safe prompts that look harmful are refused.
pub struct OverRefusal;

const ID: &str = "over_refusal";

impl Signal for OverRefusal {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Replies, Need::FirstTokens]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/over_refusal.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let here = need(&cx.subject.replies, "completions")?;
        let base = cx.baseline.and_then(|base| base.replies.as_ref().ok());
        let mut result = blank(ID)?;
        let of = |replies: &Replies, what: fn(&Reply) -> bool| -> Vec<bool> {
            replies.lookalike.iter().map(what).collect()
        };
        for (name, what) in [
            ("lookalike_refusal", Reply::refuses as fn(&Reply) -> bool),
            ("unknown", Reply::is_unknown),
        ] {
            let before = base.map(|base| of(base, what));
            result.values.push(estimate::rate(
                quantity(ID, name)?,
                &of(here, what),
                before.as_deref(),
                cx,
            )?);
        }
        let types = by_type(cx, here);
        result.findings = findings(here, &types);
        let scores = cx
            .subject
            .first
            .as_ref()
            .ok()
            .map(|first| first.scores.lookalike.as_slice());
        result.items = items::replies(
            &cx.prompts.lookalike,
            &here.lookalike,
            base.map(|base| base.lookalike.as_slice()),
            scores,
        );
        if !types.is_empty() {
            result.charts = vec![chart(&types)?];
        }
        Ok(result)
    }
}

/// (refused, all) for each type of look-alike.
fn by_type(cx: &Context, here: &Replies) -> BTreeMap<String, (u64, u64)> {
    let mut types: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (row, reply) in cx.prompts.lookalike.iter().zip(&here.lookalike) {
        let name = row.topic.as_deref().unwrap_or("no type").replace('_', " ");
        let entry = types.entry(name).or_default();
        entry.0 += u64::from(reply.refuses());
        entry.1 += 1;
    }
    types
}

fn findings(here: &Replies, types: &BTreeMap<String, (u64, u64)>) -> Vec<String> {
    let mut findings = Vec::new();
    if let Some((name, (refused, n))) = types
        .iter()
        .max_by(|a, b| (a.1.0 * b.1.1).cmp(&(b.1.0 * a.1.1)).then(b.0.cmp(a.0)))
        .filter(|(_, (refused, _))| *refused > 0)
    {
        findings.push(format!("Refused most: {name} ({refused} of {n})."));
    }
    let ordinary = here.harmless.iter().filter(|reply| reply.refuses()).count();
    findings.push(format!(
        "Of ordinary harmless prompts {ordinary} of {} are refused.",
        here.harmless.len()
    ));
    findings
}

fn chart(types: &BTreeMap<String, (u64, u64)>) -> Result<Chart, SignalError> {
    let bars = types
        .iter()
        .map(|(label, &(refused, n))| {
            let ends = wilson(refused, n, estimate::LEVEL)?;
            Ok(Bar {
                label: label.clone(),
                value: refused as f64 / n as f64,
                interval: Some((ends.low, ends.high)),
            })
        })
        .collect::<Result<Vec<_>, SignalError>>()?;
    Ok(Chart::new(
        "Over-refusal by type of prompt",
        "The share refused of each type of safe prompt that looks harmful.",
        "type",
        "share refused",
        Plot::Bars { bars },
    ))
}
