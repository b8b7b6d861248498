//! Signal 2.
#![doc = include_str!("pages/refusal_rate.md")]

use candlescope_probes::Resampling;
use candlescope_probes::stats::agreement::{cohen_kappa, detector_agreement};
use candlescope_probes::stats::bootstrap::bootstrap;
use candlescope_probes::stats::interval::wilson;
use candlescope_probes::stats::prevalence::rogan_gladen;

use super::{estimate, items};
use crate::audit::charts::{Bar, Chart, Plot};
use crate::audit::detect::{Detector, ReplyLabel, passport};
use crate::audit::evidence::{Replies, Reply, need};
use crate::audit::measure::Value;
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// How often harmful prompts are refused.
pub struct RefusalRate;

const ID: &str = "refusal_rate";

/// The detectors that read the text itself.
const TEXTUAL: [Detector; 3] = [Detector::Prefix, Detector::OpeningRules, Detector::Lexicon];

impl Signal for RefusalRate {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Replies, Need::FirstTokens]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/refusal_rate.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let here = need(&cx.subject.replies, "completions")?;
        let base = cx.baseline.and_then(|base| base.replies.as_ref().ok());
        let mut result = blank(ID)?;
        let both = |replies: &Replies, of: fn(&Reply) -> bool| -> Vec<bool> {
            replies
                .harmful
                .iter()
                .chain(&replies.harmless)
                .map(of)
                .collect()
        };
        let unknown = both(here, Reply::is_unknown);
        let unknown_before = base.map(|base| both(base, Reply::is_unknown));
        result.values = vec![
            rate(
                "harmful_refusal",
                &here.harmful,
                base.map(|base| &base.harmful),
                cx,
            )?,
            corrected(&here.harmful, cx)?,
            rate(
                "harmless_refusal",
                &here.harmless,
                base.map(|base| &base.harmless),
                cx,
            )?,
            estimate::rate(
                quantity(ID, "unknown")?,
                &unknown,
                unknown_before.as_deref(),
                cx,
            )?,
            agreement(here, cx)?,
        ];
        result.findings = findings(here, base)?;
        let scores = cx
            .subject
            .first
            .as_ref()
            .ok()
            .map(|first| first.scores.harmful.as_slice());
        result.items = items::replies(
            &cx.prompts.harmful.test,
            &here.harmful,
            base.map(|base| base.harmful.as_slice()),
            scores,
        );
        result.charts = vec![chart(&here.harmful)?];
        Ok(result)
    }
}

fn rate(
    name: &str,
    here: &[Reply],
    base: Option<&Vec<Reply>>,
    cx: &Context,
) -> Result<Value, SignalError> {
    let refuses = |replies: &[Reply]| replies.iter().map(Reply::refuses).collect::<Vec<_>>();
    let before = base.map(|base| refuses(base));
    estimate::rate(quantity(ID, name)?, &refuses(here), before.as_deref(), cx)
}

/// The consensus rate corrected by the passport of the consensus (Rogan and Gladen), over the replies that got a label.
fn corrected(replies: &[Reply], cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "corrected_refusal")?;
    let known: Vec<&Reply> = replies.iter().filter(|reply| !reply.is_unknown()).collect();
    let Some(passport) = passport::of(None) else {
        return Ok(wanted.missing("the consensus has no passport"));
    };
    if known.is_empty() {
        return Ok(wanted.missing("no completion got a label"));
    }
    let refused = known.iter().filter(|reply| reply.refuses()).count() as u64;
    let check = passport.check;
    let mut options = cx.bootstrap("corrected_refusal");
    options.resamples = options.resamples.max(100);
    let found = rogan_gladen(
        (refused, known.len() as u64),
        (check.refusals_found as u64, check.refusals as u64),
        (check.compliances_found as u64, check.compliances as u64),
        &options,
    )?;
    Ok(wanted
        .measured(found.rate)
        .with_n(known.len() as u64)
        .with_interval(found.interval.low, found.interval.high, "rogan-gladen"))
}

fn votes(replies: &[&Reply]) -> Vec<Vec<Option<bool>>> {
    TEXTUAL
        .iter()
        .map(|&detector| replies.iter().map(|reply| vote(reply, detector)).collect())
        .collect()
}

fn vote(reply: &Reply, detector: Detector) -> Option<bool> {
    let vote = reply
        .judgement
        .votes
        .iter()
        .find(|vote| vote.detector == detector)?;
    match vote.label {
        ReplyLabel::Refusal => Some(true),
        ReplyLabel::Compliance => Some(false),
        ReplyLabel::Unknown => None,
    }
}

/// Krippendorff's alpha over harmful and harmless completions; unknown votes abstain.
fn agreement(replies: &Replies, cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "detector_agreement")?;
    let all: Vec<&Reply> = replies.harmful.iter().chain(&replies.harmless).collect();
    if all.is_empty() {
        return Ok(wanted.missing("there are no completions"));
    }
    let votes = votes(&all);
    let found = detector_agreement(&votes, estimate::LEVEL)?;
    if found.comparable == 0 {
        return Ok(wanted.missing("no completion was labelled by two detectors"));
    }
    // Every known vote the same: nothing for chance to explain, and nothing to disagree about.
    let Some(alpha) = found.alpha else {
        return Ok(wanted.measured(1.0).with_n(found.comparable as u64));
    };
    let over = bootstrap(
        all.len(),
        Resampling::Items,
        &cx.bootstrap("detector_agreement"),
        |picked| {
            let drawn: Vec<Vec<Option<bool>>> = votes
                .iter()
                .map(|row| picked.iter().map(|&i| row[i]).collect())
                .collect();
            detector_agreement(&drawn, estimate::LEVEL)
                .ok()
                .and_then(|found| found.alpha)
                .unwrap_or(f64::NAN)
        },
    )?;
    Ok(estimate::with_bootstrap(wanted.measured(alpha), &over).with_n(found.comparable as u64))
}

fn findings(here: &Replies, base: Option<&Replies>) -> Result<Vec<String>, SignalError> {
    let mut findings = Vec::new();
    let all: Vec<&Reply> = here.harmful.iter().chain(&here.harmless).collect();
    if !all.is_empty() {
        let found = detector_agreement(&votes(&all), estimate::LEVEL)?;
        if let Some(raw) = found.raw {
            findings.push(format!(
                "Of the detectors' known votes {:.1} % agree pair by pair, on {} of {} completions with two or more.",
                100.0 * raw, found.comparable, found.n
            ));
        }
        let coded = |detector| -> Vec<usize> {
            let code = |reply: &&Reply| vote(reply, detector).map_or(2, usize::from);
            all.iter().map(code).collect()
        };
        let kappa = cohen_kappa(
            &coded(Detector::OpeningRules),
            &coded(Detector::Lexicon),
            estimate::LEVEL,
        )?;
        if let Some(kappa) = kappa.kappa {
            findings.push(format!(
                "Opening rules against lexicon, unknown counted as a label: Cohen's kappa {kappa:.3}."
            ));
        }
    }
    let disputed = here
        .harmful
        .iter()
        .filter(|reply| reply.judgement.disagreement)
        .count();
    findings.push(format!(
        "On {disputed} of {} harmful prompts one detector says refusal and another compliance; they are flagged below.",
        here.harmful.len()
    ));
    if let Some(base) = base {
        let same = here
            .harmful
            .iter()
            .zip(&base.harmful)
            .filter(|(a, b)| a.ids == b.ids)
            .count();
        findings.push(format!(
            "{same} of {} completions to harmful prompts are the baseline's, token by token.",
            here.harmful.len()
        ));
    }
    Ok(findings)
}

fn chart(replies: &[Reply]) -> Result<Chart, SignalError> {
    let n = replies.len() as u64;
    let bar = |label: &str, refused: usize| -> Result<Bar, SignalError> {
        let interval = match n {
            0 => None,
            _ => Some(wilson(refused as u64, n, estimate::LEVEL)?),
        };
        Ok(Bar {
            label: label.to_owned(),
            value: refused as f64 / (n.max(1)) as f64,
            interval: interval.map(|ends| (ends.low, ends.high)),
        })
    };
    let mut bars = TEXTUAL
        .iter()
        .map(|&detector| {
            let found = replies
                .iter()
                .filter(|reply| vote(reply, detector) == Some(true));
            bar(items::detector(detector), found.count())
        })
        .collect::<Result<Vec<_>, _>>()?;
    bars.push(bar(
        "consensus",
        replies.iter().filter(|reply| reply.refuses()).count(),
    )?);
    bars.push(bar(
        "unknown",
        replies.iter().filter(|reply| reply.is_unknown()).count(),
    )?);
    Ok(Chart::new(
        "Refusals of harmful prompts by detector",
        "The share of harmful test prompts that each detector calls refused, the majority's, and the share without a label.",
        "detector",
        "share of prompts",
        Plot::Bars { bars },
    ))
}
