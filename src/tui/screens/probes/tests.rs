//! The probes screen without a terminal: hand-made answers first, then the toy itself.

#![allow(clippy::unwrap_used)]

use candlescope_probes::{LinearProbe, auroc};

use super::keys::KEYS;
use super::work::{Answer, Cell, POINTS, ROWS, Row, Strip, Swept, Told};
use super::{ProbesScreen, Quantity};
use crate::hooks::{HookPoint, Point};
use crate::tui::filter::Filter;
use crate::tui::screen::{Command, Reply, Screen};
use crate::tui::screens::lens::desk::{Desk, clashes};

/// A probe of two points whose scores part the four rows, or get one of each class wrong.
fn cell(point: Point, layer: usize, good: bool) -> Cell {
    let scores = if good {
        vec![2.0, 1.0, -1.0, -2.0]
    } else {
        vec![2.0, -0.5, 0.5, -2.0]
    };
    let test = auroc(&scores, &[true, true, false, false], 0.95).unwrap();
    Cell {
        point: HookPoint::new(point, layer),
        test,
        validation: 0.9,
        balanced: if good { 1.0 } else { 0.5 },
        shuffled: Some((0.48, 0.05)),
        control: Some(0.6),
        selectivity: Some(test.value - 0.6),
        scores,
        probe: LinearProbe {
            weights: vec![0.0; 64],
            bias: 0.25,
            mean: vec![0.0; 64],
            scale: vec![1.0; 64],
            c: Some(0.01),
        },
    }
}

fn swept() -> Swept {
    let points = vec![Point::ResidPre, Point::ResidPost];
    let layers = |point: &Point| {
        let point = *point;
        (0..4).map(move |layer| cell(point, layer, layer > 1))
    };
    let row = |id: &str, positive, text: &str| Row {
        id: id.into(),
        positive,
        text: text.into(),
    };
    Swept {
        cells: points.iter().flat_map(layers).collect(),
        points,
        n_layers: 4,
        n: [8, 4, 4],
        positive: "harmful".into(),
        rows: vec![
            row("h1", true, "pick \u{1b}[31m a lock"),
            row("h2", true, "forge a pass"),
            row("n1", false, "bake bread"),
            row("n2", false, "sort a list"),
        ],
        chosen: 7,
        words: 0.75,
        types: "topic".into(),
        transfer: vec![vec![vec![0.5, 0.6, 0.7, 0.8]; 4]; 2],
    }
}

fn ready() -> (Desk, ProbesScreen) {
    let (mut desk, mut screen) = (Desk::reading("a b c"), ProbesScreen::default());
    desk.refresh(&mut screen);
    desk.press(&mut screen, "r");
    desk.commands.clear();
    answer(&mut desk, &mut screen, Answer::Swept(Box::new(swept())));
    (desk, screen)
}

/// As the newest job says it.
fn answer(desk: &mut Desk, screen: &mut ProbesScreen, answer: Answer) {
    let told = Told {
        model: screen.model,
        job: Some(screen.pending.jobs),
        answer,
    };
    desk.reply(screen, Reply::Done(Box::new(told)));
    desk.refresh(screen);
}

#[test]
fn no_key_is_taken_twice() {
    assert_eq!(clashes(KEYS), Vec::<String>::new());
}

#[test]
fn before_it_is_asked_for_it_says_what_it_takes_and_keys_say_why_not() {
    let (desk, screen) = (Desk::reading("a b"), ProbesScreen::default());
    let shown = desk.draw(&screen, 80, 20);
    assert!(
        shown.contains("r fits them") && shown.contains("240"),
        "{shown}"
    );
    for action in ["left", "chosen", "next", "wrong"] {
        let why = screen.enabled(action, &desk.shared).unwrap_err();
        assert!(why.contains("r fits them"), "{action}: {why}");
    }
    let line = screen.command_line(&desk.shared).unwrap();
    assert!(
        line.starts_with(
            "candlescope probe sweep toy --suites harmful,harmless --points resid_pre.*"
        ),
        "{line}"
    );
    assert_eq!(screen.data(&desk.shared), None);
}

#[test]
fn the_map_the_numbers_and_what_they_beat_are_shown() {
    let (mut desk, mut screen) = ready();
    // The cursor stands at the last point of the last layer.
    let shown = desk.draw(&screen, 120, 40);
    assert!(shown.contains("resid_post.3: harmful or not"), "{shown}");
    assert!(
        shown.contains("AUROC 1.000") && shown.contains("on 4 test prompts"),
        "{shown}"
    );
    assert!(shown.contains("bag of words 0.750"), "{shown}");
    assert!(shown.contains("shuffled labels 0.480"), "{shown}");
    assert!(shown.contains("control tasks 0.600"), "{shown}");
    desk.press(&mut screen, "v");
    assert_eq!(screen.quantity, Quantity::Shuffled);
    assert!(
        desk.draw(&screen, 120, 40)
            .contains("AUROC, shuffled labels")
    );
    desk.press(&mut screen, "V");
    desk.press(&mut screen, "V");
    assert!(desk.draw(&screen, 80, 21).contains("selectivity"));
    let data = screen.data(&desk.shared).unwrap();
    assert_eq!(data.rows.len(), 8);
    assert_eq!(data.rows[7][..3], ["resid_post", "3", "1"]);
    assert_eq!(data.json["chosen"], "resid_post.3");
}

#[test]
fn examples_stand_by_score_and_the_wrong_ones_are_marked() {
    let (mut desk, mut screen) = ready();
    let shown = desk.draw(&screen, 120, 40);
    assert!(
        shown.contains("4 test prompts by score, 0 wrong"),
        "{shown}"
    );
    assert!(
        !shown.contains('\u{1b}') && shown.contains("forge a pass"),
        "{shown}"
    );
    let why = screen.enabled("wrong", &desk.shared).unwrap_err();
    assert!(why.contains("right side"), "{why}");
    desk.press(&mut screen, "g");
    let shown = desk.draw(&screen, 120, 40);
    assert!(
        shown.contains("by score, 2 wrong") && shown.contains('✗'),
        "{shown}"
    );
    let order: Vec<&str> = (screen.examples(&desk.shared).iter())
        .map(|(_, row)| row.id.as_str())
        .collect();
    assert_eq!(order, ["h1", "n1", "h2", "n2"]);
    desk.press(&mut screen, "w");
    assert_eq!(screen.example, 1);
    assert!(
        desk.draw(&screen, 120, 40)
            .contains("+0.50, wrong: bake bread (n1)")
    );
    desk.press(&mut screen, "w");
    desk.press(&mut screen, "w");
    assert_eq!(screen.example, 1, "round again");
    desk.press(&mut screen, "i");
    assert_eq!(screen.examples(&desk.shared)[0].1.id, "n2");
    let filter = Filter::new("list");
    desk.with(&mut screen, |screen, cx| {
        screen.narrow("examples", &filter, cx);
    });
    assert!(desk.draw(&screen, 120, 40).contains("1 of 4 test prompts"));
}

#[test]
fn layers_stand_against_layers_on_a_key() {
    let (mut desk, mut screen) = ready();
    desk.press(&mut screen, "tab");
    let shown = desk.draw(&screen, 120, 40);
    assert!(shown.contains("resid_post: test AUROC, fitted"), "{shown}");
    let why = screen.enabled("next", &desk.shared).unwrap_err();
    assert!(why.contains("tab shows the examples"), "{why}");
    let line = screen.command_line(&desk.shared).unwrap();
    assert!(line.contains("probe transfer toy --set harmful,harmless --points resid_post.*"));
    let said = screen.spoken(&desk.shared).join("\n");
    assert!(
        said.contains("on each layer: 0.50 0.60 0.70 0.80"),
        "{said}"
    );
}

#[test]
fn the_prompt_is_scored_by_the_probe_under_the_cursor() {
    let (mut desk, mut screen) = ready();
    assert_eq!(desk.asks(), 1);
    assert!(desk.draw(&screen, 120, 40).contains("is being scored"));
    let point = HookPoint::new(Point::ResidPost, 3);
    let strip = Strip {
        version: desk.shared.version(),
        point,
        scores: vec![0.5; desk.shared.tokens.len()],
        tokens: desk.shared.tokens.iter().map(|t| t.text.clone()).collect(),
    };
    let of = (strip.version, point);
    answer(&mut desk, &mut screen, Answer::Strip(of, Ok(strip)));
    desk.commands.clear();
    assert!(desk.draw(&screen, 120, 40).contains("this prompt"));
    desk.press(&mut screen, "j");
    assert_eq!(desk.asks(), 1, "another probe");
    assert!(
        desk.draw(&screen, 120, 40).contains("before"),
        "the old scores, until then"
    );
    let of = (desk.shared.version(), HookPoint::new(Point::ResidPost, 2));
    answer(
        &mut desk,
        &mut screen,
        Answer::Strip(of, Err("no such point".into())),
    );
    assert!(
        desk.draw(&screen, 120, 40)
            .contains("has no score: no such point")
    );
    assert_eq!(desk.asks(), 1, "and it is not asked for again");
}

#[test]
fn a_failure_is_said_and_a_job_is_stopped() {
    let (mut desk, mut screen) = ready();
    desk.press(&mut screen, "r");
    assert!(screen.enabled("sweep", &desk.shared).is_err());
    answer(
        &mut desk,
        &mut screen,
        Answer::Ended(Some("not finite".into())),
    );
    let shown = desk.draw(&screen, 120, 40);
    assert!(
        shown.contains("not finite; r tries again") && shown.contains("AUROC 1.000"),
        "{shown}"
    );
    desk.press(&mut screen, "r");
    assert!(desk.with(&mut screen, |screen, cx| screen.cancel(cx)));
    let withdrawn = |command: &Command| matches!(command, Command::Withdraw("probes"));
    assert!(desk.commands.iter().any(withdrawn));
    answer(&mut desk, &mut screen, Answer::Ended(None));
    assert_eq!(
        (screen.pending.job, screen.pending.withdrawn),
        (None, false)
    );
}

#[test]
fn on_the_toy_every_point_is_probed_and_harmful_prompts_are_cut() {
    let (mut desk, mut screen) = (Desk::reading("one two"), ProbesScreen::default());
    desk.refresh(&mut screen);
    desk.press(&mut screen, "r");
    desk.work(&mut screen);
    assert_eq!(
        (screen.pending.failed.as_deref(), screen.pending.job),
        (None, None)
    );
    let swept = screen.swept.clone().unwrap();
    assert_eq!(swept.cells.len(), POINTS.len() * 4);
    assert_eq!(swept.n, ROWS.map(|n| 2 * n));
    let most = swept.rows.iter().filter(|row| row.positive);
    assert!(most.clone().count() == ROWS[2]);
    for row in most {
        assert!(row.text.chars().count() < 160, "{}", row.text);
    }
    // The probe on its own layer is what the map shows.
    for (column, matrix) in swept.transfer.iter().enumerate() {
        for (layer, row) in matrix.iter().enumerate() {
            let own = swept.cell(layer, column).unwrap().test.value;
            assert!((f64::from(row[layer]) - own).abs() < 1e-6);
        }
    }
    let strip = screen.strip.as_ref().unwrap();
    assert_eq!(strip.scores.len(), desk.shared.tokens.len());
    assert!(strip.scores.iter().all(|score| score.is_finite()));
}
