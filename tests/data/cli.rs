//! `candlescope data` as a user runs it.

use std::process::{Command, Output};

use serde_json::Value;

use crate::fixture;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_candlescope"))
        .args(args)
        .env("CANDLESCOPE_OFFLINE", "1")
        .env("COLUMNS", "100")
        .env_remove("FORCE_COLOR")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs to this exit code and gives stdout.
pub fn ended(args: &[&str], code: i32) -> String {
    let output = run(args);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{args:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

pub fn json(args: &[&str], code: i32, schema: &str) -> Value {
    let value: Value = serde_json::from_str(&ended(&[args, &["--json"]].concat(), code)).unwrap();
    assert_eq!(value["schema"], schema);
    value
}

/// Runs to an error that says all of `words`.
pub fn refused(args: &[&str], words: &[&str]) {
    let output = run(args);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(
        !stderr.contains("panicked") && output.stdout.is_empty(),
        "{stderr}"
    );
    for word in words {
        assert!(stderr.contains(word), "{args:?}: no `{word}` in: {stderr}");
    }
}

pub fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn two_splits_are_checked_and_held_against_each_other() {
    let (train, other) = (fixture("sft.jsonl"), fixture("validation.jsonl"));
    let args = ["data", "check", &train, &other, "--model", "toy"];
    let report = json(&args, 0, "candlescope.data.check/1");
    assert_eq!(
        (&report["ok"], &report["overlap"]["prompts"]),
        (&Value::Bool(true), &0.into())
    );
    let sft = &report["files"][0];
    assert_eq!(
        (&sft["rows"], &sft["usable"], &sft["duplicates"]),
        (&22.into(), &22.into(), &0.into())
    );
    assert_eq!(
        (&sft["ended"]["count"], &sft["ended"]["n"]),
        (&22.into(), &22.into())
    );
    assert_eq!(sft["lengths"]["prompt"]["n"], 22);
    let shown = ended(&args, 0);
    for word in [
        "sft.jsonl: 22 rows, prompt-completion",
        "end is trained",
        "100.0 %",
        "median",
        "0 of 6 prompts",
    ] {
        assert!(shown.contains(word), "no `{word}` in: {shown}");
    }
    // The same file twice: everything leaks, and the gate says so.
    let report = json(
        &["data", "check", &train, &train, "--model", "toy"],
        1,
        "candlescope.data.check/1",
    );
    assert_eq!(
        (&report["ok"], &report["overlap"]["rows"]),
        (&Value::Bool(false), &22.into())
    );
}

#[test]
fn what_keeps_data_from_being_trained_on_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let pair = |chosen: &str, rejected: &str| {
        format!("{{\"prompt\": \"Who\", \"chosen\": \"{chosen}\", \"rejected\": \"{rejected}\"}}\n")
    };
    // Ten rows whose better answer is longer, one of them twice; one with nothing to prefer, one over the limit.
    let mut rows: String = (0..10)
        .map(|i| pair(&format!(" is it number {i} not"), " no"))
        .collect();
    rows += &pair(" is it number 0 not", " no");
    rows += &pair(" same", " same");
    rows += &pair(&" long".repeat(400), " no");
    let path = file(&dir, "pairs.jsonl", &rows);
    let report = json(
        &[
            "data",
            "check",
            &path,
            "--model",
            "toy",
            "--max-length",
            "256",
        ],
        1,
        "candlescope.data.check/1",
    );
    let pairs = &report["files"][0];
    assert_eq!(
        (&pairs["rows"], &pairs["usable"], &pairs["duplicates"]),
        (&13.into(), &11.into(), &1.into())
    );
    assert_eq!(pairs["dropped"]["same_answers"]["rows"], 1);
    assert_eq!(pairs["dropped"]["over_limit"]["rows"], 1);
    assert_eq!(
        (
            &pairs["chosen_longer"]["count"],
            &pairs["chosen_longer"]["n"]
        ),
        (&11.into(), &11.into())
    );
    let shown = ended(
        &[
            "data",
            "check",
            &path,
            "--model",
            "toy",
            "--max-length",
            "256",
            "--color",
            "never",
        ],
        1,
    );
    for word in [
        "problem: 1 row with chosen equal to rejected",
        "warning: 1 row longer than the limit",
        "by length alone",
        "chosen - rejected",
    ] {
        assert!(shown.contains(word), "no `{word}` in: {shown}");
    }
    assert!(shown.contains("13 rows of plain strings"), "{shown}");
    let silent = file(
        &dir,
        "silent.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}\n",
    );
    let shown = ended(&["data", "check", &silent, "--model", "toy"], 1);
    assert!(
        shown.contains("no row can be trained on") && shown.contains("without a supervised token"),
        "{shown}"
    );
    let one = file(
        &dir,
        "one.jsonl",
        "{\"prompt\": \"a\", \"completion\": \"b\", \"label\": true}\n",
    );
    let shown = ended(&["data", "check", &one, "--model", "toy"], 1);
    assert!(shown.contains("KTO needs both labels"), "{shown}");
}

#[test]
fn masks_are_shown_in_words_and_in_colour() {
    let path = fixture("messages.jsonl");
    let args = ["data", "show", &path, "--model", "toy", "--row", "1"];
    let shown = ended(&[&args[..], &["--color", "never"]].concat(), 0);
    assert!(
        shown.contains("loss    8  The capital of France is Paris.<|im_end|>"),
        "{shown}"
    );
    assert!(
        shown.contains("row: ") && !shown.contains('\u{1b}'),
        "{shown}"
    );
    let coloured = ended(&[&args[..], &["--color", "always"]].concat(), 0);
    assert!(
        coloured.contains("\u{1b}[32mThe capital of France is Paris.<|im_end|>\u{1b}[0m"),
        "{coloured}"
    );
    let value = json(&args, 0, "candlescope.data.show/1");
    let sequence = &value["rows"][0]["sequences"][0];
    let (tokens, mask) = (
        sequence["tokens"].as_array().unwrap(),
        sequence["supervised"].as_array().unwrap(),
    );
    assert_eq!(tokens.len(), mask.len());
    let said: String = tokens
        .iter()
        .zip(mask)
        .filter(|(_, m)| **m == true)
        .map(|(t, _)| t.as_str().unwrap())
        .collect();
    assert_eq!(
        said,
        "The capital of France is Paris.<|im_end|>You are welcome.<|im_end|>"
    );
    for (name, words) in [
        ("preference.jsonl", &["chosen: ", "rejected: "][..]),
        ("implicit.jsonl", &["margin 0.5"]),
        ("unpaired.jsonl", &["desirable", "undesirable"]),
        ("prompts.jsonl", &["prompt: "]),
        ("hub.parquet", &["row 1"]),
    ] {
        let shown = ended(
            &["data", "show", &fixture(name), "--model", "toy", "-n", "2"],
            0,
        );
        for word in words {
            assert!(shown.contains(word), "{name}: no `{word}` in: {shown}");
        }
    }
}

#[test]
fn hostile_rows_are_shown_not_obeyed() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(
        &dir,
        "hostile.jsonl",
        "{\"text\": \"a\\u001b[2J\\u202eb  c\"}\n",
    );
    let shown = ended(
        &["data", "show", &path, "--model", "toy", "--color", "never"],
        0,
    );
    assert!(shown.contains("a⟨U+001B⟩[2J⟨U+202E⟩b␣␣c"), "{shown}");
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'));
}

#[test]
fn what_cannot_be_read_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let (text, preference) = (fixture("text.jsonl"), fixture("preference.jsonl"));
    refused(
        &["data", "check", "nowhere.jsonl", "--model", "toy"],
        &["nowhere.jsonl"],
    );
    refused(
        &[
            "data",
            "check",
            &file(&dir, "e.jsonl", ""),
            "--model",
            "toy",
        ],
        &["no rows"],
    );
    refused(
        &[
            "data",
            "check",
            &file(&dir, "b.jsonl", "{\"q\": 1}"),
            "--model",
            "toy",
        ],
        &["b.jsonl:1", "found q", "--columns"],
    );
    refused(
        &["data", "show", &fixture("zstd.parquet"), "--model", "toy"],
        &["zstd", "snappy"],
    );
    refused(
        &["data", "show", &text, "--model", "toy", "--row", "99"],
        &["--row: expected 1 to 16, found 99"],
    );
    refused(
        &[
            "data",
            "check",
            &text,
            "--model",
            "toy",
            "--max-length",
            "100000",
        ],
        &["--max-length", "the model's context"],
    );
    refused(
        &[
            "data",
            "check",
            &preference,
            "--model",
            "toy",
            "--supervise",
            "all",
        ],
        &["no effect on preference rows", "hint:"],
    );
    refused(
        &[
            "data",
            "check",
            &text,
            "--model",
            "toy",
            "--supervise",
            "assistant",
        ],
        &["needs messages; the rows are text"],
    );
    refused(
        &["data", "check", &text, "--model", "toy", "--columns", "x=y"],
        &["--columns", "`x`"],
    );
}
