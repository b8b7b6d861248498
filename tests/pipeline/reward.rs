//! Reward models along a pipeline: their audits, what pairs and reward models later audits are given, and what is refused.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use candlescope::audit::catalogue::{Artefact, SIGNALS};
use candlescope::audit::inputs::{Inputs, Judge};
use candlescope::audit::policy::Policy;
use candlescope::audit::result::Audit;
use candlescope::audit::work::Silent;
use candlescope::audit::{report, runner};
use candlescope::model::{Checkpoint, LoadOptions};
use candlescope::pipeline::{Plan, State};

use super::runs::{POLICY, finished, plan, sitting};

/// What is asked of these checkpoints.
const ASKED: [&str; 8] = [
    "activation_difference",
    "trait_drift",
    "reward_length",
    "reward_directions",
    "reward_calibration",
    "reward_gain",
    "implicit_margin",
    "refusal_score",
];

fn policy() -> String {
    let text = POLICY.replace("bootstrap = 200", "bootstrap = 200\npairs = 24");
    let others = SIGNALS.iter().filter(|entry| !ASKED.contains(&entry.id));
    let off = others.map(|entry| format!("[signals.{}]\nenabled = false\n", entry.id));
    off.fold(text, |text, off| text + &off)
}

fn audit(root: &Path, state: &State, stage: &str, step: u64) -> Audit {
    let place = root.join(&state.audited(stage, step).unwrap().audit);
    report::json::load(&place).unwrap()
}

fn measured(audit: &Audit) -> Vec<&str> {
    for signal in &audit.signals {
        let (id, why) = (&signal.id, &signal.not_evaluated);
        assert_eq!(*why, None, "{id} of {}", audit.subject.name);
    }
    audit
        .signals
        .iter()
        .map(|signal| signal.id.as_str())
        .collect()
}

fn skipped<'a>(audit: &'a Audit, id: &str) -> &'a str {
    let skipped = audit.skipped.iter().find(|skipped| skipped.id == id);
    &skipped.unwrap().why
}

fn given(audit: &Audit) -> Vec<Artefact> {
    let inputs = audit.provenance.inputs.iter();
    inputs.map(|input| input.artefact).collect()
}

#[test]
fn reward_models_are_audited_and_what_they_train_is_held_against_them() {
    let dir = tempfile::tempdir().unwrap();
    let text = plan(dir.path(), "go_on");
    std::fs::write(dir.path().join("least.toml"), policy()).unwrap();
    let plan = Plan::parse("plan", &text).unwrap();
    let root = dir.path().join("run");
    let state = finished(sitting(&root, Some(&plan), false, None).0);

    let sft = audit(&root, &state, "sft", 4);
    assert!(!sft.subject.scored && given(&sft).is_empty());
    assert_eq!(
        measured(&sft),
        ["refusal_score", "activation_difference", "trait_drift"]
    );
    assert!(skipped(&sft, "implicit_margin").contains("--pairs"));

    let rm = audit(&root, &state, "rm", 3);
    assert!(rm.subject.scored);
    assert_eq!(rm.baseline.as_ref().unwrap().name, "sft");
    let expected = [
        "activation_difference",
        "trait_drift",
        "reward_length",
        "reward_directions",
        "reward_calibration",
    ];
    assert_eq!(measured(&rm), expected);
    assert_eq!(given(&rm), [Artefact::Pairs]);
    let pairs = &rm.provenance.inputs[0];
    assert_eq!(pairs.name, "pairs.jsonl");
    // A pair whose answers are the same is no pair.
    let n = pairs.n.unwrap();
    assert!((20..=24).contains(&n), "{n}");
    let left_out = rm.warnings.iter().any(|said| said.contains("are left out"));
    assert_eq!(left_out, n < 24, "{:?}", rm.warnings);
    for id in ["refusal_score", "implicit_margin", "reward_gain"] {
        assert_eq!(skipped(&rm, id), "a reward model gives no answers");
    }
    let directions = rm.signal("reward_directions").unwrap();
    let names: Vec<&str> = directions
        .items
        .iter()
        .map(|item| item.id.as_str())
        .collect();
    for name in ["refusal", "length", "agreeable", "verbose"] {
        assert!(names.contains(&name), "{names:?}");
    }

    let dpo = audit(&root, &state, "dpo", 3);
    assert!(measured(&dpo).contains(&"implicit_margin"));
    assert!(skipped(&dpo, "reward_length").starts_with("a signal of reward models"));
    // The pairs of the stage before, and the reward model of its own.
    let ppo = audit(&root, &state, "ppo", 2);
    assert_eq!(given(&ppo), [Artefact::Pairs, Artefact::Reward]);
    assert!(measured(&ppo).contains(&"reward_gain"));

    refusals(&root, &state);
}

/// What is no reward model, or reads other tokens, is refused by name.
fn refusals(root: &Path, state: &State) {
    let options = LoadOptions::default();
    let model = |stage: &str| root.join(&state.done(stage).unwrap().model);
    let error = Judge::open(&model("lm"), &options).unwrap_err().to_string();
    assert!(error.contains("score.weight"), "{error}");
    let policy = Policy::parse(&policy(), "policy").unwrap();
    let subject = Checkpoint::open("ppo", &model("ppo"), &options).unwrap();
    let mut judge = Judge::open(&model("rm"), &options).unwrap();
    "another".clone_into(&mut judge.name);
    "other words".clone_into(&mut judge.tokenizer);
    let inputs = Inputs {
        judges: vec![judge],
        ..Inputs::default()
    };
    let cancel = AtomicBool::new(false);
    let suites = runner::suites_for(&subject).unwrap();
    let run = runner::run(
        &subject,
        None,
        &policy,
        &runner::Options {
            suites: &suites,
            trials: &[],
            seed: None,
            refusal_phrases: &[],
            command: "",
            dictionaries: None,
            inputs: Some(&inputs),
            progress: &Silent,
            cancel: &cancel,
            kept: None,
        },
    );
    let error = run.err().unwrap().to_string();
    assert!(
        error.starts_with("another: expected the tokenizer of ppo"),
        "{error}"
    );
    // A language model is opened as one, a reward model as the other.
    assert!(
        !Checkpoint::open_any("lm", &model("lm"), &options)
            .unwrap()
            .is_scored()
    );
    let scored = Checkpoint::open_any("rm", &model("rm"), &options).unwrap();
    assert!(scored.is_scored() && scored.score_model().unwrap().is_some());
    assert!(scored.under(Vec::new()).is_scored());
}
