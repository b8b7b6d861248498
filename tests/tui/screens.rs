//! Each screen at two sizes: without a model, while one is opened, when it could not be, and full.

use std::path::Path;

use candlescope::hooks::{HookPoint, Point};
use candlescope::model::Checkpoint;
use candlescope::probing::file::{About, Calibrated, ProbeFile};
use candlescope::probing::{Fitting, Place, Position, judge};
use candlescope::steer::file::DirectionFile;
use candlescope::tui::app::Msg;
use candlescope::tui::export;
use candlescope::tui::script::Stage;
use candlescope::tui::shared::ModelState;
use candlescope::tui::theme::Theme;
use candlescope_probes::LinearProbe;
use candlescope_probes::calibration::Platt;

use super::{ids, press, shown, stage};

const SIZES: [(u16, u16); 2] = [(80, 24), (120, 40)];

fn state(id: &str, size: (u16, u16), model: ModelState) -> String {
    let mut stage = stage(Theme::dark(), size);
    stage.wait().unwrap();
    stage.runtime.app.shared.set_model(model);
    stage.runtime.app.go(id);
    stage.runtime.take(Msg::Tick);
    // The spinner's place is the clock's.
    stage.runtime.app.tick = 0;
    export::text(&stage.frame())
}

#[test]
fn every_screen_in_every_state() {
    for id in ids() {
        // It shows the runs of the folder it is started in; its states are `training.rs`.
        if id == "training" {
            continue;
        }
        for size in SIZES {
            let at = format!("{id}_{}x{}", size.0, size.1);
            insta::assert_snapshot!(format!("{at}_empty"), state(id, size, ModelState::None));
            let loading = ModelState::Loading {
                name: "a-model".into(),
            };
            insta::assert_snapshot!(format!("{at}_loading"), state(id, size, loading));
            let failed = ModelState::Failed {
                name: "a-model".into(),
                why: "config.json: `hidden_size` is missing; is this a model folder?".into(),
            };
            insta::assert_snapshot!(format!("{at}_failed"), state(id, size, failed));
            if id == "models" {
                // It lists what is on the machine.
                continue;
            }
            let full = shown(id, Theme::dark(), size);
            insta::assert_snapshot!(format!("{at}_full"), drawn(id, &full));
        }
    }
}

/// The frame, with `#` for the digits of what a probe makes of the prompt: the toy's classes lie far apart, so a logit of
/// thousands carries the last bits of the forward pass, which are those of the processor.
fn drawn(id: &str, stage: &Stage) -> String {
    let text = export::text(&stage.frame());
    if id != "probes" {
        return text;
    }
    let lines = text.lines().map(|line| {
        if line.starts_with("│this prompt") {
            line.replace(|c: char| c.is_ascii_digit(), "#")
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_screen_has_a_command_and_data_once_it_is_full() {
    for id in ids() {
        let stage = shown(id, Theme::dark(), (120, 40));
        let app = &stage.runtime.app;
        let data = app.screen().data(&app.shared);
        let line = app.screen().command_line(&app.shared);
        // An audit is run on request only.
        if id != "audit" {
            assert!(data.is_some() && line.is_some(), "{id}");
        }
        if let Some(data) = data {
            let even = |row: &Vec<String>| row.len() == data.headers.len();
            assert!(data.rows.iter().all(even), "{id}");
        }
        if let Some(line) = line {
            assert!(line.starts_with("candlescope "), "{id}: {line}");
        }
    }
}

#[test]
fn directions_are_tried_and_one_of_them_changes_the_answers() {
    let mut stage = shown("directions", Theme::dark(), (120, 40));
    press(&mut stage, "t");
    press(&mut stage, "c a");
    let frame = export::text(&stage.frame());
    insta::assert_snapshot!("directions_120x40_tried", frame);
    press(&mut stage, "o");
    stage.runtime.take(Msg::Tick);
    stage.wait().unwrap();
    let answers = export::text(&stage.frame());
    for words in ["edited", "unedited", "contrast:", "of the mean norm"] {
        assert!(answers.contains(words), "{words}: {answers}");
    }
}

#[test]
fn a_probe_of_each_layer_is_judged_on_all_others() {
    let mut stage = shown("probes", Theme::dark(), (120, 40));
    press(&mut stage, "tab v v");
    insta::assert_snapshot!("probes_120x40_carried", drawn("probes", &stage));
}

/// A direction and a probe of the stage's model on disk.
fn layers_of_files(folder: &Path, model: &Checkpoint) -> [String; 2] {
    let d = model.config().d_model;
    let wave = |k: usize| (0..d).map(move |i| ((i * k + 1) % 9) as f32 / 4.0 - 1.0);
    let direction = DirectionFile {
        vector: wave(5).collect(),
        layer: Some(2),
        ..DirectionFile::default()
    };
    let [r, p] = ["refusal.safetensors", "harm.safetensors"].map(|name| folder.join(name));
    candlescope::steer::file::save(&r, &direction).unwrap();
    let about = About {
        model: "toy".into(),
        fingerprint: model.fingerprint().unwrap().clone(),
        place: Place {
            point: HookPoint::new(Point::ResidPost, 2),
            position: Position::FromEnd(1),
        },
        fitting: Fitting::default(),
        c: None,
        bias: 0.5,
        calibrated: Calibrated {
            platt: Platt {
                n: 4,
                a: 1.0,
                b: 0.0,
            },
            isotonic: None,
        },
        threshold: 1.25,
        data: "d".into(),
        data_hash: "h".into(),
        n: [4, 4, 4],
        positive: "harmful".into(),
        classes: vec!["harmful".into(), "harmless".into()],
        test: judge(&[1.0, -1.0], &[true, false], None, None, 0.01, 0.95).unwrap(),
        pairs: None,
    };
    let probe = LinearProbe {
        weights: wave(7).map(f64::from).collect(),
        bias: about.bias,
        mean: vec![0.0; d],
        scale: vec![1.0; d],
        c: None,
    };
    candlescope::probing::file::save(&p, &ProbeFile { about, probe }).unwrap();
    [r, p].map(|file| file.to_str().unwrap().to_owned())
}

#[test]
fn the_lens_shows_a_direction_and_a_probe_by_layer() {
    let folder = tempfile::tempdir().unwrap();
    for size in SIZES {
        let mut stage = shown("lens", Theme::dark(), size);
        let model = stage.runtime.app.shared.model.facts().unwrap();
        let [direction, probe] = layers_of_files(folder.path(), &model.checkpoint.clone());
        for (name, command) in [
            ("projected", format!("project {direction}")),
            ("probed", format!("probe {probe}")),
        ] {
            stage.runtime.take(Msg::Command(command));
            stage.wait().unwrap();
            press(&mut stage, "d");
            let frame = export::text(&stage.frame());
            insta::assert_snapshot!(format!("lens_{}x{}_{name}", size.0, size.1), frame);
            press(&mut stage, "d");
        }
    }
}
