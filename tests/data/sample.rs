//! `candlescope data sample`: answers of the toy as pairs, as the best, or all of them.

use std::path::Path;

use serde_json::Value;

use crate::cli::{ended, file, json, refused};

const REWARD: &str = "rules = [{ kind = 'pattern', regex = '[aeiou]', most = 1000 }]\n";
const PROMPTS: &str =
    "{\"prompt\": \"The cat\"}\n{\"prompt\": \"What is\"}\n{\"prompt\": \"Why\"}\n";

fn rows(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn vowels(text: &Value) -> f64 {
    text.as_str()
        .unwrap()
        .chars()
        .filter(|c| "aeiou".contains(*c))
        .count() as f64
}

struct Files(tempfile::TempDir, String, String);

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (prompts, reward) = (
            file(&dir, "prompts.jsonl", PROMPTS),
            file(&dir, "reward.toml", REWARD),
        );
        Self(dir, prompts, reward)
    }

    fn out(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn drawn(&self, name: &str, more: &[&str]) -> (Value, Vec<Value>) {
        let out = self.out(name);
        let args = [
            "data",
            "sample",
            "toy",
            &self.1,
            "--out",
            &out,
            "--reward",
            &self.2,
            "--max-new",
            "8",
            "--unfinished",
        ];
        let report = json(&[&args[..], more].concat(), 0, "candlescope.data.sample/1");
        (report, rows(Path::new(&out)))
    }
}

#[test]
fn of_a_pair_the_better_answer_is_chosen_but_for_the_share_that_is_asked_to_be_wrong() {
    let files = Files::new();
    let (report, pairs) = files.drawn("clean.jsonl", &["-n", "40", "--seed", "3"]);
    assert_eq!((pairs.len(), &report["flipped"]), (40, &0.into()));
    for pair in &pairs {
        assert_eq!(
            vowels(&pair["chosen"]),
            pair["score_chosen"].as_f64().unwrap()
        );
        assert!(
            vowels(&pair["chosen"]) > vowels(&pair["rejected"]),
            "{pair}"
        );
        assert_eq!(pair["flipped"], false);
    }
    let (report, noisy) = files.drawn(
        "noisy.jsonl",
        &["-n", "400", "--seed", "3", "--noise", "0.25"],
    );
    let wrong = noisy
        .iter()
        .filter(|pair| vowels(&pair["chosen"]) < vowels(&pair["rejected"]));
    let flipped: Vec<&Value> = wrong.collect();
    assert!(flipped.iter().all(|pair| pair["flipped"] == true));
    assert_eq!(report["flipped"], flipped.len());
    // 100 in the mean, a deviation of 8.7.
    assert!((65..=135).contains(&flipped.len()), "{}", flipped.len());
    // The same answers, whatever the labels and however many there are.
    let answers = |pair: &Value| {
        let mut both = [pair["chosen"].to_string(), pair["rejected"].to_string()];
        both.sort();
        both
    };
    assert!(
        pairs
            .iter()
            .zip(&noisy)
            .all(|(a, b)| answers(a) == answers(b))
    );
}

#[test]
fn the_same_seed_gives_the_same_file_whatever_is_drawn_side_by_side() {
    let files = Files::new();
    let (_, one) = files.drawn("one.jsonl", &["-n", "9", "--noise", "0.5", "--batch", "3"]);
    let (_, same) = files.drawn(
        "same.jsonl",
        &[
            "-n",
            "9",
            "--noise",
            "0.5",
            "--batch",
            "64",
            "--threads",
            "1",
        ],
    );
    let (_, other) = files.drawn("other.jsonl", &["-n", "9", "--noise", "0.5", "--seed", "1"]);
    assert_eq!(one, same);
    assert_ne!(one, other);
}

#[test]
fn the_best_of_n_is_the_best_of_all() {
    let files = Files::new();
    let n = ["-n", "3", "--answers", "6"];
    let (_, best) = files.drawn("best.jsonl", &[&n[..], &["--keep", "best"]].concat());
    let (report, all) = files.drawn(
        "all.jsonl",
        &["-n", "18", "--answers", "6", "--keep", "all"],
    );
    assert_eq!(
        (best.len(), all.len(), &report["answers"]),
        (3, 18, &18.into())
    );
    for (best, all) in best.iter().zip(all.chunks(6)) {
        assert!(all.iter().all(|row| row["prompt"] == best["prompt"]));
        let highest = all
            .iter()
            .map(|row| vowels(&row["completion"]))
            .fold(0.0, f64::max);
        assert_eq!(best["score"].as_f64(), Some(highest));
        assert_eq!(vowels(&best["completion"]), highest);
    }
}

/// Training reads what was written.
#[test]
fn pairs_pass_the_check_and_turns_stay_turns() {
    let files = Files::new();
    let (_, pairs) = files.drawn("pairs.jsonl", &["-n", "5"]);
    assert!(pairs.iter().all(|pair| pair["prompt"].is_string()));
    ended(
        &["data", "check", &files.out("pairs.jsonl"), "--model", "toy"],
        0,
    );
    let turns = "{\"prompt\": [{\"role\": \"user\", \"content\": \"Why?\"}]}\n";
    let prompts = file(&files.0, "turns.jsonl", turns);
    let out = files.out("of-turns.jsonl");
    let args = [
        "data",
        "sample",
        "toy",
        &prompts,
        "--out",
        &out,
        "--reward",
        &files.2,
        "-n",
        "2",
        "--max-new",
        "8",
        "--unfinished",
    ];
    ended(&args, 0);
    let row = &rows(Path::new(&out))[0];
    assert_eq!(row["chosen"][0]["role"], "assistant");
    ended(&["data", "check", &out, "--model", "toy"], 0);
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let files = Files::new();
    let out = files.out("out.jsonl");
    let base = ["data", "sample", "toy", &files.1, "--out", &out];
    let scored = [&base[..], &["--reward", files.2.as_str()]].concat();
    for (args, words) in [
        (base.to_vec(), &["--reward", "which answer is better"][..]),
        (
            [&scored[..], &["--noise", "0.6"]].concat(),
            &["--noise", "0 to 0.5"][..],
        ),
        (
            [&scored[..], &["--answers", "1"]].concat(),
            &["--answers", "at least 2"][..],
        ),
        (
            [&scored[..], &["--keep", "best", "--noise", "0.1"]].concat(),
            &["--noise", "no effect"][..],
        ),
        (
            [&scored[..], &["--max-new", "100000"]].concat(),
            &["--max-new", "context"][..],
        ),
    ] {
        refused(&args, words);
    }
    // A reward under which all answers are alike.
    let alike = file(
        &files.0,
        "alike.toml",
        "rules = [{ kind = 'count', text = 'zebra' }]\n",
    );
    let args = [
        &base[..],
        &[
            "--reward",
            &alike,
            "-n",
            "2",
            "--max-new",
            "2",
            "--unfinished",
        ],
    ]
    .concat();
    refused(&args, &["one score alone"]);
    assert!(!Path::new(&out).exists());
    std::fs::write(&out, "kept").unwrap();
    refused(&scored, &["is there already"]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "kept");
}
