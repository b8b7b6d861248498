//! The attention screen without a terminal: what it asks for, what its cuts do, and that it draws.

#![allow(clippy::unwrap_used)]

use super::super::lens::desk::{Desk, clashes};
use super::AttentionScreen;
use super::keys::KEYS;
use super::reading::Value;
use crate::lens::{HeadSummary, attention, head_kinds, knockout_effect};
use crate::tui::screen::{Reply, Screen};
use crate::tui::shared::ModelState;

const TEXT: &str = "the cat sat on the mat and the cat";

fn ready() -> (Desk, AttentionScreen) {
    let (mut desk, mut screen) = (Desk::reading(TEXT), AttentionScreen::default());
    desk.refresh(&mut screen);
    desk.work(&mut screen);
    (desk, screen)
}

fn ids(desk: &Desk) -> Vec<u32> {
    desk.shared.tokens.iter().map(|token| token.id).collect()
}

#[test]
fn no_key_is_taken_twice() {
    assert_eq!(clashes(KEYS), Vec::<String>::new());
}

#[test]
fn it_shows_the_patterns_of_the_layer() {
    let (mut desk, mut screen) = ready();
    desk.press(&mut screen, "J");
    assert_eq!((desk.asks(), desk.shared.layer), (1, 2));
    assert!(
        desk.draw(&screen, 120, 40).contains("layer 3"),
        "the old layer, until the new one is there"
    );
    desk.work(&mut screen);
    let facts = desk.shared.model.facts().unwrap();
    let read = attention(&facts.checkpoint.decoder, &ids(&desk), &[2], &[]).unwrap();
    let layer = screen.layer.as_ref().unwrap();
    for head in 0..4 {
        assert_eq!(
            layer.row(Value::Weight, head, 5),
            &read.row(0, head, 5)[..6]
        );
        assert_eq!(
            layer.row(Value::Weighted, head, 5),
            &read.weighted_row(0, head, 5)[..6]
        );
    }
    assert!(
        layer.value(Value::Weight, 0, 2, 3).is_nan(),
        "no query looks ahead"
    );
    assert_eq!(layer.kinds, read.heads().unwrap());
    let shown = desk.draw(&screen, 120, 40);
    assert!(shown.contains(layer.kinds[0].kind.label()), "{shown}");
}

#[test]
fn heads_are_found_by_kind_in_the_whole_model() {
    let (mut desk, mut screen) = ready();
    let why = screen.enabled("next_of_kind", &desk.shared).unwrap_err();
    assert!(why.starts_with("f reads"), "{why}");
    desk.press(&mut screen, "f");
    assert_eq!(desk.asks(), 1);
    assert!(desk.draw(&screen, 120, 40).contains("being read"));
    desk.work(&mut screen);
    let facts = desk.shared.model.facts().unwrap();
    let kinds = head_kinds(&facts.checkpoint.decoder, &ids(&desk), &[]).unwrap();
    assert_eq!(screen.survey.as_ref().unwrap().kinds, kinds);
    // The map's rows are layers, its columns heads.
    let (layer, head) = (desk.shared.layer, screen.head);
    desk.press(&mut screen, "j");
    desk.press(&mut screen, "l");
    assert_eq!((desk.shared.layer, screen.head), (layer - 1, head + 1));
    // TEXT repeats itself, and the toy has an induction circuit.
    desk.press(&mut screen, "v");
    let score = |h: &HeadSummary| h.scores.induction.unwrap();
    let best = kinds
        .iter()
        .max_by(|a, b| score(a).total_cmp(&score(b)))
        .unwrap();
    assert_eq!((desk.shared.layer, screen.head), (best.layer, best.head));
    assert!(
        score(best) > 0.4 && desk.said().contains("induction"),
        "{}",
        desk.said()
    );
    desk.press(&mut screen, "n");
    let second = &kinds[desk.shared.layer * 4 + screen.head];
    let stronger = kinds.iter().filter(|h| score(h) > score(second)).count();
    assert_eq!(stronger, 1);
    desk.press(&mut screen, "N");
    assert_eq!((desk.shared.layer, screen.head), (best.layer, best.head));
    desk.press(&mut screen, "enter");
    assert!(!screen.surveying, "enter looks at the head");
    desk.work(&mut screen);
    assert!(desk.draw(&screen, 120, 40).contains("query ↓ key →"));
}

#[test]
fn a_cut_head_is_an_intervention_that_shows_its_effect_and_comes_back() {
    let (mut desk, mut screen) = ready();
    desk.press(&mut screen, ">");
    desk.press(&mut screen, "x");
    assert_eq!(desk.shared.interventions[0].label, "⊘ head 3.1");
    desk.work(&mut screen);
    let facts = desk.shared.model.facts().unwrap();
    let edits = desk.shared.edits();
    let effect = knockout_effect(&facts.checkpoint.decoder, &ids(&desk), &[], &edits, 10).unwrap();
    assert_eq!(screen.effect(&desk.shared).unwrap().effect, effect);
    let shown = desk.draw(&screen, 120, 40);
    assert!(
        shown.contains("KL(without || with)") && shown.contains("⊘H1"),
        "{shown}"
    );
    assert_eq!(
        screen.command_line(&desk.shared).unwrap(),
        format!("candlescope attn toy --layer 3 --head 1 --knockout 3.1 '{TEXT}'")
    );
    desk.press(&mut screen, "x");
    assert!(desk.shared.interventions.is_empty());
}

#[test]
fn a_cut_edge_has_no_weight_left_and_the_row_still_sums_to_1() {
    let (mut desk, mut screen) = ready();
    desk.press(&mut screen, "enter");
    let (query, key) = (desk.shared.position, screen.key(&desk.shared));
    let row = screen.layer.as_ref().unwrap().row(Value::Weight, 0, query);
    assert!(
        row.iter().all(|weight| *weight <= row[key]),
        "enter goes to the strongest"
    );
    desk.press(&mut screen, "E");
    desk.work(&mut screen);
    let layer = screen.layer.as_ref().unwrap();
    let row = layer.row(Value::Weight, 0, query);
    assert_eq!(row[key], 0.0);
    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    assert_eq!(
        desk.shared.interventions[0].label,
        format!("⊘ edge 3.0 {query}>{key}")
    );
    // The other heads look as before.
    let other = screen
        .layer
        .as_ref()
        .unwrap()
        .value(Value::Weight, 1, query, key);
    assert!(other > 0.0);
}

#[test]
fn scores_are_captured_when_they_are_asked_for() {
    let (mut desk, mut screen) = ready();
    assert!(screen.layer.as_ref().unwrap().scores.is_empty());
    desk.press(&mut screen, "S");
    assert_eq!(desk.asks(), 1);
    desk.work(&mut screen);
    let layer = screen.layer.as_ref().unwrap();
    let (scores, weights) = (
        layer.row(Value::Score, 2, 6),
        layer.row(Value::Weight, 2, 6),
    );
    let sum: f32 = scores.iter().map(|score| score.exp()).sum();
    for (score, weight) in scores.iter().zip(&weights) {
        assert!(
            (score.exp() / sum - weight).abs() < 1e-5,
            "weights are the softmax of the scores"
        );
    }
}

#[test]
fn what_each_head_would_change_comes_head_by_head() {
    let (mut desk, mut screen) = ready();
    desk.press(&mut screen, "i");
    desk.work(&mut screen);
    let kl = screen.impacts(&desk.shared).unwrap().to_vec();
    assert_eq!(kl.len(), 4);
    desk.press(&mut screen, ">");
    desk.press(&mut screen, "x");
    desk.work(&mut screen);
    let cut = screen.effect(&desk.shared).unwrap().effect.kl;
    assert!((cut - kl[1]).abs() < 1e-9, "{cut} {kl:?}");
}

#[test]
fn the_key_stays_at_or_before_the_query() {
    let (mut desk, mut screen) = ready();
    desk.press(&mut screen, "G");
    for _ in 0..3 {
        desk.press(&mut screen, "k");
    }
    assert_eq!(screen.key(&desk.shared), desk.shared.position);
    desk.press(&mut screen, "g");
    desk.press(&mut screen, "o");
    assert_eq!(desk.shared.position, 0);
}

#[test]
fn a_failure_is_a_card_and_r_tries_again() {
    let (mut desk, mut screen) = (Desk::reading(TEXT), AttentionScreen::default());
    desk.refresh(&mut screen);
    desk.reply(
        &mut screen,
        Reply::Failed("too many weights; a shorter text".into()),
    );
    desk.refresh(&mut screen);
    assert_eq!(desk.asks(), 1);
    assert!(desk.draw(&screen, 80, 24).contains("a shorter text"));
    desk.press(&mut screen, "r");
    assert_eq!(desk.asks(), 2);
}

#[test]
fn every_state_draws_at_every_size() {
    let mut short = Desk::reading("a\u{1b}[31m");
    short.shared.set_prompt(crate::tui::shared::Prompt {
        raw: Some("a".into()),
        ..short.shared.prompt.clone()
    });
    let mut failed = Desk::empty();
    failed.shared.model = ModelState::Failed {
        name: "m".into(),
        why: "\u{1b}]0;x".into(),
    };
    let mut full = Desk::reading("a\u{1b}[31m\u{202e}b\ttab\u{200b} 東京 e\u{301}");
    full.shared.position = 3;
    for mut desk in [Desk::empty(), failed, short, full] {
        let mut screen = AttentionScreen::default();
        desk.refresh(&mut screen);
        desk.work(&mut screen);
        for key in ["x", "E", "S", "w", "i", "d", "<"] {
            desk.press(&mut screen, key);
            desk.work(&mut screen);
            for (width, height) in [
                (0, 0),
                (1, 1),
                (2, 9),
                (7, 3),
                (30, 6),
                (60, 14),
                (80, 24),
                (200, 60),
            ] {
                let shown = desk.draw(&screen, width, height);
                assert!(!shown.contains(['\u{1b}', '\u{202e}', '\t', '\u{200b}']));
            }
        }
    }
}
