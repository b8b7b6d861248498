//! Fields as a person types into them, and random keys against what must hold.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use unicode_segmentation::UnicodeSegmentation;

use super::*;
use crate::tui::theme::Theme;

fn press(field: &mut Field, code: KeyCode, modifiers: KeyModifiers) -> Outcome {
    field.key(KeyEvent::new(code, modifiers))
}

fn plain(field: &mut Field, code: KeyCode) -> Outcome {
    press(field, code, KeyModifiers::NONE)
}

fn ctrl(field: &mut Field, c: char) -> Outcome {
    press(field, KeyCode::Char(c), KeyModifiers::CONTROL)
}

fn with(text: &str) -> Field {
    let mut field = Field::multi();
    field.set(text).unwrap();
    field
}

/// What is drawn, and where the cursor is.
fn drawn(field: &Field, width: u16, height: u16) -> (Vec<String>, Option<(u16, u16)>) {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    let area = buffer.area;
    field.draw(&mut buffer, area, Theme::dark(), true);
    let row = |y| {
        (0..width)
            .map(|x| buffer[(x, y)].symbol())
            .collect::<String>()
    };
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let mut marked = places.filter(|at| buffer[*at].modifier.contains(Modifier::REVERSED));
    (
        (0..height).map(|y| row(y).trim_end().to_owned()).collect(),
        marked.next(),
    )
}

#[test]
fn graphemes_are_one_step_and_one_deletion() {
    let mut field = with("e\u{301}👩‍🚀x");
    plain(&mut field, KeyCode::Left);
    plain(&mut field, KeyCode::Backspace);
    assert_eq!(field.text(), "e\u{301}x");
    plain(&mut field, KeyCode::Left);
    plain(&mut field, KeyCode::Delete);
    assert_eq!(field.text(), "x");
    // What joins into one grapheme while it is typed keeps the cursor at its end.
    let mut field = Field::single();
    for c in "e\u{301}".chars() {
        assert_eq!(plain(&mut field, KeyCode::Char(c)), Outcome::Changed);
    }
    assert_eq!(field.cursor(), 3);
}

#[test]
fn words_and_lines_as_in_a_shell() {
    let mut field = with("how to pick, a lock");
    ctrl(&mut field, 'w');
    assert_eq!(field.text(), "how to pick, a ");
    ctrl(&mut field, 'w');
    ctrl(&mut field, 'w');
    assert_eq!(field.text(), "how to ");
    ctrl(&mut field, 'a');
    press(&mut field, KeyCode::Right, KeyModifiers::CONTROL);
    assert_eq!(field.cursor(), 3);
    ctrl(&mut field, 'k');
    assert_eq!(field.text(), "how");
    ctrl(&mut field, 'u');
    assert!(field.is_empty());
    assert_eq!(ctrl(&mut field, 'x'), Outcome::Ignored);
    assert_eq!(plain(&mut field, KeyCode::F(1)), Outcome::Ignored);
}

#[test]
fn several_lines_keep_the_column_aimed_at() {
    let mut field = with("東京都庁\nab\nabcdefgh");
    plain(&mut field, KeyCode::Up);
    assert_eq!(field.cursor(), "東京都庁\nab".len());
    plain(&mut field, KeyCode::Up);
    assert_eq!(field.cursor(), "東京都庁".len());
    plain(&mut field, KeyCode::Down);
    plain(&mut field, KeyCode::Down);
    assert_eq!(field.cursor(), field.text().len());
    assert_eq!(
        press(&mut field, KeyCode::Enter, KeyModifiers::ALT),
        Outcome::Changed
    );
    assert!(field.text().ends_with('\n'));
    assert_eq!(plain(&mut field, KeyCode::Enter), Outcome::Submitted);
    assert_eq!(plain(&mut field, KeyCode::Esc), Outcome::Cancelled);
}

#[test]
fn history_gives_back_what_was_being_written() {
    let mut field = Field::single();
    for line in ["one", "two", "two"] {
        field.set(line).unwrap();
        assert_eq!(field.take(), line);
    }
    field.set("thr").unwrap();
    plain(&mut field, KeyCode::Up);
    assert_eq!(field.text(), "two");
    plain(&mut field, KeyCode::Up);
    plain(&mut field, KeyCode::Up);
    assert_eq!(field.text(), "one");
    plain(&mut field, KeyCode::Down);
    plain(&mut field, KeyCode::Down);
    assert_eq!(field.text(), "thr");
}

#[test]
fn a_paste_is_bounded_and_its_refusal_says_why() {
    let mut field = Field::multi();
    assert_eq!(field.paste("a\r\nb\rc"), Outcome::Changed);
    assert_eq!(field.text(), "a\nb\nc");
    let Outcome::Refused(refusal) = field.paste(&"x".repeat(LIMIT)) else {
        panic!("taken");
    };
    assert_eq!(refusal.bytes, LIMIT + 5);
    assert!(refusal.to_string().contains("1048581 bytes"));
    assert_eq!(field.text(), "a\nb\nc");
    field.clear();
    assert_eq!(field.paste(&"x".repeat(LIMIT)), Outcome::Changed);
    assert!(matches!(
        plain(&mut field, KeyCode::Char('y')),
        Outcome::Refused(_)
    ));
    let mut line = Field::single();
    line.paste("a\nb");
    assert_eq!(line.text(), "a b");
}

#[test]
fn a_long_line_moves_under_its_cursor() {
    let mut field = with("0123456789abcdefghij");
    assert_eq!(drawn(&field, 9, 1), (vec!["…defghij".into()], Some((8, 0))));
    plain(&mut field, KeyCode::Home);
    assert_eq!(
        drawn(&field, 9, 1),
        (vec!["012345678".into()], Some((0, 0)))
    );
    for _ in 0..10 {
        plain(&mut field, KeyCode::Right);
    }
    assert_eq!(
        drawn(&field, 9, 1),
        (vec!["…56789abc".into()], Some((6, 0)))
    );
    let hostile = with("a\u{1b}[2J\tb");
    assert_eq!(drawn(&hostile, 20, 1).0, ["a⟨U+001B⟩[2J⇥b"]);
}

#[test]
fn a_click_puts_the_cursor_where_it_is_drawn() {
    let mut field = with("one\n東京\nthree");
    let area = Rect::new(0, 0, 9, 3);
    for at in [(0, 0), (2, 0), (2, 1), (4, 2)] {
        assert!(field.click(area, at.0, at.1, Theme::dark()));
        assert_eq!(drawn(&field, 9, 3).1, Some(at));
    }
    assert!(!field.click(area, 9, 0, Theme::dark()));
}

fn any_key() -> impl Strategy<Value = KeyEvent> {
    let code = prop_oneof![
        any::<char>().prop_map(KeyCode::Char),
        prop::sample::select(vec![
            'a', 'e', 'b', 'f', 'w', 'u', 'k', 'h', 'd', 'j', ' ', '\u{301}', '👩', '\u{200d}',
            '🇫', '東', '\n', 'क', '\u{94d}',
        ])
        .prop_map(KeyCode::Char),
        prop::sample::select(vec![
            KeyCode::Left,
            KeyCode::Right,
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::Home,
            KeyCode::End,
            KeyCode::Backspace,
            KeyCode::Delete,
            KeyCode::Enter,
        ]),
    ];
    (code, 0u8..8)
        .prop_map(|(code, bits)| KeyEvent::new(code, KeyModifiers::from_bits_truncate(bits)))
}

proptest! {
    #[test]
    fn the_cursor_is_at_an_edge_and_shown(
        keys in prop::collection::vec(any_key(), 0..80), multi in any::<bool>(), size in (0u16..24, 0u16..5), ascii in any::<bool>(),
    ) {
        let mut field = if multi { Field::multi() } else { Field::single() };
        let theme = Theme { ascii, ..Theme::dark() };
        for (i, key) in keys.into_iter().enumerate() {
            if field.key(key) == Outcome::Submitted && i % 2 == 0 {
                field.take();
            }
            let edges = field.text().grapheme_indices(true).map(|(at, _)| at);
            prop_assert!(edges.chain([field.text().len()]).any(|at| at == field.cursor()));
            prop_assert!(multi || !field.text().contains('\n'));
        }
        let mut buffer = Buffer::empty(Rect::new(1, 1, size.0, size.1));
        field.draw(&mut buffer, Rect::new(1, 1, size.0, size.1), theme, true);
        // A grapheme wider than the room, such as a control's number, cannot be shown at all.
        if size.0 > 16 && size.1 > 0 {
            let marked = buffer.content.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED));
            prop_assert!(marked || !field.text().is_ascii(), "{:?} {}", field.text(), field.cursor());
        }
    }
}
