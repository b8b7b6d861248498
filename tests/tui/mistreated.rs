//! Random keys, sizes and replies: nothing panics, nothing is drawn outside, hostile text is never written raw.

use candlescope::text::Message;
use candlescope::tui::app::Msg;
use candlescope::tui::frame;
use candlescope::tui::keys;
use candlescope::tui::screen::Reply;
use candlescope::tui::shared::Prompt;
use candlescope::tui::theme::Theme;
use candlescope::tui::work::Lane;
use crossterm::event::{Event, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use std::time::Duration;

use super::{ids, stage};

/// What foreign tokens and prompts may hold.
const HOSTILE: &str =
    "a\u{1b}[31mred\u{7}\u{202e}rtl\u{200b}zero\u{fe0f}👩‍👩‍👧‍👦 \n\t\r\u{0}é\u{301}\u{301}\u{301}";

/// Steps of the random walk; 100,000 take some minutes: `CANDLESCOPE_TUI_STEPS=100000 cargo test --test tui mistreated`.
fn steps() -> usize {
    std::env::var("CANDLESCOPE_TUI_STEPS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1500)
}

#[test]
fn random_keys_sizes_and_replies() {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut stage = stage(Theme::dark(), (80, 24));
    stage.wait().unwrap();
    let screens = ids();
    let mut all_keys: Vec<&str> = candlescope::tui::keys::GLOBAL
        .iter()
        .chain(
            candlescope::tui::screens::table()
                .iter()
                .flat_map(|s| s.bindings()),
        )
        .flat_map(|b| b.keys.split(' '))
        // They would end the walk, stop the process, or write files.
        .filter(|key| !["q", "ctrl-z", "e"].contains(key))
        .collect();
    all_keys.extend([
        "a",
        "z",
        "backspace",
        "delete",
        "é",
        "tab",
        "backtab",
        "esc",
        "enter",
    ]);
    for step in 0..steps() {
        let app = &mut stage.runtime.app;
        match rng.random_range(0..20) {
            0 => app.go(screens.choose(&mut rng).unwrap()),
            1 => {
                let screen = screens.choose(&mut rng).copied().unwrap();
                let reply = match rng.random_range(0..3) {
                    0 => Reply::Failed(HOSTILE.into()),
                    1 => Reply::Cancelled,
                    _ => Reply::Done(Box::new(step)),
                };
                let (id, lane) = (step as u64, Lane::Interactive);
                stage.runtime.take(Msg::Reply {
                    id,
                    screen,
                    lane,
                    reply,
                });
            }
            2 => stage.runtime.take(Msg::Input(Event::Paste(
                HOSTILE.repeat(rng.random_range(0..30)),
            ))),
            3 => {
                let kind = *[
                    MouseEventKind::Down(MouseButton::Left),
                    MouseEventKind::ScrollDown,
                    MouseEventKind::ScrollUp,
                ]
                .choose(&mut rng)
                .unwrap();
                let (column, row) = (rng.random_range(0..120), rng.random_range(0..60));
                let mouse = MouseEvent {
                    kind,
                    column,
                    row,
                    modifiers: KeyModifiers::NONE,
                };
                stage.runtime.take(Msg::Input(Event::Mouse(mouse)));
            }
            4 => stage.runtime.take(Msg::Tick),
            5 if step % 7 == 0 => app.shared.set_prompt(Prompt {
                turns: vec![Message::user(HOSTILE)],
                raw: rng
                    .random_bool(0.3)
                    .then(|| HOSTILE.repeat(rng.random_range(0..4))),
            }),
            _ => {
                let key = keys::parse(all_keys.choose(&mut rng).unwrap()).unwrap();
                stage.key(key);
            }
        }
        stage.runtime.app.quit = false;
        stage.runtime.turn(Duration::ZERO);
        let area = Rect::new(0, 0, rng.random_range(0..=200), rng.random_range(0..=60));
        let mut buffer = Buffer::empty(area);
        let hits = frame::draw(&stage.runtime.app, area, &mut buffer);
        stage.runtime.app.set_hits(hits);
        for cell in buffer.content() {
            assert!(
                !cell
                    .symbol()
                    .chars()
                    .any(|c| c.is_control() || "\u{202e}\u{200b}\u{fe0f}".contains(c)),
                "step {step}: {:?}",
                cell.symbol()
            );
        }
    }
}

#[test]
fn every_screen_at_every_size() {
    let mut stage = stage(Theme::dark(), (80, 24));
    stage.wait().unwrap();
    for id in ids() {
        stage.runtime.app.go(id);
        stage.runtime.take(Msg::Tick);
        stage.wait().unwrap();
        super::read(&mut stage, id);
        for width in (0..=200).step_by(7).chain(0..12) {
            for height in (0..=60).step_by(5).chain(0..12) {
                let area = Rect::new(0, 0, width, height);
                frame::draw(&stage.runtime.app, area, &mut Buffer::empty(area));
            }
        }
    }
}
