//! For tests of the features screen: a dictionary whose latents are planted in the toy model, a record made by hand, and a
//! desk that also looks at files.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use candlescope_sae::{About, Activation, Dictionary, Parts, Scaling, format};
use ndarray::{Array1, Array2};

use super::FeaturesScreen;
use crate::features::dashboard::{
    Bins, Cofiring, CofiringOver, DASHBOARD_SCHEMA, Dashboard, Example, Label, LatentRecord, Place,
    Trait,
};
use crate::hooks::{HookPoint, Hooks, Point};
use crate::model::{Batch, Checkpoint, LogitsAt};
use crate::tui::screen::{Command, Reply};
use crate::tui::screens::lens::desk::Desk;

const PROMPT: &str = "the red house by the river";

/// The embeddings of a text's tokens.
fn embedded(model: &Checkpoint, ids: &[u32]) -> Vec<Vec<f32>> {
    let at = HookPoint::new(Point::Embed, 0);
    let hooks = Hooks::new().capture(at);
    let batch = Batch::single(ids).unwrap();
    let out = model.decoder.forward(&batch, &hooks, LogitsAt::None);
    out.unwrap().captured[&at]
        .squeeze(0)
        .unwrap()
        .to_vec2()
        .unwrap()
}

/// At `embed`, latent `i` fires on the `i`-th token of the prompt (from 1; of equal tokens the first), with a value of
/// `i + 1`; the last latent fires on the second token of the prompt too, with 0.5, and writes nothing.
pub(super) fn planted(model: &Checkpoint, ids: &[u32]) -> Parts {
    let rows = embedded(model, ids);
    let (n, d) = (ids.len(), rows[0].len());
    let mut encoder = Array2::zeros((n + 1, d));
    let mut decoder = Array2::zeros((n + 1, d));
    let mut threshold = Array1::from_elem(n + 1, 1e9);
    let mut seen = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        if seen.contains(&ids[i]) {
            continue;
        }
        seen.push(ids[i]);
        let square: f32 = row.iter().map(|x| x * x).sum();
        let strength = (i + 1) as f32;
        for (c, x) in row.iter().enumerate() {
            encoder[(i, c)] = strength * x / square;
            decoder[(i, c)] = x / strength;
            if i == 1 {
                encoder[(n, c)] = 0.5 * x / square;
            }
        }
        threshold[i] = 0.9 * strength;
    }
    threshold[n] = 0.45;
    Parts {
        encoder,
        decoder,
        encoder_bias: Array1::zeros(n + 1),
        decoder_bias: Array1::zeros(d),
        centred: false,
        activation: Activation::JumpRelu { threshold },
        skip: None,
        scaling: Scaling::None,
        about: About {
            model: Some("toy".into()),
            reads: vec!["embed".into()],
            ..About::default()
        },
    }
}

pub(super) fn write(parts: Parts, folder: &Path) -> String {
    format::write_saelens(&Dictionary::new(parts).unwrap(), folder, None).unwrap();
    folder.to_str().unwrap().to_owned()
}

/// What was done, looks at files included.
pub(super) fn settle(desk: &mut Desk, screen: &mut FeaturesScreen) {
    loop {
        let looks: Vec<Command> = {
            let (looks, others) = (std::mem::take(&mut desk.commands).into_iter())
                .partition(|c| matches!(c, Command::Look { .. }));
            desk.commands = others;
            looks
        };
        if looks.is_empty() && desk.asks() == 0 {
            return;
        }
        for look in looks {
            if let Command::Look { work, .. } = look {
                desk.reply(screen, Reply::Done(work().unwrap()));
            }
        }
        desk.work(screen);
        desk.refresh(screen);
    }
}

pub(super) fn command(
    desk: &mut Desk,
    screen: &mut FeaturesScreen,
    line: &str,
) -> Result<(), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let result = desk.with(screen, |screen, cx| screen.command(&words, cx));
    desk.refresh(screen);
    settle(desk, screen);
    result.unwrap()
}

pub(super) fn press(desk: &mut Desk, screen: &mut FeaturesScreen, keys: &str) {
    for key in keys.split(' ') {
        desk.press(screen, key);
    }
    settle(desk, screen);
}

/// The toy reads the prompt through the planted dictionary.
pub(super) fn ready() -> (Desk, FeaturesScreen, tempfile::TempDir) {
    let (mut desk, mut screen) = (Desk::reading(PROMPT), FeaturesScreen::default());
    desk.refresh(&mut screen);
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<u32> = desk.shared.tokens.iter().map(|t| t.id).collect();
    let model = desk.shared.model.facts().unwrap().checkpoint.clone();
    let path = write(planted(&model, &ids), &folder.path().join("planted"));
    command(&mut desk, &mut screen, &format!("sae {path}")).unwrap();
    (desk, screen, folder)
}

/// The cursor on a token.
pub(super) fn at(desk: &mut Desk, screen: &mut FeaturesScreen, position: usize) {
    desk.shared.position = position;
    desk.refresh(screen);
    settle(desk, screen);
}

/// A record of a latent of the planted dictionary, made by hand.
pub(super) fn record(latent: usize, screen: &FeaturesScreen) -> Dashboard {
    let open = screen.open.as_ref().unwrap();
    let example = Example {
        context: 0,
        position: 2,
        value: 2.5,
        at: 1,
        tokens: vec!["a".into(), " r\u{1b}iver".into(), " bank".into()],
        // One value short, as a broken file may have it.
        values: vec![0.0, 2.5],
    };
    let known = LatentRecord {
        index: latent,
        fired: 36,
        density: 0.00018,
        mean: Some(1.5),
        max: 2.5,
        decoder_norm: 1.0,
        label: Some(Label {
            by: Trait::Token,
            value: "␣river".into(),
            precision: 0.9,
            recall: 0.8,
            lift: 50.0,
            firings: 30,
            exact: true,
        }),
        histogram: Bins {
            edges: vec![0.0, 1.0, 2.0, 3.0],
            counts: vec![25, 10, 1],
        },
        top: vec![
            example.clone(),
            Example {
                at: 99,
                ..example.clone()
            },
        ],
        sampled: 36,
        quantiles: vec![],
        logits: None,
        neighbours: vec![],
        cofiring: vec![Cofiring {
            index: 1,
            phi: 0.25,
            jaccard: 0.2,
            rows: 9,
        }],
    };
    Dashboard {
        place: Place {
            model: "toy".into(),
            dictionary: "planted".into(),
            d_sae: open.splice.dictionary().d_sae(),
            reads: open.splice.read(),
            writes: open.splice.write(),
            contexts: 800,
            tally: crate::activations::Tally {
                kept: 200_000,
                ..Default::default()
            },
            policy: "the first 1 of each context".into(),
            cofiring_over: CofiringOver::All,
        },
        latents: vec![known],
    }
}

pub(super) fn save(dashboard: &Dashboard, file: &Path) {
    // As the command line writes it: the schema first.
    let object = serde_json::to_string(dashboard).unwrap();
    let text = format!("{{\"schema\":\"{DASHBOARD_SCHEMA}\",{}", &object[1..]);
    std::fs::write(file, text).unwrap();
}
