//! The features screen on a small dictionary of the toy model, with a record and a label beside it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use candlescope::activations::Policy;
use candlescope::features::dashboard::{CollectOptions, DASHBOARD_SCHEMA, collect, dashboard};
use candlescope::features::{Labels, Splice};
use candlescope::hooks::{HookPoint, Hooks, Point};
use candlescope::model::{Batch, Checkpoint, LogitsAt};
use candlescope::tui::app::Msg;
use candlescope::tui::export;
use candlescope::tui::script::Stage;
use candlescope::tui::theme::{Background, Theme, Tier};
use candlescope_sae::{About, Activation, Dictionary, Parts, Scaling, format};
use ndarray::{Array1, Array2, Axis};

use super::{press, shown, stage};

const AT: HookPoint = HookPoint {
    point: Point::ResidPost,
    layer: 1,
};

/// A latent for each of twelve tokens, whose direction is the stream there less the mean; three fire on a token.
fn dictionary(model: &Checkpoint) -> Dictionary {
    let ids: Vec<u32> = (300..312).collect();
    let batch = Batch::single(&ids).unwrap();
    let hooks = Hooks::new().capture(AT);
    let out = model
        .decoder
        .forward(&batch, &hooks, LogitsAt::None)
        .unwrap();
    let rows: Vec<Vec<f32>> = out.captured[&AT].squeeze(0).unwrap().to_vec2().unwrap();
    let d = rows[0].len();
    let flat = rows.into_iter().flatten().collect();
    let mut rows = Array2::from_shape_vec((ids.len(), d), flat).unwrap();
    let mean = rows.mean_axis(Axis(0)).unwrap();
    rows -= &mean;
    for mut row in rows.outer_iter_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    Dictionary::new(Parts {
        encoder: rows.clone(),
        decoder: rows,
        encoder_bias: Array1::zeros(ids.len()),
        decoder_bias: mean,
        centred: true,
        activation: Activation::TopK { k: 3 },
        skip: None,
        scaling: Scaling::None,
        about: About {
            model: Some("toy".into()),
            reads: vec![AT.to_string()],
            ..About::default()
        },
    })
    .unwrap()
}

/// Writes the dictionary, a record of its first latents and a label of one; gives the folder.
pub fn made(model: &Checkpoint, folder: &Path) -> String {
    let folder = folder.join("planted");
    let dictionary = dictionary(model);
    format::write_saelens(&dictionary, &folder, None).unwrap();
    let labels = Labels::beside(&folder, &dictionary).unwrap();
    labels.with(4, "questions of how").unwrap();
    let splice = Splice::new(Arc::new(dictionary), "planted", [AT, AT], model.config()).unwrap();
    let of =
        |seed: u32| -> Vec<u32> { (0..24).map(|i| 300 + (seed * 7 + i * i * 5) % 60).collect() };
    let contexts: Vec<Vec<u32>> = (0..12).map(of).collect();
    let options = CollectOptions {
        top: 4,
        groups: 3,
        per_group: 2,
        ..CollectOptions::page(Policy {
            first: 1,
            ..Policy::nothing()
        })
    };
    let latents = [0, 1, 2, 3, 4, 5, 6];
    let go = &mut |_| ControlFlow::Continue(());
    let collected = collect(model, &splice, &contexts, &latents, &options, go).unwrap();
    let names = ["planted".into(), options.policy.to_string()];
    let dashboard = dashboard(model, &splice, names, &collected).unwrap();
    // As the command line writes it: the schema first.
    let object = serde_json::to_string(&dashboard).unwrap();
    let text = format!("{{\"schema\":\"{DASHBOARD_SCHEMA}\",{}", &object[1..]);
    std::fs::write(folder.join("latents.json"), text).unwrap();
    folder.to_str().unwrap().to_owned()
}

/// Opens the dictionary on the stage's model; nothing is left of its files where the folder goes.
pub fn open(stage: &mut Stage, folder: &Path) {
    let Some(facts) = stage.runtime.app.shared.model.facts() else {
        return;
    };
    let path = made(&facts.checkpoint.clone(), folder);
    stage.runtime.take(Msg::Command(format!("sae {path}")));
    stage.wait().unwrap();
    // What was said of it goes with the next key.
    press(stage, "v v");
}

#[test]
fn a_latents_page_and_what_was_turned() {
    for size in [(80, 24), (120, 40)] {
        let at = format!("{}x{}", size.0, size.1);
        let mut stage = shown("features", Theme::dark(), size);
        stage.runtime.take(Msg::Command("latent 4".into()));
        stage.wait().unwrap();
        insta::assert_snapshot!(format!("features_{at}_page"), export::text(&stage.frame()));
        press(&mut stage, "esc tab a");
        press(&mut stage, "j . .");
        insta::assert_snapshot!(
            format!("features_{at}_turned"),
            export::text(&stage.frame())
        );
    }
}

/// Latents while the toy answers, one of them turned up at the cursor, the run it was branched from beside it.
#[test]
fn the_oscilloscope_while_the_model_answers() {
    for size in [(80, 24), (120, 40)] {
        let at = format!("{}x{}", size.0, size.1);
        let mut stage = shown("features", Theme::dark(), size);
        stage.runtime.take(Msg::Command("latent 4".into()));
        press(&mut stage, "o");
        stage.runtime.take(Msg::Command("max 24".into()));
        stage.wait().unwrap();
        insta::assert_snapshot!(format!("features_{at}_scope"), export::text(&stage.frame()));
        press(&mut stage, "h h h h h h + + + b");
        stage.wait().unwrap();
        press(&mut stage, "c");
        stage.wait().unwrap();
        insta::assert_snapshot!(
            format!("features_{at}_branched"),
            export::text(&stage.frame())
        );
        press(&mut stage, "esc");
        let text = export::text(&stage.frame());
        assert!(text.contains("latent 4"), "back on its page: {text}");
    }
}

#[test]
fn without_colours_what_fires_stands_in_brackets() {
    let plain = Theme::new(Tier::NoColour, Background::Dark, true);
    let mut stage = shown("features", plain, (120, 40));
    stage.runtime.take(Msg::Command("latent 4".into()));
    stage.wait().unwrap();
    let text = export::text(&stage.frame());
    assert!(text.is_ascii() && text.contains("[["), "{text}");
    insta::assert_snapshot!("features_120x40_plain", text);
}

#[test]
fn what_was_searched_and_what_could_not_be_opened() {
    let mut stage = shown("features", Theme::dark(), (120, 40));
    press(&mut stage, "tab tab /");
    press(&mut stage, "type questions");
    press(&mut stage, "enter");
    let text = export::text(&stage.frame());
    assert!(
        text.contains("1 of") && text.contains("questions of how"),
        "{text}"
    );
    let mut stage = stage_without();
    stage
        .runtime
        .take(Msg::Command("sae nowhere-at-all".into()));
    stage.wait().unwrap();
    insta::assert_snapshot!("features_120x40_refused", export::text(&stage.frame()));
}

fn stage_without() -> Stage {
    let mut stage = stage(Theme::dark(), (120, 40));
    stage.runtime.app.go("features");
    stage.wait().unwrap();
    stage
}

#[test]
fn a_turned_latent_is_handed_to_the_answers() {
    let mut stage = shown("features", Theme::dark(), (120, 40));
    press(&mut stage, "tab > > > w");
    stage.runtime.take(Msg::Tick);
    stage.wait().unwrap();
    let text = export::text(&stage.frame());
    for words in ["edited", "unedited", "⊙ "] {
        assert!(text.contains(words), "no {words} in\n{text}");
    }
    let app = &stage.runtime.app;
    let line = app.screen().command_line(&app.shared).unwrap();
    assert!(
        line.contains("--latents ") && line.contains("planted@"),
        "{line}"
    );
}
