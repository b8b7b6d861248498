//! Dictionaries in a forward pass: what is replaced, what stays to the bit, what the scores are where they are known.
#![allow(clippy::unwrap_used, missing_docs)]

use std::ops::ControlFlow;
use std::sync::Arc;

use candlescope::activations::Policy;
use candlescope::features::{
    AbsorptionOptions, Evaluation, FeatureError, LatentEdit, LetterTokens, MeanCodes, Opened,
    Places, QualityOptions, Splice, absorption, quality,
};
use candlescope::hooks::{Axis, Edit, EditOp, HookPoint, Hooks, POINTS, PositionSelect, Selector};
use candlescope::model::{Batch, Checkpoint, LogitsAt};
use candlescope_probes::BootstrapOptions;
use candlescope_sae::{About, Activation, Dictionary, Parts, Scaling, format};
use ndarray::{Array1, Array2, Axis as Side, concatenate};

fn toy() -> Checkpoint {
    Checkpoint::toy(0).unwrap()
}

fn at(text: &str) -> HookPoint {
    text.parse().unwrap()
}

fn relu(encoder: Array2<f32>, decoder: Array2<f32>) -> Parts {
    let (latents, d_out) = decoder.dim();
    Parts {
        encoder,
        decoder,
        encoder_bias: Array1::zeros(latents),
        decoder_bias: Array1::zeros(d_out),
        centred: false,
        activation: Activation::Relu,
        skip: None,
        scaling: Scaling::None,
        about: About::default(),
    }
}

/// Two latents a channel, for what is above 0 and below: rebuilds every row to the bit.
fn exact(d: usize) -> Dictionary {
    let one = Array2::<f32>::eye(d);
    let both = concatenate![Side(0), one, -&one];
    Dictionary::new(relu(both.clone(), both)).unwrap()
}

/// Rebuilds nothing: 0 whatever comes.
fn nothing(d: usize) -> Dictionary {
    Dictionary::new(relu(Array2::zeros((3, d)), Array2::ones((3, d)))).unwrap()
}

fn splice(dictionary: Dictionary, points: [&str; 2]) -> Splice {
    let model = toy();
    Splice::new(
        Arc::new(dictionary),
        "dictionary",
        points.map(at),
        model.config(),
    )
    .unwrap()
}

/// Contexts in which the toy's induction circuit has something to do.
fn contexts() -> Vec<Vec<u32>> {
    let once = |seed: u32| (0..12).map(move |i| 20 + (seed * 7 + i * 5) % 60);
    (0..6)
        .map(|seed| {
            once(seed)
                .chain(once(seed))
                .take(20 + seed as usize)
                .collect()
        })
        .collect()
}

fn logits(model: &Checkpoint, batch: &Batch, edits: Vec<Edit>) -> Vec<Vec<Vec<f32>>> {
    let hooks = Hooks::new().edits(edits);
    let out = model.decoder.forward(batch, &hooks, LogitsAt::All).unwrap();
    out.logits().unwrap().to_vec3().unwrap()
}

fn options(policy: Policy) -> QualityOptions {
    QualityOptions {
        policy,
        batch: 4,
        downstream: true,
        bootstrap: BootstrapOptions::default(),
    }
}

fn first_left() -> Policy {
    Policy {
        first: 1,
        ..Policy::nothing()
    }
}

fn measured(splice: &Splice, policy: Policy) -> Evaluation {
    let go = &mut |_| ControlFlow::Continue(());
    quality(&toy(), splice, &contexts(), &options(policy), go).unwrap()
}

#[test]
fn an_exact_dictionary_changes_no_bit_and_scores_one() {
    let model = toy();
    let batch = Batch::new(&contexts()).unwrap();
    let clean = logits(&model, &batch, Vec::new());
    for point in ["resid_post.1", "mlp_out.2", "z.1", "mlp_act.0"] {
        let width = match point {
            "mlp_act.0" => 128,
            _ => 64,
        };
        let splice = splice(exact(width), [point, point]);
        assert_eq!(logits(&model, &batch, splice.edits()), clean, "{point}");
    }
    let found = measured(&splice(exact(64), ["resid_post.1"; 2]), first_left());
    let recovered = found.recovered.unwrap();
    assert_eq!(recovered.ce_clean, recovered.ce_spliced);
    assert!(recovered.ce_ablated > recovered.ce_clean);
    assert_eq!(recovered.ce_recovered.unwrap().estimate, 1.0);
    let kl = recovered.kl_score.unwrap();
    assert_eq!((recovered.kl_spliced, kl.estimate), (0.0, 1.0));
    assert_eq!(found.quality.fvu.pooled, Some(0.0));
    // Tokens but the first of each context; each of these but the last predicts one.
    let tokens: usize = contexts().iter().map(Vec::len).sum();
    assert_eq!(found.quality.rows, tokens as u64 - 6);
    assert_eq!(recovered.tokens, tokens as u64 - 12);
    assert_eq!((found.tally.first, recovered.contexts), (6, 6));
}

#[test]
fn a_dictionary_of_nothing_scores_zero() {
    let found = measured(&splice(nothing(64), ["resid_post.1"; 2]), first_left());
    let recovered = found.recovered.unwrap();
    assert_eq!(recovered.ce_spliced, recovered.ce_ablated);
    assert_eq!(recovered.ce_recovered.unwrap().estimate, 0.0);
    assert_eq!(recovered.kl_score.unwrap().estimate, 0.0);
    assert_eq!(
        (found.quality.l0, found.quality.latents.dead),
        (Some(0.0), 1.0)
    );
}

#[test]
fn only_the_places_are_replaced() {
    let model = toy();
    let batch = Batch::new(&contexts()).unwrap();
    let clean = logits(&model, &batch, Vec::new());
    let from = 9;
    let places: Vec<Vec<bool>> = contexts()
        .iter()
        .map(|ids| (0..ids.len()).map(|p| p >= from).collect())
        .collect();
    let splice = splice(nothing(64), ["resid_post.1"; 2]);
    let at_places = logits(&model, &batch, splice.edits_at(Places::new(places)));
    let selected = splice
        .clone()
        .on(Selector::positions(PositionSelect::From(from)));
    assert_eq!(logits(&model, &batch, selected.edits()), at_places);
    for (row, pad) in batch.pad().iter().enumerate() {
        assert_eq!(
            at_places[row][*pad..pad + from],
            clean[row][*pad..pad + from]
        );
        assert_ne!(at_places[row][pad + from], clean[row][pad + from]);
    }
}

#[test]
fn padding_beside_a_row_changes_nothing() {
    let model = toy();
    let contexts = contexts();
    let splice = splice(nothing(64), ["resid_post.1"; 2]);
    let together = logits(&model, &Batch::new(&contexts).unwrap(), splice.edits());
    let alone = logits(
        &model,
        &Batch::single(&contexts[0]).unwrap(),
        splice.edits(),
    );
    let last = (together[0].last().unwrap(), alone[0].last().unwrap());
    let apart = last.0.iter().zip(last.1).map(|(a, b)| (a - b).abs());
    assert!(apart.fold(0.0, f32::max) < 1e-4);
}

#[test]
fn with_the_error_kept_only_edited_latents_do_anything() {
    let model = toy();
    let batch = Batch::new(&contexts()).unwrap();
    let clean = logits(&model, &batch, Vec::new());
    // It reads half of the channels, so the error is large.
    let half = exact(64).into_parts();
    let keep = |m: &Array2<f32>| m.select(Side(0), &(0..32).collect::<Vec<_>>());
    let half = Dictionary::new(relu(keep(&half.encoder), keep(&half.decoder))).unwrap();
    let splice = splice(half, ["resid_post.1"; 2]).keeping_error();
    assert_eq!(logits(&model, &batch, splice.edits()), clean);
    // A latent that fires nowhere stays silent when it is scaled, and nothing moves.
    let unmoved = splice
        .clone()
        .editing(vec!["3*1".parse().unwrap()])
        .unwrap();
    assert_eq!(logits(&model, &batch, unmoved.edits()), clean);
    // Latent 5 is channel 5 where it is above 0: without it the channel is clamped from above.
    let ablated = splice.editing(vec![LatentEdit::ablate(5)]).unwrap();
    let clamp = EditOp::Clamp {
        direction: None,
        min: f64::from(f32::MIN),
        max: 0.0,
    };
    let channel = Selector {
        channels: Axis::Only(vec![5]),
        ..Selector::all()
    };
    let by_hand = Edit::new(at("resid_post.1"), clamp).on(channel);
    let (found, expected) = (
        logits(&model, &batch, ablated.edits()),
        logits(&model, &batch, vec![by_hand]),
    );
    assert_ne!(found, clean);
    for (row, pad) in batch.pad().iter().enumerate() {
        let pairs = found[row][*pad..]
            .iter()
            .flatten()
            .zip(expected[row][*pad..].iter().flatten());
        assert!(pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 1e-4);
    }
}

#[test]
fn a_transcoder_reads_one_point_and_writes_another() {
    let model = toy();
    let batch = Batch::new(&contexts()).unwrap();
    // The MLP itself is no dictionary, but a skip that passes on what came in is one way around it.
    let mut parts = relu(Array2::zeros((3, 64)), Array2::zeros((3, 64)));
    parts.skip = Some(Array2::eye(64) * 0.5);
    let splice = splice(Dictionary::new(parts).unwrap(), ["mlp_in.2", "mlp_out.2"]);
    let hooks = Hooks::new()
        .edits(splice.edits())
        .capture(at("mlp_in.2"))
        .capture(at("mlp_out.2"));
    let captured = model
        .decoder
        .forward(&batch, &hooks, LogitsAt::None)
        .unwrap()
        .captured;
    let [read, written] =
        ["mlp_in.2", "mlp_out.2"].map(|p| captured[&at(p)].to_vec3::<f32>().unwrap());
    for (row, pad) in batch.pad().iter().enumerate() {
        for (x, y) in read[row][*pad..].iter().zip(&written[row][*pad..]) {
            assert!(x.iter().zip(y).all(|(x, y)| (x * 0.5 - y).abs() < 1e-6));
        }
    }
    let found = measured(&splice, first_left());
    assert!(found.quality.fvu.pooled.unwrap() > 0.0 && found.recovered.is_some());
}

#[test]
fn it_works_step_by_step_with_a_cache() {
    let model = toy();
    let splice = splice(nothing(64), ["resid_post.1"; 2]);
    let ids = &contexts()[3];
    let hooks = Hooks::new().edits(splice.edits());
    let whole = model
        .decoder
        .forward(&Batch::single(ids).unwrap(), &hooks, LogitsAt::Last)
        .unwrap();
    let mut cache = candlescope::model::KvCache::new(model.config(), 1, ids.len());
    let (head, last) = ids.split_at(ids.len() - 1);
    for part in [head, last] {
        let batch = Batch::single(part).unwrap();
        let out = model
            .decoder
            .forward_cached(&batch, &mut cache, &hooks, LogitsAt::Last)
            .unwrap();
        if part == last {
            let (a, b) = (out.logits().unwrap(), whole.logits.as_ref().unwrap());
            let apart = (a - b)
                .unwrap()
                .abs()
                .unwrap()
                .flatten_all()
                .unwrap()
                .max(0)
                .unwrap();
            assert!(apart.to_scalar::<f32>().unwrap() < 1e-4);
        }
    }
}

#[test]
fn outliers_and_special_tokens_stay_as_they_are() {
    let policy = Policy {
        ids: vec![contexts()[0][3]],
        norm: Some(1.01),
        ..first_left()
    };
    let found = measured(&splice(nothing(64), ["resid_post.1"; 2]), policy);
    assert!(
        found.tally.special >= 1 && found.tally.norm > 0,
        "{:?}",
        found.tally
    );
    assert_eq!(found.quality.rows, found.tally.kept);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let model = toy();
    let refused = |dictionary: Dictionary, points: [&str; 2]| {
        let splice = Splice::new(Arc::new(dictionary), "sae", points.map(at), model.config());
        splice.unwrap_err().to_string()
    };
    let width = refused(exact(32), ["resid_post.1"; 2]);
    assert_eq!(
        width,
        "sae: it reads 32 values, resid_post.1 has 64 in this model"
    );
    assert!(refused(exact(64), ["resid_post.9"; 2]).contains("layers 0 to 3"));
    assert!(refused(exact(64), ["pos_embed"; 2]).contains("learned position table"));
    assert!(refused(exact(64), ["pattern.1"; 2]).contains("pairs of tokens"));
    assert!(refused(exact(64), ["mlp_out.2", "mlp_in.2"]).contains("comes before"));
    let splice = splice(exact(64), ["resid_post.1"; 2]);
    let edit = |text: &str| {
        splice
            .clone()
            .editing(vec![text.parse().unwrap()])
            .unwrap_err()
            .to_string()
    };
    assert!(edit("128=1").contains("0 to 127"));
    assert!(edit("1:3..2").contains("above the upper"));
    let go = &mut |_| ControlFlow::Continue(());
    let all_dropped = Policy {
        first: 100,
        ..Policy::nothing()
    };
    let none = quality(&model, &splice, &contexts(), &options(all_dropped), go).unwrap_err();
    assert!(
        none.to_string().contains("nothing is predicted")
            || none.to_string().contains("no token is kept"),
        "{none}"
    );
    let stop = &mut |_| ControlFlow::Break(());
    let stopped = quality(&model, &splice, &contexts(), &options(first_left()), stop).unwrap_err();
    assert!(matches!(
        stopped,
        FeatureError::Model(candlescope::model::ModelError::Cancelled)
    ));
}

#[test]
fn a_file_knows_where_it_belongs_and_on_what_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let model = toy();
    let opened = |about: About| -> Opened {
        let parts = Parts {
            about,
            ..exact(64).into_parts()
        };
        format::write_saelens(&Dictionary::new(parts).unwrap(), folder.path(), None).unwrap();
        candlescope::features::open(folder.path()).unwrap()
    };
    let made_on = |model: &Checkpoint| About {
        reads: vec!["resid_post.1".into()],
        fingerprint: Some(serde_json::to_value(model.fingerprint().unwrap()).unwrap()),
        ..About::default()
    };
    let own = opened(made_on(&model));
    assert_eq!(
        (own.read().unwrap(), own.write().unwrap()),
        (at("resid_post.1"), at("resid_post.1"))
    );
    own.expect(&model).unwrap();
    let other = opened(made_on(&Checkpoint::toy(1).unwrap()))
        .expect(&model)
        .unwrap_err()
        .to_string();
    assert!(
        other.contains("weights") && other.contains("--accept-foreign"),
        "{other}"
    );
    let silent = opened(About::default());
    silent.expect(&model).unwrap();
    assert!(
        silent
            .read()
            .unwrap_err()
            .to_string()
            .contains("name the hook point")
    );
    assert_eq!(own.dictionary.parts().encoder, exact(64).parts().encoder);
}

#[test]
fn latents_are_probed_and_first_letters_asked_on_a_model() {
    let model = toy();
    let splice = splice(exact(64), ["resid_post.1"; 2]);
    let means = MeanCodes::of(&model, &splice, &contexts(), &first_left(), 4).unwrap();
    // Codes above 0 and below, put together, are the activations; so are their means.
    let codes = means.codes.view().split_at(Side(1), 64);
    let apart = &(&codes.0 - &codes.1) - &means.activations;
    assert!(apart.iter().all(|x| x.abs() < 1e-4));
    assert!(means.codes.iter().all(|x| *x >= 0.0));
    let short = MeanCodes::of(&model, &splice, &[vec![20]], &first_left(), 4).unwrap_err();
    assert!(short.to_string().contains("text 0"), "{short}");
    let words = LetterTokens::of(&model, &splice, 8, 16).unwrap();
    assert_eq!(words.activations.dim(), (words.ids.len(), 64));
    assert!(words.ids.len() > 20);
    for (id, letter) in words.ids.iter().zip(&words.letters) {
        let token = model.tokenizer.token(*id).trim().to_lowercase();
        assert!(token.starts_with(*letter), "{token} {letter}");
    }
    let found = absorption(
        splice.dictionary(),
        words.activations.view(),
        &words.letters,
        &AbsorptionOptions::default(),
    );
    let found = found.unwrap();
    let asked = found.letters.len() + found.left_out.len();
    let mut distinct = words.letters.clone();
    distinct.dedup();
    assert_eq!(asked, distinct.len());
}

/// The crate of dictionaries knows TransformerLens's names by a table of its own; here it is held against the table of points.
#[test]
fn points_have_one_name_in_both_tables() {
    let folder = tempfile::tempdir().unwrap();
    for (number, info) in POINTS.iter().enumerate() {
        let (ours, theirs) = if info.per_layer {
            (format!("{}.7", info.name), info.alias.replace("{L}", "7"))
        } else {
            (info.name.to_owned(), info.alias.to_owned())
        };
        let mut parts = relu(Array2::ones((1, 2)), Array2::ones((1, 2)));
        parts.about.reads = vec![ours.clone()];
        let at = folder.path().join(number.to_string());
        format::write_saelens(&Dictionary::new(parts).unwrap(), &at, None).unwrap();
        let config = std::fs::read_to_string(at.join("cfg.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        let written = config["metadata"]["hook_name"].as_str().unwrap();
        // A point that TransformerLens lacks keeps our name.
        let expected = if theirs.is_empty() { &ours } else { &theirs };
        assert_eq!(written, expected, "{ours}");
        let (read, _) = format::read(&at).unwrap();
        assert_eq!(read.about().reads, [ours]);
    }
}
