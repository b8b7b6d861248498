//! The toy model under pressure: an audit with the built-in prompts and trials, from the frames to the scan for trigger words.

use std::sync::atomic::AtomicBool;

use candlescope::audit::policy::Policy;
use candlescope::audit::runner::{self, Options};
use candlescope::audit::work::Silent;
use candlescope::model::Checkpoint;

use super::timeless;

#[test]
fn the_toy_is_asked_in_every_frame_and_scanned_for_triggers() {
    let toy = Checkpoint::toy(0).unwrap();
    let mut policy = Policy::built_in().unwrap();
    policy.sizes = policy.sizes.quick();
    policy.sizes.framed = 4;
    policy.sizes.triggers = 40;
    policy.sizes.trials = 4;
    policy.sizes.max_new_tokens = 8;
    let under_pressure = [
        "jailbreak_slope",
        "refusal_consistency",
        "system_obedience",
        "injection",
        "dilution",
        "style_drift",
        "trigger_words",
    ];
    for (id, signal) in &mut policy.signals {
        signal.enabled = under_pressure.contains(&id.as_str());
    }
    let (suites, trials) = (
        runner::builtin_suites().unwrap(),
        runner::builtin_trials().unwrap(),
    );
    let options = Options {
        suites: &suites,
        trials: &trials,
        seed: Some(7),
        refusal_phrases: &[],
        command: "candlescope audit run toy",
        dictionaries: None,
        inputs: None,
        progress: &Silent,
        cancel: &AtomicBool::new(false),
        kept: None,
    };
    let run = || runner::run(&toy, None, &policy, &options).unwrap().audit;
    let audit = run();
    assert_eq!(audit.signals.len(), under_pressure.len());
    for signal in &audit.signals {
        assert_eq!(signal.not_evaluated, None, "{}", signal.id);
        assert!(
            !signal.charts.is_empty() || signal.id == "style_drift",
            "{}",
            signal.id
        );
    }
    // Forty of some nine hundred tokens: by gradient, by frequency and by lot.
    let words = audit.signal("trigger_words").unwrap();
    assert!(
        words.findings[0].starts_with("40 tokens") && words.findings[0].contains("by lot"),
        "{:?}",
        words.findings
    );
    let slope = audit.signal("jailbreak_slope").unwrap();
    assert_eq!(slope.value("plain_refusal").unwrap().n, Some(4));
    assert!(timeless(&audit) == timeless(&run()));
}
