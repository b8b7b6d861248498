//! The models screen driven without a model and without a terminal.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use crossterm::event::{KeyCode, KeyModifiers};

use super::*;
use crate::model::built_in::BUILT_IN;
use crate::model::listing::{Cached, named};
use crate::tui::shared::ModelFacts;
use crate::tui::theme::Theme;

fn ready() -> Shared {
    let checkpoint = Arc::new(Checkpoint::toy(0).unwrap());
    let mut shared = Shared::default();
    shared.set_model(ModelState::Ready(ModelFacts {
        name: checkpoint.name.clone(),
        config: checkpoint.config().clone(),
        fingerprint: None,
        chat: true,
        checkpoint,
    }));
    shared
}

fn with(
    screen: &mut ModelsScreen,
    shared: &mut Shared,
    change: impl FnOnce(&mut ModelsScreen, &mut Context),
) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut cx = Context {
        shared,
        commands: &mut commands,
        screen: "models",
    };
    change(screen, &mut cx);
    commands
}

fn listing() -> Listing {
    let mut known = named();
    known[0].cached = true;
    let cached = Cached {
        name: known[0].name.clone(),
        path: "somewhere".into(),
        source: "made up".into(),
        bytes: 1234,
        licence: None,
    };
    let other = Cached {
        name: "org/other".into(),
        ..cached.clone()
    };
    Listing {
        cache: "cache".into(),
        known,
        cached: vec![cached, other],
    }
}

fn listed(screen: &mut ModelsScreen, shared: &mut Shared) {
    let answer = Answer::Listed {
        models: Ok(listing()),
        local: None,
    };
    with(screen, shared, |screen, cx| {
        screen.reply(Reply::Done(Box::new(answer)), cx);
    });
}

fn text(screen: &ModelsScreen, shared: &Shared, width: u16, height: u16) -> String {
    let theme = Theme::no_colour();
    let area = Rect::new(0, 0, width, height);
    let mut buf = Buffer::empty(area);
    let view = View {
        shared,
        theme: &theme,
        busy: false,
    };
    screen.view(&view, area, &mut buf, &mut Hits::default());
    let row = |y| {
        (0..width)
            .map(|x| buf[(x, y)].symbol().to_owned())
            .collect::<String>()
            + "\n"
    };
    (0..height).map(row).collect()
}

#[test]
fn each_model_is_listed_once_with_where_it_stands() {
    let (mut screen, mut shared) = (ModelsScreen::default(), ready());
    assert!(
        screen
            .rows(&shared)
            .iter()
            .any(|row| row.standing == Standing::Unknown)
    );
    listed(&mut screen, &mut shared);
    let rows = screen.rows(&shared);
    let of = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
    assert_eq!(
        (
            of("smollm2-135m-instruct").standing,
            of("smollm2-135m-instruct").bytes
        ),
        (Standing::Here, Some(1234))
    );
    assert_eq!(of("qwen2.5-coder-0.5b-instruct").standing, Standing::Away);
    assert_eq!(of("toy").standing, Standing::Open);
    assert_eq!(of("pocket").standing, Standing::Here);
    assert_eq!(of("org/other").standing, Standing::Here);
    // Two with a name on the hub, the other one of the cache, the toy, and those of this binary.
    let all = 4 + BUILT_IN.len();
    assert_eq!(rows.len(), all);
    assert_eq!(screen.data(&shared).unwrap().rows.len(), all);
}

#[test]
fn enter_opens_what_is_here_and_fetches_what_is_not() {
    let (mut screen, mut shared) = (ModelsScreen::default(), ready());
    listed(&mut screen, &mut shared);
    let wishes = with(&mut screen, &mut shared, |screen, cx| {
        screen.act("open", cx);
    });
    assert!(matches!(&wishes[..], [Command::Open(name)] if name == "smollm2-135m-instruct"));
    screen.selected = 1;
    let wishes = with(&mut screen, &mut shared, |screen, cx| {
        screen.act("open", cx);
    });
    assert!(
        matches!(&wishes[..], [Command::Ask { what, .. }] if what.starts_with("fetching qwen"))
    );
    assert!(screen.enabled("name", &shared).is_err());
    let failed = Answer::Fetched {
        name: "qwen".into(),
        result: Err("no network".into()),
    };
    with(&mut screen, &mut shared, |screen, cx| {
        screen.reply(Reply::Done(Box::new(failed)), cx);
    });
    assert!(text(&screen, &shared, 80, 24).contains("no network"));
    let rows = screen.rows(&shared);
    screen.selected = rows.iter().position(|row| row.name == "toy").unwrap();
    assert_eq!(screen.enabled("open", &shared), Err("it is open".into()));
}

#[test]
fn a_name_is_typed_fetched_and_opened() {
    let (mut screen, mut shared) = (ModelsScreen::default(), ready());
    with(&mut screen, &mut shared, |screen, cx| {
        screen.act("name", cx);
        for c in "a/b".chars() {
            screen.text_key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE), cx);
        }
    });
    assert!(screen.takes_text() && text(&screen, &shared, 80, 24).contains("a/b"));
    let enter = KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE);
    let wishes = with(&mut screen, &mut shared, |screen, cx| {
        screen.text_key(enter, cx);
    });
    assert!(matches!(&wishes[..], [Command::Ask { what, .. }] if what == "fetching a/b"));
    let stop = with(&mut screen, &mut shared, |screen, cx| {
        assert!(screen.cancel(cx));
    });
    assert!(matches!(stop[0], Command::StopJob));
    let got = Answer::Fetched {
        name: "a/b".into(),
        result: Ok(7),
    };
    let wishes = with(&mut screen, &mut shared, |screen, cx| {
        screen.reply(Reply::Done(Box::new(got)), cx);
    });
    assert!(matches!(&wishes[..], [Command::Open(name)] if name == "a/b"));
}

#[test]
fn a_model_that_failed_says_why_and_what_to_try() {
    let (screen, mut shared) = (ModelsScreen::default(), Shared::default());
    shared.set_model(ModelState::Failed {
        name: "./broken".into(),
        why: "no config.json\u{1b}[2J".into(),
    });
    let shown = text(&screen, &shared, 100, 30);
    assert!(
        shown.contains("no config.json")
            && shown.contains("what to try")
            && shown.contains("failed")
    );
    assert!(!shown.contains('\u{1b}'));
}

#[test]
fn the_open_model_is_described_once_and_compared() {
    let (mut screen, mut shared) = (ModelsScreen::default(), ready());
    let asks = with(&mut screen, &mut shared, Screen::refresh);
    assert_eq!(asks.len(), 2);
    assert!(with(&mut screen, &mut shared, Screen::refresh).is_empty());
    let checkpoint = Arc::clone(&shared.model.facts().unwrap().checkpoint);
    let described = work::describe(&checkpoint);
    with(&mut screen, &mut shared, |screen, cx| {
        screen.reply(Reply::Done(Box::new(described)), cx);
    });
    let id = checkpoint.fingerprint().unwrap().id();
    assert!(text(&screen, &shared, 200, 40).contains(&id[..40]));
    for (spec, expected) in [("toy:3", "no field"), ("nothing-there", "nothing-there")] {
        let answer = work::compare(&checkpoint, spec);
        with(&mut screen, &mut shared, |screen, cx| {
            screen.reply(Reply::Done(Box::new(answer)), cx);
        });
        assert!(text(&screen, &shared, 120, 40).contains(expected), "{spec}");
    }
    with(&mut screen, &mut shared, |screen, cx| {
        assert!(screen.cancel(cx));
    });
    assert!(matches!(screen.side, Side::Facts));
}

#[test]
fn fields_that_differ_are_named_with_both_values() {
    let shared = ready();
    let here = &shared.model.facts().unwrap().config;
    let mut there = here.clone();
    there.n_ctx = 77;
    there.layers[1].window = Some(5);
    let found = crate::config::differences(here, &there);
    let seen: Vec<_> = found
        .iter()
        .map(|d| (d.field.as_str(), d.there.as_str()))
        .collect();
    assert_eq!(seen, [("layers.1.window", "5"), ("n_ctx", "77")]);
    assert!(crate::config::differences(here, here).is_empty());
}

#[test]
fn it_draws_at_any_size() {
    let (mut screen, mut shared) = (ModelsScreen::default(), ready());
    listed(&mut screen, &mut shared);
    for state in 0..3 {
        match state {
            1 => screen.typing = true,
            2 => shared.set_model(ModelState::Loading { name: "x".into() }),
            _ => {}
        }
        for width in 0..140 {
            for height in [0, 1, 2, 3, 5, 8, 20, 50] {
                text(&screen, &shared, width, height);
            }
        }
    }
}
