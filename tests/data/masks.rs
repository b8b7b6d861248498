//! Ids and masks of rows: goldens of transformers, and what must hold of every row.

use candlescope::text::dataset::{
    DataError, EncodeOptions, Encoder, Example, Reason, Row, Supervise, Truncation, Unusable,
};
use candlescope::text::{ChatTemplate, Tokenizer, toy};
use jiff::civil::date;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{fixture, parse};

const ROLES: [&str; 2] = ["user", "assistant"];

fn options() -> EncodeOptions {
    EncodeOptions {
        now: Some(date(2026, 3, 7).at(9, 5, 2, 0)),
        ..EncodeOptions::up_to(10_000)
    }
}

fn one(row: &Value) -> Row {
    parse(&row.to_string()).unwrap().rows.remove(0)
}

fn example(
    row: &Value,
    template: Option<&ChatTemplate>,
    options: EncodeOptions,
) -> Result<Example, DataError> {
    let (tokenizer, _) = toy::words().unwrap();
    let encoder = Encoder::new(&tokenizer, template, options).unwrap();
    encoder.example(&one(row)).map(|cut| cut.item)
}

/// The row with its targets in brackets.
fn bracketed(tokenizer: &Tokenizer, example: &Example) -> String {
    let mut text = String::new();
    let mut open = false;
    for (id, supervised) in example.ids.iter().zip(&example.supervised) {
        if *supervised != open {
            text.push(if *supervised { '[' } else { ']' });
            open = *supervised;
        }
        text += &tokenizer.token(*id);
    }
    text + if open { "]" } else { "" }
}

/// `masks.json`: ids and the assistant's mask are transformers', the prompt's length the longest common prefix of its ids.
#[test]
fn masks_are_those_of_transformers() {
    let golden: Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("masks.json")).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        let mask: Vec<u8> = serde_json::from_value(case["assistant_mask"].clone()).unwrap();
        let mask: Vec<bool> = mask.iter().map(|m| *m == 1).collect();
        let row = json!({"messages": case["messages"]});
        // By rendering turn by turn, and by the marks of the template.
        for kind in ["plain", "marked"] {
            let source = golden["templates"][name][kind].as_str().unwrap();
            let template = ChatTemplate::new(source, "<|begin|>", "<|im_end|>").unwrap();
            let example = example(&row, Some(&template), options()).unwrap();
            assert_eq!(example.ids, ids, "{name} {kind}");
            assert_eq!(example.supervised, mask, "{name} {kind}");
        }
        let source = golden["templates"][name]["plain"].as_str().unwrap();
        let template = ChatTemplate::new(source, "<|begin|>", "<|im_end|>").unwrap();
        let turns = case["messages"].as_array().unwrap();
        let (answer, prompt) = turns.split_last().unwrap();
        let example = example(
            &json!({"prompt": prompt, "completion": [answer]}),
            Some(&template),
            options(),
        )
        .unwrap();
        let start = example.supervised.iter().position(|s| *s).unwrap();
        assert_eq!(Some(start as u64), case["prompt_length"].as_u64(), "{name}");
        // The last turn alone, to its end.
        assert_eq!(example.supervised[start..], mask[start..], "{name}");
        assert_eq!(example.ids, ids, "{name}");
    }
}

/// Written by hand: header tokens are in front of the answer, the end of the turn belongs to it, the line break does not.
#[test]
fn masks_by_hand() {
    let (tokenizer, template) = toy::words().unwrap();
    let shown = |row: Value, supervise| {
        let options = EncodeOptions {
            supervise,
            ..options()
        };
        bracketed(
            &tokenizer,
            &example(&row, Some(&template), options).unwrap(),
        )
    };
    let turns = json!([
        {"role": "system", "content": "Be good"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "Me"},
    ]);
    let before = "<|begin|><|im_start|>system\nBe good<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n";
    let after = "\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n[Me<|im_end|>]\n";
    assert_eq!(
        shown(json!({"messages": turns}), Supervise::Auto),
        format!("{before}[Yes<|im_end|>]{after}")
    );
    assert_eq!(
        shown(json!({"messages": turns}), Supervise::Completion),
        format!("{before}Yes<|im_end|>{after}")
    );
    assert_eq!(
        shown(json!({"text": "Hello there"}), Supervise::Auto),
        "<|begin|>[Hello there<|im_end|>]"
    );
    // An end that stands there is not doubled, nor is a beginning.
    assert_eq!(
        shown(json!({"text": "<|begin|>Hello<|im_end|>"}), Supervise::Auto),
        "<|begin|>[Hello<|im_end|>]"
    );
    let plain = json!({"prompt": "The capital of", "completion": " France"});
    assert_eq!(
        shown(plain, Supervise::Auto),
        "<|begin|>The capital of[ France<|im_end|>]"
    );
    let chat = EncodeOptions {
        chat: true,
        ..options()
    };
    let plain = json!({"prompt": "Hello", "completion": "Yes"});
    assert_eq!(
        bracketed(&tokenizer, &example(&plain, Some(&template), chat).unwrap()),
        "<|begin|><|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n[Yes<|im_end|>]\n"
    );
}

/// The token that pads and ends is a target where the assistant says it and nowhere else.
#[test]
fn the_end_token_is_masked_by_place() {
    let (tokenizer, template) = toy::words().unwrap();
    let row = json!({"messages": [
        {"role": "user", "content": "What is <|im_end|> for?"},
        {"role": "assistant", "content": "It ends a turn."},
    ]});
    let example = example(&row, Some(&template), options()).unwrap();
    let end = tokenizer.stop_ids()[0];
    let masks: Vec<bool> = example
        .ids
        .iter()
        .zip(&example.supervised)
        .filter(|(id, _)| **id == end)
        .map(|(_, s)| *s)
        .collect();
    assert_eq!(masks, [false, false, true]);
}

#[test]
fn a_template_that_rewrites_earlier_turns_is_refused_with_the_turn() {
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role != 'assistant' or loop.last %}{{ m.content }}\
                  {% else %}...{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let template = ChatTemplate::new(source, "", "").unwrap();
    let turns = |n: usize| {
        let turn = |i| json!({"role": ROLES[i % 2], "content": format!("turn {i}")});
        json!({"messages": (0..n).map(turn).collect::<Vec<_>>()})
    };
    assert!(example(&turns(2), Some(&template), options()).is_ok());
    let error = example(&turns(4), Some(&template), options()).unwrap_err();
    let DataError::NotPrefixPreserving {
        turn,
        role,
        before,
        after,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((*turn, role.as_str()), (3, "user"));
    assert!(
        before.starts_with("turn 1") && after.starts_with("..."),
        "{error}"
    );
    // For the last answer alone the turns before it are written one way only.
    let completion = EncodeOptions {
        supervise: Supervise::Completion,
        ..options()
    };
    assert!(example(&turns(4), Some(&template), completion).is_ok());
    assert!(
        example(&turns(2), None, options())
            .is_err_and(|e| matches!(e, DataError::NoTemplate { .. }))
    );
}

#[test]
fn marks_that_cannot_be_followed_are_refused() {
    let source = "{% for m in messages %}{% generation %}{% generation %}{{ m.content }}{% endgeneration %}{% endgeneration %}{% endfor %}";
    let template = ChatTemplate::new(source, "", "").unwrap();
    let row = json!({"messages": [{"role": "assistant", "content": "Yes"}]});
    let nested = example(&row, Some(&template), options())
        .unwrap_err()
        .to_string();
    assert!(nested.contains("one lies inside another"), "{nested}");
    let source = source
        .replace("{% generation %}{% generation %}", "{% generation %}")
        .replace(
            "{% endgeneration %}{% endgeneration %}",
            "{% endgeneration %}",
        );
    let template = ChatTemplate::new(&source, "", "").unwrap();
    let row = json!({"messages": [{"role": "assistant", "content": "Yes \u{fdd0}"}]});
    let marked = example(&row, Some(&template), options())
        .unwrap_err()
        .to_string();
    assert!(marked.contains("U+FDD0"), "{marked}");
}

#[test]
fn rows_over_the_limit_follow_the_policy() {
    let (tokenizer, template) = toy::words().unwrap();
    let row = json!({"text": "Hello there you are what you are"});
    let with = |truncation, max_length| {
        let options = EncodeOptions {
            truncation,
            max_length,
            ..options()
        };
        let encoder = Encoder::new(&tokenizer, Some(&template), options).unwrap();
        encoder
            .example(&one(&row))
            .map(|cut| (bracketed(&tokenizer, &cut.item), cut.cut))
    };
    let whole = "<|begin|>[Hello there you are what you are<|im_end|>]".to_owned();
    assert_eq!(with(Truncation::KeepStart, 9).unwrap(), (whole, false));
    assert_eq!(
        with(Truncation::KeepStart, 4).unwrap(),
        ("<|begin|>[Hello there you]".into(), true)
    );
    assert_eq!(
        with(Truncation::KeepEnd, 4).unwrap(),
        (" what[ you are<|im_end|>]".into(), true)
    );
    assert_eq!(
        with(Truncation::Drop, 4).unwrap_err().reason(),
        Some(Reason::OverLimit)
    );
    // A prompt that fills the limit.
    let row = one(&json!({"prompt": "Hello there you are", "completion": " not"}));
    let options = EncodeOptions {
        max_length: 4,
        ..options()
    };
    let encoder = Encoder::new(&tokenizer, Some(&template), options.clone()).unwrap();
    let error = encoder.example(&row).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the prompt has 5 of 7 tokens and the limit is 4"),
        "{error}"
    );
    // Two answers, labels and prompts are never cut.
    for row in [
        json!({"prompt": "Hello", "chosen": " you are", "rejected": " you are what you are"}),
        json!({"prompt": "Hello", "completion": " you are what you are", "label": true}),
        json!({"prompt": "Hello you are what you are"}),
    ] {
        let row = one(&row);
        let result = encoder.pair(&row).map(|_| ()).or_else(|e| match e {
            DataError::Kind { .. } => encoder.labelled(&row).map(|_| ()),
            e => Err(e),
        });
        let result = result.or_else(|e| match e {
            DataError::Kind { .. } => encoder.prompt(&row).map(|_| ()),
            e => Err(e),
        });
        assert_eq!(result.unwrap_err().reason(), Some(Reason::OverLimit));
    }
}

#[test]
fn rows_of_no_use_are_refused_or_counted() {
    let (tokenizer, template) = toy::words().unwrap();
    let encoder = |unusable| {
        Encoder::new(
            &tokenizer,
            Some(&template),
            EncodeOptions {
                unusable,
                ..options()
            },
        )
        .unwrap()
    };
    let data = parse(
        "{\"prompt\":\"a\",\"chosen\":\" b\",\"rejected\":\" c\"}\n\
         {\"prompt\":\"a\",\"chosen\":\" b\",\"rejected\":\" b\"}\n\
         {\"prompt\":\"a\",\"chosen\":\" \",\"rejected\":\" b\"}\n",
    )
    .unwrap();
    let error = encoder(Unusable::Refuse).pairs(&data).unwrap_err();
    assert!(
        matches!(&error, DataError::SameAnswers { place } if place.to_string() == "f:2"),
        "{error}"
    );
    let pairs = encoder(Unusable::Drop).pairs(&data).unwrap();
    assert_eq!((pairs.items.len(), pairs.rows.as_slice()), (1, &[0][..]));
    assert_eq!(pairs.dropped.of(Reason::SameAnswers), 1);
    assert_eq!(pairs.dropped.of(Reason::EmptyAnswer), 1);
    // A file in which nothing is supervised.
    let user = json!({"messages": [{"role": "user", "content": "Hello"}]}).to_string();
    let data = parse(&format!("{user}\n{user}\n")).unwrap();
    let error = encoder(Unusable::Refuse).examples(&data).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::NothingSupervised));
    let error = encoder(Unusable::Drop)
        .examples(&data)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("none of 2 rows can be trained on: 2 without a supervised token"),
        "{error}"
    );
    // What it is asked to supervise, a row must have.
    let text = parse("{\"text\":\"Hello\"}").unwrap();
    let options = EncodeOptions {
        supervise: Supervise::Assistant,
        ..options()
    };
    let encoder = Encoder::new(&tokenizer, Some(&template), options).unwrap();
    assert!(matches!(
        encoder.examples(&text),
        Err(DataError::Kind { .. })
    ));
}

#[test]
fn tools_and_variables_reach_the_template() {
    let source = "{% if tools %}{{ tools | tojson }} {% endif %}{{ mood }}{% for m in messages %} {{ m.role }}:{{ m.content }}{% endfor %}";
    let template = ChatTemplate::new(source, "", "").unwrap();
    let (tokenizer, _) = toy::words().unwrap();
    let encoder = Encoder::new(&tokenizer, Some(&template), options()).unwrap();
    // As a list and as JSON in a string, keys in the file's order.
    let list = "[{\"z\": 1, \"a\": \"x\"}]".to_owned();
    for tools in [list.clone(), json!(list).to_string()] {
        let row = format!(
            "{{\"prompt\": [{{\"role\": \"user\", \"content\": \"Hi\"}}], \"tools\": {tools}, \"chat_template_kwargs\": {{\"mood\": \"calm\"}}}}"
        );
        let row = parse(&row).unwrap().rows.remove(0);
        let ids = encoder.prompt(&row).unwrap().prompt;
        let text = tokenizer.decode(&ids, false).unwrap();
        assert_eq!(text, "[{\"z\": 1, \"a\": \"x\"}] calm user:Hi");
    }
}

#[test]
fn every_example_file_encodes() {
    let (tokenizer, template) = toy::words().unwrap();
    let encoder = Encoder::new(&tokenizer, Some(&template), options()).unwrap();
    let read = |name: &str| {
        let text = std::fs::read_to_string(fixture(name)).unwrap();
        parse(&text).unwrap()
    };
    for name in [
        "sft.jsonl",
        "messages.jsonl",
        "text.jsonl",
        "validation.jsonl",
    ] {
        let data = read(name);
        let encoded = encoder.examples(&data).unwrap();
        assert_eq!(
            (encoded.items.len(), encoded.dropped.total(), encoded.cut),
            (data.rows.len(), 0, 0),
            "{name}"
        );
    }
    for name in ["preference.jsonl", "implicit.jsonl"] {
        let pairs = encoder.pairs(&read(name)).unwrap();
        assert!(
            pairs
                .items
                .iter()
                .all(|pair| pair.margin.is_some() == (name == "implicit.jsonl"))
        );
        assert_eq!(
            encoder.labelled_rows(&read(name)).unwrap().items.len(),
            2 * pairs.items.len()
        );
    }
    let labelled = encoder.labelled_rows(&read("unpaired.jsonl")).unwrap();
    assert_eq!(labelled.items.iter().filter(|one| one.label).count(), 11);
    assert_eq!(
        encoder.prompts(&read("prompts.jsonl")).unwrap().items.len(),
        22
    );
    // Implied and given prompts are the same prompts.
    let (given, implied) = (
        encoder.pairs(&read("preference.jsonl")).unwrap(),
        encoder.pairs(&read("implicit.jsonl")).unwrap(),
    );
    for (one, other) in given.items.iter().zip(&implied.items) {
        assert_eq!(
            (&one.prompt, &one.chosen, &one.rejected),
            (&other.prompt, &other.chosen, &other.rejected)
        );
    }
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z ,.?!\\n]{1,40}",
        "\\PC{1,20}",
        Just("<|im_end|>".to_owned()),
        Just(" <|im_start|>assistant\n".to_owned()),
    ]
}

proptest! {
    #[test]
    fn masks_fit_and_answers_follow_their_prompts(
        contents in prop::collection::vec(words(), 2..6),
        system in prop::option::of(words()),
        answer in words(),
    ) {
        let (tokenizer, template) = toy::words().unwrap();
        let encoder = Encoder::new(&tokenizer, Some(&template), options()).unwrap();
        let mut turns: Vec<Value> = system.iter().map(|s| json!({"role": "system", "content": s})).collect();
        turns.extend(contents.iter().enumerate().map(|(i, text)| json!({"role": ROLES[i % 2], "content": text})));
        let example = encoder.example(&one(&json!({"messages": turns}))).unwrap().item;
        prop_assert_eq!(example.ids.len(), example.supervised.len());
        prop_assert!(!example.supervised[0] && example.targets() > 0);
        // As many runs of targets as answers.
        let runs = (1..example.ids.len()).filter(|&i| example.supervised[i] && !example.supervised[i - 1]).count();
        prop_assert_eq!(runs, contents.len() / 2);
        // Prompt and answer together are the conversation, and the prompt is the same for any answer.
        let (last, before) = turns.split_last().unwrap();
        if last["role"] == "assistant" && last["content"] != json!(answer) {
            let other = json!([{"role": "assistant", "content": answer}]);
            let row = one(&json!({"prompt": before, "chosen": [last], "rejected": other}));
            let pair = encoder.pair(&row).unwrap();
            let whole = [pair.prompt.as_slice(), &pair.chosen].concat();
            prop_assert!(example.ids.starts_with(&whole));
            let prompt = encoder.prompt(&one(&json!({"prompt": before}))).unwrap().prompt;
            prop_assert_eq!(prompt, pair.prompt);
            prop_assert!(tokenizer.stop_ids().contains(pair.rejected.last().unwrap()));
        }
    }

    #[test]
    fn strings_keep_all_their_tokens(prompt in words(), answer in words()) {
        prop_assume!(!answer.trim().is_empty());
        let (tokenizer, template) = toy::words().unwrap();
        let encoder = Encoder::new(&tokenizer, Some(&template), options()).unwrap();
        let row = one(&json!({"prompt": prompt, "completion": answer, "label": true}));
        let labelled = encoder.labelled(&row).unwrap().remove(0);
        let ids = [labelled.prompt.as_slice(), &labelled.completion].concat();
        let text = tokenizer.decode(&ids, false).unwrap();
        let expected = format!("<|begin|>{prompt}{answer}");
        let ended = format!("{expected}<|im_end|>");
        prop_assert!(text == ended || (expected.ends_with("<|im_end|>") && text == expected));
        prop_assert!(!labelled.completion.is_empty());
    }
}
