//! Answers whole, in pieces, late, hostile, or none.
#![allow(clippy::unwrap_used)]

use super::*;
use Background::{Dark, Light};

/// As xterm, kitty, foot and Konsole write it; the words around are what may come with it.
const XTERM: &[u8] = b"\x1b]11;rgb:1e1e/1e1e/2e2e\x1b\\\x1b[?64;1;2c";

fn took(pieces: &[&[u8]]) -> Answers {
    let mut answers = Answers::default();
    for piece in pieces {
        answers.take(piece);
    }
    answers
}

#[test]
fn answers_are_read_as_terminals_write_them() {
    for (answer, background) in [
        ("11;rgb:ffff/ffff/ffff", Some(Light)),
        ("11;rgb:0000/0000/0000", Some(Dark)),
        ("11;rgb:fd/f6/e3", Some(Light)),
        ("11;rgb:0/2/3", Some(Dark)),
        ("11;rgba:ffff/ffff/ffff/0000", Some(Light)),
        // Blue is dark, yellow is light, whatever their mean.
        ("11;rgb:0000/0000/ffff", Some(Dark)),
        ("11;rgb:ffff/ffff/0000", Some(Light)),
        ("11;rgb:ffff/ffff", None),
        ("11;rgb:fffff/ffff/ffff", None),
        ("11;rgb:+f/ff/ff", None),
        ("11;rgb://", None),
        ("11;?", None),
        ("10;rgb:ffff/ffff/ffff", None),
        ("", None),
    ] {
        assert_eq!(parse(answer), background, "{answer}");
    }
}

#[test]
fn wherever_it_is_cut_it_is_the_same_answer() {
    let whole = took(&[XTERM]);
    assert_eq!((whole.background, whole.fenced), (Some(Dark), true));
    for cut in 0..XTERM.len() {
        let (a, b) = XTERM.split_at(cut);
        assert_eq!(took(&[a, b]), whole, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = XTERM.chunks(1).collect();
    assert_eq!(took(&bytes), whole);
    assert!(whole.keys().is_empty());
}

#[test]
fn what_was_typed_meanwhile_stays() {
    let answers = took(&[b"j\x1b]11;rgb:ff/ff/ff\x07:q\r", "é\u{3}".as_bytes()]);
    assert_eq!(answers.background, Some(Light));
    let names: Vec<String> = answers
        .keys()
        .into_iter()
        .map(crate::tui::keys::name)
        .collect();
    assert_eq!(names, ["j", ":", "q", "enter", "é", "ctrl-c"]);
}

#[test]
fn hostile_answers_say_nothing_and_cost_nothing() {
    let long = [b"\x1b]11;rgb:".as_slice(), &vec![b'f'; 1 << 16], b"\x07"].concat();
    let many = vec![b'x'; 1 << 16];
    for bytes in [
        long.as_slice(),
        b"\x1b]11;rgb:ff/ff/ff",
        b"\x1b]52;c;aGk=\x07",
        b"\x1b]11;\xff\xfe\x07",
        b"\x1b[\x1b[\x1b]\x1b]\x1b\x1b\x1b",
        &many,
    ] {
        let answers = took(&[bytes]);
        assert_eq!(
            answers.background,
            None,
            "{:?}",
            &bytes[..bytes.len().min(20)]
        );
        assert!(answers.held.len() <= LONGEST + 1 && answers.typed.len() <= 4096);
    }
    // A broken one before a good one does not hide it.
    let after = took(&[b"\x1b]11;rgb:ff\x1b]11;rgb:ff/ff/ff\x07\x1b[?1c"]);
    assert_eq!((after.background, after.fenced), (Some(Light), true));
}

#[test]
fn listening_ends_with_the_fence_or_with_patience() {
    let mut pieces = vec![b"\x1b[?6c".to_vec(), b"\x1b]11;rgb:f/f/f\x07".to_vec()];
    let answers = listen(|_| pieces.pop(), PATIENCE);
    assert_eq!((answers.background, answers.fenced), (Some(Light), true));
    let from = Instant::now();
    let silent = listen(
        |left| {
            std::thread::sleep(left.min(Duration::from_millis(5)));
            Some(b"x".to_vec())
        },
        PATIENCE,
    );
    assert!(!silent.fenced && from.elapsed() < PATIENCE * 4);
    assert_eq!(listen(|_| None, PATIENCE), Answers::default());
}

/// Events as crossterm makes them of bytes that come late.
fn events(text: &str) -> Vec<Event> {
    let mut out = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(Event::Key(match c {
            '\u{1b}' => KeyEvent::new(KeyCode::Char(chars.next().unwrap()), KeyModifiers::ALT),
            '\u{7}' => KeyEvent::new(KeyCode::Char('g'), KeyModifiers::CONTROL),
            c => KeyCode::Char(c).into(),
        }));
    }
    out
}

/// Keys that get through, and the background.
fn sifted(sieve: &mut Sieve, events: Vec<Event>) -> (String, Option<Background>) {
    let (mut keys, mut background) = (String::new(), None);
    for event in events {
        let sifted = sieve.sift(event);
        for event in sifted.events {
            let Event::Key(key) = event else { continue };
            keys += &crate::tui::keys::name(key);
        }
        background = sifted.background.or(background);
    }
    (keys, background)
}

#[test]
fn a_late_answer_is_no_key() {
    for end in ["\u{7}", "\u{1b}\\"] {
        let mut sieve = Sieve::after(&Answers::default());
        let text = format!("j\u{1b}]11;rgb:FFFF/ffff/ffff{end}k");
        assert_eq!(
            sifted(&mut sieve, events(&text)),
            ("jk".into(), Some(Light))
        );
    }
}

#[test]
fn the_second_half_of_an_answer_is_no_key() {
    for cut in 1..XTERM.len() - 1 {
        let mut answers = took(&[&XTERM[..cut]]);
        let rest = std::str::from_utf8(&XTERM[cut..]).unwrap();
        let mut sieve = Sieve::after(&answers);
        // The fence as a whole never becomes an event of crossterm's.
        let rest = rest.strip_suffix("\u{1b}[?64;1;2c").unwrap_or(rest);
        let (keys, late) = sifted(&mut sieve, events(rest));
        answers.background = answers.background.or(late);
        assert_eq!(
            (keys.as_str(), answers.background),
            ("", Some(Dark)),
            "cut at {cut}"
        );
    }
}

#[test]
fn keys_that_only_begin_like_an_answer_are_given_back() {
    let mut sieve = Sieve::after(&Answers::default());
    let (keys, background) = sifted(&mut sieve, events("\u{1b}]11;hello"));
    assert_eq!((keys.as_str(), background), ("alt-]11;hello", None));
    sieve.until = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
    let (keys, _) = sifted(&mut sieve, events("\u{1b}]"));
    assert_eq!(keys, "alt-]", "nothing is looked for any more");
}

#[test]
fn only_terminals_that_answer_are_asked() {
    let asked = |pairs: &[(&str, &str)]| {
        let env = |name: &str| {
            let pair = pairs.iter().find(|(key, _)| *key == name);
            pair.map(|(_, value)| (*value).to_owned())
        };
        worth_asking(&env)
    };
    for (pairs, yes) in [
        (&[("TERM", "xterm-256color")][..], true),
        (&[("TERM", "screen-256color"), ("TMUX", "/tmp/x,1,0")], true),
        (&[("TERM", "tmux-256color")], true),
        (&[("TERM", "screen-256color")], false),
        (&[("TERM", "xterm"), ("STY", "1.tty")], false),
        (&[("TERM", "dumb")], false),
        (&[("TERM", "linux")], false),
        (&[("TERM", "vt220")], false),
        (&[], false),
        (&[("TERM", "xterm"), ("CANDLESCOPE_THEME", "light")], false),
    ] {
        assert_eq!(asked(pairs), yes, "{pairs:?}");
    }
}
