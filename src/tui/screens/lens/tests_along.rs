//! The lens screen with a direction or a probe from a file: what it shows is what the library says, and what is refused.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use candlescope_probes::LinearProbe;
use candlescope_probes::calibration::Platt;

use super::LensScreen;
use super::desk::Desk;
use super::modes::Mode;
use super::tests::{TEXT, ablation};
use crate::hooks::{HookPoint, Hooks, Point};
use crate::model::{Batch, Checkpoint, LogitsAt};
use crate::probing::file::{About, Calibrated, ProbeFile, save};
use crate::probing::{Fitting, Place, Position, judge, token_scores};
use crate::steer::file::DirectionFile;
use crate::tui::screen::Screen;

/// A direction on disk.
fn direction_file(folder: &Path, vector: Vec<f32>) -> String {
    let file = folder.join("r.safetensors");
    let direction = DirectionFile {
        vector,
        layer: Some(2),
        ..DirectionFile::default()
    };
    crate::steer::file::save(&file, &direction).unwrap();
    file.to_str().unwrap().to_owned()
}

/// A probe on disk, made on this model.
fn probe_file(folder: &Path, made_on: &Checkpoint, point: Point) -> (String, ProbeFile) {
    let d = made_on.config().d_model;
    let about = About {
        model: "toy".into(),
        fingerprint: made_on.fingerprint().unwrap().clone(),
        place: Place {
            point: HookPoint::new(point, 2),
            position: Position::FromEnd(1),
        },
        fitting: Fitting::default(),
        c: None,
        bias: 0.75,
        calibrated: Calibrated {
            platt: Platt {
                n: 4,
                a: 1.0,
                b: 0.0,
            },
            isotonic: None,
        },
        threshold: 1.5,
        data: "d".into(),
        data_hash: "h".into(),
        n: [4, 4, 4],
        positive: "hot".into(),
        classes: vec!["cold".into(), "hot".into()],
        test: judge(&[1.0, -1.0], &[true, false], None, None, 0.01, 0.95).unwrap(),
        pairs: None,
    };
    let file = folder.join("p.safetensors");
    let probe = ProbeFile {
        probe: LinearProbe {
            weights: (0..d)
                .map(|i| ((i * 5 + 1) % 7) as f64 / 4.0 - 0.75)
                .collect(),
            bias: about.bias,
            mean: vec![0.0; d],
            scale: vec![1.0; d],
            c: None,
        },
        about,
    };
    save(&file, &probe).unwrap();
    (file.to_str().unwrap().to_owned(), probe)
}

fn say(desk: &mut Desk, screen: &mut LensScreen, words: &[&str]) -> Result<(), String> {
    let said = desk.with(screen, |screen, cx| screen.command(words, cx));
    desk.refresh(screen);
    said.unwrap()
}

#[test]
fn a_direction_from_a_file_is_a_layer_until_it_is_let_go() {
    let (mut desk, mut screen) = (Desk::reading(TEXT), LensScreen::default());
    let folder = tempfile::tempdir().unwrap();
    let d = desk.shared.model.facts().unwrap().config.d_model;
    // Three times a unit vector: its length does not matter.
    let mut vector = vec![0.0; d];
    vector[5] = 3.0;
    let file = direction_file(folder.path(), vector.clone());
    say(&mut desk, &mut screen, &["project", &file]).unwrap();
    desk.work(&mut screen);
    let facts = desk.shared.model.facts().unwrap();
    let ids: Vec<u32> = desk.shared.tokens.iter().map(|token| token.id).collect();
    let at = HookPoint::new(Point::ResidPost, 2);
    let hooks = Hooks::new().capture(at);
    let batch = Batch::single(&ids).unwrap();
    let out = facts
        .checkpoint
        .decoder
        .forward(&batch, &hooks, LogitsAt::None)
        .unwrap();
    let stream = out.captured[&at]
        .squeeze(0)
        .unwrap()
        .to_vec2::<f32>()
        .unwrap();
    for (position, row) in stream.iter().enumerate() {
        let found = screen.held.place(3, position).unwrap().along.unwrap();
        assert!(
            (found - f64::from(row[5])).abs() < 1e-6,
            "{found} {}",
            row[5]
        );
    }
    let shown = desk.draw(&screen, 120, 40);
    assert!(shown.contains("projection on r.safetensors"), "{shown}");
    assert!(shown.contains("read before block 2"), "{shown}");
    let line = screen.command_line(&desk.shared).unwrap();
    assert!(
        line.contains(&format!("--show projection --direction {file}")),
        "{line}"
    );
    // An intervention's direction stands back behind it, and comes forward when it is let go.
    desk.shared.intervene(|chips| chips.push(ablation()));
    let of_file = screen.wish(&desk.shared).along;
    say(&mut desk, &mut screen, &["project"]).unwrap();
    assert_eq!(screen.mode, Mode::Projection);
    assert_ne!(screen.wish(&desk.shared).along, of_file);
    desk.shared.intervene(Vec::clear);
    say(&mut desk, &mut screen, &["project"]).unwrap();
    assert_eq!(screen.mode, Mode::Top);
}

#[test]
fn a_probe_is_read_at_every_layer_and_says_what_it_said_at_its_own() {
    let (mut desk, mut screen) = (Desk::reading(TEXT), LensScreen::default());
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = desk.shared.model.facts().unwrap().checkpoint.clone();
    let (file, probe) = probe_file(folder.path(), &checkpoint, Point::ResidPost);
    desk.refresh(&mut screen);
    desk.work(&mut screen);
    say(&mut desk, &mut screen, &["probe", &file]).unwrap();
    assert_eq!(desk.asks(), 1, "what was read without it does not serve");
    desk.work(&mut screen);
    let ids: Vec<u32> = desk.shared.tokens.iter().map(|token| token.id).collect();
    let expected = token_scores(&checkpoint.decoder, &ids, &probe, &[]).unwrap();
    for (position, expected) in expected.iter().enumerate() {
        let found = screen.held.place(3, position).unwrap().along.unwrap();
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        let below = screen.held.place(1, position).unwrap().along.unwrap();
        assert!((below - expected).abs() > 1e-3, "layers differ");
    }
    let shown = desk.draw(&screen, 120, 40);
    for part in [
        "score of p.safetensors",
        "`hot` high",
        "called above 1.50 there only",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(
        screen
            .spoken(&desk.shared)
            .iter()
            .any(|line| line.starts_with("probe "))
    );
    let line = screen.command_line(&desk.shared).unwrap();
    assert!(
        line.contains(&format!("--show probe --probe {file} --layers '*'")),
        "{line}"
    );
    let data = screen.data(&desk.shared).unwrap();
    assert_eq!(data.headers.last().unwrap(), "probe_score");
    assert!(
        data.rows
            .iter()
            .all(|row| row[11].is_empty() && !row[12].is_empty())
    );
    // Past it the values begin again; with nothing to project on, both are passed over.
    desk.press(&mut screen, "v");
    assert_eq!(screen.mode, Mode::Top);
    say(&mut desk, &mut screen, &["probe"]).unwrap();
    screen.mode = Mode::Norm;
    desk.press(&mut screen, "v");
    assert_eq!(screen.mode, Mode::Top);
    assert!(desk.said().contains(":probe FILE") && desk.said().contains(":project FILE"));
}

#[test]
fn what_cannot_be_projected_on_is_refused_by_name() {
    let (mut desk, mut screen) = (Desk::reading(TEXT), LensScreen::default());
    desk.refresh(&mut screen);
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = desk.shared.model.facts().unwrap().checkpoint.clone();
    let mut refused = |words: &[&str], part: &str| {
        let why = say(&mut desk, &mut screen, words).unwrap_err();
        assert!(why.contains(part), "{words:?}: {why}");
    };
    refused(&["project", "nowhere.safetensors"], "nowhere.safetensors");
    refused(&["project", "contrast:2"], "direction extract");
    refused(
        &["project", &direction_file(folder.path(), vec![1.0; 3])],
        "the width of toy, found 3",
    );
    refused(
        &["project", &direction_file(folder.path(), vec![0.0; 64])],
        "length 0",
    );
    refused(&["probe", "nowhere.safetensors"], "nowhere.safetensors");
    let (elsewhere, _) = probe_file(folder.path(), &checkpoint, Point::MlpOut);
    refused(&["probe", &elsewhere], "mlp_out.2");
    refused(&["mode", "probe"], "probe fit");
    // Made on another model: the worker says so, and letting it go brings the lens back.
    let other = Checkpoint::toy(7).unwrap();
    let (file, _) = probe_file(folder.path(), &other, Point::ResidPost);
    say(&mut desk, &mut screen, &["probe", &file]).unwrap();
    desk.work(&mut screen);
    let shown = desk.draw(&screen, 120, 40);
    assert!(
        shown.contains("could not be read") && shown.contains("p.safetensors"),
        "{shown}"
    );
    say(&mut desk, &mut screen, &["probe"]).unwrap();
    desk.work(&mut screen);
    assert!(
        desk.draw(&screen, 120, 40)
            .contains("colour: its probability")
    );
}
