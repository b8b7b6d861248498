//! Reward models through the binary: a run ends with its report, `reward eval` makes the same one, several are an ensemble.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::binary::{command, ok, text};
use crate::rows::{USUAL, config_text, write_pairs};

const PAIRS: usize = 24;

/// A folder with pairs, a config, and runs of the seeds.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(seeds: &[u64]) -> Self {
        Self::with(seeds, USUAL)
    }

    fn with(seeds: &[u64], more: &str) -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        write_pairs(&place.file("train.jsonl"), 22);
        write_pairs(&place.file("eval.jsonl"), PAIRS);
        let config = config_text(place.dir.path(), more);
        std::fs::write(place.file("rm.toml"), config).unwrap();
        for seed in seeds {
            let (config, out) = (place.name("rm.toml"), place.name(&format!("rm-{seed}")));
            let seed = format!("seed={seed}");
            let said = ok(&["train", "rm", "-c", &config, "--set", &seed, "--out", &out]);
            assert!(said.contains("longer is preferred"), "{said}");
            assert!(said.contains("report.json"), "{said}");
        }
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn judged(args: &[&str]) -> Value {
    let all = [&["reward", "eval", "--json", "--quiet"], args].concat();
    let found: Value = serde_json::from_str(&ok(&all)).unwrap();
    assert_eq!(found["schema"], "candlescope.reward.report/1");
    found
}

/// A model's numbers, without its name.
fn numbers(report: &Value, model: usize) -> Value {
    let mut numbers = report["models"][model].clone();
    numbers.as_object_mut().unwrap().remove("model");
    numbers
}

#[test]
fn a_run_ends_with_the_report_that_reward_eval_makes() {
    let place = Place::new(&[0]);
    let (run, data) = (place.name("rm-0"), place.name("eval.jsonl"));
    let own = read(&place.file("rm-0/report.json"));
    assert_eq!(own["schema"], "candlescope.reward.report/1");
    let again = judged(&[&run, "--data", &data]);
    assert_eq!(numbers(&own, 0), numbers(&again, 0));
    assert_eq!(
        (&own["ensemble"], &again["ensemble"]),
        (&Value::Null, &Value::Null)
    );
    // The words of the two answers differ, so the toy tells them apart; what it says must be what the log says.
    let accuracy = &own["models"][0]["accuracy"];
    assert_eq!(accuracy["n"], PAIRS);
    let rows = std::fs::read_to_string(place.file("rm-0/metrics.jsonl")).unwrap();
    let last = rows
        .lines()
        .rfind(|row| row.contains("eval_accuracy"))
        .unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["eval_accuracy"], accuracy["value"]);
    let (logged, said) = (&last["eval_margin"], &own["models"][0]["margin"]["value"]);
    let apart = logged.as_f64().unwrap() - said.as_f64().unwrap();
    assert!(apart.abs() < 1e-6, "{logged} {said}");
    // A checkpoint by itself, and other batches.
    let step = place.name("rm-0/checkpoints/step-11");
    let alone = judged(&[&step, "--data", &data, "--batch", "1"]);
    assert_eq!(numbers(&alone, 0), numbers(&own, 0));
}

/// An adapter is opened merged into its base, so its scores differ from the run's by rounding.
#[test]
fn an_adapter_is_judged_as_in_its_run() {
    let place = Place::with(&[4], &format!("{USUAL}[lora]\nrank = 4\n"));
    let own = read(&place.file("rm-4/report.json"));
    let found = judged(&[&place.name("rm-4"), "--data", &place.name("eval.jsonl")]);
    let value = |of: &Value, name: &str| of["models"][0][name]["value"].as_f64().unwrap();
    assert_eq!(value(&own, "accuracy"), value(&found, "accuracy"));
    for name in ["margin", "length_correlation"] {
        let (own, found) = (value(&own, name), value(&found, name));
        assert!((own - found).abs() < 1e-4, "{name}: {own} {found}");
    }
}

#[test]
fn several_models_are_judged_together() {
    let place = Place::new(&[1, 2]);
    let (a, b) = (place.name("rm-1"), place.name("rm-2"));
    let (data, out) = (place.name("eval.jsonl"), place.name("out"));
    let found = judged(&[&a, &b, "--data", &data, "--report", &out, "--lambda", "0.2"]);
    let together = &found["ensemble"];
    assert_eq!(together["agreement"]["members"], 2);
    assert_eq!(together["lambda"], 0.2);
    for by in ["mean", "min", "uwo"] {
        assert_eq!(together[by]["accuracy"]["n"], PAIRS, "{together}");
    }
    // The mean of two scores has the mean of their margins.
    let margin = |of: &Value| of["margin"]["value"].as_f64().unwrap();
    let members = [0, 1].map(|i| margin(&found["models"][i]));
    let mean = f64::midpoint(members[0], members[1]);
    assert!((margin(&together["mean"]) - mean).abs() < 1e-9);
    let lines = std::fs::read_to_string(place.file("out/scores.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 2 * PAIRS);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert!(
        first["row"].as_str().unwrap().contains("eval.jsonl"),
        "{first}"
    );
    assert!(first["chosen"].is_f64() && first["rejected_tokens"].is_u64());
    assert_eq!(
        numbers(&read(&place.file("out/report.json")), 1),
        numbers(&found, 1)
    );
    let said = ok(&["reward", "eval", &a, &b, "--data", &data]);
    for word in ["together: 2 models", "UWO", "two agree", "partial accuracy"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn what_is_no_reward_model_and_what_are_no_pairs_are_refused() {
    let place = Place::new(&[3]);
    let (run, data) = (place.name("rm-3"), place.name("eval.jsonl"));
    let refused = |args: &[&str], word: &str| {
        let all = [&["reward", "eval"], args].concat();
        let output = command(&all).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(word), "{said}");
    };
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/llama");
    refused(&[models.to_str().unwrap(), "--data", &data], "score.weight");
    refused(&[&run, "--data", &place.name("rm.toml")], "rm.toml");
    refused(&[&run, "--data", &data, "--lambda", "0.1"], "--lambda");
    refused(
        &[&run, "--data", &data, "--max-length", "1"],
        "--max-length",
    );
    refused(&[&run, "--data", &data, "--draws", "1"], "--draws");
    std::fs::write(place.file("none.jsonl"), "").unwrap();
    refused(&[&run, "--data", &place.name("none.jsonl")], "none.jsonl");
}
