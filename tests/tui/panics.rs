//! A panic of a screen while it draws, answers a key or computes: a card, the other screens go on, the terminal is given
//! back. The screen that panics stands in a table of this test's own, so that no user can reach it.

#![allow(clippy::print_stderr)] // says when it did not run

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candlescope::tui::app::App;
use candlescope::tui::keys::{Binding, bind};
use candlescope::tui::panics;
use candlescope::tui::screen::{Context, Data, Hits, Reply, Screen, View};
use candlescope::tui::script::Stage;
use candlescope::tui::shared::Shared;
use candlescope::tui::theme::Theme;
use candlescope::tui::{export, pen, runtime, screens};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::terminal::Tmux;
use super::{opener, press};

const KEYS: &[Binding] = &[
    bind("a", "add", "add", "Count one more"),
    bind("v", "view", "", "Panic in the next drawing"),
    bind("u", "update", "", "Panic at once"),
    bind("w", "work", "", "Panic on the worker"),
    bind(
        "s",
        "slow",
        "",
        "Compute until stopped, then panic in the drawing",
    ),
    bind("x", "outside", "", "Panic where nobody catches it"),
];

/// What cannot be caught: the frame asks a screen for its name outside.
static OUTSIDE: AtomicBool = AtomicBool::new(false);

/// Counts, and panics on request.
#[derive(Default)]
struct Faulty {
    count: usize,
    view: bool,
    said: Option<String>,
}

impl Screen for Faulty {
    fn id(&self) -> &'static str {
        assert!(!OUTSIDE.load(Ordering::SeqCst), "outside, on purpose");
        "faulty"
    }

    fn about(&self) -> &'static str {
        "Panics on request"
    }

    fn bindings(&self) -> &'static [Binding] {
        KEYS
    }

    fn act(&mut self, action: &'static str, cx: &mut Context) {
        self.count += 1;
        match action {
            "view" => self.view = true,
            "update" => panic!("update, on purpose \u{1b}[31m"),
            "work" => cx.ask("panicking", |_, _| -> Result<(), String> {
                panic!("work, on purpose")
            }),
            "slow" => {
                self.view = true;
                cx.job("slow", |_, ticket| {
                    while !ticket.cancelled() {
                        std::thread::yield_now();
                    }
                    Ok("from before".to_owned())
                });
            }
            "outside" => OUTSIDE.store(true, Ordering::SeqCst),
            _ => {}
        }
    }

    fn refresh(&mut self, _cx: &mut Context) {}

    fn reply(&mut self, reply: Reply, _cx: &mut Context) {
        self.said = match reply {
            Reply::Failed(why) => Some(why),
            Reply::Done(value) => value.downcast::<String>().ok().map(|text| *text),
            Reply::Part(_) | Reply::Cancelled => None,
        };
    }

    fn view(&self, _view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        let said = self.said.as_deref().unwrap_or("nothing");
        let text = format!("count {}, said {said}", self.count);
        pen::line(area, 0, &text, ratatui::style::Style::new(), buf);
        hits.add(area, candlescope::tui::screen::Target::Screen("hooks"));
        assert!(!self.view, "view, on purpose");
    }

    fn command_line(&self, _shared: &Shared) -> Option<String> {
        None
    }

    fn data(&self, _shared: &Shared) -> Option<Data> {
        assert!(self.count < 3, "data, on purpose");
        None
    }
}

fn table() -> Vec<Box<dyn Screen>> {
    let mut table: Vec<Box<dyn Screen>> = vec![Box::new(Faulty::default())];
    table.extend(screens::table());
    table
}

fn faulty() -> Stage {
    panics::watch();
    let app = App::with_screens(Theme::dark(), table);
    let mut stage = Stage::new(app, "toy", opener(), (100, 30)).unwrap();
    stage.wait().unwrap();
    stage
}

fn text(stage: &mut Stage) -> String {
    stage.runtime.app.dirty = true;
    // Through the terminal, as the loop draws: it is told of what went wrong.
    press(stage, "f12 f12");
    stage.runtime.draw().unwrap();
    export::text(&stage.frame())
}

#[test]
fn a_panic_in_the_drawing_is_a_card_and_the_rest_goes_on() {
    let mut stage = faulty();
    press(&mut stage, "a a");
    assert!(text(&mut stage).contains("count 2"));
    press(&mut stage, "v");
    let card = text(&mut stage);
    for part in [
        "`faulty` panicked",
        "While drawing: view, on purpose (at tests/tui/panics.rs:",
        "state of `faulty` was reset",
        "esc shows the screen again",
        "toy",
    ] {
        assert!(card.contains(part), "{part} in\n{card}");
    }
    assert!(
        !card.contains("count"),
        "half of the screen is left:\n{card}"
    );
    // Its keys are no more, and say so; others go on.
    press(&mut stage, "a");
    stage.runtime.draw().unwrap();
    assert!(export::text(&stage.frame()).contains("esc shows it again"));
    press(&mut stage, "6");
    assert!(text(&mut stage).contains("points, layer"));
    press(&mut stage, "1");
    assert!(text(&mut stage).contains("panicked"));
    press(&mut stage, "esc");
    assert!(text(&mut stage).contains("count 0, said nothing"));
}

#[test]
fn a_panic_in_an_answer_to_a_key_is_a_card_too() {
    let mut stage = faulty();
    press(&mut stage, "a u");
    let card = text(&mut stage);
    assert!(
        card.contains("While answering a key: update, on purpose"),
        "{card}"
    );
    assert!(!card.contains('\u{1b}'), "{card}");
    press(&mut stage, "esc");
    assert!(text(&mut stage).contains("count 0"));
}

#[test]
fn a_panic_in_an_export_is_a_card_and_the_picture_is_written() {
    let mut stage = faulty();
    let dir = tempfile::tempdir().unwrap();
    stage.runtime.export_to(dir.path().to_path_buf());
    press(&mut stage, "a a a e");
    assert!(dir.path().join("candlescope-faulty.svg").is_file());
    stage.runtime.app.notice = None;
    let card = text(&mut stage);
    assert!(
        card.contains("While giving its data: data, on purpose"),
        "{card}"
    );
}

#[test]
fn a_panic_on_the_worker_is_told_to_the_screen() {
    let mut stage = faulty();
    press(&mut stage, "w");
    let shown = text(&mut stage);
    let part = "this is a defect of candlescope: work, on purpose (at tests/tui/panics.rs:";
    assert!(shown.contains(part), "{shown}");
    press(&mut stage, "a");
    assert!(text(&mut stage).contains("count 2"), "its state stays");
}

#[test]
fn what_a_panicked_screen_had_asked_for_is_stopped_and_dropped() {
    let mut stage = faulty();
    stage.line("s", ".".as_ref()).unwrap();
    stage.runtime.draw().unwrap();
    // Ends only because the reset stopped it.
    stage.wait().unwrap();
    press(&mut stage, "esc");
    assert!(text(&mut stage).contains("said nothing"));
}

/// Set where the test below runs itself again, in the terminal that it opened.
const INSIDE: &str = "CANDLESCOPE_TEST_IN_TERMINAL";
const ITSELF: &str =
    "in_tmux_a_caught_panic_leaves_the_workbench_and_another_leaves_the_terminal_as_it_was";

#[test]
fn in_tmux_a_caught_panic_leaves_the_workbench_and_another_leaves_the_terminal_as_it_was() {
    if std::env::var_os(INSIDE).is_some() {
        let app = App::with_screens(Theme::dark(), table);
        return runtime::in_terminal(app, "toy", opener(), Instant::now(), false).unwrap();
    }
    let Some(tmux) = Tmux::start("panics") else {
        eprintln!("not run: tmux is missing");
        return;
    };
    let this = std::env::current_exe().unwrap();
    let child = format!(
        "{INSIDE}=1 RUST_BACKTRACE=0 {} --exact panics::{ITSELF} --nocapture",
        this.display()
    );
    tmux.between_modes(&child);
    tmux.until("toy");
    assert_eq!(tmux.modes(), "1 0 1", "alternate screen, no cursor, mouse");
    for (key, words) in [("v", "While drawing"), ("u", "While answering a key")] {
        tmux.keys(&[key]);
        tmux.until(words);
        tmux.keys(&["Escape"]);
        tmux.until("count 0");
    }
    tmux.keys(&["w"]);
    tmux.until("work, on purpose");
    assert_eq!(tmux.modes(), "1 0 1", "still there");
    tmux.keys(&["x"]);
    let after = tmux.until("same-101");
    assert_eq!(
        tmux.modes(),
        "0 1 0",
        "no alternate screen, a cursor, no mouse"
    );
    // Printed after the terminal was given back, so that it can be read.
    assert!(after.contains("outside, on purpose"), "{after}");
    tmux.keys(&["echo seen-$((40+2))", "Enter"]);
    let after = tmux.until("seen-42");
    assert!(
        after.contains("echo seen-$((40+2))"),
        "keys are echoed:\n{after}"
    );
}
