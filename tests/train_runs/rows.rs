//! Data, configs and comparisons that the tests of runs share.

use std::path::{Path, PathBuf};

use candlescope::model::Checkpoint;
use candlescope::train::log::{self, Row, standing};
use candlescope::train::{Config, Parts, prepare};

/// Prompts with answers of unlike lengths, all words of the toy.
pub fn write_rows(path: &Path, count: usize) {
    let words = [
        "Paris",
        "no way",
        "the capital of France is Paris",
        "yes",
        "a cat and a dog sat",
    ];
    let row = |i: usize| {
        let answer = format!(
            "{} {}",
            words[i % words.len()],
            words[(i / 3) % words.len()]
        );
        let prompt = vec!["What is the name of the city"; 1 + i % 3].join(" and ");
        serde_json::json!({"prompt": prompt, "completion": format!(" {answer}")}).to_string()
    };
    let lines: Vec<String> = (0..count).map(row).collect();
    std::fs::write(path, lines.join("\n")).unwrap();
}

/// Two answers to each prompt; the first one ends in a better word.
pub fn write_pairs(path: &Path, count: usize) {
    let row = |i: usize| {
        let prompt = ["What is the capital of", "Where is"][i % 2];
        let land = ["France", "Italy", "Spain"][i % 3];
        let tail = " and so on".repeat(i % 4);
        serde_json::json!({
            "prompt": format!("{prompt} {land}"),
            "chosen": format!(" the city of Paris{tail}"),
            "rejected": format!(" no idea{}", " at all".repeat((i + 1) % 3)),
        })
        .to_string()
    };
    let lines: Vec<String> = (0..count).map(row).collect();
    std::fs::write(path, lines.join("\n")).unwrap();
}

/// A config on rows in `dir`, with more sections' lines.
pub fn config_text(dir: &Path, more: &str) -> String {
    let (train, eval) = (dir.join("train.jsonl"), dir.join("eval.jsonl"));
    if !train.exists() {
        write_rows(&train, 22);
        write_rows(&eval, 5);
    }
    format!(
        "[model]\nname = \"toy\"\n[data]\ntrain = ['{}']\neval = ['{}']\ndate = \"2026-01-31\"\n{more}",
        train.display(),
        eval.display()
    )
}

/// What most tests train: 11 steps, a checkpoint every third, evaluation every fourth.
pub const USUAL: &str = "[optim]\nlr = 1e-3\nbatch_size = 2\naccumulation = 2\nweight_decay = 0.01\n\
    [schedule]\nsteps = 11\nwarmup_steps = 2\n[output]\ncheckpoint_every = 3\neval_every = 4\nkeep_last = 9\n";

/// The run in memory.
pub fn parts(dir: &Path, more: &str) -> Parts {
    parts_of("sft", dir, more)
}

/// The run of any method in memory.
pub fn parts_of(method: &str, dir: &Path, more: &str) -> Parts {
    let text = if method == "sft" {
        config_text(dir, more)
    } else {
        let (train, eval) = (dir.join("train.jsonl"), dir.join("eval.jsonl"));
        if !train.exists() {
            write_pairs(&train, 22);
            write_pairs(&eval, 5);
        }
        config_text(dir, more)
    };
    let config = Config::parse("run.toml", &text, method, &[]).unwrap();
    prepare(config, Checkpoint::toy(0).unwrap()).unwrap()
}

/// Rows that stand, without times and what sessions leave: what must not depend on interruptions.
pub fn course(root: &Path) -> Vec<String> {
    let rows = standing(log::read(&root.join("metrics.jsonl")).unwrap().rows);
    let timeless = |row: Row| row.timeless().line();
    let kinds = ["step", "eval", "alert"];
    let kept = rows
        .into_iter()
        .filter(|row| kinds.contains(&row.kind.name()));
    kept.map(timeless).collect()
}

/// The bytes of a checkpoint's files, by name; those of a folder in it have its name before theirs.
pub fn files(checkpoint: &Path) -> Vec<(String, Vec<u8>)> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(checkpoint)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let of = |(file, bytes)| (format!("{name}/{file}"), bytes);
            return files(&path).into_iter().map(of).collect();
        }
        vec![(name, std::fs::read(path).unwrap())]
    };
    paths.into_iter().flat_map(read).collect()
}

/// Both runs ended with the same bits: every file of the last checkpoint, every row of the log.
pub fn same_end(one: &Path, other: &Path, step: u64) {
    let last = |root: &Path| root.join(format!("checkpoints/step-{step}"));
    let (a, b) = (files(&last(one)), files(&last(other)));
    assert!(
        a.iter()
            .any(|(name, _)| name.ends_with("trainer.safetensors"))
    );
    for ((name, a), (other, b)) in a.iter().zip(&b) {
        assert_eq!(name, other);
        assert!(a == b, "{name} differs");
    }
    assert_eq!(a.len(), b.len());
    assert_eq!(course(one), course(other));
}
