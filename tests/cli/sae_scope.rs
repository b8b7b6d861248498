//! `sae scope`: a run of the toy is recorded, latents are turned, a branch is set beside it.

use std::path::Path;

use candlescope_sae::{About, Activation, Dictionary, Parts, Scaling, format};
use ndarray::{Array1, Array2, Axis, concatenate};
use serde_json::Value;

use crate::binary::{json, ok, refused};

/// Two latents a channel, for what is above 0 and below.
fn written(folder: &Path) -> String {
    let one = Array2::<f32>::eye(64);
    let both = concatenate![Axis(0), one, -&one];
    let dictionary = Dictionary::new(Parts {
        encoder: both.clone(),
        decoder: both,
        encoder_bias: Array1::zeros(128),
        decoder_bias: Array1::zeros(64),
        centred: false,
        activation: Activation::Relu,
        skip: None,
        scaling: Scaling::None,
        about: About {
            model: Some("toy".into()),
            reads: vec!["resid_post.1".into()],
            ..About::default()
        },
    });
    format::write_saelens(&dictionary.unwrap(), folder, None).unwrap();
    folder.to_str().unwrap().to_owned()
}

const SCHEMA: &str = "candlescope.sae.scope/1";

fn scope<'a>(sae: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let words = [
        "sae",
        "scope",
        "toy",
        sae,
        "red house by the river",
        "--raw",
        "--max-new",
        "6",
    ];
    [&words[..], more].concat()
}

fn steps(report: &Value, branch: usize) -> &Vec<Value> {
    report["branches"][branch]["trace"]["steps"]
        .as_array()
        .unwrap()
}

/// The code of a latent at each token.
fn codes(report: &Value, branch: usize, latent: u64) -> Vec<f64> {
    let code = |step: &Value| {
        let codes = step["codes"].as_array().unwrap();
        let own = codes.iter().find(|code| code[0] == latent);
        own.map_or(0.0, |code| code[1].as_f64().unwrap())
    };
    steps(report, branch).iter().map(code).collect()
}

#[test]
fn a_run_is_recorded_and_a_latent_turned() {
    let folder = tempfile::tempdir().unwrap();
    let sae = written(&folder.path().join("sae"));
    let plain = json(&scope(&sae, &[]), SCHEMA);
    let prompt = plain["branches"][0]["trace"]["prompt"].as_u64().unwrap() as usize;
    assert_eq!(
        (&plain["reads"], plain["lanes"].as_array().unwrap().len()),
        (&"resid_post.1".into(), 4)
    );
    assert!(
        steps(&plain, 0)[0]["log_prob"].is_null() && steps(&plain, 0)[1]["log_prob"].is_number()
    );
    // The toy's own answer.
    let own = json(
        &[
            "run",
            "toy",
            "red house by the river",
            "--raw",
            "--max-new",
            "6",
        ],
        "candlescope.run/1",
    );
    let tokens: String = plain["branches"][0]["tokens"].as_array().unwrap()[prompt..]
        .iter()
        .map(|token| token.as_str().unwrap())
        .collect();
    assert!(
        tokens
            .trim()
            .starts_with(own["answer"]["text"].as_str().unwrap().trim()),
        "{tokens} {}",
        own["answer"]["text"]
    );
    let from = prompt - 1;
    let turn = format!("3=2.5,9=0@{from}");
    let turned = json(&scope(&sae, &["--turn", &turn, "--latent", "3"]), SCHEMA);
    let values = codes(&turned, 0, 3);
    assert_eq!(values[..from], codes(&plain, 0, 3)[..from]);
    assert!(
        values[from..].iter().all(|value| *value == 2.5),
        "{values:?}"
    );
    assert!(
        codes(&turned, 0, 9)[from..]
            .iter()
            .all(|value| *value == 0.0)
    );
    // Where no token is named it is the prompt's last.
    let same = json(
        &scope(&sae, &["--turn", "3=2.5,9=0", "--latent", "3"]),
        SCHEMA,
    );
    assert_eq!(same, turned);
    let shown = ok(&scope(&sae, &["--turn", &turn]));
    for part in [
        "resid_post.1 of toy",
        "strongest latents",
        &format!("latents from token {from}: 3=2.5, 9=0"),
        "2.50",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn a_branch_is_set_beside_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let sae = written(&folder.path().join("sae"));
    let direction = folder.path().join("axis.safetensors");
    let mut vector = vec![0.0; 64];
    vector[5] = 4.0;
    let file = candlescope::steer::file::DirectionFile {
        vector,
        ..Default::default()
    };
    candlescope::steer::file::save(&direction, &file).unwrap();
    let direction = direction.to_str().unwrap();
    let more = ["--branch", "5+30", "--direction", direction];
    let report = json(&scope(&sae, &more), SCHEMA);
    let found = &report["comparison"];
    let at = found["turned"].as_u64().unwrap() as usize;
    assert_eq!(report["branches"][1]["trace"]["branched"], at);
    let kl: Vec<f64> = found["kl"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect();
    assert!(
        kl[..at].iter().all(|kl| *kl == 0.0) && kl[at] > 0.0,
        "{kl:?}"
    );
    // The direction is that latent's own axis, read where the dictionary writes: 30 more at the token that is turned.
    let difference = found["lanes"][0]["difference"][at].as_f64().unwrap();
    assert!((difference - 30.0).abs() < 1e-3, "{difference}");
    let shown = ok(&scope(&sae, &more));
    for part in [
        "axis at resid_post.1",
        "branch from token",
        "KL in nats",
        "moved most",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let sae = written(&folder.path().join("sae"));
    for (more, words) in [
        (["--latent", "128"], "0 to 127"),
        (["--turn", "500=0"], "0 to 127"),
        (["--turn", "3/2"], "LATENT=VALUE"),
        (["--turn", "3=0@end"], "position"),
        (["--branch", "3=0@99"], "none at 99"),
        (["--probe", "/nowhere.safetensors"], "nowhere"),
        (["--temperature", "-1"], "temperature"),
    ] {
        refused(&scope(&sae, &more), &[words]);
    }
    refused(
        &scope(&sae, &["--turn", "3=0@2", "--turn", "4=0@2"]),
        &["token 2", "commas"],
    );
}
