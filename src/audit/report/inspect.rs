//! The audit as an evaluation log of Inspect (`inspect_ai`, JSON, version 2), for those who read and compare such logs.
//!
//! Always: one sample for each prompt that a signal shows, with a score of each signal that shows it; one score of the results
//! for each quantity that was measured, its interval in the metric's metadata; prompts and completions as cut as in the
//! report; a number that is not finite is left out, because the format has none.

use std::collections::BTreeMap;

use candlescope_probes::stats::special::normal_quantile;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::super::measure::{Interval, Value};
use super::super::result::{Audit, Item, ModelCard, SignalResult};
use super::ReportError;

/// The version of the format, which its readers look at first.
const VERSION: u32 = 2;

/// The log. Readers of headers alone depend on the order of its fields.
#[derive(Serialize)]
struct Log {
    version: u32,
    status: &'static str,
    eval: Json,
    plan: Json,
    results: Json,
    stats: Json,
    samples: Json,
}

/// The log; `bundle` is the id of the evidence bundle, where there is one.
///
/// # Errors
/// None for an audit, whose numbers JSON can hold.
pub fn render(audit: &Audit, bundle: Option<&str>) -> Result<String, ReportError> {
    let samples = samples(audit);
    let log = Log {
        version: VERSION,
        status: status(audit),
        eval: spec(audit, &samples, bundle),
        plan: json!({
            "name": "candlescope audit",
            "steps": [{"solver": "generate", "params": {}, "params_passed": {}}],
            "config": {"temperature": 0.0},
        }),
        results: results(audit, &samples),
        stats: json!({
            "started_at": audit.started,
            "completed_at": completed(audit),
            "model_usage": {},
        }),
        samples: samples.iter().map(|sample| sample.json(audit)).collect(),
    };
    serde_json::to_string_pretty(&log)
        .map(|text| text + "\n")
        .map_err(|error| ReportError::Foreign {
            file: "the log".to_owned(),
            message: error.to_string(),
        })
}

/// An audit that was interrupted says so in its first warning.
fn status(audit: &Audit) -> &'static str {
    let interrupted = |warning: &String| warning.starts_with("Interrupted");
    if audit.warnings.iter().any(interrupted) {
        "cancelled"
    } else {
        "success"
    }
}

/// Start and duration; empty where the start is no time.
fn completed(audit: &Audit) -> String {
    let started: Option<jiff::Timestamp> = audit.started.parse().ok();
    let lasted = jiff::SignedDuration::try_from_secs_f64(audit.seconds).ok();
    let ended = started
        .zip(lasted)
        .and_then(|(at, lasted)| at.checked_add(lasted).ok());
    ended.map_or_else(String::new, |at| at.to_string())
}

fn spec(audit: &Audit, samples: &[Sample], bundle: Option<&str>) -> Json {
    let suites: Vec<&str> = audit
        .provenance
        .suites
        .iter()
        .map(|suite| suite.name.as_str())
        .collect();
    let run = format!("{}-{}", audit.subject.fingerprint, audit.policy.hash);
    json!({
        "eval_id": format!("{run}-{}", audit.started),
        "run_id": run,
        "created": audit.started,
        "task": "candlescope_audit",
        "task_id": audit.policy.hash,
        "task_version": audit.schema,
        "task_args": {"policy": audit.policy.name, "seed": audit.provenance.seed},
        "task_args_passed": {"policy": audit.policy.name, "seed": audit.provenance.seed},
        "solver": "generate",
        "tags": ["candlescope", audit.verdict.word()],
        "dataset": {
            "name": suites.join(", "),
            "samples": samples.len(),
            "sample_ids": samples.iter().map(|sample| sample.id.as_str()).collect::<Vec<_>>(),
            "shuffled": false,
        },
        "model": audit.subject.name,
        "model_args": card(&audit.subject),
        "config": {"epochs": 1},
        "packages": {"candlescope": audit.tool_version},
        "scorers": audit.signals.iter().map(scorer).collect::<Json>(),
        "metadata": {
            "bundle": bundle,
            "verdict": audit.verdict.word(),
            "reasons": audit.reasons,
            "warnings": audit.warnings,
            "policy": audit.policy,
            "baseline": audit.baseline.as_ref().map(card),
            "provenance": audit.provenance,
        },
    })
}

fn card(card: &ModelCard) -> Json {
    json!({
        "name": card.name,
        "family": card.family,
        "parameters": card.n_params,
        "dtype": card.dtype,
        "weights_sha256": card.weights_hash,
        "tokenizer_sha256": card.tokenizer_hash,
        "template_sha256": card.template_hash,
        "fingerprint": card.fingerprint,
    })
}

fn scorer(signal: &SignalResult) -> Json {
    json!({
        "name": signal.id,
        "options": {},
        "metrics": [{"name": "estimate"}, {"name": "stderr"}],
        "metadata": {"title": signal.title, "number": signal.number, "stage": signal.stage},
    })
}

fn results(audit: &Audit, samples: &[Sample]) -> Json {
    let scores = audit.signals.iter().flat_map(|signal| {
        let shown = samples
            .iter()
            .filter(|sample| sample.shown_by(signal))
            .count();
        let measured = signal.values.iter().filter(|value| value.value.is_some());
        measured.map(move |value| score(signal, value, shown))
    });
    json!({
        "total_samples": samples.len(),
        "completed_samples": samples.len(),
        "scores": scores.collect::<Json>(),
        "metadata": {
            "not_evaluated": audit
                .signals
                .iter()
                .filter_map(|signal| Some((signal.id.clone(), Json::from(signal.not_evaluated.clone()?))))
                .collect::<Map<_, _>>(),
            "skipped": audit.skipped,
        },
    })
}

/// One quantity of a signal.
fn score(signal: &SignalResult, value: &Value, shown: usize) -> Json {
    let mut metrics = Map::new();
    metrics.insert(
        "estimate".to_owned(),
        json!({"name": "estimate", "value": value.value, "params": {}, "metadata": value}),
    );
    if let Some(stderr) = value.interval.as_ref().and_then(stderr) {
        let how = "half the interval's width over the normal quantile of its level";
        let metric =
            json!({"name": "stderr", "value": stderr, "params": {}, "metadata": {"how": how}});
        metrics.insert("stderr".to_owned(), metric);
    }
    let judged: Vec<_> = signal
        .checks
        .iter()
        .filter(|check| check.value == value.name)
        .collect();
    json!({
        "name": value.name,
        "scorer": signal.id,
        "scored_samples": shown,
        "unscored_samples": 0,
        "params": {},
        "metrics": metrics,
        "metadata": {"verdict": signal.verdict.word(), "reason": signal.reason, "checks": judged},
    })
}

/// The standard error that a symmetric normal interval of this width would come from.
fn stderr(interval: &Interval) -> Option<f64> {
    let z = normal_quantile(f64::midpoint(1.0, interval.level));
    let stderr = (interval.high - interval.low) / (2.0 * z);
    (stderr.is_finite() && stderr >= 0.0).then_some(stderr)
}

/// One prompt and what the signals show of it.
struct Sample<'a> {
    id: String,
    prompt: &'a str,
    completion: &'a str,
    shown: Vec<(&'a SignalResult, &'a Item)>,
}

/// The prompts in the order in which signals show them. Two prompts of one id (of two suites) get ids of their own.
fn samples(audit: &Audit) -> Vec<Sample<'_>> {
    let mut samples: Vec<Sample> = Vec::new();
    let mut places: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    for signal in &audit.signals {
        for item in &signal.items {
            let key = (item.id.as_str(), item.prompt_excerpt.as_str());
            let place = *places.entry(key).or_insert_with(|| {
                let times = used.entry(&item.id).or_default();
                *times += 1;
                samples.push(Sample {
                    id: match *times {
                        1 => item.id.clone(),
                        n => format!("{}#{n}", item.id),
                    },
                    prompt: &item.prompt_excerpt,
                    completion: "",
                    shown: Vec::new(),
                });
                samples.len() - 1
            });
            let sample = &mut samples[place];
            if sample.completion.is_empty() {
                sample.completion = &item.completion_excerpt;
            }
            if !sample.shown_by(signal) {
                sample.shown.push((signal, item));
            }
        }
    }
    samples
}

impl Sample<'_> {
    fn shown_by(&self, signal: &SignalResult) -> bool {
        self.shown.iter().any(|(other, _)| other.id == signal.id)
    }

    fn json(&self, audit: &Audit) -> Json {
        let answer = json!({"role": "assistant", "content": self.completion, "source": "generate"});
        let mut messages = vec![json!({"role": "user", "content": self.prompt, "source": "input"})];
        let mut choices = Vec::new();
        if !self.completion.is_empty() {
            messages.push(answer.clone());
            choices.push(json!({"message": answer, "stop_reason": "unknown"}));
        }
        let scores = self
            .shown
            .iter()
            .map(|(signal, item)| (signal.id.clone(), sample_score(item)));
        json!({
            "id": self.id,
            "epoch": 1,
            "input": self.prompt,
            "target": "",
            "messages": messages,
            "output": {"model": audit.subject.name, "choices": choices, "completion": self.completion},
            "scores": scores.collect::<Map<_, _>>(),
            "metadata": {},
        })
    }
}

fn sample_score(item: &Item) -> Json {
    let mut value = Map::new();
    if !item.label.is_empty() {
        value.insert("label".to_owned(), Json::from(item.label.clone()));
    }
    let finite = item.numbers.iter().filter(|(_, number)| number.is_finite());
    value.extend(finite.map(|(name, number)| (name.clone(), Json::from(*number))));
    let votes: Vec<_> = item
        .votes
        .iter()
        .map(|(who, said)| format!("{who}: {said}"))
        .collect();
    json!({
        "value": value,
        "answer": Some(&item.label).filter(|label| !label.is_empty()),
        "explanation": Some(votes.join("; ")).filter(|text| !text.is_empty()),
        "metadata": {"flags": item.flags},
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::super::verdict::Verdict;
    use super::super::tests::fake;
    use super::*;

    fn log() -> Json {
        serde_json::from_str(&render(&fake::audit(), Some("abc")).unwrap()).unwrap()
    }

    #[test]
    fn every_field_that_inspect_requires_is_there() {
        let log = log();
        assert_eq!(log["version"], 2);
        assert_eq!(log["status"], "success");
        for field in ["created", "task", "dataset", "model", "config"] {
            assert!(!log["eval"][field].is_null(), "eval.{field}");
        }
        let scores = log["results"]["scores"].as_array().unwrap();
        for score in scores {
            assert!(score["name"].is_string() && score["scorer"].is_string());
            for metric in score["metrics"].as_object().unwrap().values() {
                assert!(metric["name"].is_string() && metric["value"].is_number());
            }
        }
        for sample in log["samples"].as_array().unwrap() {
            for field in ["id", "epoch", "input", "target"] {
                assert!(!sample[field].is_null(), "{field}");
            }
            for score in sample["scores"].as_object().unwrap().values() {
                assert!(score["value"].is_object());
            }
        }
        assert_eq!(log["eval"]["metadata"]["bundle"], "abc");
    }

    #[test]
    fn fields_are_in_the_order_that_readers_of_headers_need() {
        let text = render(&fake::audit(), None).unwrap();
        let keys = text.lines().filter_map(|line| line.strip_prefix("  \""));
        let keys: Vec<_> = keys.filter_map(|line| line.split('"').next()).collect();
        assert_eq!(
            keys,
            [
                "version", "status", "eval", "plan", "results", "stats", "samples"
            ]
        );
    }

    #[test]
    fn samples_are_the_prompts_once_each_and_results_the_quantities() {
        let (audit, log) = (fake::audit(), log());
        let samples = log["samples"].as_array().unwrap();
        let mut ids: Vec<_> = samples
            .iter()
            .map(|sample| sample["id"].as_str().unwrap())
            .collect();
        let shown = audit.signals.iter().flat_map(|signal| &signal.items);
        assert!(shown.clone().count() > 0 && ids.len() <= shown.count());
        let total = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), total);
        assert_eq!(log["eval"]["dataset"]["samples"], total);
        let measured = audit.signals.iter().flat_map(|signal| &signal.values);
        let measured = measured.filter(|value| value.value.is_some()).count();
        assert_eq!(log["results"]["scores"].as_array().unwrap().len(), measured);
    }

    /// Wilson for 2 of 100 is [0.0055, 0.0700]: half its width over 1.959964 is 0.016454.
    #[test]
    fn a_standard_error_stands_beside_every_interval() {
        let log = log();
        let scores = log["results"]["scores"].as_array().unwrap();
        let lookalike = scores
            .iter()
            .find(|score| score["name"] == "lookalike_refusal")
            .unwrap();
        let stderr = lookalike["metrics"]["stderr"]["value"].as_f64().unwrap();
        assert!((stderr - 0.016_454).abs() < 1e-6, "{stderr}");
        assert_eq!(lookalike["metrics"]["estimate"]["value"], 0.02);
        for score in scores {
            let interval = &score["metrics"]["estimate"]["metadata"]["interval"];
            assert_eq!(score["metrics"]["stderr"].is_null(), interval.is_null());
        }
    }

    #[test]
    fn an_interrupted_audit_is_a_cancelled_evaluation() {
        let mut audit = fake::audit();
        audit.warnings.insert(
            0,
            "Interrupted: what was not measured by then is not evaluated.".into(),
        );
        let log: Json = serde_json::from_str(&render(&audit, None).unwrap()).unwrap();
        assert_eq!(log["status"], "cancelled");
        assert_eq!(audit.verdict, Verdict::Block);
    }
}
