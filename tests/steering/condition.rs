//! Conditions: found on planted data, decided for each row of a batch, fitted and obeyed by the program.

use std::ops::Range;

use candlescope::hooks::{Edit, Hooks};
use candlescope::model::Checkpoint;
use candlescope::steer::condition::{
    Condition, ConditionOptions, Method, Rule, Score, Side, conditional, errors, fired, firing, fit,
};
use candlescope::steer::{EncodedPrompt, Options, Span, completions, random_directions};
use ndarray::Array2;

use crate::{direction, prompts};
/// States of a class: common part, noise, and `shift` along the first axis.
fn planted(n: usize, shift: f32, seed: u64) -> Array2<f32> {
    let noise = random_directions(n, 12, seed).unwrap();
    Array2::from_shape_fn((n, 12), |(i, j)| {
        let common = if j == 1 { 4.0 } else { 0.0 };
        common + noise[i][j] + if j == 0 { shift } else { 0.0 }
    })
}

#[test]
fn a_condition_is_found_where_it_was_planted() {
    // Layer 3 knows the class, layer 7 does not.
    let positive = [planted(24, 0.0, 1), planted(24, 3.0, 2)];
    let negative = [planted(24, 0.0, 3), planted(24, 0.0, 4)];
    for method in [Method::Difference, Method::PairwisePca] {
        for score in [Score::Projected, Score::Signed] {
            let options = ConditionOptions {
                method,
                score,
                seed: 0,
            };
            let fitted = fit(&[7, 3], &positive, &negative, &options).unwrap();
            let condition = &fitted.condition;
            assert_eq!(
                (condition.layer, condition.side),
                (3, Side::Above),
                "{method:?} {score:?}"
            );
            assert!(
                condition.f1 > 0.95,
                "{method:?} {score:?}: {}",
                condition.f1
            );
            assert!(condition.direction[0] > 0.95, "{:?}", condition.direction);
            assert!(fitted.layers[0].f1 < 0.85, "{}", fitted.layers[0].f1);
            let (yes, no) = (planted(40, 3.0, 8), planted(40, 0.0, 9));
            let (yes, no) = (condition.scores(yes.view()), condition.scores(no.view()));
            let told = errors(condition, &yes, &no).unwrap();
            assert!(
                told.missed.successes <= 2 && told.false_fires.successes <= 2,
                "{told:?}"
            );
            assert!(told.missed.interval.high < 0.2);
        }
    }
    let few = [planted(7, 0.0, 1)];
    assert!(fit(&[0], &few, &few, &ConditionOptions::default()).is_err());
    let pca = ConditionOptions {
        method: Method::PairwisePca,
        ..ConditionOptions::default()
    };
    let (a, b) = ([planted(10, 1.0, 1)], [planted(9, 0.0, 2)]);
    let error = fit(&[0], &a, &b, &pca).unwrap_err().to_string();
    assert!(error.contains("found 10 and 9"), "{error}");
}

/// Fires for prompts whose mean state at layer 1 lies on one side of what `prompts` average to.
fn halves(cp: &Checkpoint, prompts: &[EncodedPrompt], content: &[Range<usize>]) -> Condition {
    let width = cp.config().d_model;
    let mut condition = Condition {
        direction: random_directions(1, width, 3).unwrap().remove(0).to_vec(),
        centre: vec![0.0; width],
        layer: 1,
        score: Score::Signed,
        method: Method::Difference,
        threshold: 0.0,
        side: Side::Above,
        f1: 1.0,
        n_train: (0, 0),
        prompts: String::new(),
        fingerprint: None,
    };
    let scores = firing(cp, prompts, content, &[&condition], &Options::default()).unwrap();
    let mut values: Vec<f64> = scores.iter().map(|fired| fired.scores[0]).collect();
    values.sort_by(f64::total_cmp);
    condition.threshold = 0.5 * (values[2] + values[3]);
    condition
}

#[test]
fn each_row_of_a_batch_is_steered_by_its_own_condition() {
    let cp = Checkpoint::toy(0).unwrap();
    let vocab = cp.config().vocab_size as u32;
    let prompts: Vec<EncodedPrompt> = prompts(6)
        .into_iter()
        .map(|mut p| {
            p.ids.iter_mut().for_each(|id| *id = (*id * 5) % vocab);
            p
        })
        .collect();
    let content: Vec<Range<usize>> = prompts.iter().map(|p| 5..p.instruction_end + 1).collect();
    let condition = halves(&cp, &prompts, &content);
    let decided = firing(&cp, &prompts, &content, &[&condition], &Options::default()).unwrap();
    assert_eq!(decided.iter().filter(|d| d.fired[0]).count(), 3);
    let one = Options {
        batch: 1,
        ..Options::default()
    };
    let alone = firing(&cp, &prompts, &content, &[&condition], &one).unwrap();
    assert_eq!(alone, decided, "a decision does not depend on the batch");

    let rules: Vec<Rule> = ["if c then +d@1*1", "if not c then -d"]
        .iter()
        .map(|rule| rule.parse().unwrap())
        .collect();
    let applied: Vec<Vec<bool>> = decided
        .iter()
        .map(|prompt| fired(&rules, &["c"], prompt).unwrap())
        .collect();
    let error = fired(&rules, &["other"], &decided[0])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`c` is not given; known are: other"),
        "{error}"
    );

    let v = direction(&cp.decoder, 4, 40.0);
    let edits: Vec<Vec<Edit>> = rules
        .iter()
        .map(|rule| rule.then.edits(&v, cp.config()).unwrap())
        .collect();
    for span in [Span::All, Span::After] {
        let options = Options::default();
        let plan = (span, 5);
        let found = conditional(&cp, &prompts, (&[], &edits), &applied, plan, &options).unwrap();
        let mut changed = 0;
        for (i, steered) in found.iter().enumerate() {
            let which = if decided[i].fired[0] {
                &edits[0]
            } else {
                &edits[1]
            };
            let own = std::slice::from_ref(&prompts[i]);
            let restricted = span.restrict(which.clone(), prompts[i].tail.len());
            let hooks = Hooks::new().edits(restricted);
            let expected = completions(&cp, own, 5, &hooks, &options).unwrap();
            assert_eq!(steered.answer, expected[0], "prompt {i} {span:?}");
            assert_eq!(steered.applied, applied[i]);
            let plain = completions(&cp, own, 5, &Hooks::new(), &options).unwrap();
            changed += usize::from(plain[0] != steered.answer);
        }
        assert!(changed > 0, "{span:?}: nothing changes");
    }
}

/// Runs the program; its stdout as JSON, or its stderr where it fails.
fn program(args: &[&str]) -> Result<serde_json::Value, String> {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_candlescope"))
        .args(args)
        .arg("--json")
        .output()
        .unwrap();
    if out.status.success() {
        Ok(serde_json::from_slice(&out.stdout).unwrap())
    } else {
        Err(String::from_utf8(out.stderr).unwrap())
    }
}

#[test]
fn the_program_fits_a_condition_and_steers_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("harmful.safetensors");
    let file = file.to_str().unwrap();
    let fitted = program(&[
        "steer",
        "condition",
        "fit",
        "toy",
        "--train",
        "12",
        "-n",
        "8",
        "--out",
        file,
    ])
    .unwrap();
    assert_eq!(fitted["schema"], "candlescope.steer.condition/1");
    assert_eq!(fitted["held_out"]["missed"]["n"], 8);
    assert!(
        fitted["held_out"]["missed"]["interval"]["high"]
            .as_f64()
            .unwrap()
            <= 1.0
    );

    let condition = format!("harmful={file}");
    let generate = |rule: &str| {
        program(&[
            "steer",
            "generate",
            "toy",
            "--suite",
            "harmful",
            "--suite",
            "harmless",
            "-n",
            "3",
            "--max-new",
            "30",
            "--condition",
            &condition,
            "--rule",
            rule,
        ])
    };
    let told = generate("if harmful then +contrast:1@1*3").unwrap();
    let items = told["items"].as_array().unwrap();
    assert_eq!(items.len(), 6);
    for item in items {
        assert_eq!(item["fired"], item["applied"]);
        if item["applied"][0] == false {
            assert_eq!(item["edited"], item["unedited"]);
        }
        let text = item["edited"]["text"].as_str().unwrap();
        if item["label"] == "harmful" {
            assert!(
                text.chars().count() <= 80 + " [truncated: harmful prompt]".len(),
                "{text}"
            );
        }
    }
    assert!(told["dose"][0]["share"].as_f64().unwrap() > 0.0);
    let error = generate("if harmless then +contrast:1@1*3").unwrap_err();
    assert!(error.contains("`harmless` is not given"), "{error}");
    let error = generate("if harmful and then +contrast:1@1*3").unwrap_err();
    assert!(error.contains("the name of a condition"), "{error}");
    let sweep = program(&[
        "steer",
        "sweep",
        "toy",
        "--add",
        "contrast:1@1*2",
        "--doses",
        "1,2",
        "--suite",
        "harmless",
        "-n",
        "4",
        "--random",
        "8",
        "--tokens",
        "4",
    ])
    .unwrap();
    assert_eq!(sweep["doses"].as_array().unwrap().len(), 3);
    assert_eq!(sweep["coherence"].as_array().unwrap().len(), 3);
    let error = program(&["steer", "sweep", "toy", "--suite", "harmless"]).unwrap_err();
    assert!(error.contains("a sweep has one steering"), "{error}");
}
