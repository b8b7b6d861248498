//! Texts packed into contexts, gone on with at any cursor, and what a policy leaves out of them.

use candlescope::activations::{
    Column, Contexts, Cursor, PackedContexts, Packing, Policy, Rows, Source, TextOptions, TextRows,
};
use candlescope::model::Checkpoint;
use proptest::prelude::*;

use crate::fixture::{checkpoint, fixtures};

fn options() -> TextOptions {
    TextOptions {
        chat: Some(false),
        max_len: None,
        truncate: false,
        limit: None,
        now: "2026-01-02T00:00:00".parse().unwrap(),
    }
}

fn texts(checkpoint: &Checkpoint, source: Source) -> TextRows<'_> {
    TextRows::new(checkpoint, source, options()).unwrap()
}

fn all(contexts: &dyn Contexts, from: Cursor) -> Vec<(Vec<u32>, Cursor)> {
    contexts
        .contexts(from)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn documents_are_packed_end_to_end_and_any_cursor_goes_on() {
    let checkpoint = checkpoint();
    let tokenizer = &checkpoint.tokenizer;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "b.txt",
        "the other thing\n<|endoftext|>\n \n<|endoftext|>\nin there,  the end!\n",
    );
    write("a.md", "Then: 12 + 34 = 46");
    write("c.json", "{}");
    let packing = Packing::new(5, Some(false), tokenizer).unwrap();
    let end = packing.separator.unwrap();
    assert!(tokenizer.is_special(end));
    let mut expected = Vec::new();
    for text in [
        "Then: 12 + 34 = 46",
        "the other thing",
        "in there,  the end!",
    ] {
        expected.extend(tokenizer.encode(text, false).unwrap());
        expected.push(end);
    }
    let packed = |packing| {
        let source = Source::Documents(folder.path().to_path_buf());
        PackedContexts::new(texts(&checkpoint, source), packing).unwrap()
    };
    let plain = packed(packing);
    let found = all(&plain, Cursor::default());
    let cut: Vec<Vec<u32>> = expected.chunks_exact(5).map(<[u32]>::to_vec).collect();
    assert_eq!(found.iter().map(|c| c.0.clone()).collect::<Vec<_>>(), cut);
    for (i, (_, cursor)) in found.iter().enumerate() {
        assert_eq!(all(&plain, *cursor), found[i + 1..]);
        assert_eq!(cursor.context, i as u64 + 1);
    }
    // With a first token each context takes one token less.
    let bos = tokenizer.bos().unwrap();
    let begun = all(
        &packed(Packing::new(5, Some(true), tokenizer).unwrap()),
        Cursor::default(),
    );
    let cut: Vec<Vec<u32>> = expected
        .chunks_exact(4)
        .map(|c| [&[bos], c].concat())
        .collect();
    assert_eq!(begun.iter().map(|c| c.0.clone()).collect::<Vec<_>>(), cut);
    let limited = Packing {
        limit: Some(3),
        ..packing
    };
    assert_eq!(all(&packed(limited), Cursor::default()), found[..3]);
    let info = plain.info().unwrap();
    assert_eq!(
        (info.kind.as_str(), info.max_len, info.packing),
        ("documents", 5, Some(packing))
    );
    assert!(Packing::new(1, None, tokenizer).is_err());
    let long = Packing {
        length: 9999,
        ..packing
    };
    let source = Source::Documents(folder.path().to_path_buf());
    assert!(PackedContexts::new(texts(&checkpoint, source), long).is_err());
}

#[test]
fn rows_of_files_and_prompts_are_packed_like_documents() {
    let checkpoint = checkpoint();
    let data = |name: &str| fixtures().join("data").join(name);
    let ids = |source: Source, chat| {
        let options = TextOptions { chat, ..options() };
        let texts = TextRows::new(&checkpoint, source, options).unwrap();
        let packing = Packing::new(16, Some(false), &checkpoint.tokenizer).unwrap();
        let packed = PackedContexts::new(texts, packing).unwrap();
        packed.rows()?.collect::<Result<Vec<_>, _>>()
    };
    let lines = std::fs::read_to_string(data("text.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> = lines
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let packing = Packing::new(16, None, &checkpoint.tokenizer).unwrap();
    let mut stream: Vec<u32> = Vec::new();
    for row in &rows {
        stream.extend(
            checkpoint
                .tokenizer
                .encode(row["text"].as_str().unwrap(), false)
                .unwrap(),
        );
        stream.extend(packing.separator);
    }
    let found = ids(Source::Jsonl(data("text.jsonl"), Column::Text), Some(false)).unwrap();
    assert_eq!(found.concat(), stream[..stream.len() / 16 * 16]);
    let folder = tempfile::tempdir().unwrap();
    let array = folder.path().join("text.json");
    std::fs::write(&array, serde_json::to_string(&rows).unwrap()).unwrap();
    assert_eq!(
        ids(Source::Table(array, Column::Text), Some(false)).unwrap(),
        found
    );
    // The Parquet file holds the rows of the JSON lines.
    if checkpoint.template.is_some() {
        let of_lines = ids(
            Source::Jsonl(data("messages.jsonl"), Column::Messages),
            None,
        )
        .unwrap();
        let of_parquet = ids(Source::Table(data("hub.parquet"), Column::Messages), None).unwrap();
        assert!(of_lines.len() > 5);
        assert_eq!(of_lines, of_parquet);
    }
    assert!(ids(Source::Table(data("hub.parquet"), Column::Text), None).is_err());
    assert!(ids(Source::Table(data("none.parquet"), Column::Text), None).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn packing_loses_no_token_but_the_last_ones(
        documents in proptest::collection::vec("[a-z ]{0,40}", 1..8), length in 2usize..20
    ) {
        let checkpoint = checkpoint();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, documents.join("\n")).unwrap();
        let packing = Packing::new(length, Some(false), &checkpoint.tokenizer).unwrap();
        let contexts = PackedContexts::new(texts(&checkpoint, Source::Lines(path)), packing).unwrap();
        let mut expected = Vec::new();
        for text in documents.iter().filter(|text| !text.trim().is_empty()) {
            expected.extend(checkpoint.tokenizer.encode(text, false).unwrap());
            expected.extend(packing.separator);
        }
        let found = all(&contexts, Cursor::default());
        let ids: Vec<u32> = found.iter().flat_map(|c| c.0.clone()).collect();
        prop_assert_eq!(&ids[..], &expected[..expected.len() / length * length]);
        for (i, (_, cursor)) in found.iter().enumerate() {
            prop_assert_eq!(&all(&contexts, *cursor)[..], &found[i + 1..]);
        }
    }
}

#[test]
fn a_policy_is_read_from_a_list() {
    let checkpoint = checkpoint();
    let parse = |text: &str| Policy::parse(text, &checkpoint.tokenizer);
    assert_eq!(
        parse("first,special,norm").unwrap(),
        Policy::training(&checkpoint.tokenizer)
    );
    let policy = parse("first:4, id:9,norm:2.5,id:0,sample:3").unwrap();
    assert_eq!((policy.first, policy.ids), (4, vec![0, 9]));
    assert_eq!((policy.norm, policy.sample), (Some(2.5), 3));
    assert_eq!(parse("none").unwrap(), Policy::nothing());
    for bad in [
        "",
        "frist",
        "first:0",
        "norm:1",
        "norm:nan",
        "id",
        "id:99999",
        "special:2",
        "none,first",
    ] {
        assert!(
            parse(bad).unwrap_err().to_string().contains("--drop"),
            "{bad}"
        );
    }
}
