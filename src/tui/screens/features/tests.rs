//! The features screen without a terminal: a dictionary whose latents are planted, so that what fires where is known.

#![allow(clippy::unwrap_used)]

use candlescope_sae::{About, Activation, Parts, Scaling};
use ndarray::{Array1, Array2};

use super::FeaturesScreen;
use super::keys::KEYS;
use super::planted::{at, command, press, ready, record, save, settle, write};
use super::rows::{Scope, Sort};
use super::work::{Piece, summed};
use crate::features::Change;
use crate::hooks::{HookPoint, Point};
use crate::tui::filter::Filter;
use crate::tui::screen::{Command, Reply, Screen};
use crate::tui::screens::lens::desk::{Desk, clashes};

#[test]
fn no_key_is_taken_twice() {
    assert_eq!(clashes(KEYS), Vec::<String>::new());
}

#[test]
fn before_a_dictionary_is_open_it_says_how_to_open_one() {
    let (mut desk, mut screen) = (Desk::reading("a b"), FeaturesScreen::default());
    let shown = desk.draw(&screen, 80, 21);
    assert!(
        shown.contains(":sae PATH") && shown.contains("sae train"),
        "{shown}"
    );
    for action in ["left", "page", "ablate", "sort"] {
        let why = screen.enabled(action, &desk.shared).unwrap_err();
        assert!(why.contains(":sae PATH"), "{action}: {why}");
    }
    for line in ["latent 3", "label x", "turn 3=0", "record x.json"] {
        let why = command(&mut desk, &mut screen, line).unwrap_err();
        assert!(why.contains("no dictionary is open"), "{line}: {why}");
    }
    assert_eq!(screen.data(&desk.shared), None);
    assert_eq!(screen.command_line(&desk.shared), None);
    let mut none = Desk::empty();
    let why = command(&mut none, &mut screen, "sae x").unwrap_err();
    assert!(why.contains("no model is open"), "{why}");
}

#[test]
fn what_does_not_fit_the_model_is_refused_by_name() {
    let (mut desk, mut screen) = (Desk::reading("a b"), FeaturesScreen::default());
    desk.refresh(&mut screen);
    let folder = tempfile::tempdir().unwrap();
    let parts = |d: usize, reads: &[&str]| Parts {
        encoder: Array2::ones((3, d)),
        decoder: Array2::ones((3, d)),
        encoder_bias: Array1::zeros(3),
        decoder_bias: Array1::zeros(d),
        centred: false,
        activation: Activation::Relu,
        skip: None,
        scaling: Scaling::None,
        about: About {
            reads: reads.iter().map(ToString::to_string).collect(),
            ..About::default()
        },
    };
    for (i, (parts, words)) in [
        (
            parts(48, &["resid_post.1"]),
            &["48", "resid_post.1", "64"][..],
        ),
        (parts(64, &["resid_post.9"]), &["resid_post.9"]),
        (parts(64, &["pattern.1"]), &["pattern.1", "pairs of tokens"]),
        (parts(64, &[]), &["name the hook point"]),
    ]
    .into_iter()
    .enumerate()
    {
        let path = write(parts, &folder.path().join(i.to_string()));
        command(&mut desk, &mut screen, &format!("sae {path}")).unwrap();
        let shown = desk.draw(&screen, 120, 30).replace('\n', " ");
        let why = screen.pending.failed.clone().unwrap();
        assert!(shown.contains("No dictionary was opened"), "{shown}");
        assert!(words.iter().all(|word| why.contains(word)), "{why}");
        assert!(screen.open.is_none());
    }
    // The last one, with its point named.
    let path = folder.path().join("3");
    let line = format!("sae {} --reads resid_post.1", path.display());
    command(&mut desk, &mut screen, &line).unwrap();
    assert!(screen.open.is_some(), "{:?}", screen.pending.failed);
    let line = screen.command_line(&desk.shared).unwrap();
    assert!(line.contains(" --reads resid_post.1 "), "{line}");
    for (line, words) in [
        ("sae", "folder or file"),
        ("sae x --reads nowhere.1", "nowhere"),
        ("dictionary --writes", "--writes"),
    ] {
        let why = command(&mut desk, &mut screen, line).unwrap_err();
        assert!(why.contains(words), "{line}: {why}");
    }
    command(&mut desk, &mut screen, "sae nowhere").unwrap();
    assert!(screen.open.is_some(), "the one before stays");
    assert!(desk.draw(&screen, 120, 30).contains("esc puts this away"));
    assert!(desk.with(&mut screen, |screen, cx| screen.cancel(cx)));
    assert!(!desk.draw(&screen, 120, 30).contains("esc puts this away"));
}

#[test]
fn planted_latents_fire_where_they_were_planted() {
    let (mut desk, mut screen, _folder) = ready();
    let reading = screen.reading.clone().unwrap();
    let ids: Vec<u32> = desk.shared.tokens.iter().map(|t| t.id).collect();
    assert_eq!(reading.pieces.len(), ids.len());
    for (at, piece) in reading.pieces.iter().enumerate() {
        let first = ids.iter().position(|id| *id == ids[at]).unwrap();
        let (latent, value) = piece.codes[0];
        assert_eq!(latent, first, "{at}");
        assert!((value - (first + 1) as f32).abs() < 1e-4, "{at}: {value}");
        assert!(piece.unexplained < 1e-9, "{at}");
        assert_eq!(piece.out.is_some(), at == 0, "{at}: {:?}", piece.out);
    }
    let last = reading.pieces.len();
    assert_eq!(
        reading.pieces[1].codes[1].0, last,
        "the weaker one comes second"
    );
    // Both latents of the second token, one of each other token that counts.
    let l0 = last as f64 / (last - 1) as f64;
    assert!((reading.l0 - l0).abs() < 1e-12, "{}", reading.l0);
    at(&mut desk, &mut screen, 1);
    let rows: Vec<usize> = screen.rows().iter().map(|r| r.latent).collect();
    assert_eq!(rows, [1, last]);
    press(&mut desk, &mut screen, "tab");
    assert_eq!((screen.scope, screen.sort()), (Scope::Prompt, Sort::Sum));
    let rows = screen.rows().to_vec();
    assert!(rows.windows(2).all(|pair| pair[0].sum >= pair[1].sum));
    command(&mut desk, &mut screen, "sort number").unwrap();
    let numbers: Vec<usize> = screen.rows().iter().map(|r| r.latent).collect();
    assert!(numbers.is_sorted() && numbers.len() == rows.len());
    assert!(command(&mut desk, &mut screen, "sort size").is_err());
}

#[test]
fn tokens_that_training_leaves_out_count_for_nothing() {
    let piece = |out, codes: &[(usize, f32)]| Piece {
        id: 1,
        text: "x".into(),
        out,
        codes: codes.to_vec(),
        unexplained: 0.5,
    };
    let reading = summed(
        (0, 0),
        vec![
            (piece(Some("first"), &[(7, 9000.0)]), [1e9, 2e9]),
            (piece(None, &[(7, 2.0), (3, 1.0)]), [1.0, 4.0]),
            (piece(None, &[(7, 3.0)]), [2.0, 8.0]),
        ],
    );
    let seven = &reading.totals[&7];
    assert_eq!((seven.sum, seven.max, seven.at), (5.0, 3.0, 2));
    assert_eq!(seven.places, [1, 2]);
    assert_eq!(
        (reading.most, reading.l0, reading.unexplained),
        (3.0, 1.5, 0.25)
    );
    let none = summed(
        (0, 0),
        vec![(piece(Some("first"), &[(7, 1.0)]), [1.0, 1.0])],
    );
    assert!(none.totals.is_empty() && none.l0.is_nan());
}

#[test]
fn cursor_keys_move_tokens_and_latents_and_the_screen_fits() {
    let (mut desk, mut screen, _folder) = ready();
    let last = desk.shared.tokens.len() - 1;
    press(&mut desk, &mut screen, "l");
    assert_eq!(desk.shared.position, last);
    at(&mut desk, &mut screen, 2);
    press(&mut desk, &mut screen, "h");
    assert_eq!(desk.shared.position, 1);
    press(&mut desk, &mut screen, "j");
    assert_eq!(screen.chosen(), Some(last + 1));
    press(&mut desk, &mut screen, "j k");
    assert_eq!(screen.chosen(), Some(1));
    press(&mut desk, &mut screen, "G");
    assert_eq!(screen.chosen(), Some(last + 1));
    // Another token on which it does not fire: its first latent is the chosen one; back again, the old one is.
    press(&mut desk, &mut screen, "l");
    assert_eq!(screen.chosen(), Some(2));
    press(&mut desk, &mut screen, "h");
    assert_eq!(screen.chosen(), Some(last + 1));
    press(&mut desk, &mut screen, "n");
    assert_eq!(desk.shared.position, 1, "the only token it fires on");
    for (width, height) in [(80, 21), (160, 42), (30, 5), (10, 3), (1, 1), (0, 0)] {
        let shown = desk.draw(&screen, width, height);
        if width >= 80 {
            for words in [
                "planted",
                "jumprelu",
                "embed",
                "latents of",
                "first",
                "raises",
            ] {
                assert!(shown.contains(words), "{width}: no {words} in\n{shown}");
            }
        }
    }
    press(&mut desk, &mut screen, "v");
    assert!(desk.draw(&screen, 160, 42).contains("2.00"));
}

#[test]
fn a_page_without_a_record_says_what_makes_one_and_r_finds_it() {
    let (mut desk, mut screen, folder) = ready();
    at(&mut desk, &mut screen, 1);
    press(&mut desk, &mut screen, "enter");
    let shown = desk.draw(&screen, 160, 42);
    assert!(shown.contains("latent 1 (esc goes back)"), "{shown}");
    for words in [
        "raises",
        "lowers",
        "by cosine",
        "no record of it",
        "--json-out",
    ] {
        assert!(shown.contains(words), "no {words} in\n{shown}");
    }
    let line = super::written::dashboard(&screen, &desk.shared, 1).unwrap();
    let file = folder.path().join("planted/latent-1.json");
    assert!(line.starts_with("candlescope sae dashboard toy ") && line.contains("--latents 1 "));
    assert!(line.ends_with(&file.display().to_string()), "{line}");
    save(&record(1, &screen), &file);
    press(&mut desk, &mut screen, "r");
    let shown = desk.draw(&screen, 160, 42);
    for words in [
        "token '␣river'",
        "0.0180 %",
        "200000",
        "top examples",
        "bank",
        "by phi",
        "800 contexts",
    ] {
        assert!(shown.contains(words), "no {words} in\n{shown}");
    }
    assert!(!shown.contains('\u{1b}') && !shown.contains("no record"));
    // Down to the end and no further; Esc goes back to the list.
    press(&mut desk, &mut screen, "G");
    desk.draw(&screen, 80, 10);
    press(&mut desk, &mut screen, "G");
    let at = screen.scroll;
    press(&mut desk, &mut screen, "j");
    assert!(at > 0 && screen.scroll == at);
    press(&mut desk, &mut screen, "g");
    assert_eq!(screen.scroll, 0);
    assert!(desk.with(&mut screen, |screen, cx| screen.cancel(cx)));
    assert!(screen.page.is_empty());
    assert!(desk.draw(&screen, 160, 42).contains("1 ␣river"));
    let data = screen.data(&desk.shared).unwrap();
    assert_eq!(data.json["record"]["fired"], 36);
    assert!(data.rows.iter().all(|row| row.len() == data.headers.len()));
}

#[test]
fn pages_lead_from_one_to_another_and_back() {
    let (mut desk, mut screen, _folder) = ready();
    at(&mut desk, &mut screen, 1);
    press(&mut desk, &mut screen, "enter");
    let why = screen.enabled("page", &desk.shared).unwrap_err();
    assert!(why.contains("tab chooses one"), "{why}");
    press(&mut desk, &mut screen, "tab");
    let other = screen.other.unwrap();
    assert_ne!(other, 1);
    press(&mut desk, &mut screen, "tab");
    assert_ne!(screen.other, Some(other));
    let other = screen.other.unwrap();
    press(&mut desk, &mut screen, "enter");
    assert_eq!(screen.page, [1, other]);
    desk.with(&mut screen, |screen, cx| screen.cancel(cx));
    assert_eq!(screen.page, [1]);
    press(&mut desk, &mut screen, "n");
    let last = desk.shared.tokens.len();
    assert_eq!(screen.page, [last], "the next of the list");
    let spoken = screen.spoken(&desk.shared).join("\n");
    assert!(spoken.contains(&format!("latent {last}")), "{spoken}");
    for (line, words) in [
        ("latent 999", "0 to"),
        ("latent", "0 to"),
        ("latent x", "0 to"),
    ] {
        let why = command(&mut desk, &mut screen, line).unwrap_err();
        assert!(why.contains(words), "{why}");
    }
    command(&mut desk, &mut screen, "latent 0").unwrap();
    let shown = desk.draw(&screen, 100, 30);
    assert!(
        shown.contains("only where training does not look (first token)"),
        "{shown}"
    );
}

#[test]
fn labels_are_kept_and_found() {
    let (mut desk, mut screen, folder) = ready();
    at(&mut desk, &mut screen, 1);
    press(&mut desk, &mut screen, "L");
    assert!(screen.takes_text());
    assert!(
        desk.draw(&screen, 80, 21)
            .contains("your label of latent 1")
    );
    for c in "colours".chars() {
        let key = crate::tui::keys::parse(&c.to_string()).unwrap();
        desk.with(&mut screen, |screen, cx| screen.text_key(key, cx));
    }
    let enter = crate::tui::keys::parse("enter").unwrap();
    desk.with(&mut screen, |screen, cx| screen.text_key(enter, cx));
    settle(&mut desk, &mut screen);
    assert!(!screen.takes_text());
    assert!(desk.draw(&screen, 80, 21).contains("colours"));
    assert!(folder.path().join("planted/labels.json").exists());
    let path = folder.path().join("planted");
    command(&mut desk, &mut screen, &format!("sae {}", path.display())).unwrap();
    at(&mut desk, &mut screen, 1);
    assert_eq!(screen.label(1), Some(("colours".into(), true)));
    let filter = Filter::new("colour");
    desk.with(&mut screen, |screen, cx| {
        screen.narrow("latents", &filter, cx);
    });
    assert_eq!(screen.rows().len(), 1);
    assert!(desk.draw(&screen, 120, 30).contains("1 of 2 latents"));
    let filter = Filter::new("nothing holds this");
    desk.with(&mut screen, |screen, cx| {
        screen.narrow("latents", &filter, cx);
    });
    assert!(desk.draw(&screen, 120, 30).contains("esc shows all"));
    assert!(screen.enabled("page", &desk.shared).is_err());
    desk.with(&mut screen, |screen, cx| {
        screen.narrow("latents", &Filter::default(), cx);
    });
    command(&mut desk, &mut screen, "label").unwrap();
    assert_eq!(screen.label(1), None);
    let list = screen.list(&desk.shared).unwrap();
    assert!(
        list.rows[0].starts_with("1 ") && list.rows[0].contains("the"),
        "{:?}",
        list.rows
    );
}

#[test]
fn latents_are_turned_by_one_chip_that_undo_takes_back() {
    let (mut desk, mut screen, _folder) = ready();
    at(&mut desk, &mut screen, 1);
    press(&mut desk, &mut screen, "a");
    assert_eq!(turned(&screen), [(1, Change::Set(0.0))]);
    // Silenced where it was read: the token's own latent is gone from the prompt, others stay.
    let reading = screen.reading.clone().unwrap();
    assert!(reading.pieces[1].codes.iter().all(|code| code.0 != 1));
    assert_eq!(reading.pieces[2].codes[0].0, 2);
    let chip = &desk.shared.interventions[0];
    assert!(
        chip.label.ends_with("1=0") && chip.options[0] == "--latents",
        "{chip:?}"
    );
    assert!(chip.options[1].ends_with("planted@1=0"), "{chip:?}");
    command(&mut desk, &mut screen, "latent 2").unwrap();
    press(&mut desk, &mut screen, ". .");
    // It fires with 3: steps of a tenth, 0.3, rounded down to 0.2.
    assert_eq!(
        turned(&screen),
        [(1, Change::Set(0.0)), (2, Change::Add(0.4))]
    );
    assert!(
        desk.draw(&screen, 120, 40)
            .contains("+0.4 at every token but the first")
    );
    assert_eq!(desk.shared.interventions.len(), 1);
    assert!(desk.shared.undo(), "the steps are one change");
    desk.refresh(&mut screen);
    assert_eq!(turned(&screen), [(1, Change::Set(0.0))]);
    press(&mut desk, &mut screen, "c");
    assert_eq!(turned(&screen)[1], (2, Change::Set(3.0)));
    press(&mut desk, &mut screen, "A");
    assert_eq!(turned(&screen)[1], (2, Change::Add(3.0)));
    press(&mut desk, &mut screen, "A");
    assert_eq!(turned(&screen).len(), 1);
    command(&mut desk, &mut screen, "turn 2*0.5").unwrap();
    assert_eq!(turned(&screen)[1], (2, Change::Scale(0.5)));
    for line in ["turn 999=0", "turn x", "turn 2:3..1"] {
        let before = turned(&screen);
        let result = command(&mut desk, &mut screen, line);
        assert!(result.is_err() || turned(&screen) == before, "{line}");
    }
    press(&mut desk, &mut screen, "x");
    let why = screen.enabled("leave", &desk.shared).unwrap_err();
    assert!(why.contains("as it was"), "{why}");
    desk.shared.intervene(|chips| chips[0].on = false);
    desk.refresh(&mut screen);
    assert!(screen.turned.is_empty(), "a chip that is off turns nothing");
    desk.commands.clear();
    press_alone(&mut desk, &mut screen, "w");
    assert!(
        desk.commands
            .iter()
            .any(|c| matches!(c, Command::Go("generate")))
    );
}

fn turned(screen: &FeaturesScreen) -> Vec<(usize, Change)> {
    let edits = screen.turned.iter();
    edits.map(|edit| (edit.latent, edit.change)).collect()
}

fn press_alone(desk: &mut Desk, screen: &mut FeaturesScreen, key: &str) {
    desk.press(screen, key);
}

#[test]
fn records_of_another_dictionary_are_refused() {
    let (mut desk, mut screen, folder) = ready();
    let file = folder.path().join("record.json");
    let good = record(1, &screen);
    let mut wrong = [good.clone(), good.clone(), good.clone()];
    wrong[0].place.d_sae = 5;
    wrong[1].place.reads = HookPoint::new(Point::ResidPost, 1);
    wrong[2].latents[0].index = 999;
    for (dashboard, word) in wrong.iter().zip(["5 latents", "resid_post.1", "999"]) {
        save(dashboard, &file);
        let words = ["record", file.to_str().unwrap()];
        let result = desk.with(&mut screen, |screen, cx| screen.command(&words, cx));
        result.unwrap().unwrap();
        let Some(Command::Look { work, .. }) = desk.commands.pop() else {
            panic!("nothing was looked at");
        };
        desk.reply(&mut screen, Reply::Done(work().unwrap()));
        assert!(desk.said().contains(word), "{}", desk.said());
        desk.commands.clear();
        assert_eq!(screen.records.count(), 0);
    }
    save(&good, &file);
    command(
        &mut desk,
        &mut screen,
        &format!("record {}", file.display()),
    )
    .unwrap();
    assert_eq!(screen.records.count(), 1);
}

#[test]
fn a_text_makes_records_here() {
    let (mut desk, mut screen, folder) = ready();
    let file = folder.path().join("text.txt");
    std::fs::write(
        &file,
        "the red house by the river and the blue city\n".repeat(60),
    )
    .unwrap();
    at(&mut desk, &mut screen, 1);
    command(&mut desk, &mut screen, &format!("texts {}", file.display())).unwrap();
    assert_eq!(screen.pending.failed, None);
    let known = screen.records.of(1).unwrap();
    assert!(known.latent.fired > 0 && !known.latent.top.is_empty());
    assert!(
        (known.latent.max - 2.0).abs() < 1e-3,
        "{}",
        known.latent.max
    );
    assert_eq!(screen.records.count(), 2, "those of the list");
    let why = command(&mut desk, &mut screen, "texts").unwrap_err();
    assert!(why.contains("plain text"), "{why}");
    command(&mut desk, &mut screen, "texts nowhere.jsonl").unwrap();
    assert!(
        screen
            .pending
            .failed
            .as_ref()
            .unwrap()
            .contains("nowhere.jsonl")
    );
    assert_eq!(screen.records.count(), 2);
}

#[test]
fn a_job_is_stopped_and_another_model_forgets_everything() {
    let (mut desk, mut screen, folder) = ready();
    let words = ["sae", folder.path().to_str().unwrap()];
    desk.with(&mut screen, |screen, cx| screen.command(&words, cx))
        .unwrap()
        .unwrap();
    assert!(screen.pending.job.is_some());
    let again = desk.with(&mut screen, |screen, cx| screen.command(&words, cx));
    assert!(again.unwrap().unwrap_err().contains("esc stops"));
    assert!(desk.draw(&screen, 120, 30).contains("esc stops that"));
    assert!(desk.with(&mut screen, |screen, cx| screen.cancel(cx)));
    desk.reply(&mut screen, Reply::Cancelled);
    assert!(screen.pending.job.is_none() && screen.open.is_some());
    let other = Desk::reading("a b");
    desk.shared.set_model(other.shared.model.clone());
    desk.refresh(&mut screen);
    assert!(screen.open.is_none() && screen.reading.is_none());
}

#[test]
fn the_oscilloscope_has_the_screen_until_it_is_closed() {
    let (mut desk, mut screen, _folder) = ready();
    at(&mut desk, &mut screen, 1);
    press(&mut desk, &mut screen, "c");
    press_alone(&mut desk, &mut screen, "o");
    // The latent that is turned has a lane, and the model answers.
    assert!(screen.pane.as_ref().unwrap().running());
    assert_eq!(screen.bindings().len(), super::scope::KEYS.len());
    settle(&mut desk, &mut screen);
    assert!(!screen.pane.as_ref().unwrap().running());
    let shown = desk.draw(&screen, 120, 30);
    assert!(
        shown.contains("latent 1 ") && shown.contains("greedy"),
        "{shown}"
    );
    let steps = |screen: &FeaturesScreen, desk: &Desk| screen.data(&desk.shared).is_some();
    assert!(steps(&screen, &desk));
    let line = screen.command_line(&desk.shared).unwrap();
    assert!(line.contains("sae scope"), "{line}");
    // Its keys, and its commands before the screen's own; wheel and list are its own, too.
    press(&mut desk, &mut screen, "a b");
    command(&mut desk, &mut screen, "latent 2").unwrap();
    assert!(desk.draw(&screen, 120, 30).contains("latent 2 "));
    assert!(screen.page.is_empty() && screen.list(&desk.shared).is_none());
    desk.with(&mut screen, |screen, cx| screen.scroll(1, cx));
    assert!(!screen.spoken(&desk.shared).is_empty());
    assert!(desk.with(&mut screen, |screen, cx| screen.cancel(cx)));
    desk.refresh(&mut screen);
    settle(&mut desk, &mut screen);
    assert!(screen.pane.is_none());
    assert_eq!(screen.bindings().len(), KEYS.len());
    assert!(screen.enabled("page", &desk.shared).is_ok());
}

#[test]
fn the_oscilloscope_waits_for_what_was_asked_and_is_gone_with_its_model() {
    let (mut desk, mut screen, _folder) = ready();
    at(&mut desk, &mut screen, 1);
    // The prompt is being read with the latent silenced.
    press_alone(&mut desk, &mut screen, "a");
    desk.refresh(&mut screen);
    assert!(screen.pending.waits());
    press_alone(&mut desk, &mut screen, "o");
    assert!(screen.pane.is_none() && screen.opening);
    settle(&mut desk, &mut screen);
    assert!(screen.pane.is_some());
    let other = Desk::reading("a b");
    desk.shared.set_model(other.shared.model.clone());
    desk.refresh(&mut screen);
    assert!(screen.pane.is_none());
    press_alone(&mut desk, &mut screen, "o");
    assert!(screen.pane.is_none(), "nothing is open");
}
