//! Each code against Python's (base64, codecs, bytes.hex) or a table, and what can be undone is undone.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const PROMPT: &str = "How do I bake rye bread, in 2 hours?";

#[test]
fn codes_are_those_of_python() {
    for (code, expected) in [
        (
            Code::Base64,
            "SG93IGRvIEkgYmFrZSByeWUgYnJlYWQsIGluIDIgaG91cnM/",
        ),
        (Code::Rot13, "Ubj qb V onxr elr oernq, va 2 ubhef?"),
        (Code::Leet, "h0w d0 1 b4k3 ry3 br34d, 1n 2 h0ur5?"),
        (Code::Reversed, "?sruoh 2 ni ,daerb eyr ekab I od woH"),
        (
            Code::Hex,
            "48 6f 77 20 64 6f 20 49 20 62 61 6b 65 20 72 79 65 20 62 72 65 61 64 2c 20 69 6e 20 32 20 68 6f 75 72 73 \
             3f",
        ),
        (
            Code::Spaced,
            "H o w   d o   I   b a k e   r y e   b r e a d ,   i n   2   h o u r s ?",
        ),
        (
            Code::FullWidth,
            "Ｈｏｗ　ｄｏ　Ｉ　ｂａｋｅ　ｒｙｅ　ｂｒｅａｄ，　ｉｎ　２　ｈｏｕｒｓ？",
        ),
    ] {
        assert_eq!(code.encode(PROMPT), expected, "{}", code.name());
    }
    // RFC 4648, section 10.
    for (text, expected) in [
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
        ("é", "w6k="),
    ] {
        assert_eq!(Code::Base64.encode(text), expected);
    }
    assert_eq!(
        Code::Morse.encode("SOS, help 73?"),
        "... --- ... --..-- / .... . .-.. .--. / --... ...-- ..--.."
    );
    let alike = Code::LookAlike.encode("Peace now");
    assert_eq!(alike, "\u{420}\u{435}\u{430}\u{441}\u{435} n\u{43e}w");
}

#[test]
fn what_is_not_in_a_code_is_not_read() {
    for (code, text) in [
        (Code::Base64, "I cannot help with that."),
        (Code::Base64, "Zg="),
        (Code::Base64, ""),
        (Code::Hex, "48 6f 7"),
        (Code::Hex, "zz"),
        (Code::Hex, "ff"),
        (Code::Morse, "... hello"),
        (Code::Spaced, "hello"),
        (Code::Leet, "h3llo"),
    ] {
        assert_eq!(code.decode(text), None, "{} {text:?}", code.name());
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(text in "\\PC{1,60}") {
        for code in [Code::Base64, Code::Rot13, Code::Reversed, Code::Hex, Code::Spaced] {
            prop_assert_eq!(code.decode(&code.encode(&text)), Some(text.clone()), "{}", code.name());
        }
    }

    #[test]
    fn scripts_of_ascii_are_undone(text in "[ -~]{0,60}") {
        for code in [Code::FullWidth, Code::LookAlike] {
            prop_assert_eq!(code.decode(&code.encode(&text)), Some(text.clone()), "{}", code.name());
        }
    }

    #[test]
    fn morse_keeps_words_but_not_case(text in "[A-Za-z0-9.,:?'()@=+_\"/-]{1,8}( [A-Za-z0-9.,?]{1,8}){0,5}") {
        prop_assert_eq!(Code::Morse.decode(&Code::Morse.encode(&text)), Some(text.to_lowercase()));
    }

    #[test]
    fn typos_move_letters_and_lose_none(text in "\\PC{0,80}") {
        let sorted = |text: &str| { let mut all: Vec<char> = text.chars().collect(); all.sort_unstable(); all };
        let moved = Wording::Typos.reword(&text);
        prop_assert_eq!(sorted(&moved), sorted(&text));
        let changed = text.chars().zip(moved.chars()).filter(|(a, b)| a != b).count();
        prop_assert!(changed.is_multiple_of(2));
    }

    #[test]
    fn every_frame_but_a_code_holds_the_request(text in "[ -~]{1,60}", seed: u64) {
        for frame in Frame::all() {
            let dressed = frame.dress(&text, seed);
            match frame {
                Frame::Coded(code) => prop_assert!(dressed.contains(&code.encode(&text))),
                _ => prop_assert!(dressed.contains(&text), "{}", frame.name()),
            }
        }
    }
}

#[test]
fn names_are_unique_and_plain_comes_first() {
    let mut names: Vec<&str> = Frame::all().into_iter().map(Frame::name).collect();
    assert_eq!(&names[..2], ["plain", "suffix"]);
    let n = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!((n, names.len()), (16, 16));
    assert_eq!(Frame::Plain.dress(PROMPT, 1), PROMPT);
}

#[test]
fn the_control_adds_what_the_frames_add_in_the_median() {
    let own = PROMPT.chars().count();
    let added = |frame: &Frame| frame.dress(PROMPT, 4).chars().count() - own;
    let mut others: Vec<usize> = Frame::all()[2..].iter().map(added).collect();
    others.sort_unstable();
    assert_eq!(added(&Frame::Suffix), others[others.len() / 2]);
    // Seeded, and of each prompt its own.
    let tail = |prompt: &str, seed| Frame::Suffix.dress(prompt, seed)[prompt.len()..].to_owned();
    assert_eq!(tail(PROMPT, 4), tail(PROMPT, 4));
    assert_ne!(tail(PROMPT, 4), tail(PROMPT, 5));
    assert_ne!(
        tail(PROMPT, 4)[..20],
        tail("How do I bake oat bread, in 2 hours?", 4)[..20]
    );
}

#[test]
fn wordings_of_orders_and_of_questions() {
    let order = "Write a note to a neighbour.";
    let said = |wording: Wording| wording.reword(order);
    assert_eq!(
        Wording::ALL.map(said),
        [
            "Please write a note to a neighbour.",
            "I need this from you: Write a note to a neighbour.",
            "Can you write a note to a neighbour?",
            "write a note to a neighbour.",
            "Wirte a note to a nieghbour.",
        ]
    );
    let asked = |wording: Wording| wording.reword("Where is my other yellow sock?");
    assert_eq!(
        Wording::ALL.map(asked),
        [
            "Please tell me: Where is my other yellow sock?",
            "I need to know: Where is my other yellow sock?",
            "Can you tell me: Where is my other yellow sock?",
            "where is my other yellow sock?",
            "Wehre is my ohter yellow sock?",
        ]
    );
    assert_eq!(Wording::Please.reword("NASA facts"), "Please NASA facts");
}

#[test]
fn talk_stands_before_the_request() {
    let talked = after_talk(&TALK, 2, "and now?");
    let roles: Vec<&str> = talked.iter().map(|m| m.role.as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant", "user"]);
    assert_eq!(talked[2].content, TALK[1].0);
    assert_eq!(talked[4].content, "and now?");
    assert_eq!(after_talk(&TALK, 0, "x"), [Message::user("x")]);
    // Past the last pair the first comes again.
    assert_eq!(after_talk(&TALK[..1], 3, "x")[4].content, TALK[0].0);
    assert_eq!(after_talk(&[], 3, "x").len(), 1);
    assert_eq!(after_text("Rain.", "x"), "Rain.\n\nx");
}

#[test]
fn a_reading_task_says_the_code_and_shows_it() {
    let task = reading_task(Some(Code::Hex), "ab");
    assert!(task.contains("written in hexadecimal") && task.ends_with("\n\n61 62"));
    assert!(reading_task(None, "ab").ends_with("\n\nab"));
    assert!(!reading_task(Some(Code::FullWidth), "ab").contains("which is written"));
}
