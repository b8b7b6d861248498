//! Tokenizers rebuilt from GGUF metadata and read from folders give the ids worked out by hand.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use candlescope::text::{
    ChatTemplate, GgufMetadata, Message, Streamer, TextError, Tokenizer, Vars, encode_chat,
};

/// GGUF metadata in memory.
#[derive(Default)]
struct Fake {
    strs: BTreeMap<&'static str, String>,
    ints: BTreeMap<&'static str, u64>,
    bools: BTreeMap<&'static str, bool>,
    strings: BTreeMap<&'static str, Vec<String>>,
    lists: BTreeMap<&'static str, Vec<i64>>,
    floats: BTreeMap<&'static str, Vec<f32>>,
}

impl GgufMetadata for Fake {
    fn str(&self, key: &str) -> Option<&str> {
        self.strs.get(key).map(String::as_str)
    }
    fn u64(&self, key: &str) -> Option<u64> {
        self.ints.get(key).copied()
    }
    fn bool(&self, key: &str) -> Option<bool> {
        self.bools.get(key).copied()
    }
    fn strings(&self, key: &str) -> Option<&[String]> {
        self.strings.get(key).map(Vec::as_slice)
    }
    fn ints(&self, key: &str) -> Option<&[i64]> {
        self.lists.get(key).map(Vec::as_slice)
    }
    fn floats(&self, key: &str) -> Option<&[f32]> {
        self.floats.get(key).map(Vec::as_slice)
    }
}

/// The 256 characters of the byte-level spelling in the order of their bytes.
fn byte_alphabet() -> Vec<String> {
    let printable = |b: &u8| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100;
    (0..=255u8)
        .map(|b| {
            let code = if printable(&b) { u32::from(b) } else { next };
            next += u32::from(!printable(&b));
            char::from_u32(code).unwrap().to_string()
        })
        .collect()
}

/// A byte-level vocabulary: 3 control tokens, 256 bytes (id = 3 + byte), then these merges, one user-defined token
/// and two rows of padding.
fn byte_level(pre: &str, merges: &[&str]) -> Fake {
    let mut tokens: Vec<String> = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        .map(String::from)
        .into();
    tokens.extend(byte_alphabet());
    tokens.extend(merges.iter().map(|m| m.replace(' ', "")));
    let mut types = vec![3, 3, 3];
    types.resize(tokens.len(), 1);
    tokens.extend(["<tool>", "[PAD0]", "[PAD1]"].map(String::from));
    types.extend([4, 5, 5]);
    let mut fake = Fake::default();
    fake.strs.insert("tokenizer.ggml.model", "gpt2".into());
    fake.strs.insert("tokenizer.ggml.pre", pre.into());
    fake.strings.insert("tokenizer.ggml.tokens", tokens);
    fake.lists.insert("tokenizer.ggml.token_type", types);
    fake.strings.insert(
        "tokenizer.ggml.merges",
        merges.iter().map(ToString::to_string).collect(),
    );
    fake.ints.insert("tokenizer.ggml.bos_token_id", 1);
    fake.ints.insert("tokenizer.ggml.eos_token_id", 2);
    fake
}

const MERGES: [&str; 5] = ["Ġ 2", "2 0", "h i", "Ġ hi", "Ġh i"];

fn b(byte: u8) -> u32 {
    3 + u32::from(byte)
}

#[test]
fn byte_level_ids_follow_the_splitting_rule() {
    // Merges got ids 259 to 262 ("Ġh i" repeats the piece of "Ġ hi", so it is left out here).
    let gguf = |pre| Tokenizer::from_gguf(&byte_level(pre, &MERGES[..4])).unwrap();
    // gpt-2 keeps " 2024" whole, so "Ġ 2" (rank 0) applies; smollm cuts every digit off first.
    assert_eq!(
        gguf("gpt-2").encode("hi 2024", false).unwrap(),
        [261, 259, b(b'0'), b(b'2'), b(b'4')]
    );
    assert_eq!(
        gguf("smollm").encode("hi 2024", false).unwrap(),
        [261, b(b' '), b(b'2'), b(b'0'), b(b'2'), b(b'4')]
    );
    // NFC joins e and the combining accent under qwen2, and only there.
    assert_eq!(
        gguf("qwen2").encode("e\u{301}", false).unwrap(),
        [b(0xC3), b(0xA9)]
    );
    assert_eq!(
        gguf("smollm").encode("e\u{301}", false).unwrap(),
        [b(b'e'), b(0xCC), b(0x81)]
    );
}

#[test]
fn special_tokens_roles_and_padding_rows() {
    let tokenizer = Tokenizer::from_gguf(&byte_level("smollm", &MERGES[..4])).unwrap();
    assert_eq!(
        tokenizer
            .encode("<|im_start|>hi<tool> hi<|im_end|>", true)
            .unwrap(),
        [1, 261, 263, 262, 2]
    );
    assert_eq!(
        tokenizer.decode(&[1, 261, 263, 262, 2], true).unwrap(),
        "hi<tool> hi"
    );
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.pad()),
        (Some(1), Some(2), None)
    );
    assert_eq!(tokenizer.stop_ids(), [0, 2]);
    assert_eq!(tokenizer.vocab_size(), 264);
    assert!(tokenizer.check_vocab(264).is_ok() && tokenizer.check_vocab(320).is_ok());
    let message = tokenizer.check_vocab(263).unwrap_err().to_string();
    assert!(
        message.contains("263") && message.contains("<tool>"),
        "{message}"
    );
    assert_eq!(tokenizer.token(262), " hi");
    assert_eq!(tokenizer.token(b(0xE6)), "\u{FFFD}");
    assert_eq!(tokenizer.token(2), "<|im_end|>");
    assert_eq!(tokenizer.token(99_999), "[99999?]");
}

#[test]
fn beginning_tokens_are_added_when_the_rule_or_the_file_says_so() {
    let ids = |fake: &Fake| {
        Tokenizer::from_gguf(fake)
            .unwrap()
            .encode("hi", true)
            .unwrap()
    };
    let mut fake = byte_level("smollm", &MERGES[..4]);
    assert_eq!(ids(&fake), [261]);
    fake.bools.insert("tokenizer.ggml.add_bos_token", true);
    fake.bools.insert("tokenizer.ggml.add_eos_token", true);
    assert_eq!(ids(&fake), [1, 261, 2]);
    let mut fake = byte_level("llama-bpe", &MERGES[..4]);
    assert_eq!(ids(&fake), [1, 261]);
    fake.bools.insert("tokenizer.ggml.add_bos_token", false);
    assert_eq!(ids(&fake), [261]);
}

/// A change to good metadata and what the refusal says of it.
type Case = (fn(&mut Fake), &'static str);

#[test]
fn bad_metadata_is_refused_by_key() {
    let refused = |change: fn(&mut Fake)| {
        let mut fake = byte_level("smollm", &MERGES[..4]);
        change(&mut fake);
        Tokenizer::from_gguf(&fake).unwrap_err().to_string()
    };
    let cases: [Case; 7] = [
        (
            |f| drop(f.strs.insert("tokenizer.ggml.pre", "superbpe".into())),
            "`superbpe`",
        ),
        (
            |f| drop(f.strs.remove("tokenizer.ggml.pre")),
            "tokenizer.ggml.pre",
        ),
        (
            |f| drop(f.strs.insert("tokenizer.ggml.model", "rwkv".into())),
            "`rwkv`",
        ),
        (
            |f| drop(f.lists.insert("tokenizer.ggml.token_type", vec![1])),
            "token_type",
        ),
        (
            |f| f.lists.get_mut("tokenizer.ggml.token_type").unwrap()[0] = 9,
            "found 9",
        ),
        (
            |f| f.strings.get_mut("tokenizer.ggml.merges").unwrap()[1] = "h h".into(),
            "`h h`",
        ),
        (
            |f| f.strings.get_mut("tokenizer.ggml.tokens").unwrap()[5] = "<|im_end|>".into(),
            "`<|im_end|>` as 2 and as 5",
        ),
    ];
    for (change, part) in cases {
        let message = refused(change);
        assert!(message.contains(part), "{part}: {message}");
    }
    // A merge with no second half, and one of empty text.
    for merge in ["hi", "", " "] {
        let mut fake = byte_level("smollm", &MERGES[..4]);
        fake.strings.get_mut("tokenizer.ggml.merges").unwrap()[0] = merge.into();
        assert!(
            matches!(Tokenizer::from_gguf(&fake), Err(TextError::Metadata { .. })),
            "{merge:?}"
        );
    }
}

/// A SentencePiece vocabulary: unk, bos, eos, 256 bytes (id = 3 + byte), then these pieces with these scores.
fn sentence_piece(pieces: &[(&str, f32, i64)]) -> Fake {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
    tokens.extend((0..=255u8).map(|b| format!("<0x{b:02X}>")));
    let mut types = vec![2, 3, 3];
    types.resize(tokens.len(), 6);
    let mut scores = vec![0.0; tokens.len()];
    for (piece, score, kind) in pieces {
        tokens.push((*piece).to_owned());
        scores.push(*score);
        types.push(*kind);
    }
    let mut fake = Fake::default();
    fake.strs.insert("tokenizer.ggml.model", "llama".into());
    fake.strings.insert("tokenizer.ggml.tokens", tokens);
    fake.lists.insert("tokenizer.ggml.token_type", types);
    fake.floats.insert("tokenizer.ggml.scores", scores);
    fake.ints.insert("tokenizer.ggml.bos_token_id", 1);
    fake.ints.insert("tokenizer.ggml.eos_token_id", 2);
    fake
}

const PIECES: [(&str, f32, i64); 8] = [
    ("▁", -9.0, 1),   // 259
    ("a", -9.0, 1),   // 260
    ("b", -9.0, 1),   // 261
    ("▁a", -3.0, 1),  // 262
    ("ab", -1.0, 1),  // 263
    ("▁ab", -2.0, 1), // 264
    ("ba", -4.0, 1),  // 265
    ("  ", 0.0, 4),   // 266, stored with plain spaces as Gemma files do
];

#[test]
fn sentence_piece_merges_by_descending_score() {
    let tokenizer = Tokenizer::from_gguf(&sentence_piece(&PIECES)).unwrap();
    // ▁aba: "ab" (-1) before "▁a" (-3) and "ba" (-4); then "▁"+"ab" gives "▁ab".
    assert_eq!(tokenizer.encode("aba", true).unwrap(), [1, 264, 260]);
    // Each stretch between special tokens gets its own leading space.
    assert_eq!(
        tokenizer.encode("a</s>b", false).unwrap(),
        [262, 2, 259, 261]
    );
    // A character without a piece is spelled in bytes.
    assert_eq!(
        tokenizer.encode("é", false).unwrap(),
        [259, 3 + 0xC3, 3 + 0xA9]
    );
    assert_eq!(
        tokenizer
            .decode(&[1, 264, 260, 259, 3 + 0xC3, 3 + 0xA9], true)
            .unwrap(),
        "aba é"
    );
    assert_eq!(tokenizer.token(262), " a");
    assert_eq!(tokenizer.stop_ids(), [2]);
}

#[test]
fn sentence_piece_without_prefix_space_and_with_space_runs() {
    let mut fake = sentence_piece(&PIECES);
    fake.bools.insert("tokenizer.ggml.add_space_prefix", false);
    let tokenizer = Tokenizer::from_gguf(&fake).unwrap();
    // User-defined runs merge before anything else: "a  ab" is a, ▁▁, ab and not a, ▁, ▁ab.
    assert_eq!(tokenizer.encode("a  ab", true).unwrap(), [1, 260, 266, 263]);
    assert_eq!(tokenizer.decode(&[262, 266, 263], false).unwrap(), " a  ab");
}

fn stream(tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) -> String {
    let mut streamer = Streamer::new(tokenizer, skip_special);
    let mut text: String = ids.iter().filter_map(|id| streamer.push(*id)).collect();
    text.extend(streamer.finish());
    text
}

#[test]
fn a_stream_joined_is_the_decoded_whole() {
    let text = "<|im_start|>hi 東京 😀 2024<|im_end|>";
    let byte_level = Tokenizer::from_gguf(&byte_level("smollm", &MERGES[..4])).unwrap();
    let sentence = Tokenizer::from_gguf(&sentence_piece(&PIECES)).unwrap();
    for tokenizer in [byte_level, sentence] {
        let ids = tokenizer.encode(text, true).unwrap();
        for skip in [true, false] {
            assert_eq!(
                stream(&tokenizer, &ids, skip),
                tokenizer.decode(&ids, skip).unwrap()
            );
        }
        let mut streamer = Streamer::new(&tokenizer, true);
        assert!(
            ids.iter()
                .filter_map(|id| streamer.push(*id))
                .all(|part| !part.contains('\u{FFFD}'))
        );
    }
}

#[test]
fn a_saved_tokenizer_reads_back_the_same() {
    let mut gpt2 = byte_level("llama-bpe", &MERGES[..4]);
    gpt2.ints.insert("tokenizer.ggml.padding_token_id", 0);
    let mut spm = sentence_piece(&PIECES);
    spm.bools.insert("tokenizer.ggml.add_eos_token", true);
    for fake in [gpt2, spm] {
        let dir = tempfile::tempdir().unwrap();
        let first = Tokenizer::from_gguf(&fake).unwrap();
        first.save(dir.path()).unwrap();
        let template = ChatTemplate::with_tokens(
            [(
                "default".to_owned(),
                "{{ bos_token }}{{ messages[0].content }}".to_owned(),
            )]
            .into(),
            first.special_tokens(),
        );
        template.unwrap().save(dir.path()).unwrap();
        let second = Tokenizer::from_folder(dir.path()).unwrap();
        for text in ["hi 2024", " ab  aba é", "", "<s>a</s>\n"] {
            assert_eq!(
                first.encode(text, true).unwrap(),
                second.encode(text, true).unwrap(),
                "{text:?}"
            );
        }
        assert_eq!(first.hash(), second.hash());
        assert_eq!(
            (first.bos(), first.eos(), first.pad()),
            (second.bos(), second.eos(), second.pad())
        );
        assert_eq!(
            (first.stop_ids(), first.vocab_size()),
            (second.stop_ids(), second.vocab_size())
        );
        let template = ChatTemplate::from_folder(dir.path(), &second)
            .unwrap()
            .unwrap();
        let text = template
            .render(&[Message::user("x")], false, &Vars::default())
            .unwrap();
        assert_eq!(text, format!("{}x", second.token(1)));
    }
}

#[test]
fn different_tokenizers_have_different_hashes() {
    let hash = |fake: &Fake| Tokenizer::from_gguf(fake).unwrap().hash();
    let smollm = hash(&byte_level("smollm", &MERGES[..4]));
    assert_eq!(smollm.len(), 64);
    assert_ne!(smollm, hash(&byte_level("gpt-2", &MERGES[..4])));
    assert_ne!(smollm, hash(&byte_level("smollm", &MERGES[..3])));
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

/// A folder with `tokenizer.json` alone.
fn bare_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    Tokenizer::from_gguf(&byte_level("smollm", &MERGES[..4]))
        .unwrap()
        .save(dir.path())
        .unwrap();
    for name in ["tokenizer_config.json", "generation_config.json"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    dir
}

#[test]
fn roles_come_from_the_side_files_in_order() {
    let dir = bare_folder();
    let dir = dir.path();
    let open = || Tokenizer::from_folder(dir).unwrap();
    assert_eq!(
        (open().bos(), open().eos(), open().stop_ids().len()),
        (None, None, 0)
    );
    write(
        dir,
        "config.json",
        r#"{"text_config": {"eos_token_id": 0}}"#,
    );
    assert_eq!(
        (open().eos(), open().stop_ids().to_vec()),
        (Some(0), vec![0])
    );
    write(
        dir,
        "config.json",
        r#"{"eos_token_id": 0, "bos_token_id": 1}"#,
    );
    write(
        dir,
        "special_tokens_map.json",
        r#"{"eos_token": {"content": "<|im_end|>"}, "pad_token": "<|endoftext|>"}"#,
    );
    assert_eq!(
        (
            open().bos(),
            open().eos(),
            open().pad(),
            open().stop_ids().to_vec()
        ),
        (Some(1), Some(2), Some(0), vec![0, 2])
    );
    write(dir, "generation_config.json", r#"{"eos_token_id": [2, 1]}"#);
    assert_eq!(open().stop_ids(), [1, 2]);
    write(
        dir,
        "tokenizer_config.json",
        r#"{"eos_token": "<|im_start|>", "bos_token": null, "add_bos_token": true}"#,
    );
    assert_eq!(
        (
            open().bos(),
            open().eos(),
            open().encode("hi", true).unwrap()
        ),
        (Some(1), Some(1), vec![1, 261])
    );
}

#[test]
fn declared_tokens_that_the_pipeline_lacks_are_added() {
    let dir = bare_folder();
    let config = r#"{"added_tokens_decoder": {"264": {"content": "<new>", "lstrip": false, "normalized": false,
        "rstrip": false, "single_word": false, "special": true}}}"#;
    write(dir.path(), "tokenizer_config.json", config);
    let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
    assert_eq!(tokenizer.encode("hi<new>", false).unwrap(), [261, 264]);
    assert_eq!(tokenizer.vocab_size(), 265);
    write(
        dir.path(),
        "tokenizer_config.json",
        &config.replace("264", "300"),
    );
    let message = Tokenizer::from_folder(dir.path()).unwrap_err().to_string();
    assert!(
        message.contains("<new>") && message.contains("300"),
        "{message}"
    );
}

#[test]
fn broken_folders_are_refused_by_file() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "tokenizer.model", "");
    let message = Tokenizer::from_folder(dir.path()).unwrap_err().to_string();
    assert!(
        message.contains("tokenizer.json") && message.contains("tokenizer.model"),
        "{message}"
    );
    // The last one makes the library index past its buffer: the merge is longer than any token.
    let long_merge = r#"{"version":"1.0","added_tokens":[],"model":{"type":"BPE","vocab":{"aa":0,"bb":1},"merges":[["aa","bb"]]}}"#;
    for text in [
        "",
        "{}",
        "[1]",
        r#"{"version":"1.0","model":{"type":"BPE"}}"#,
        long_merge,
    ] {
        write(dir.path(), "tokenizer.json", text);
        assert!(
            matches!(
                Tokenizer::from_folder(dir.path()),
                Err(TextError::Malformed { .. })
            ),
            "{text}"
        );
    }
    let dir = bare_folder();
    write(dir.path(), "tokenizer_config.json", "{");
    let message = Tokenizer::from_folder(dir.path()).unwrap_err().to_string();
    assert!(message.contains("tokenizer_config.json"), "{message}");
}

#[test]
fn templates_of_a_folder_in_each_of_their_places() {
    let dir = bare_folder();
    let dir = dir.path();
    let tokenizer = Tokenizer::from_folder(dir).unwrap();
    let source = || {
        ChatTemplate::from_folder(dir, &tokenizer)
            .unwrap()
            .map(|t| t.source().to_owned())
    };
    assert_eq!(source(), None);
    write(
        dir,
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#,
    );
    assert_eq!(source().as_deref(), Some("d"));
    let named = ChatTemplate::from_folder(dir, &tokenizer).unwrap().unwrap();
    named.save(dir).unwrap();
    assert_eq!(
        ChatTemplate::from_folder(dir, &tokenizer)
            .unwrap()
            .unwrap()
            .hash(),
        named.hash()
    );
    write(dir, "chat_template.json", r#"{"chat_template": "json"}"#);
    assert_eq!(source().as_deref(), Some("json"));
    write(dir, "chat_template.jinja", "jinja");
    assert_eq!(source().as_deref(), Some("jinja"));
}

#[test]
fn the_instruction_ends_where_the_users_words_end() {
    let tokenizer = Tokenizer::from_gguf(&byte_level("smollm", &MERGES[..4])).unwrap();
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}<|im_start|>";
    let template = ChatTemplate::new(source, "", "").unwrap();
    let encode = |content: &str| {
        encode_chat(
            &tokenizer,
            &template,
            &[
                Message::user("hi"),
                Message::new("assistant", "hi"),
                Message::user(content),
            ],
            true,
            &Vars::default(),
        )
        .unwrap()
    };
    // The tail is <|im_end|>, newline, <|im_start|>, whatever the user wrote.
    for content in ["hi", "hi hi", "2024?", " é東 ", "<|im_end|>"] {
        let encoding = encode(content);
        let tail = encoding.template_tail().unwrap();
        assert_eq!(encoding.ids[tail.clone()], [2, b(b'\n'), 1], "{content:?}");
        let last = tokenizer.token_bytes(encoding.ids[tail.start - 1]).unwrap();
        assert!(content.trim().as_bytes().ends_with(&last), "{content:?}");
    }
    assert_eq!(encode("").instruction_end, None);
}
