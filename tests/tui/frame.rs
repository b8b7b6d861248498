//! The frame: tables of keys, help, command line, notices, small sizes, undo.

use candlescope::hooks::{Edit, EditOp, HookPoint, Point};
use candlescope::tui::export;
use candlescope::tui::keys::{self, GLOBAL};
use candlescope::tui::screens;
use candlescope::tui::shared::{Intervention, ModelState, quoted};
use candlescope::tui::theme::Theme;
use candlescope::tui::work::Lane;

use std::time::Duration;

use super::{press, shown, stage};

#[test]
fn no_screen_hides_a_key_that_means_the_same_everywhere_and_every_key_is_one() {
    let names = |table: &[keys::Binding]| -> Vec<&'static str> {
        table.iter().flat_map(|b| b.keys.split(' ')).collect()
    };
    let global = names(GLOBAL);
    for screen in screens::table() {
        let own = names(screen.bindings());
        for (i, key) in own.iter().enumerate() {
            let parsed = keys::parse(key).unwrap_or_else(|_| panic!("{}: {key}", screen.id()));
            assert_eq!(keys::name(parsed), *key, "{}", screen.id());
            assert!(!global.contains(key), "{}: {key} is global", screen.id());
            assert!(!own[..i].contains(key), "{}: {key} twice", screen.id());
            let number = key.len() == 1 && key.chars().all(|c| ('1'..='9').contains(&c));
            assert!(!number, "{}: numbers are screens", screen.id());
        }
    }
}

#[test]
fn keys_are_written_as_they_are_read() {
    for text in [
        "a", "K", "ctrl-d", "alt-x", "space", "f12", "backtab", "?", ":", "-",
    ] {
        assert_eq!(keys::name(keys::parse(text).unwrap()), text);
    }
    for text in ["", "ab", "f13", "ctrl-", "hyper-a"] {
        assert!(keys::parse(text).is_err(), "{text}");
    }
}

#[test]
fn words_are_quoted_for_a_shell() {
    assert_eq!(quoted("a/b-1.gguf"), "a/b-1.gguf");
    assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    assert_eq!(quoted(""), "''");
    assert_eq!(quoted("a\u{1b}[0m'\\"), r"$'a\x1b[0m\'\\'");
}

#[test]
fn a_terminal_that_is_too_small_is_told_so() {
    for size in [(0, 0), (1, 1), (20, 5), (29, 40)] {
        let stage = stage(Theme::dark(), size);
        let text = export::text(&stage.frame());
        if size.0 >= 20 {
            assert!(text.contains("too small"), "{text}");
        }
    }
}

#[test]
fn a_model_that_cannot_be_opened_is_a_state_and_another_can_be() {
    let mut stage = stage(Theme::dark(), (100, 30));
    stage.wait().unwrap();
    press(&mut stage, ":");
    press(&mut stage, "type open nowhere");
    press(&mut stage, "enter");
    let text = export::text(&stage.frame());
    assert!(text.contains("nowhere could not be opened"), "{text}");
    press(&mut stage, ":");
    press(&mut stage, "type open toy");
    press(&mut stage, "enter");
    assert!(export::text(&stage.frame()).contains("toy"));
    assert!(stage.runtime.app.shared.model.facts().is_some());
}

#[test]
fn a_command_that_is_none_gets_a_hint_and_help_is_searched() {
    let mut stage = shown("hooks", Theme::dark(), (120, 40));
    press(&mut stage, ":");
    press(&mut stage, "type hoks");
    press(&mut stage, "enter");
    let text = export::text(&stage.frame());
    assert!(
        text.contains("no command `hoks`; did you mean `hooks`?"),
        "{text}"
    );
    press(&mut stage, "?");
    press(&mut stage, "type screen NEXT");
    let text = export::text(&stage.frame());
    assert!(text.contains("The next screen") && !text.contains("The previous screen"));
    press(&mut stage, "esc");
    let text = export::text(&stage.frame());
    assert!(
        text.contains("The previous screen"),
        "cleared, still open: {text}"
    );
    press(&mut stage, "type clip");
    assert!(!export::text(&stage.frame()).contains("The next screen"));
    press(&mut stage, "esc esc");
    press(&mut stage, "?");
    assert!(export::text(&stage.frame()).contains("The next screen"));
}

#[test]
fn interventions_stack_switch_and_come_back() {
    let mut stage = shown("hooks", Theme::dark(), (120, 40));
    let edit = Edit::new(
        HookPoint::new(Point::MlpOut, 0),
        EditOp::Scale { factor: 0.0 },
    );
    let chip = Intervention {
        label: "⊘ mlp 0".into(),
        options: vec!["--nothing".into()],
        edits: vec![edit],
        on: true,
    };
    let before = stage.runtime.app.shared.version();
    stage.runtime.app.shared.intervene(|chips| chips.push(chip));
    assert!(stage.runtime.app.shared.version() > before);
    assert!(export::text(&stage.frame()).contains("[⊘ mlp 0"));
    assert_eq!(stage.runtime.app.shared.edits().len(), 1);
    press(&mut stage, "X");
    assert!(stage.runtime.app.shared.edits().is_empty());
    press(&mut stage, "z");
    assert_eq!(stage.runtime.app.shared.edits().len(), 1);
    press(&mut stage, "z");
    assert!(stage.runtime.app.shared.interventions.is_empty());
    press(&mut stage, "Z");
    assert_eq!(stage.runtime.app.shared.options(), " --nothing");
}

#[test]
fn the_footer_shows_both_keys_of_a_pair_and_the_way_to_all_others_at_every_width() {
    for id in super::ids() {
        for width in [40, 80, 120, 200] {
            let text = export::text(&shown(id, Theme::dark(), (width, 24)).frame());
            let last = text.lines().last().unwrap();
            assert!(last.contains("? help"), "{id} {width}: {last}");
        }
    }
    let text = export::text(&shown("lens", Theme::dark(), (80, 24)).frame());
    assert!(text.contains("h/l token  k/j layer"), "{text}");
}

#[test]
fn every_tab_with_a_number_is_there_at_80_columns_and_a_letter_goes_to_the_others() {
    let mut stage = super::stage(Theme::dark(), (80, 24));
    for id in super::ids() {
        stage.runtime.app.go(id);
        let text = export::text(&stage.frame());
        let first = text.lines().next().unwrap();
        assert!(
            first.contains(id) && first.contains(" 9 probes") && first.contains(" '"),
            "{first}"
        );
    }
    press(&mut stage, "'");
    let text = export::text(&stage.frame());
    let listed = |id: &&str| text.contains(&format!("  {id}"));
    assert!(super::ids().iter().all(listed), "{text}");
    press(&mut stage, "d");
    assert_eq!(stage.runtime.app.screen().id(), "diff");
}

#[test]
fn a_notice_gives_way_to_the_keys_at_the_next_key() {
    let mut stage = shown("hooks", Theme::dark(), (120, 40));
    press(&mut stage, "W");
    let text = export::text(&stage.frame());
    assert!(text.contains("W does nothing here"), "{text}");
    press(&mut stage, "j");
    assert!(export::text(&stage.frame()).contains("? help"));
}

#[test]
fn commands_are_offered_before_anything_is_typed_and_lead_to_their_screen() {
    let mut stage = shown("hooks", Theme::dark(), (120, 40));
    press(&mut stage, ":");
    let text = export::text(&stage.frame());
    assert!(
        text.contains("open MODEL") && text.contains("attention"),
        "{text}"
    );
    press(&mut stage, "type mode rank");
    assert!(export::text(&stage.frame()).contains("in lens"));
    press(&mut stage, "enter");
    let text = export::text(&stage.frame());
    assert!(text.contains("rank of the final token"), "{text}");
}

#[test]
fn where_there_is_only_ascii_a_chip_is_ascii() {
    let ascii = Theme::named("ascii").unwrap();
    let mut stage = shown("attention", ascii, (120, 40));
    press(&mut stage, "x");
    let text = export::text(&stage.frame());
    assert!(text.contains("[x head 3.0]"), "{text}");
    assert!(text.is_ascii(), "{text}");
}

#[test]
fn exports_are_written_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage = shown("hooks", Theme::light(), (100, 30));
    stage.runtime.export_to(dir.path().to_path_buf());
    press(&mut stage, "e");
    for ending in ["svg", "html", "txt", "csv", "json"] {
        let file = dir.path().join(format!("candlescope-hooks.{ending}"));
        assert!(
            std::fs::read_to_string(&file)
                .unwrap()
                .contains("resid_pre"),
            "{ending}"
        );
    }
}

#[test]
fn work_without_a_model_is_refused_aloud() {
    let mut stage = super::stage(Theme::dark(), (100, 30));
    stage.wait().unwrap();
    stage.runtime.app.shared.set_model(ModelState::None);
    stage.runtime.post(
        "audit",
        Lane::Interactive,
        "writing reports to out",
        Box::new(|_, _| Ok(Box::new(()))),
    );
    stage.runtime.turn(Duration::from_millis(50));
    assert!(!stage.runtime.busy());
    let said = stage.runtime.app.notice.as_ref().unwrap().text.clone();
    assert!(
        said.contains("not done: writing reports to out: no model is open"),
        "{said}"
    );
    stage.runtime.app.go("audit");
    stage.line("esc", ".".as_ref()).unwrap();
}
