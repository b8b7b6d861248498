//! Tests of the loader and of the built-in suites' content.
#![allow(clippy::unwrap_used)]

use super::*;

fn read_text(text: &str) -> Result<Vec<PromptRow>, SuiteError> {
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
