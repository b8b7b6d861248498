//! Names of metrics: which come first for a method, what they are measured in, and how their values are written.
//!
//! Always: names are TRL's, as the log has them; a metric that no list knows comes after those that one does. A number
//! of evaluation, `eval_NAME`, is drawn with the metric of training it belongs to, and is a metric by itself only where
//! there is none.

use super::course::Course;
use crate::audit::wording;
use crate::train::log::TIMES;

/// What evaluation puts before a name.
pub(super) const EVAL: &str = "eval_";

const SFT: &[&str] = &["loss", "mean_token_accuracy", "entropy", "grad_norm"];
const PAIRS: &[&str] = &[
    "loss",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
    "rewards/chosen",
    "rewards/rejected",
    "kl",
    "grad_norm",
];
const REWARD: &[&str] = &[
    "loss",
    "accuracy",
    "margin",
    "mean_reward",
    "min_reward",
    "max_reward",
    "grad_norm",
];
const ONLINE: &[&str] = &[
    "objective/scores",
    "objective/kl",
    "objective/rlhf_reward",
    "objective/non_score_reward",
    "objective/entropy",
    "completions/mean_length",
    "policy/approxkl_avg",
    "policy/clipfrac_avg",
    "loss/policy_avg",
    "loss/value_avg",
    "val/ratio",
];
/// What is the same in every run, and seldom news.
const LAST: &[&str] = &[
    "learning_rate",
    "lr",
    "num_tokens",
    "epoch",
    "time/step_s",
    "time/rollout_s",
    "time/update_s",
];

fn first(method: &str) -> &'static [&'static str] {
    match method {
        "dpo" | "kto" => PAIRS,
        "rm" => REWARD,
        "ppo" | "rloo" => ONLINE,
        _ => SFT,
    }
}

/// The metrics of a run in the order they are shown.
pub(super) fn names(run: &Course) -> Vec<&str> {
    let all = run.series.keys().map(String::as_str);
    let belongs = |name: &str| {
        let base = name.strip_prefix(EVAL);
        base.is_some_and(|base| run.series.contains_key(base))
    };
    let mut names: Vec<&str> = all.filter(|name| !belongs(name)).collect();
    let known = first(&run.method);
    names.sort_by_key(|name| {
        let last = LAST.iter().position(|known| known == name);
        let first = known.iter().position(|known| known == name);
        match (first, last) {
            (Some(at), _) => at,
            (None, None) => known.len(),
            (None, Some(at)) => known.len() + 1 + at,
        }
    });
    names
}

/// What a metric is measured in.
pub(super) fn unit(name: &str, method: &str) -> &'static str {
    let name = name.strip_prefix(EVAL).unwrap_or(name);
    let part = name.rsplit('/').next().unwrap_or(name);
    match part {
        "loss" if matches!(method, "sft" | "lm") => "nats per target",
        "learning_rate" | "lr" => "rate",
        "grad_norm" => "L2 norm before clipping",
        "num_tokens" | "mean_length" | "min_length" | "max_length" => "tokens",
        "epoch" => "times through the data",
        _ if name.starts_with(TIMES) => "seconds",
        _ if part.contains("accurac") || part.contains("frac") => "share, 0 to 1",
        _ if part.contains("kl") || part.contains("entropy") || name.starts_with("logps/") => {
            "nats"
        }
        _ => "",
    }
}

/// A value; also one that is no number.
pub(super) fn value(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".to_owned(),
        v if v.is_infinite() => if v > 0.0 { "inf" } else { "-inf" }.to_owned(),
        v if v.fract() == 0.0 && v.abs() < 1e7 => format!("{v:.0}"),
        v => wording::number("", v),
    }
}
