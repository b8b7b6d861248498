//! Which columns make which rows, and what is said where they do not.

use candlescope::text::dataset::columns::rows;
use candlescope::text::dataset::{Body, Columns, Kind, Words, table};
use serde_json::json;

use crate::parse;

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn the_kind_of_a_file_is_that_of_its_first_row() {
    let turns = json!([{"role": "user", "content": "a"}]);
    let answer = json!([{"role": "assistant", "content": "b"}]);
    for (row, kind) in [
        (json!({"text": "a"}), Kind::Text),
        (json!({"messages": turns}), Kind::Messages),
        (json!({"prompt": turns}), Kind::Prompt),
        (
            json!({"prompt": "a", "completion": "b", "source": "x"}),
            Kind::PromptCompletion,
        ),
        (
            json!({"prompt": turns, "completion": answer, "label": false}),
            Kind::Unpaired,
        ),
        (json!({"chosen": "ab", "rejected": "ac"}), Kind::Preference),
        // A hub data set that has it all.
        (
            json!({"prompt": "a", "prompt_id": "1", "messages": turns, "chosen": "ab", "rejected": "ac"}),
            Kind::Preference,
        ),
        (json!({"prompt": "a", "messages": turns}), Kind::Messages),
        // null is absent.
        (
            json!({"prompt": "a", "completion": "b", "label": null}),
            Kind::PromptCompletion,
        ),
    ] {
        let data = parse(&row.to_string()).unwrap();
        assert_eq!(data.kind, kind, "{row}");
    }
    let data = parse(&json!({"text": "a", "source": "x", "id": 1}).to_string()).unwrap();
    assert_eq!(data.unread, ["id", "source"]);
}

#[test]
fn a_prompt_is_what_both_answers_begin_with() {
    let preference =
        |row: serde_json::Value| match parse(&row.to_string()).unwrap().rows.remove(0).body {
            Body::Preference(prompt, chosen, rejected, _) => (prompt, chosen, rejected),
            body => panic!("{body:?}"),
        };
    let plain = |text: &str| Words::Plain(text.into());
    // TRL's own example: the space goes with the answers.
    assert_eq!(
        preference(json!({"chosen": "The sky is blue.", "rejected": "The sky is green."})),
        (plain("The sky is"), plain(" blue."), plain(" green."))
    );
    assert_eq!(
        preference(json!({"chosen": "été", "rejected": "étude"})),
        (plain("ét"), plain("é"), plain("ude"))
    );
    let (user, yes, no) = (
        json!({"role": "user", "content": "a"}),
        json!({"role": "assistant", "content": "yes"}),
        json!({"role": "assistant", "content": "no"}),
    );
    let apart = preference(json!({"prompt": [user], "chosen": [yes], "rejected": [no]}));
    assert!(matches!(&apart.0, Words::Chat(turns) if turns.len() == 1));
    for row in [
        json!({"chosen": [user, yes], "rejected": [user, no]}),
        // The prompt again as a string, as in UltraFeedback, or as messages.
        json!({"prompt": "a", "chosen": [user, yes], "rejected": [user, no]}),
        json!({"prompt": [user], "chosen": [user, yes], "rejected": [user, no]}),
    ] {
        assert_eq!(preference(row), apart);
    }
}

#[test]
fn columns_can_have_other_names() {
    let table = table::from_bytes(
        "f",
        b"{\"question\": \"a\", \"answer\": \"b\", \"label\": 3}".to_vec(),
    )
    .unwrap();
    let columns: Columns = "prompt=question, completion=answer".parse().unwrap();
    // `label` says that it is unpaired; the kind can be given.
    let wrong = rows(&table, &columns, None).unwrap_err().to_string();
    assert!(
        wrong.contains("column `label`: expected true or false") && wrong.contains("the number 3"),
        "{wrong}"
    );
    let data = rows(&table, &columns, Some(Kind::PromptCompletion)).unwrap();
    assert_eq!(
        data.rows[0].body,
        Body::PromptCompletion(Words::Plain("a".into()), Words::Plain("b".into()))
    );
    let both: Columns = "margin=question,prompt=question,completion=answer"
        .parse()
        .unwrap();
    let unread = rows(&table, &both, Some(Kind::PromptCompletion))
        .unwrap_err()
        .to_string();
    assert!(
        unread.contains("prompt-completion rows have no `margin`"),
        "{unread}"
    );
    for wrong in ["prompt", "promt=question", "prompt=", "prompt=a,prompt=b"] {
        assert!(
            wrong
                .parse::<Columns>()
                .unwrap_err()
                .to_string()
                .contains("--columns"),
            "{wrong}"
        );
    }
}

#[test]
fn what_is_wrong_is_said_with_file_line_and_column() {
    let good = "{\"prompt\": \"a\", \"completion\": \"b\"}";
    for (text, words) in [
        (String::new(), vec!["f: the file has no rows"]),
        ("\n \n".into(), vec!["no rows"]),
        ("[]".into(), vec!["no rows"]),
        ("{\"a\": 1}".into(), vec!["f:1: no known set of columns", "prompt+completion", "found a", "--columns"]),
        (format!("{good}\n\n{{\"prompt\": \"a\"}}"), vec!["f:3: the row has no `completion`", "expected prompt, completion (prompt-completion)", "found prompt"]),
        (format!("{good}\nnot json"), vec!["f:2: not a JSON object", "column"]),
        (format!("{good}\n[1]"), vec!["f:2: not a JSON object"]),
        ("{\"text\": \"a\", \"text\": \"b\"}".into(), vec!["the key `text` stands there twice"]),
        (format!("[{good}, {{\"prompt\": \"a\"}}]"), vec!["f row 2", "no `completion`"]),
        (format!("[{good}, 3]"), vec!["not a JSON array of objects"]),
        ("{\"text\": 3}".into(), vec!["column `text`: expected a string, found the number 3"]),
        ("{\"messages\": []}".into(), vec!["column `messages`: expected a list of messages", "found the list []"]),
        ("{\"messages\": [{\"role\": \"user\"}]}".into(), vec!["column `messages`"]),
        ("{\"messages\": [{\"content\": \"a\"}]}".into(), vec!["column `messages`"]),
        ("{\"prompt\": \"a\", \"completion\": [{\"role\": \"assistant\", \"content\": \"b\"}]}".into(), vec!["column `completion`: expected a string, like the column before it"]),
        ("{\"prompt\": [{\"role\": \"user\", \"content\": \"b\"}], \"completion\": [{\"role\": \"user\", \"content\": \"b\"}]}".into(), vec!["messages that begin with the assistant's"]),
        ("{\"prompt\": \"a\", \"completion\": \"b\", \"label\": 1}".into(), vec!["column `label`: expected true or false", "0 and 1"]),
        ("{\"prompt\": \"a\", \"completion\": \"b\", \"label\": \"true\"}".into(), vec!["column `label`", "the string \"true\""]),
        ("{\"chosen\": \"ab\", \"rejected\": \"ac\", \"margin\": \"x\"}".into(), vec!["column `margin`: expected a finite number"]),
        ("{\"chosen\": \"ab\", \"rejected\": \"ac\", \"margin\": true}".into(), vec!["column `margin`"]),
        (
            "{\"prompt\": [{\"role\": \"assistant\", \"content\": \"b\"}]}".into(),
            vec!["column `prompt`: expected messages that do not end with the assistant's"],
        ),
        ("{\"prompt\": \"a\", \"tools\": \"[\"}".into(), vec!["column `tools`: expected a list of tools"]),
        ("{\"prompt\": \"a\", \"chat_template_kwargs\": 1}".into(), vec!["column `chat_template_kwargs`: expected an object"]),
    ] {
        let said = error(&text);
        for word in words {
            assert!(said.contains(word), "{text}: no `{word}` in: {said}");
        }
    }
}
