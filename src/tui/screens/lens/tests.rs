//! The lens screen without a terminal: what it asks for and when, what it keeps, what its keys do, and that it draws.

#![allow(clippy::unwrap_used)]

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::desk::{Desk, clashes};
use super::keys::KEYS;
use super::modes::{Ends, Mode};
use super::reading::{Column, Held, Place, Reading, WINDOW, Wish, window};
use super::{LensScreen, editor, twin};
use crate::hooks::{Edit, EditOp, HookPoint, Point};
use crate::lens::{Cell, LensOptions, Ranked, StreamOptions, logit_lens, stream_lens};
use crate::text::Message;
use crate::tui::cells;
use crate::tui::screen::{Payload, Reply, Screen};
use crate::tui::shared::{Intervention, ModelState, Prompt, Token};

pub const TEXT: &str = "the cat sat on the mat and the cat";

fn wish(version: u64) -> Wish {
    Wish {
        version,
        target: None,
        along: None,
        compare: false,
    }
}

fn column(version: u64) -> Column {
    let cell = Cell {
        top: vec![Ranked {
            id: 1,
            probability: 0.5,
        }],
        entropy: 1.0,
        kl: 0.5,
        target_rank: 3,
        target_log_prob: -2.0,
        norm: 10.0,
    };
    Column {
        wish: wish(version),
        target: 1,
        places: vec![Place { cell, along: None }; 5],
        base: None,
    }
}

fn tokens(texts: &[&str]) -> Vec<Token> {
    let token = |(id, text): (usize, &&str)| Token {
        id: id as u32,
        text: (*text).to_owned(),
    };
    texts.iter().enumerate().map(token).collect()
}

pub fn ablation() -> Intervention {
    let mut direction = vec![0.0f32; 64];
    direction[3] = 2.0;
    let op = EditOp::Add {
        vector: direction.into(),
        alpha: 4.0,
    };
    Intervention {
        label: "+ test@1".into(),
        options: vec!["--add".into(), "a b.safetensors@1*4".into()],
        edits: vec![Edit::new(HookPoint::new(Point::ResidPre, 1), op)],
        on: true,
    }
}

#[test]
fn no_key_is_taken_twice() {
    assert_eq!(clashes(KEYS), Vec::<String>::new());
}

#[test]
fn it_asks_once_and_shows_what_the_library_says() {
    let (mut desk, mut screen) = (Desk::reading(TEXT), LensScreen::default());
    desk.refresh(&mut screen);
    desk.refresh(&mut screen);
    assert_eq!(desk.asks(), 1);
    desk.work(&mut screen);
    desk.refresh(&mut screen);
    assert_eq!(desk.asks(), 0, "nothing is missing");
    let facts = desk.shared.model.facts().unwrap();
    let ids: Vec<u32> = desk.shared.tokens.iter().map(|token| token.id).collect();
    let options = LensOptions {
        top_k: 20,
        ..LensOptions::default()
    };
    let whole = logit_lens(&facts.checkpoint.decoder, &ids, &options, &[]).unwrap();
    // In parts of 8 and the rest, by distance from the cursor: put together it is one lens.
    assert_eq!(screen.held.lens(&screen.wish(&desk.shared)).unwrap(), whole);
    let shown = desk.draw(&screen, 120, 40);
    assert!(shown.contains("colour: its probability"), "{shown}");
    assert!(
        shown.contains(" 0.0% ") && shown.contains(" 100.0% "),
        "{shown}"
    );
    assert!(screen.data(&desk.shared).unwrap().rows.len() == 5 * ids.len());
}

#[test]
fn an_intervention_makes_values_old_and_compares_with_the_unedited_model() {
    let (mut desk, mut screen) = (Desk::reading(TEXT), LensScreen::default());
    desk.refresh(&mut screen);
    desk.work(&mut screen);
    assert!(
        screen
            .enabled("compare", &desk.shared)
            .unwrap_err()
            .contains("no intervention is on")
    );
    let before = screen.held.place(4, 2).unwrap().clone();
    desk.shared.intervene(|chips| chips.push(ablation()));
    assert!(desk.draw(&screen, 120, 40).contains("old values"));
    desk.press(&mut screen, "c");
    desk.work(&mut screen);
    assert!(!desk.draw(&screen, 120, 40).contains("old values"));
    assert_eq!(screen.held.base(4, 2).unwrap(), &before);
    assert_ne!(screen.held.place(4, 2).unwrap(), &before);
    // Below the edit nothing changed.
    let norm = |place: &Place| place.cell.norm;
    assert_eq!(
        screen.held.place(1, 2).map(norm),
        screen.held.base(1, 2).map(norm)
    );
    assert!(desk.draw(&screen, 120, 40).contains("with minus without"));
}

#[test]
fn a_projection_needs_a_direction_and_is_the_dot_product() {
    let (mut desk, mut screen) = (Desk::reading(TEXT), LensScreen::default());
    let refused = desk.with(&mut screen, |screen, cx| {
        screen.command(&["mode", "projection"], cx)
    });
    assert!(refused.unwrap().unwrap_err().contains("direction"));
    desk.shared.intervene(|chips| chips.push(ablation()));
    desk.with(&mut screen, |screen, cx| {
        screen.command(&["mode", "projection"], cx)
    })
    .unwrap()
    .unwrap();
    desk.refresh(&mut screen);
    desk.work(&mut screen);
    let facts = desk.shared.model.facts().unwrap();
    let ids: Vec<u32> = desk.shared.tokens.iter().map(|token| token.id).collect();
    let (_, direction) = super::reading::direction(&desk.shared).unwrap();
    let options = StreamOptions {
        direction: Some(direction.to_vec()),
        ..StreamOptions::default()
    };
    let edits = desk.shared.edits();
    let read = stream_lens(&facts.checkpoint.decoder, &ids, &options, &edits).unwrap();
    let dots = read.projections.unwrap().dots;
    for (row, dots) in dots.iter().enumerate() {
        for (at, dot) in dots.iter().enumerate() {
            assert_eq!(screen.held.place(row, at).unwrap().along, Some(*dot));
        }
    }
    desk.press(&mut screen, "v");
    assert_eq!(screen.mode, Mode::Top);
    assert_eq!(
        desk.asks(),
        0,
        "what was read with projections serves without"
    );
}

#[test]
fn replaced_requests_do_not_end_the_newest() {
    let (mut desk, mut screen) = (Desk::reading(TEXT), LensScreen::default());
    desk.refresh(&mut screen);
    desk.shared.intervene(|chips| chips.push(ablation()));
    desk.refresh(&mut screen);
    assert_eq!(desk.asks(), 2);
    desk.reply(&mut screen, Reply::Cancelled);
    desk.refresh(&mut screen);
    assert_eq!(desk.asks(), 2, "the newest is still under way");
    desk.reply(
        &mut screen,
        Reply::Failed("no room; close something".into()),
    );
    desk.refresh(&mut screen);
    assert_eq!(
        desk.asks(),
        2,
        "what failed is not asked for again by itself"
    );
    assert!(
        desk.draw(&screen, 80, 24)
            .contains("no room; close something")
    );
    desk.press(&mut screen, "r");
    assert_eq!(desk.asks(), 3);
}

#[test]
fn what_esc_stops_stays_stopped_until_something_else_is_wanted() {
    let (mut desk, mut screen) = (Desk::reading(TEXT), LensScreen::default());
    desk.refresh(&mut screen);
    assert!(
        !desk.with(&mut screen, |screen, cx| screen.cancel(cx)),
        "the frame stops it"
    );
    desk.reply(&mut screen, Reply::Cancelled);
    desk.refresh(&mut screen);
    assert_eq!(desk.asks(), 1);
    assert!(desk.draw(&screen, 80, 24).contains("Stopped"));
    desk.shared.set_prompt(Prompt::user("another"));
    desk.refresh(&mut screen);
    assert_eq!(desk.asks(), 2);
}

#[test]
fn columns_after_a_changed_token_are_dropped() {
    let reading = |texts: &[&str], at: &[usize]| Reading {
        model: 0,
        tokens: tokens(texts),
        columns: at.iter().map(|at| (*at, column(1))).collect(),
        words: [(1, "x".to_owned())].into(),
    };
    let mut held = Held::default();
    held.take(reading(&["a", "b", "c", "d"], &[0, 1, 2, 3]));
    held.take(reading(&["a", "b", "X", "d"], &[3]));
    let left: Vec<usize> = held.columns.keys().copied().collect();
    assert_eq!(left, [0, 1, 3]);
    assert_eq!(held.missing(&wish(1), 0..4, 3), [2]);
    assert_eq!(
        held.missing(&wish(2), 0..4, 2),
        [2, 1, 3, 0],
        "the nearest first"
    );
}

#[test]
fn the_window_holds_the_cursor() {
    assert_eq!(window(WINDOW, 3), 0..WINDOW);
    for len in [WINDOW + 1, 200, 5000] {
        for cursor in [0, 1, len / 2, len - 2, len - 1] {
            let window = window(len, cursor);
            assert!(window.contains(&cursor) && window.len() == WINDOW && window.end <= len);
        }
    }
}

#[test]
fn a_far_step_in_a_long_text_asks_for_what_is_missing_only() {
    let text = "the cat sat on the mat ".repeat(40);
    let (mut desk, mut screen) = (Desk::reading(&text), LensScreen::default());
    desk.refresh(&mut screen);
    desk.work(&mut screen);
    assert_eq!(screen.held.columns.len(), WINDOW);
    desk.press(&mut screen, "h");
    assert_eq!(desk.asks(), 0, "the next column is there");
    desk.press(&mut screen, "0");
    assert_eq!(desk.asks(), 1);
    desk.work(&mut screen);
    // The cursor's own column is there, one near it is not: that is asked for once, not with every message.
    desk.shared.position = WINDOW - 10;
    desk.refresh(&mut screen);
    desk.refresh(&mut screen);
    assert_eq!(desk.asks(), 1);
    desk.commands.clear();
    desk.reply(&mut screen, Reply::Cancelled);
    desk.shared.position = 0;
    desk.refresh(&mut screen);
    assert_eq!(screen.held.columns.len(), 2 * WINDOW);
    assert!(
        desk.draw(&screen, 160, 30)
            .contains(&format!("tokens 0 to {}", WINDOW - 1))
    );
}

#[test]
fn the_cursor_goes_down_to_the_embedding_and_up_to_the_last_layer() {
    let (mut desk, mut screen) = (Desk::reading(TEXT), LensScreen::default());
    assert_eq!(screen.row(&desk.shared), 4);
    for _ in 0..9 {
        desk.press(&mut screen, "j");
    }
    assert_eq!((screen.row(&desk.shared), desk.shared.layer), (0, 0));
    desk.press(&mut screen, "k");
    assert_eq!((screen.row(&desk.shared), desk.shared.layer), (1, 0));
    desk.press(&mut screen, "G");
    assert_eq!(desk.shared.layer, 3);
    desk.press(&mut screen, "l");
    assert_eq!(desk.shared.position, desk.shared.tokens.len() - 1);
    desk.press(&mut screen, "0");
    assert_eq!(desk.shared.position, 0);
}

#[test]
fn a_target_comes_from_the_list_and_goes_again() {
    let (mut desk, mut screen) = (Desk::reading(TEXT), LensScreen::default());
    desk.refresh(&mut screen);
    desk.work(&mut screen);
    desk.press(&mut screen, "tab");
    desk.press(&mut screen, "j");
    desk.press(&mut screen, "enter");
    let cell = &screen.held.place(4, desk.shared.position).unwrap().cell;
    let second = cell.top[1].id;
    assert_eq!(screen.target, Some(second));
    desk.work(&mut screen);
    let cell = &screen.held.place(4, desk.shared.position).unwrap().cell;
    assert_eq!(cell.target_rank, 2);
    desk.press(&mut screen, "backspace");
    assert_eq!(screen.target, None);
}

#[test]
fn a_target_typed_is_one_token() {
    let (mut desk, mut screen) = (Desk::reading(TEXT), LensScreen::default());
    let mut say = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        let answer = desk
            .with(&mut screen, |screen, cx| screen.command(&words, cx))
            .unwrap();
        answer.map(|()| screen.target)
    };
    let spaced = say("target Paris").unwrap().unwrap();
    assert_eq!(say("target \" Paris\"").unwrap(), Some(spaced));
    assert_ne!(say("target \"Paris\"").unwrap(), Some(spaced));
    assert!(
        say("target Parisian zebra")
            .unwrap_err()
            .contains("one token")
    );
    assert_eq!(say("target").unwrap(), None);
}

fn typed(editor: &mut editor::Editor, text: &str) {
    for c in text.chars() {
        editor.key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE));
    }
}

fn entered(editor: &mut editor::Editor) -> Prompt {
    match editor.key(KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE)) {
        editor::Edited::Taken(prompt) => prompt,
        _ => panic!("enter takes the prompt"),
    }
}

#[test]
fn the_editor_edits_the_last_user_turn_and_adds_turns() {
    let mut prompt = Prompt::user("hello");
    let mut edit = editor::Editor::of(&prompt).unwrap();
    edit.key(KeyEvent::new(KeyCode::End, KeyModifiers::NONE));
    typed(&mut edit, " you");
    prompt = entered(&mut edit);
    assert_eq!(prompt, Prompt::user("hello you"));
    let mut edit = editor::Editor::adding(&prompt).unwrap();
    assert_eq!(entered(&mut edit), prompt, "an empty turn is dropped");
    let mut edit = editor::Editor::adding(&prompt).unwrap();
    typed(&mut edit, "Hi");
    prompt = entered(&mut edit);
    assert_eq!(prompt.turns[1], Message::new("assistant", "Hi"));
    let mut edit = editor::Editor::of(&prompt).unwrap();
    assert_eq!(edit.turn(), Some(0), "the user's, not the last");
    edit.key(KeyEvent::new(KeyCode::Tab, KeyModifiers::NONE));
    edit.key(KeyEvent::new(KeyCode::Right, KeyModifiers::NONE));
    typed(&mut edit, "!");
    assert_eq!(entered(&mut edit).turns[1].content, "Hi!");
}

#[test]
fn what_is_typed_or_pasted_first_replaces_the_text_and_a_move_keeps_it() {
    let prompt = Prompt::user("hello");
    let fresh = || editor::Editor::of(&prompt).unwrap();
    let press = |edit: &mut editor::Editor, code| {
        edit.key(KeyEvent::new(code, KeyModifiers::NONE));
    };
    let mut edit = fresh();
    assert!(edit.fresh());
    typed(&mut edit, "new words");
    assert_eq!(entered(&mut edit), Prompt::user("new words"));
    let mut edit = fresh();
    edit.paste("new words");
    assert_eq!(entered(&mut edit), Prompt::user("new words"));
    let mut edit = fresh();
    assert_eq!(entered(&mut edit), prompt, "enter alone changes nothing");
    let mut edit = fresh();
    press(&mut edit, KeyCode::Left);
    press(&mut edit, KeyCode::Backspace);
    assert_eq!(entered(&mut edit), Prompt::user("helo"));
    let mut edit = fresh();
    press(&mut edit, KeyCode::Backspace);
    typed(&mut edit, "x");
    assert_eq!(entered(&mut edit), Prompt::user("x"));
    // What is refused leaves the old text as it was.
    let mut edit = fresh();
    let book = "x".repeat((1 << 20) + 1);
    assert!(matches!(edit.paste(&book), editor::Edited::Refused(_)));
    assert_eq!(entered(&mut edit), prompt);
}

#[test]
fn the_layer_at_which_the_answer_appears_is_a_key_away() {
    let (mut desk, mut screen) = (Desk::reading(TEXT), LensScreen::default());
    desk.refresh(&mut screen);
    // Pressed before anything is there: it goes when it is.
    desk.press(&mut screen, "f");
    assert!(desk.said().contains("as soon as"), "{}", desk.said());
    desk.work(&mut screen);
    let column = &screen.held.columns[&desk.shared.position];
    let first = column.settles().unwrap();
    assert_eq!(screen.row(&desk.shared), first);
    desk.press(&mut screen, "G");
    let column = &screen.held.columns[&desk.shared.position];
    let top = |row: usize| column.places[row].cell.target_rank == 1;
    assert!((first..column.places.len()).all(top) && (first == 0 || !top(first - 1)));
    let target = column.target;
    desk.press(&mut screen, "f");
    assert_eq!(screen.row(&desk.shared), first);
    let word = cells::visible(screen.held.word(target), false);
    assert!(desk.said().contains(&word), "{}", desk.said());
    // A token that the model does not say: where it comes nearest.
    let column = &screen.held.columns[&desk.shared.position];
    let last = column.places.last().unwrap();
    screen.target = Some(last.cell.top[1].id);
    desk.refresh(&mut screen);
    desk.work(&mut screen);
    let column = &screen.held.columns[&desk.shared.position];
    assert_eq!(column.settles(), None);
    let (row, rank) = column.nearest();
    assert!(
        column
            .places
            .iter()
            .all(|place| place.cell.target_rank >= rank)
    );
    desk.press(&mut screen, "f");
    assert_eq!(screen.row(&desk.shared), row);
    assert!(
        desk.said().contains(&format!("rank {rank}")),
        "{}",
        desk.said()
    );
}

#[test]
fn the_prompt_is_written_while_no_model_is_open() {
    let (mut desk, mut screen) = (Desk::empty(), LensScreen::default());
    assert!(screen.enabled("mode", &desk.shared).is_err());
    desk.press(&mut screen, "p");
    assert!(screen.takes_text());
    let shown = desk.draw(&screen, 80, 24);
    assert!(shown.contains("typing replaces it"), "{shown}");
    desk.with(&mut screen, |screen, cx| {
        for code in [KeyCode::Char('x'), KeyCode::Enter] {
            screen.text_key(KeyEvent::new(code, KeyModifiers::NONE), cx);
        }
    });
    assert_eq!(desk.shared.prompt, Prompt::user("x"));
}

#[test]
fn raw_and_back_keeps_the_words() {
    let chat = Prompt::user("hello");
    let raw = editor::toggled(&chat);
    assert_eq!(raw.raw.as_deref(), Some("hello"));
    let raw = editor::with_text(&raw, "bye");
    assert_eq!(editor::toggled(&raw), Prompt::user("bye"));
}

#[test]
fn scales_end_where_they_say() {
    let shades = [0.0, 2.0, 4.0, f32::NAN, 100.0];
    assert_eq!(Ends::Whole.of(Mode::Top, 100, &shades), (0.0, 1.0));
    assert_eq!(Ends::Whole.of(Mode::Kl, 100, &shades), (0.0, 100.0));
    assert_eq!(
        Ends::Shown.of(Mode::Entropy, 100, &shades[1..3]),
        (2.0, 4.0)
    );
    assert_eq!(Ends::Whole.of(Mode::Rank, 1000, &shades), (-3.0, 0.0));
    assert_eq!(Mode::Rank.shade(100.0), -2.0);
    for mode in Mode::ALL {
        assert_eq!(Mode::named(mode.name()).unwrap(), mode);
    }
}

#[test]
fn the_command_line_reads_the_same_tokens() {
    let (mut desk, mut screen) = (Desk::reading("-5 and it's"), LensScreen::default());
    let line = screen.command_line(&desk.shared).unwrap();
    let last = desk.shared.tokens.len() - 1;
    assert_eq!(
        line,
        format!("candlescope lens toy --top-k 20 --detail {last} -- '-5 and it'\\''s'")
    );
    desk.shared.set_prompt(Prompt::user("Hello"));
    desk.shared.intervene(|chips| chips.push(ablation()));
    let line = screen.command_line(&desk.shared).unwrap();
    assert!(
        line.contains("--add 'a b.safetensors@1*4' --chat Hello"),
        "{line}"
    );
    screen.mode = Mode::Projection;
    let line = screen.command_line(&desk.shared).unwrap();
    assert!(
        line.contains("--show projection --direction 'a b.safetensors' --add"),
        "{line}"
    );
    let mut turns = Prompt::user("Hello");
    turns.turns.push(Message::new("assistant", "Yes"));
    desk.shared.set_prompt(turns);
    // The toy's template begins with a token that its tokenizer adds by itself, so no raw text gives these tokens.
    let facts = desk.shared.model.facts().unwrap();
    if let Some(words) = twin::prompt(&desk.shared, facts) {
        let ids = facts
            .checkpoint
            .tokenizer
            .encode(&words.text, true)
            .unwrap();
        assert_eq!(
            ids,
            desk.shared.tokens.iter().map(|t| t.id).collect::<Vec<_>>()
        );
    }
}

#[test]
fn edits_without_an_option_are_written_out() {
    let mut desk = Desk::reading(TEXT);
    let chip = Intervention {
        options: Vec::new(),
        ..ablation()
    };
    desk.shared.intervene(|chips| chips.push(chip));
    let options = twin::edits(&desk.shared).unwrap();
    let json = options
        .strip_prefix(" --edit <(echo '")
        .unwrap()
        .strip_suffix("')")
        .unwrap();
    let back: Vec<Edit> = serde_json::from_str(json).unwrap();
    assert_eq!(format!("{back:?}"), format!("{:?}", desk.shared.edits()));
}

#[test]
fn every_state_draws_at_every_size_and_no_token_is_written_raw() {
    let mut desks = vec![Desk::empty()];
    let mut loading = Desk::empty();
    loading.shared.model = ModelState::Loading {
        name: "m\u{1b}[2J".into(),
    };
    desks.push(loading);
    let mut full = Desk::reading("a\u{1b}[31m\u{202e}b\ttab\u{200b} 東京 e\u{301}");
    let mut screen = LensScreen::default();
    full.refresh(&mut screen);
    full.work(&mut screen);
    desks.push(full);
    for desk in &mut desks {
        for key in ["", "c", "v", "d", "tab", "p"] {
            if !key.is_empty() && !screen.takes_text() {
                desk.press(&mut screen, key);
            }
            for (width, height) in [
                (0, 0),
                (1, 1),
                (2, 9),
                (7, 3),
                (30, 6),
                (66, 10),
                (80, 24),
                (120, 40),
            ] {
                let shown = desk.draw(&screen, width, height);
                assert!(!shown.contains(['\u{1b}', '\u{202e}', '\t', '\u{200b}']));
            }
        }
        desk.with(&mut screen, |screen, cx| screen.cancel(cx));
    }
}

#[test]
fn replies_of_another_kind_are_not_taken() {
    let (mut desk, mut screen) = (Desk::reading(TEXT), LensScreen::default());
    desk.refresh(&mut screen);
    desk.reply(&mut screen, Reply::Part(Box::new(7u8) as Payload));
    desk.reply(&mut screen, Reply::Done(Box::new("x") as Payload));
    assert!(screen.held.columns.is_empty());
    let _ = desk.said();
}
