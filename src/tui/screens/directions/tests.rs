//! The directions screen without a terminal: hand-made answers first, then the toy itself.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use candlescope_probes::Direction;
use ndarray::Array1;

use super::keys::KEYS;
use super::work::{Answer, Found, Told, tried};
use super::{DirectionsScreen, Quantity, source};
use crate::steer::{Candidate, Measures, Method, Options, RefusalTokens, Steering, Where};
use crate::tui::screen::{Command, Reply, Screen};
use crate::tui::screens::lens::desk::{Desk, clashes};

const WHERES: [Where; 2] = [Where::InstructionEnd, Where::FromEnd(1)];

/// A direction along channel `axis`, of length `norm`, out of 64 channels.
fn candidate(layer: usize, where_: Where, axis: usize, norm: f64, auroc: f64) -> Candidate {
    let mut vector = Array1::<f64>::zeros(64);
    vector[axis] = norm;
    let direction = Direction {
        n_pos: 32,
        n_neg: 32,
        negative_norm: Some(8.0),
        ..Direction::from_vector(vector.view()).unwrap()
    };
    Candidate {
        layer,
        where_,
        method: Method::Means,
        direction,
        separation: auroc,
    }
}

/// Four layers at two positions; at layer 0 the last token has no direction.
fn found() -> Found {
    let mut candidates = vec![candidate(0, WHERES[0], 5, 1.0, 0.6)];
    for layer in 1..4 {
        for (column, where_) in WHERES.into_iter().enumerate() {
            let auroc = 0.7 + 0.05 * layer as f64 + 0.02 * column as f64;
            candidates.push(candidate(layer, where_, column, layer as f64, auroc));
        }
    }
    Found {
        wheres: WHERES.into(),
        tokens: vec![String::new(), "\u{1b}[31m\n".into()],
        n_layers: 4,
        candidates,
        judged: [32, 32],
        prompts: [Vec::new(), Vec::new()],
        base: [1.5, -2.5],
        refusal: RefusalTokens {
            ids: vec![7],
            words: vec!["I".into()],
        },
    }
}

/// Two prompts of each class: their scores and KL.
fn measures(layer: usize, bypass: f64, induce: f64, kl: f64) -> Measures {
    Measures {
        layer,
        where_: Where::FromEnd(1),
        method: Method::Means,
        bypass: vec![bypass - 1.0, bypass + 1.0],
        induce: vec![induce; 2],
        kl: vec![kl; 2],
    }
}

/// The toy is open, and a hand-made answer has come.
fn ready() -> (Desk, DirectionsScreen) {
    let (mut desk, mut screen) = (Desk::reading("a b c"), DirectionsScreen::default());
    desk.refresh(&mut screen);
    desk.press(&mut screen, "r");
    desk.commands.clear();
    answer(&mut desk, &mut screen, Answer::Found(Box::new(found())));
    (desk, screen)
}

/// As the newest job says it.
fn answer(desk: &mut Desk, screen: &mut DirectionsScreen, answer: Answer) {
    let told = Told {
        model: screen.model,
        job: Some(screen.pending.jobs),
        answer,
    };
    desk.reply(screen, Reply::Done(Box::new(told)));
}

#[test]
fn no_key_is_taken_twice() {
    assert_eq!(clashes(KEYS), Vec::<String>::new());
}

#[test]
fn before_it_is_asked_for_it_says_what_it_takes_and_keys_say_why_not() {
    let (desk, screen) = (Desk::reading("a b"), DirectionsScreen::default());
    let shown = desk.draw(&screen, 80, 20);
    assert!(shown.contains("r makes them"), "{shown}");
    for action in ["try", "try_all", "ablate", "add", "less", "pin", "left"] {
        let why = screen.enabled(action, &desk.shared).unwrap_err();
        assert!(why.contains("r makes the directions"), "{action}: {why}");
    }
    let closed = Desk::empty();
    let why = screen.enabled("read", &closed.shared).unwrap_err();
    assert!(why.contains(":open NAME"), "{why}");
    assert_eq!(screen.command_line(&closed.shared), None);
    let line = screen.command_line(&desk.shared).unwrap();
    assert_eq!(
        line,
        "candlescope direction extract toy --train 32 --validation 32 --out candidates"
    );
}

#[test]
fn the_map_shows_what_came_and_hostile_tokens_are_visible() {
    let (mut desk, mut screen) = ready();
    // The cursor stands at the last position, the layer of all screens the last one.
    let shown = desk.draw(&screen, 120, 40);
    assert!(shown.contains("separation (AUROC)"), "{shown}");
    assert!(shown.contains("n = 32 + 32, chance 0.5"), "{shown}");
    assert!(
        shown.contains("AUROC 0.870 on 32 + 32 other prompts"),
        "{shown}"
    );
    assert!(
        shown.contains("3.000, 0.375 of the harmless mean's 8.00"),
        "{shown}"
    );
    assert!(
        !shown.contains('\u{1b}') && shown.contains("position -1"),
        "{shown}"
    );
    // By layer: the other position's axis is at a right angle.
    desk.press(&mut screen, "h");
    let shown = desk.draw(&screen, 120, 40);
    assert!(
        shown.contains("cosine with L3 -1") && shown.contains("+0.00"),
        "{shown}"
    );
    desk.press(&mut screen, "l");
    desk.press(&mut screen, "g");
    assert_eq!(desk.shared.layer, 0);
    let why = screen.enabled("try", &desk.shared).unwrap_err();
    assert!(why.contains("the same mean"), "{why}");
    assert!(
        desk.draw(&screen, 80, 21)
            .contains("have the same mean here")
    );
}

#[test]
fn what_is_tried_fills_the_map_in_and_the_rule_chooses() {
    let (mut desk, mut screen) = ready();
    desk.press(&mut screen, "t");
    assert_eq!(screen.quantity, Quantity::Bypass);
    let why = screen.enabled("read", &desk.shared).unwrap_err();
    assert!(why.contains("esc stops"), "{why}");
    // KL 0.5 is past Arditi's 0.1; layer 3 is past 0.8 of 4 layers; layer 2 is neither.
    for (layer, bypass, kl) in [(1, -4.0, 0.5), (3, -6.0, 0.01), (2, -3.0, 0.02)] {
        let tried = tried(measures(layer, bypass, 0.75, kl), 4).unwrap();
        answer(&mut desk, &mut screen, Answer::Tried(Box::new(tried)));
    }
    assert!(screen.pending.job.is_some(), "parts do not end it");
    let shown = desk.draw(&screen, 120, 40);
    assert!(
        shown.contains("refusal score change, ablated, 3 of 7 tried"),
        "{shown}"
    );
    assert!(shown.contains("-4.50"), "from +1.50 to -3.00: {shown}");
    assert!(shown.contains("no: layer 3 is too late"), "{shown}");
    answer(&mut desk, &mut screen, Answer::Ended(None));
    assert_eq!(screen.admissible(), Some((2, Where::FromEnd(1))));
    desk.press(&mut screen, "c");
    assert_eq!(desk.shared.layer, 2);
    assert!(
        desk.said().contains("chosen among 3 tried"),
        "{}",
        desk.said()
    );
    let shown = desk.draw(&screen, 120, 40);
    assert!(
        shown.contains("harmful prompts -3.00") && shown.contains("(unedited +1.50)"),
        "{shown}"
    );
    assert!(
        shown.contains("+0.75") && shown.contains("(unedited -2.50)"),
        "{shown}"
    );
    assert!(shown.contains("yes, by Arditi's rule"), "{shown}");
    let line = screen.command_line(&desk.shared).unwrap();
    assert!(
        line.starts_with("candlescope direction select toy --policy arditi"),
        "{line}"
    );
    let data = screen.data(&desk.shared).unwrap();
    let row = data
        .rows
        .iter()
        .find(|row| row[..2] == ["2", "-1"])
        .unwrap();
    assert_eq!((row[6].as_str(), row[9].as_str()), ("-3", ""));
    let json = &data.json["directions"][0];
    assert_eq!(json["layer"], serde_json::json!(0.0));
    assert_eq!(json["position"], "instr");
    assert!(json["bypass"].is_null());
}

#[test]
fn what_comes_for_another_job_or_model_is_dropped() {
    let (mut desk, mut screen) = ready();
    desk.press(&mut screen, "t");
    for (model, job) in [
        (screen.model + 1, screen.pending.jobs),
        (screen.model, screen.pending.jobs - 1),
    ] {
        let tried = tried(measures(2, 0.0, 0.0, 0.0), 4).unwrap();
        let told = Told {
            model,
            job: Some(job),
            answer: Answer::Tried(Box::new(tried)),
        };
        desk.reply(&mut screen, Reply::Part(Box::new(told)));
    }
    assert!(screen.tried.is_empty() && screen.pending.job.is_some());
    assert!(desk.with(&mut screen, |screen, cx| screen.cancel(cx)));
    let withdrawn = |command: &Command| matches!(command, Command::Withdraw("directions"));
    assert!(desk.commands.iter().any(withdrawn));
    desk.reply(&mut screen, Reply::Cancelled);
    assert_eq!(screen.pending.job, None, "a job that waited");
}

#[test]
fn a_failure_is_said_beside_what_there_was() {
    let (mut desk, mut screen) = ready();
    desk.press(&mut screen, "enter");
    let why = "prompt `x` is too long".to_owned();
    answer(&mut desk, &mut screen, Answer::Ended(Some(why)));
    let shown = desk.draw(&screen, 120, 40);
    assert!(
        shown.contains("prompt `x` is too long; enter or t tries again"),
        "{shown}"
    );
    assert!(shown.contains("AUROC 0.870"), "{shown}");
    assert!(desk.with(&mut screen, |screen, cx| screen.cancel(cx)));
    assert!(!desk.draw(&screen, 120, 40).contains("too long"));
    let mut fresh = DirectionsScreen::default();
    desk.reply(&mut fresh, Reply::Failed("this is a defect".into()));
    let shown = desk.draw(&fresh, 80, 20);
    assert!(
        shown.contains("this is a defect") && shown.contains("r tries again"),
        "{shown}"
    );
}

#[test]
fn a_direction_is_an_intervention_with_a_dose_and_one_run_of_steps_is_undone_at_once() {
    let (mut desk, mut screen) = ready();
    let why = screen.enabled("more", &desk.shared).unwrap_err();
    assert!(why.contains("a ablates it"), "{why}");
    desk.press(&mut screen, "a");
    let chip = &desk.shared.interventions[0];
    assert_eq!(chip.options, ["--ablate", "contrast:3"]);
    // Out of the stream and out of what is added to it, in four layers.
    assert_eq!(chip.edits.len(), 12);
    for _ in 0..3 {
        desk.press(&mut screen, ",");
    }
    assert_eq!(desk.shared.interventions[0].options[1], "contrast:3*0.7");
    assert!(desk.draw(&screen, 120, 40).contains("+0.70"));
    assert!(desk.shared.undo());
    assert_eq!(desk.shared.interventions[0].options[1], "contrast:3");
    desk.press(&mut screen, "h");
    desk.press(&mut screen, "A");
    let added = desk.shared.interventions[1].options.clone();
    assert_eq!(added, ["--add", "contrast:3:instruction@3*1"]);
    assert!(Steering::from_option(&added).is_some());
    desk.press(&mut screen, "A");
    assert_eq!(desk.shared.interventions.len(), 1, "again takes it away");
}

#[test]
fn on_the_toy_the_map_is_what_the_command_line_makes() {
    let (mut desk, mut screen) = (Desk::reading("one two"), DirectionsScreen::default());
    desk.refresh(&mut screen);
    desk.press(&mut screen, "r");
    desk.work(&mut screen);
    assert_eq!(
        (screen.pending.failed.as_deref(), screen.pending.job),
        (None, None)
    );
    let plain = screen.live.as_ref().unwrap().plain;
    let found = screen.found.clone().unwrap();
    assert!(found.wheres.len() > 1 && found.wheres[0] == Where::InstructionEnd);
    let checkpoint = Arc::clone(&desk.shared.model.facts().unwrap().checkpoint);
    for place in [(2, found.wheres[0]), (3, Where::FromEnd(1))] {
        let made = source(place).load(&checkpoint, false, &Options::default());
        let ours = screen.candidate(place).unwrap().scaled();
        assert_eq!(*made.unwrap(), *ours, "{place:?}");
    }
    desk.press(&mut screen, "enter");
    desk.work(&mut screen);
    assert_eq!(screen.tried.len(), 1);
    let tried = screen.tried.values().next().unwrap();
    assert_eq!((tried.bypass.n, tried.kl.n), (16, 16));
    assert!(tried.kl.estimate > 0.0);
    desk.press(&mut screen, "a");
    desk.work(&mut screen);
    let live = screen.live.as_ref().unwrap();
    assert_eq!(live.plain.to_bits(), plain.to_bits());
    assert!((live.edited.unwrap() - plain).abs() > 1e-6 && live.scale.is_some());
}
