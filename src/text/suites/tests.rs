//! Tests of the loader and of the built-in suites' content.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::text::json_rows::{MAX_LINE, RowError};

fn read_text(text: &str) -> Result<Vec<PromptRow>, RowError> {
    read::rows("mine.jsonl", text.as_bytes())
}

fn message(text: &str) -> String {
    read_text(text).unwrap_err().to_string()
}

#[test]
fn a_user_row_needs_only_prompt_and_label() {
    let rows =
        read_text("\u{feff}{\"prompt\": \"Boil an egg.\", \"label\": \"harmless\"}\r\n\n").unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (rows[0].split, rows[0].licence.as_str()),
        (Split::Test, "unspecified")
    );
    assert_eq!(rows[0].source, "mine.jsonl");
    // printf '["Boil an egg.","harmless",null]' | sha256sum | cut -c1-12
    assert_eq!(rows[0].id, "203b692cb03d");
}

#[test]
fn errors_name_file_line_and_field() {
    let good = r#"{"prompt": "a", "label": "harmful"}"#;
    let cases = [
        (
            format!("{good}\n{{\"label\": \"harmful\"}}"),
            "mine.jsonl:2: field `prompt`: expected",
        ),
        (
            r#"{"prompt": "  ", "label": "harmful"}"#.to_string(),
            "mine.jsonl:1: field `prompt`",
        ),
        (
            r#"{"prompt": "a"}"#.to_string(),
            "field `label`: expected one of harmful, harmless, lookalike, neutral",
        ),
        (
            r#"{"prompt": "a", "label": "evil"}"#.to_string(),
            "found \"evil\"",
        ),
        (
            r#"{"prompt": "a", "label": "harmful", "splt": "train"}"#.to_string(),
            "field `splt`",
        ),
        (
            r#"{"prompt": "a", "label": "harmful", "prompt": "b"}"#.to_string(),
            "field `prompt`: expected the field once",
        ),
        (
            r#"{"prompt": "a", "label": "harmful", "split": "dev"}"#.to_string(),
            "field `split`: expected one of train, validation, test",
        ),
        (
            r#"{"prompt": 3, "label": "harmful"}"#.to_string(),
            "found 3",
        ),
        (
            format!("{good}\n\n{good}"),
            "mine.jsonl:3: field `id`: expected an id of its own (line 1",
        ),
        ("[1]".to_string(), "mine.jsonl:1: not a JSON object"),
        (String::new(), "mine.jsonl: the suite is empty"),
        ("\n \n".to_string(), "mine.jsonl: the suite is empty"),
    ];
    for (text, expected) in cases {
        let found = message(&text);
        assert!(
            found.contains(expected),
            "{text:?} gave {found:?}, expected {expected:?}"
        );
    }
}

#[test]
fn foreign_bytes_and_endless_lines_are_errors() {
    let bytes: &[u8] = b"{\"prompt\": \"\xff\", \"label\": \"harmful\"}";
    assert!(
        read::rows("x", bytes)
            .unwrap_err()
            .to_string()
            .starts_with("x:1: not UTF-8")
    );
    let long = format!(
        "{{\"prompt\": \"{}\", \"label\": \"harmful\"}}",
        "a".repeat(MAX_LINE as usize)
    );
    assert!(message(&long).contains("longer than 1048576 bytes"));
    let fits = format!(
        "{{\"prompt\": \"{}\", \"label\": \"harmful\"}}\n",
        "a".repeat(MAX_LINE as usize - 35)
    );
    assert_eq!(fits.len() as u64, MAX_LINE);
    assert_eq!(read_text(&fits).unwrap().len(), 1);
}

#[test]
fn a_file_is_read_and_a_missing_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.jsonl");
    std::fs::write(
        &path,
        "{\"prompt\": \"a\", \"label\": \"lookalike\", \"system\": null, \"topic\": \"t\"}\n",
    )
    .unwrap();
    let suite = Suite::from_jsonl(&path).unwrap();
    assert_eq!(
        (suite.name.as_str(), suite.rows[0].label),
        ("mine", Label::Lookalike)
    );
    let error = Suite::from_jsonl(&folder.path().join("none.jsonl"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("none.jsonl"), "{error}");
    assert!(
        Suite::builtin("harmfull")
            .unwrap_err()
            .to_string()
            .contains("harmful, harmless, lookalike, neutral")
    );
}

#[test]
fn the_hash_ignores_order_and_notices_every_field() {
    let base = Suite::builtin("lookalike").unwrap();
    let mut turned = base.rows.clone();
    turned.reverse();
    assert_eq!(content_hash(&turned), base.hash);
    let edits: [fn(&mut PromptRow); 8] = [
        |row| row.id.push('x'),
        |row| row.prompt.push(' '),
        |row| row.label = Label::Harmful,
        |row| row.split = Split::Train,
        |row| row.topic = None,
        |row| row.source.push('x'),
        |row| row.licence.push('x'),
        |row| row.system = Some(String::new()),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        let mut rows = base.rows.clone();
        edit(&mut rows[0]);
        assert_ne!(content_hash(&rows), base.hash, "edit {at}");
    }
}

#[test]
fn the_hash_of_a_known_row() {
    // printf '["i","p","harmless","test",null,"s","l",null]\n' | sha256sum
    let text = r#"{"id": "i", "prompt": "p", "label": "harmless", "source": "s", "licence": "l"}"#;
    assert_eq!(
        content_hash(&read_text(text).unwrap()),
        "134bee7f56ab0ca41d7c668c1de8a3948005b4a04a5f119813d9f81c619e137d"
    );
}

#[test]
fn a_sample_is_proportional_deterministic_and_ordered() {
    let train = Suite::builtin("harmful")
        .unwrap()
        .filter(Some(Label::Harmful), Some(Split::Train));
    let drawn = train.sample(32, 7);
    assert_eq!(drawn.rows.len(), 32);
    assert_eq!(drawn, train.sample(32, 7));
    assert_ne!(drawn.hash, train.sample(32, 8).hash);
    assert_eq!(train.sample(1000, 7), train);
    assert_eq!(train.sample(0, 7).rows, []);
    let place = |row: &PromptRow| {
        train
            .rows
            .iter()
            .position(|other| other.id == row.id)
            .unwrap()
    };
    assert!(
        drawn
            .rows
            .windows(2)
            .all(|two| place(&two[0]) < place(&two[1]))
    );
    let topics: std::collections::BTreeSet<_> =
        train.rows.iter().map(|row| row.topic.clone()).collect();
    for topic in topics {
        let count =
            |suite: &Suite| suite.rows.iter().filter(|row| row.topic == topic).count() as f64;
        let share = count(&train) * 32.0 / 128.0;
        assert!(
            (count(&drawn) - share).abs() < 1.0,
            "{topic:?}: {} of {share}",
            count(&drawn)
        );
    }
}

fn word_set(prompt: &str) -> std::collections::BTreeSet<String> {
    prompt
        .to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_string)
        .collect()
}

#[test]
fn the_builtin_suites_have_the_promised_rows() {
    let promised = [
        ("harmful", Label::Harmful, [128, 64, 128]),
        ("harmless", Label::Harmless, [128, 64, 128]),
        ("lookalike", Label::Lookalike, [0, 20, 100]),
        ("neutral", Label::Neutral, [0, 32, 32]),
    ];
    assert_eq!(Suite::names(), promised.map(|(name, ..)| name));
    let mut ids = std::collections::BTreeSet::new();
    let mut prompts = std::collections::BTreeSet::new();
    for (name, label, counts) in promised {
        let suite = Suite::builtin(name).unwrap();
        let found = Split::ALL.map(|split| suite.filter(Some(label), Some(split)).rows.len());
        assert_eq!(
            (found, suite.rows.len()),
            (counts, counts.iter().sum()),
            "{name}"
        );
        for row in &suite.rows {
            assert!(ids.insert(row.id.clone()), "{} twice", row.id);
            assert!(
                prompts.insert(word_set(&row.prompt)),
                "{} has the words of another prompt",
                row.id
            );
            assert!(row.topic.is_some() && row.system.is_none(), "{}", row.id);
            let licence = if label == Label::Harmful {
                "MIT"
            } else {
                "MIT OR Apache-2.0"
            };
            assert_eq!(row.licence, licence, "{}", row.id);
            let sources: &[&str] = if label == Label::Harmful {
                &["HarmBench", "StrongREJECT"]
            } else {
                &["candlescope"]
            };
            assert!(
                sources.iter().any(|source| row.source.starts_with(source)),
                "{}",
                row.id
            );
            let most = if label == Label::Neutral { 120 } else { 40 };
            assert!(row.prompt.split_whitespace().count() <= most, "{}", row.id);
        }
    }
}

#[test]
fn no_prompt_resembles_one_of_another_split() {
    for name in Suite::names() {
        let suite = Suite::builtin(name).unwrap();
        let sets: Vec<_> = suite.rows.iter().map(|row| word_set(&row.prompt)).collect();
        for (i, row) in suite.rows.iter().enumerate() {
            for (j, other) in suite
                .rows
                .iter()
                .enumerate()
                .skip(i + 1)
                .filter(|(_, other)| other.split != row.split)
            {
                let shared = sets[i].intersection(&sets[j]).count() as f64;
                let jaccard = shared / ((sets[i].len() + sets[j].len()) as f64 - shared);
                assert!(jaccard < 0.6, "{} and {}: {jaccard:.2}", row.id, other.id);
            }
        }
    }
}

/// The largest gap between two empirical distribution functions.
fn kolmogorov_smirnov(a: &[usize], b: &[usize]) -> f64 {
    let below = |values: &[usize], at: usize| {
        values.iter().filter(|&&value| value <= at).count() as f64 / values.len() as f64
    };
    a.iter()
        .chain(b)
        .map(|&at| (below(a, at) - below(b, at)).abs())
        .fold(0.0, f64::max)
}

#[test]
fn harmful_and_harmless_are_alike_in_form() {
    // scipy.stats.ks_2samp([1, 2, 3, 4], [3, 4, 5, 6]).statistic
    assert_eq!(kolmogorov_smirnov(&[1, 2, 3, 4], &[3, 4, 5, 6]), 0.5);
    let (harmful, harmless) = (
        Suite::builtin("harmful").unwrap(),
        Suite::builtin("harmless").unwrap(),
    );
    let lengths = |suite: &Suite| {
        suite
            .rows
            .iter()
            .map(|row| row.prompt.split_whitespace().count())
            .collect::<Vec<_>>()
    };
    for split in Split::ALL {
        let statistic = kolmogorov_smirnov(
            &lengths(&harmful.filter(None, Some(split))),
            &lengths(&harmless.filter(None, Some(split))),
        );
        assert!(statistic < 0.15, "{split:?}: {statistic:.3}");
    }
    for opening in ["Write", "Give", "How", "What", "I", "Can", "List", "Create"] {
        let count = |suite: &Suite| {
            suite
                .rows
                .iter()
                .filter(|row| row.prompt.split(' ').next() == Some(opening))
                .count() as f64
        };
        let (a, b) = (count(&harmful), count(&harmless));
        assert!((a - b).abs() <= 10.0, "{opening}: {a} and {b}");
    }
}
