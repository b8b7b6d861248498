//! The dialogue in plain lines: what is typed does what it does in the workbench, what comes out is text alone.

use std::io::Cursor;
use std::process::{Command, Stdio};

use candlescope::tui::app::App;
use candlescope::tui::plain::{Manner, Plain};
use candlescope::tui::theme::Theme;

use super::{ids, opener};

/// What a dialogue says, line by line.
fn said(input: &str) -> Vec<String> {
    let mut out = Vec::new();
    let manner = Manner {
        ascii: false,
        prompt: false,
    };
    let input = Cursor::new(input.to_owned().into_bytes());
    let app = App::new(Theme::no_colour());
    Plain::new(app, "toy", opener(), input, &mut out, manner)
        .unwrap()
        .run()
        .unwrap();
    let text = String::from_utf8(out).unwrap();
    for c in text.chars() {
        let drawn = ('\u{2500}'..='\u{259f}').contains(&c);
        assert!(c == '\n' || !c.is_control() && !drawn, "{c:?} in\n{text}");
    }
    text.lines().map(ToOwned::to_owned).collect()
}

/// The first line with all parts.
fn line<'a>(lines: &'a [String], parts: &[&str]) -> &'a str {
    let found = lines
        .iter()
        .find(|line| parts.iter().all(|part| line.contains(part)));
    found.unwrap_or_else(|| panic!("{parts:?} in\n{}", lines.join("\n")))
}

#[test]
fn every_screen_says_something_of_its_own() {
    for id in ids() {
        let lines = said(&format!("{id}\nkeys\nquit\n"));
        line(&lines, &[&format!("screen {id}")]);
        line(&lines, &["model toy: 4 layers"]);
        line(&lines, &["undo: Take the last change"]);
        assert_eq!(lines.last().unwrap(), "left");
        let own = lines.iter().position(|l| *l == format!("screen {id}"));
        assert!(lines.len() - own.unwrap() > 3, "{}", lines.join("\n"));
    }
}

#[test]
fn the_lens_is_read_at_the_cursor_and_its_rows_are_narrowed() {
    let lines = said("prompt one two\nlayer 1\nh\nmore\n/layer: 2\nrow 3\n/\nquit\n");
    line(&lines, &["prompt \"one two\""]);
    line(&lines, &["layer 1, after token"]);
    line(&lines, &["next token 1: \"", "percent"]);
    line(&lines, &["likeliest by layer: embedding"]);
    line(&lines, &["rows; more reads them"]);
    line(&lines, &["rows 1 to 20, of"]);
    let row = line(
        &lines,
        &["1. layer: ", "entropy: ", " nats", "target rank: "],
    );
    assert!(!row.contains("_nats"), "{row}");
    let narrowed = line(&lines, &[" of ", "rows, filter layer: 2"]);
    assert!(narrowed.starts_with("rows 1 to"), "{narrowed}");
    line(&lines, &["rows 3 to"]);
}

#[test]
fn keys_and_actions_by_name_do_the_same_and_say_why_not() {
    let by_key = said("hooks\nj j\nquit\n");
    let by_name = said("hooks\ndown\npress down\nquit\n");
    line(&by_key, &["point 3 of"]);
    assert_eq!(
        line(&by_key, &["point 3 of"]),
        line(&by_name, &["point 3 of"])
    );
    let lines = said("lens\nc\nflip\nlayer 99\nquit\n");
    line(&lines, &["note: there is nothing to compare"]);
    line(&lines, &["`flip` is no command, key or action here"]);
    line(&lines, &["note: layer `99`: expected 0 to 3"]);
}

#[test]
fn a_knocked_out_head_is_told_once_with_what_it_changes() {
    let lines = said("attention\nx\nx\ncommand\nquit\n");
    line(&lines, &["layer 3, head 0 of"]);
    line(&lines, &["query ", "looks at keys, by weight: "]);
    line(&lines, &["intervention 1: cut head 3.0, on"]);
    line(
        &lines,
        &["interventions change the next token: KL without to with"],
    );
    line(&lines, &["candlescope attn toy --layer 3"]);
    let models = lines.iter().filter(|line| line.starts_with("model toy"));
    assert_eq!(models.count(), 1, "what did not change is not said again");
    let none = lines.iter().filter(|line| *line == "no interventions");
    assert_eq!(none.count(), 2, "before, and after it was taken back");
}

#[test]
fn text_is_typed_as_a_line() {
    let lines = said("p\nthree little words\np\nesc\nstatus\ngenerate\nmax 3\nquit\n");
    line(&lines, &["text is expected"]);
    line(&lines, &["prompt \"three little words\""]);
    line(
        &lines,
        &["unedited answer, 3 tokens, cut at the length asked for: "],
    );
}

#[test]
fn a_model_that_cannot_be_opened_is_told() {
    let lines = said("open nowhere\nopen toy\nquit\n");
    line(
        &lines,
        &["model nowhere could not be opened: nowhere: no such model"],
    );
    line(&lines, &["model toy: 4 layers"]);
}

#[test]
fn hostile_text_stays_text() {
    let lines = said("prompt a\u{1b}[2Jb\u{202e}c\u{7}\u{9b}31m\nmore\ncommand\nquit\n");
    line(&lines, &["prompt \"a"]);
}

#[test]
fn without_a_last_word_the_end_of_the_input_leaves_after_what_was_asked_for() {
    let lines = said("generate\nmax 5");
    line(&lines, &["unedited answer, 5 tokens"]);
}

#[test]
fn the_binary_speaks_through_pipes() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_candlescope"))
        .args(["tui", "toy", "--plain"])
        .env("TERM", "xterm-256color")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"help\nscreens\n").unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
    // In a C locale not a byte is beyond ASCII.
    let fine = |byte: &u8| *byte == b'\n' || (b' '..=b'~').contains(byte);
    assert!(out.stdout.iter().all(fine));
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(
        text.contains("1: lens, shown now: What the model"),
        "{text}"
    );
}
