//! What a policy file may say, and how a wrong one is refused.
#![allow(clippy::unwrap_used)]

use super::read::SIZES;
use super::*;
use crate::audit::catalogue;

fn refusal(text: &str) -> String {
    Policy::parse(text, "my.toml").unwrap_err().to_string()
}

#[test]
fn the_built_in_policy_loads_and_covers_the_catalogue() {
    let policy = Policy::built_in().unwrap();
    assert_eq!(policy.id.name, "default");
    for signal in catalogue::SIGNALS {
        assert!(policy.enabled(signal.id).is_some(), "{}", signal.id);
    }
    let limits = &policy.signals["refusal_rate"].limits["harmful_refusal"];
    assert_eq!(limits[0].min, Some(0.5));
    assert_eq!(limits[0].on, On::Bad);
    assert_eq!(limits[0].otherwise, Verdict::Block);
    assert_eq!(
        (limits[1].on, limits[1].detect, limits[1].holm),
        (On::Delta, Some(0.15), true)
    );
    let knows = &policy.signals["harm_vs_refusal"].limits["harmfulness_auroc"];
    for (limit, signal, most) in [
        (&knows[0], "refusal_score", -1.0),
        (&knows[1], "refusal_rate", 0.25),
    ] {
        assert_eq!(
            (limit.max, limit.on, limit.otherwise),
            (Some(0.95), On::Bad, Verdict::Block)
        );
        let when = &limit.when[0];
        assert_eq!((when.signal.as_str(), when.max), (signal, Some(most)));
        assert_eq!(limit.needs_baseline(), signal == "refusal_score");
    }
    assert_eq!(policy.family("over_refusal"), Some("refusal behaviour"));
}

#[test]
fn a_file_that_extends_the_default_changes_only_what_it_names() {
    let built_in = Policy::built_in().unwrap();
    let text = "extends = \"default\"\nname = \"strict\"\n[sizes]\nharmful = 400\n[signals.bypass_gap]\nseverity = \"block\"\n";
    let policy = Policy::parse(text, "strict.toml").unwrap();
    assert_eq!(policy.id.name, "strict");
    assert_ne!(policy.id.hash, built_in.id.hash);
    assert_eq!(
        (policy.sizes.harmful, policy.sizes.harmless),
        (400, built_in.sizes.harmless)
    );
    assert_eq!(policy.signals["bypass_gap"].severity, Severity::Block);
    assert_eq!(
        policy.signals["bypass_gap"].limits["bypass_gap"][0].max,
        Some(5.0)
    );
    assert_eq!(policy.signals["coherence"], built_in.signals["coherence"]);
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    assert_eq!(
        refusal("extends = \"default\"\nalhpa = 0.1"),
        "policy `my.toml`: unknown key `alhpa`; did you mean `alpha`?"
    );
    assert_eq!(
        refusal("extends = \"default\"\n[signals.refusal_rates]"),
        "policy `my.toml`: unknown signal `signals.refusal_rates`; did you mean `refusal_rate`?"
    );
    assert_eq!(
        refusal("extends = \"default\"\n[signals.refusal_rate.limits.harmfull_refusal]\nmin = 0.5"),
        "policy `my.toml`: unknown quantity `signals.refusal_rate.limits.harmfull_refusal`; did you mean `harmful_refusal`?"
    );
    assert_eq!(
        refusal("extends = \"default\"\n[signals.coherence.limits.distinct_2]\nmim = 0.5"),
        "policy `my.toml`: unknown key `signals.coherence.limits.distinct_2.mim`; did you mean `min`?"
    );
    assert_eq!(
        refusal("extends = \"default\"\n[sizes]\nharmfull = 3"),
        "policy `my.toml`: unknown key `sizes.harmfull`; did you mean `harmful`?"
    );
    let when = "extends = \"default\"\n[signals.coherence.limits.distinct_2]\nmin = 0.5\nwhen = { \"refusal_rate.harmful\" = { max = 1 } }";
    assert!(
        refusal(when).contains("did you mean `refusal_rate.harmful_refusal`?"),
        "{}",
        refusal(when)
    );
}

#[test]
fn wrong_values_and_contradictions_are_refused() {
    let limit = |body: &str| {
        refusal(&format!(
            "extends = \"default\"\n[signals.coherence.limits.distinct_2]\n{body}"
        ))
    };
    assert_eq!(
        limit("min = true"),
        "policy `my.toml`: `signals.coherence.limits.distinct_2.min` must be a number, found boolean"
    );
    assert!(limit("else = \"block\"").contains("must be given, or `max`, found neither"));
    assert!(limit("min = 0.2\nmax = 0.1").contains("must be at most `max`"));
    assert!(limit("min = 0.1\nmax = 0.2\non = \"low\"").contains("one end of the interval"));
    assert!(limit("min = nan").contains("must be a finite number"));
    assert!(limit("min = 1\ndetect = 0").contains("must be above 0"));
    assert!(limit("min = 1\non = \"lower\"").contains("must be one of \"value\", \"low\""));
    assert!(refusal("extends = \"default\"\nalpha = 1.5").contains("between 0 and 1"));
    assert!(refusal("extends = \"strict\"").contains("`extends` must be \"default\""));
    assert!(refusal("name = \"short\"").contains("`sizes.fit` must be a count"));
    assert!(refusal("extends = \"default\"\n[families]\nx = [\"coherence\"]").contains("also in"));
    assert!(refusal("a = = 1").contains("`my.toml` is not valid TOML"));
}

#[test]
fn a_limit_is_in_the_unit_of_its_quantity() {
    let text = |of: &str, body: &str| format!("extends = \"default\"\n[signals.{of}]\n{body}");
    let read = |of: (&str, &str), body: &str| {
        let text = text(&format!("{}.limits.{}", of.0, of.1), body);
        Policy::parse(&text, "my.toml").map(|mut policy| {
            let signal = policy.signals.get_mut(of.0).unwrap();
            signal.limits.remove(of.1).unwrap().remove(0)
        })
    };
    let (rate, score) = (
        ("refusal_rate", "harmful_refusal"),
        ("refusal_score", "harmful_score"),
    );
    for (written, meant) in [
        ("0.07", 0.07),
        ("\"7 %\"", 0.07),
        ("\"7%\"", 0.07),
        ("1", 1.0),
    ] {
        assert_eq!(
            read(rate, &format!("min = {written}")).unwrap().min,
            Some(meant)
        );
    }
    let drop = "min = \"-5 points\"\non = \"delta\"\ndetect = \"10 points\"";
    let drop = read(rate, drop).unwrap();
    assert_eq!((drop.min, drop.detect), (Some(-0.05), Some(0.1)));
    assert_eq!(read(score, "min = \"-1.5 nats\"").unwrap().min, Some(-1.5));
    assert_eq!(read(score, "min = 50").unwrap().min, Some(50.0));
    let when = "max = 1\nwhen = { \"refusal_rate.harmful_refusal\" = { max = \"25 %\" } }";
    assert_eq!(read(score, when).unwrap().when[0].max, Some(0.25));

    for wrong in [
        "50",
        "-7",
        "\"7\"",
        "\"7 nats\"",
        "\"a\"",
        "\"700 %\"",
        "\"\"",
        "\"% 7\"",
    ] {
        let refused = read(rate, &format!("min = {wrong}"))
            .unwrap_err()
            .to_string();
        let expected = "`signals.refusal_rate.limits.harmful_refusal.min` must be a fraction of one, or in per cent like \"50 %\", found";
        assert!(refused.contains(expected), "{refused}");
    }
    let refused = |body: &str| read(score, body).unwrap_err().to_string();
    assert!(
        refused("max = \"5 %\"").contains("must be a number in its unit (nats), found \"5 %\"")
    );
    let when = "max = 1\nwhen = { \"refusal_score.score_auroc\" = { max = 95 } }";
    assert!(refused(when).contains("must be in its unit (auroc), at most 1 either way, found 95"));
}

#[test]
fn few_signals_are_asked_by_their_names() {
    let head = "extends = \"default\"\n";
    let off = "[signals.coherence]\nenabled = false";
    let ask = |ids: &str| format!("{head}ask = [{ids}]\n");
    let asked = |text: &str| -> Vec<String> {
        let policy = Policy::parse(text, "few.toml").unwrap();
        let on = policy.signals.iter().filter(|(_, signal)| signal.enabled);
        on.map(|(id, _)| id.clone()).collect()
    };
    let two = ask("\"refusal_rate\", \"coherence\"");
    assert_eq!(asked(&two), ["coherence", "refusal_rate"]);
    assert_eq!(asked(&(two + off)), ["refusal_rate"]);
    assert_eq!(asked(head).len(), catalogue::SIGNALS.len());
    assert!(asked(&ask("")).is_empty());
    let wrong = refusal(&ask("\"refusal_rates\""));
    assert!(wrong.contains("did you mean `refusal_rate`"), "{wrong}");
    let bare = "ask = [\"coherence\"]\n[sizes]\n".to_owned()
        + &SIZES.map(|size| format!("{size} = 1\n")).concat();
    assert!(refusal(&bare).contains("`coherence`, which it has not"));
}

#[test]
fn a_calibration_goes_through_a_policy_and_back_and_a_mended_one_is_refused() {
    #[derive(serde::Serialize)]
    struct Carrying<'a> {
        calibration: &'a Calibration,
    }
    let shipped = &crate::audit::calibrate::shipped::all()[0];
    let carried = toml::to_string(&Carrying {
        calibration: shipped,
    })
    .unwrap();
    let text = format!("extends = \"default\"\n{carried}");
    let policy = Policy::parse(&text, "own.toml").unwrap();
    assert_eq!(policy.calibration.as_deref(), Some(shipped));
    let written = resolved(&text, "own.toml", policy.sizes).unwrap();
    let again = Policy::parse(&written, "own.toml").unwrap();
    assert_eq!(again.calibration, policy.calibration);

    for (from, to, said) in [
        (
            "calibration/1",
            "calibration/9",
            "the layout `candlescope.calibration/9`",
        ),
        ("threshold = ", "limit = ", "unknown field `limit`"),
        ("scale = ", "scale = -", "by deviations of -"),
        ("threshold = ", "threshold = -", "a limit of -"),
        (
            "[calibration.basis]",
            "[calibration.base]",
            "unknown field `base`",
        ),
    ] {
        let mended = text.replacen(from, to, 1);
        assert_ne!(mended, text, "{from}");
        let refused = refusal(&mended);
        assert!(
            refused.contains("`calibration` must be what `audit calibrate")
                && refused.contains(said),
            "{refused}"
        );
    }
}
