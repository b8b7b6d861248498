//! `/` on every screen with a list: rows narrow as one types, the cursor stays on what is left, Esc shows all again.

use candlescope::tui::export;
use candlescope::tui::script::Stage;
use candlescope::tui::theme::Theme;

use super::{press, shown};

fn text(stage: &Stage) -> String {
    export::text(&stage.frame())
}

/// `12 of 180` of the footer.
fn counts(stage: &Stage) -> (usize, usize) {
    let text = text(stage);
    let last = text.lines().last().unwrap();
    let counts = last
        .split(" · ")
        .nth(1)
        .unwrap_or_else(|| panic!("no count in `{last}`"));
    let mut words = counts.split_whitespace();
    let mut number = || words.find_map(|word| word.parse().ok()).unwrap();
    (number(), number())
}

#[test]
fn points_narrow_as_one_types_and_the_cursor_walks_what_is_left() {
    let mut stage = shown("hooks", Theme::dark(), (120, 40));
    press(&mut stage, "/");
    let (left, of) = counts(&stage);
    assert!(left == of && of > 15);
    press(&mut stage, "type RESID");
    let (left, _) = counts(&stage);
    assert!(left < of && left >= 3);
    let shows = text(&stage);
    assert!(shows.contains(" filter: RESID▏ · "), "{shows}");
    assert!(
        shows.contains("resid_mid ") && !shows.contains("rot_q "),
        "{shows}"
    );
    // A second word narrows further, in any order; keys are text now.
    press(&mut stage, "type \u{20}mid");
    assert!(counts(&stage).0 < left);
    press(&mut stage, "backspace backspace backspace backspace enter");
    assert!(text(&stage).contains(" filter: RESID · "), "kept");
    press(&mut stage, "g j");
    let app = &stage.runtime.app;
    let line = app.screen().command_line(&app.shared).unwrap();
    assert!(
        line.contains("--point resid_mid"),
        "the second of those left: {line}"
    );
    press(&mut stage, "esc");
    let shows = text(&stage);
    assert!(
        !shows.contains("filter:") && shows.contains("rot_q "),
        "{shows}"
    );
}

#[test]
fn nothing_left_is_said_and_esc_while_typing_shows_all() {
    let mut stage = shown("hooks", Theme::dark(), (120, 40));
    press(&mut stage, "/");
    press(&mut stage, "type no such point");
    assert_eq!(counts(&stage).0, 0);
    assert!(text(&stage).contains("no point holds these words"));
    press(&mut stage, "down esc");
    assert!(!text(&stage).contains("filter:"));
    press(&mut stage, "q");
    assert!(stage.runtime.app.quit, "keys are keys again");
}

#[test]
fn heads_tokens_and_models_are_narrowed_too() {
    for (screen, words) in [("attention", "h2"), ("models", "toy")] {
        let mut stage = shown(screen, Theme::dark(), (120, 40));
        press(&mut stage, "/");
        let of = counts(&stage).1;
        press(&mut stage, &format!("type {words}"));
        let (left, all) = counts(&stage);
        assert!(
            left >= 1 && left < of && all == of,
            "{screen}: {left} of {of}"
        );
    }
    let mut stage = shown("attention", Theme::dark(), (120, 40));
    press(&mut stage, "/");
    press(&mut stage, "type h2");
    press(&mut stage, "enter > >");
    let app = &stage.runtime.app;
    let line = app.screen().command_line(&app.shared).unwrap();
    assert!(line.contains("--head 2"), "{line}");
    // In the lens the filter is of the list beside the map: the last of its tokens is one of them.
    let mut stage = shown("lens", Theme::dark(), (120, 40));
    let spoken = stage.runtime.app.spoken();
    let last = spoken.iter().rfind(|line| line.starts_with("next token "));
    let word: String = last.unwrap().split('"').nth(1).unwrap().trim().into();
    press(&mut stage, "/");
    press(&mut stage, &format!("type {word}"));
    let (left, of) = counts(&stage);
    assert!(left >= 1 && of >= 5, "{word}: {left} of {of}");
}

#[test]
fn a_filter_is_of_its_screen_and_goes_where_there_is_no_list() {
    let mut stage = shown("hooks", Theme::dark(), (120, 40));
    press(&mut stage, "/");
    press(&mut stage, "type resid");
    press(&mut stage, "enter 1");
    assert!(!text(&stage).contains("filter:"));
    press(&mut stage, "5");
    assert!(text(&stage).contains("filter: resid · "), "kept while away");
    press(&mut stage, "3 /");
    assert!(text(&stage).contains("there is no list here that could be filtered"));
}
