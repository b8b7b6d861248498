//! Two checkpoints through one dictionary: nothing where nothing changed, and numbers that add up where something did.
#![allow(clippy::unwrap_used, missing_docs)]

use std::ops::ControlFlow;
use std::sync::Arc;

use candlescope::activations::Policy;
use candlescope::features::compare::{Reading, counts::Became};
use candlescope::features::{
    CompareOptions, Crosscoded, FeatureError, Frozen, Opened, Splice, compare_crosscoder,
    compare_frozen,
};
use candlescope::hooks::{HookPoint, Hooks};
use candlescope::model::{Batch, Checkpoint, LogitsAt};
use candlescope_sae::diff::{Class, Presence};
use candlescope_sae::{About, Activation, Dictionary, Parts, Scaling, format};
use ndarray::{Array1, Array2, Axis, concatenate};

const AT: &str = "resid_post.1";
const WIDTH: usize = 64;

fn relu(encoder: Array2<f32>, decoder: Array2<f32>, reads: &[&str]) -> Dictionary {
    Dictionary::new(Parts {
        encoder_bias: Array1::zeros(encoder.nrows()),
        decoder_bias: Array1::zeros(decoder.ncols()),
        encoder,
        decoder,
        centred: false,
        activation: Activation::Relu,
        skip: None,
        scaling: Scaling::None,
        about: About {
            reads: reads.iter().map(|name| (*name).to_owned()).collect(),
            ..About::default()
        },
    })
    .unwrap()
}

/// Two latents a channel, for what is above 0 and below: rebuilds every row.
fn both_signs() -> Array2<f32> {
    let one = Array2::<f32>::eye(WIDTH);
    concatenate![Axis(0), one, -&one]
}

/// A latent a channel, for what is above 0: the rest is its error.
fn half() -> Dictionary {
    let one = Array2::<f32>::eye(WIDTH);
    relu(one.clone(), one, &[AT])
}

fn contexts() -> Vec<Vec<u32>> {
    let once = |seed: u32| (0..12).map(move |i| 20 + (seed * 7 + i * 5) % 60);
    (0..8)
        .map(|seed| {
            once(seed)
                .chain(once(seed))
                .take(20 + seed as usize % 3)
                .collect()
        })
        .collect()
}

fn options() -> CompareOptions {
    CompareOptions::new(Policy {
        first: 1,
        ..Policy::nothing()
    })
}

fn frozen(seeds: [u64; 2]) -> Frozen {
    let models = seeds.map(|seed| Checkpoint::toy(seed).unwrap());
    let at: HookPoint = AT.parse().unwrap();
    let splice = Splice::new(Arc::new(half()), "half", [at, at], models[0].config()).unwrap();
    let go = &mut |_| ControlFlow::Continue(());
    compare_frozen(
        [&models[0], &models[1]],
        &splice,
        &contexts(),
        &options(),
        go,
    )
    .unwrap()
}

#[test]
fn a_model_beside_itself_has_changed_in_nothing() {
    let found = frozen([0, 0]);
    assert_eq!(found.quality[0], found.quality[1]);
    assert_eq!((found.births, found.deaths, found.significant), (0, 0, 0));
    assert_eq!((found.shifts.shifted, found.shifts.p), (0, 1.0));
    assert_eq!(found.fvu_ratio.unwrap().estimate, 1.0);
    assert!(found.alive > 0);
    for change in &found.latents {
        assert_eq!(
            (change.became, change.p, change.change[1]),
            (Became::Stayed, 1.0, 0.0)
        );
    }
}

#[test]
fn counts_are_those_of_the_passes() {
    let found = frozen([0, 1]);
    // Each model by itself, context by context.
    let at: HookPoint = AT.parse().unwrap();
    let mut fired = vec![[0_u64; 2]; WIDTH];
    for (m, seed) in [0, 1].into_iter().enumerate() {
        let model = Checkpoint::toy(seed).unwrap();
        for ids in contexts() {
            let hooks = Hooks::new().capture(at);
            let batch = Batch::single(&ids).unwrap();
            let out = model
                .decoder
                .forward(&batch, &hooks, LogitsAt::None)
                .unwrap();
            let rows: Vec<Vec<f32>> = out.captured[&at].get(0).unwrap().to_vec2().unwrap();
            for row in &rows[1..] {
                for (latent, value) in row.iter().enumerate() {
                    fired[latent][m] += u64::from(*value > 0.0);
                }
            }
        }
    }
    let tokens: u64 = contexts().iter().map(|ids| ids.len() as u64 - 1).sum();
    assert_eq!((found.quality[0].rows, found.tally.first), (tokens, 8));
    let mut near = 0;
    for change in &found.latents {
        let expected = fired[change.latent];
        // A value next to 0 may round otherwise in a batch.
        let apart = |m: usize| change.fired[m].abs_diff(expected[m]);
        assert!(apart(0) + apart(1) <= 2, "{change:?} {expected:?}");
        near += usize::from(apart(0) + apart(1) > 0);
        let [low, middle, high] = change.change;
        assert!(low <= middle && middle <= high && change.adjusted >= change.p);
    }
    assert!(near <= 2);
    let ratio = found.fvu_ratio.as_ref().unwrap().estimate;
    let [a, b] = found.quality.clone().map(|q| q.fvu.pooled.unwrap());
    assert!((ratio - b / a).abs() < 1e-6 * ratio, "{ratio} {a} {b}");
    assert!(found.latents[0].p < 0.01, "{:?}", found.latents[0]);
    let first = &found.latents[0];
    assert!(!first.examples.is_empty() && first.examples[0].position > 0);
    let json = serde_json::to_value(&found).unwrap();
    assert!(json["latents"][0]["became"].is_string());
}

fn opened(dictionary: &Dictionary) -> Opened {
    let folder = tempfile::tempdir().unwrap();
    format::write_saelens(dictionary, folder.path(), None).unwrap();
    candlescope::features::open(folder.path()).unwrap()
}

fn crossed(dictionary: &Dictionary, seeds: [u64; 2]) -> Result<Crosscoded, FeatureError> {
    let models = seeds.map(|seed| Checkpoint::toy(seed).unwrap());
    // Through a file, which must keep the names of the blocks.
    let opened = opened(dictionary);
    let reading = Reading::of(&opened)?.unwrap();
    let go = &mut |_| ControlFlow::Continue(());
    let models = [&models[0], &models[1]];
    compare_crosscoder(models, &opened, &reading, &contexts(), &options(), go)
}

const READS: [&str; 2] = ["resid_post.1@0", "resid_post.1@1"];

#[test]
fn a_crosscoder_of_one_model_twice_shares_everything() {
    let zeros = Array2::zeros((2 * WIDTH, WIDTH));
    let encoder = concatenate![Axis(1), both_signs(), zeros];
    let decoder = concatenate![Axis(1), both_signs(), both_signs()];
    let found = crossed(&relu(encoder, decoder, &READS), [0, 0]).unwrap();
    assert_eq!(found.classes[1], (Class::Shared, 2 * WIDTH));
    assert_eq!(found.new_in_second, [0, 0]);
    assert!(found.quality.iter().all(|q| q.fvu.pooled.unwrap() < 1e-9));
    assert_eq!(found.relative[10], 2 * WIDTH as u64);
    for latent in found.latents.iter().filter(|l| l.scaled.fired > 0) {
        assert!((latent.scaled.nu_error.unwrap() - 1.0).abs() < 1e-5);
        assert!((latent.scaled.nu_rebuilt.unwrap() - 1.0).abs() < 1e-5);
    }
}

#[test]
fn latents_that_write_to_one_block_are_weighed_by_the_data() {
    // The second model's rows are written by latents of its own, and the first model, the same one, has all they write.
    let zeros = || Array2::zeros((2 * WIDTH, WIDTH));
    let encoder = concatenate![Axis(1), zeros(), both_signs()];
    let decoder = concatenate![Axis(1), zeros(), both_signs()];
    let found = crossed(&relu(encoder, decoder, &READS), [0, 0]).unwrap();
    assert_eq!(found.classes[2], (Class::OnlySecond, 2 * WIDTH));
    assert_eq!(found.new_in_second[1], 0);
    let fired = || found.latents.iter().filter(|l| l.scaled.fired > 0);
    assert!(fired().count() > WIDTH / 2);
    assert!(
        fired().all(|l| l.presence == Presence::Shrunk),
        "{:?}",
        found.latents[0]
    );
    assert!(!found.latents[0].examples.is_empty());
}

#[test]
fn what_does_not_go_together_is_refused() {
    let one = opened(&half());
    assert_eq!(Reading::of(&one).unwrap(), None);
    let decoder = concatenate![Axis(1), both_signs(), both_signs()];
    let of = |reads: &[&str]| relu(decoder.clone(), decoder.clone(), reads);
    let refused = |reads: &[&str], words: &str| {
        let error = crossed(&of(reads), [0, 0]).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    };
    refused(&["resid_post.1@0", "resid_post.1"], "POINT@NUMBER");
    refused(&["resid_post.1@0", "nowhere.1@1"], "nowhere");
    refused(&["resid_post.1@1", "resid_post.1@0"], "POINT@0 and POINT@1");
    refused(&["mlp_act.1@0", "resid_post.1@1"], "it reads 128 values");
}
