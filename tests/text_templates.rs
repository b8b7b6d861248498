//! Chat templates of real families render as transformers renders them.
//!
//! `tests/fixtures/templates/*.json` hold a template, cases and the text (or refusal) that jinja2 3.1 gave in the
//! environment of transformers' `apply_chat_template`: ImmutableSandboxedEnvironment(trim_blocks, lstrip_blocks,
//! loopcontrols), `tojson` as json.dumps without ASCII escapes, `strftime_now` at 2026-03-07 09:05:02.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use candlescope::text::{ChatTemplate, Message, TextError, Vars};
use minijinja::Value;

fn fixtures() -> Vec<(String, String)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/templates");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|f| {
            (
                f.file_stem().unwrap().to_string_lossy().into_owned(),
                std::fs::read_to_string(f).unwrap(),
            )
        })
        .collect()
}

/// A fixture; minijinja's values keep the order of keys, which `serde_json::Value` would sort.
#[derive(serde::Deserialize)]
struct Fixture {
    template: String,
    special_tokens: std::collections::BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    label: String,
    messages: Value,
    add_generation_prompt: bool,
    vars: std::collections::BTreeMap<String, Value>,
    text: Option<String>,
    raises: Option<String>,
}

#[test]
fn templates_render_as_in_transformers() {
    let mut checked = 0;
    for (name, json) in fixtures() {
        let fixture: Fixture = serde_json::from_str(&json).unwrap();
        let template = ChatTemplate::with_tokens(
            [("default".to_owned(), fixture.template)].into(),
            fixture.special_tokens,
        )
        .unwrap();
        for case in fixture.cases {
            let mut vars = Vars::at(jiff::civil::date(2026, 3, 7).at(9, 5, 2, 0));
            for (key, value) in case.vars {
                vars.set(&key, value);
            }
            let got = template.render_json(
                &serde_json::to_string(&case.messages).unwrap(),
                case.add_generation_prompt,
                &vars,
            );
            let label = format!("{name}: {}", case.label);
            match (case.text, case.raises) {
                (Some(text), _) => assert_eq!(got.unwrap(), text, "{label}"),
                (None, raises) => {
                    let message = raises.unwrap();
                    match got.unwrap_err() {
                        TextError::TemplateRaised { message: ours, .. } => {
                            assert_eq!(ours, message, "{label}");
                        }
                        // Jinja2's own complaint about an undefined element, in other words here.
                        TextError::TemplateRender { .. } => {
                            assert!(message.contains("has no element"), "{label}: {message}");
                        }
                        other => panic!("{label}: {other}"),
                    }
                }
            }
            checked += 1;
        }
    }
    assert!(checked >= 45, "only {checked} cases");
}

#[test]
fn typed_messages_render_like_json_ones() {
    for (name, json) in fixtures() {
        let fixture: serde_json::Value = serde_json::from_str(&json).unwrap();
        let template =
            ChatTemplate::new(fixture["template"].as_str().unwrap(), "<s>", "</s>").unwrap();
        let messages = [
            Message::user("Hi \u{1F600} <b>"),
            Message::new("assistant", "Hello"),
            Message::user("Bye"),
        ];
        let json = serde_json::to_string(&messages).unwrap();
        let vars = Vars::at(jiff::civil::date(2026, 3, 7).at(0, 0, 0, 0));
        assert_eq!(
            template.render(&messages, true, &vars).unwrap(),
            template.render_json(&json, true, &vars).unwrap(),
            "{name}"
        );
    }
}

fn failure(source: &str) -> String {
    let template = ChatTemplate::new(source, "", "").unwrap();
    template
        .render(&[Message::user("x")], true, &Vars::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn hostile_templates_end() {
    let nested = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}";
    assert!(failure(nested).contains("fuel"), "{}", failure(nested));
    let long = "{% for a in range(99999) %}{{ 'x' * 10000 }}{% endfor %}";
    assert!(failure(long).contains("64 MiB"), "{}", failure(long));
    let deep = "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}";
    assert!(failure(deep).contains("recursion"), "{}", failure(deep));
}

#[test]
fn syntax_errors_name_the_line() {
    let error = ChatTemplate::new("ok\n{% if %}", "", "").unwrap_err();
    assert!(
        matches!(error, TextError::TemplateSyntax { line: Some(2), .. }),
        "{error}"
    );
    let error = ChatTemplate::new("{% no_such_tag %}", "", "").unwrap_err();
    assert!(error.to_string().contains("no_such_tag"), "{error}");
}

#[test]
fn the_tool_template_is_taken_only_with_tools() {
    let sources = [
        ("default", "plain"),
        ("tool_use", "tools: {{ tools | length }}"),
    ];
    let sources = sources
        .map(|(name, source)| (name.to_owned(), source.to_owned()))
        .into();
    let template = ChatTemplate::with_tokens(sources, [].into()).unwrap();
    let mut vars = Vars::default();
    assert_eq!(template.render(&[], true, &vars).unwrap(), "plain");
    vars.set_json("tools", "[]").unwrap();
    assert_eq!(template.render(&[], true, &vars).unwrap(), "plain");
    vars.set_json("tools", "[{}]").unwrap();
    assert_eq!(template.render(&[], true, &vars).unwrap(), "tools: 1");
    assert_eq!(template.source(), "plain");
}
