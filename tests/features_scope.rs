//! The oscilloscope on tiny models of several families: what is recorded is what plain passes give, and a branch is what a
//! run from the beginning would have been.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::sync::Arc;

use candlescope::features::scope::{
    Channel, ChannelKind, Comparison, End, Lane, Limits, Recorder, Scope, Step, Trace, Turns,
    compare,
};
use candlescope::features::{FeatureError, LatentEdit, Splice};
use candlescope::hooks::{Edit, EditOp, HookPoint, Hooks};
use candlescope::model::generate::{Continue, GenerateOptions, generate};
use candlescope::model::sample::SampleOptions;
use candlescope::model::{
    Batch, Cancel, Checkpoint, Decoder, LoadOptions, LogitsAt, ModelError, Opened,
};
use candlescope::probing::file::{About as ProbeAbout, Calibrated, ProbeFile};
use candlescope::probing::{Fitting, Place, Position, judge, token_scores};
use candlescope::steer::kl;
use candlescope_probes::LinearProbe;
use candlescope_probes::calibration::Platt;
use candlescope_sae::{About, Activation, Dictionary, Parts, Scaling};
use ndarray::{Array1, Array2};

const PROMPT: [u32; 6] = [3, 1, 4, 1, 5, 9];
const FAMILIES: [&str; 5] = ["llama", "gemma2", "gpt2", "qwen3", "olmo2"];

fn open(name: &str) -> Decoder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let options = LoadOptions::default();
    let opened = Opened::at(&path.join(name), &options).unwrap();
    opened.decoder(&options).unwrap()
}

fn at(text: &str) -> HookPoint {
    text.parse().unwrap()
}

fn edits(list: &[&str]) -> Vec<LatentEdit> {
    list.iter().map(|edit| edit.parse().unwrap()).collect()
}

/// Numbers in -1..1 from a multiplicative generator.
fn drawn(rows: usize, columns: usize, mut seed: u64) -> Array2<f32> {
    Array2::from_shape_simple_fn((rows, columns), || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 33) as f32 / (1u64 << 31) as f32).mul_add(2.0, -1.0)
    })
}

fn dictionary(d_in: usize, d_out: usize) -> Dictionary {
    let latents = 40;
    Dictionary::new(Parts {
        encoder: drawn(latents, d_in, 1),
        decoder: drawn(latents, d_out, 2),
        encoder_bias: Array1::zeros(latents),
        decoder_bias: Array1::zeros(d_out),
        centred: false,
        activation: Activation::TopK { k: 6 },
        skip: None,
        scaling: Scaling::None,
        about: About::default(),
    })
    .unwrap()
}

fn splice(model: &Decoder, read: &str, write: &str) -> Splice {
    let d = model.config().d_model;
    let points = [at(read), at(write)];
    Splice::new(Arc::new(dictionary(d, d)), "drawn", points, model.config()).unwrap()
}

fn direction(model: &Decoder, point: &str) -> Channel {
    let vector = drawn(1, model.config().d_model, 7)
        .into_raw_vec_and_offset()
        .0;
    Channel::direction("drawn", at(point), &vector).unwrap()
}

fn scope(model: &Decoder) -> Scope {
    let channels = vec![direction(model, "resid_post.1")];
    let splice = splice(model, "resid_post.0", "resid_post.0");
    Scope::new(model.config(), splice, channels, Vec::new()).unwrap()
}

fn warm(seed: u64) -> SampleOptions {
    SampleOptions {
        temperature: 1.0,
        seed,
        ..SampleOptions::default()
    }
}

fn limits(max_new: usize) -> Limits {
    Limits {
        max_new,
        stop: Vec::new(),
    }
}

fn go_on(recorder: &mut Recorder, model: &Decoder, max_new: usize) {
    let told = &mut |_: &Trace, _| Continue::Yes;
    recorder.run(model, &limits(max_new), told).unwrap();
}

fn run(scope: &Scope, model: &Decoder, sample: &SampleOptions, turns: Turns) -> Recorder {
    let mut recorder = scope.start(model, &PROMPT, sample, turns).unwrap();
    go_on(&mut recorder, model, 8);
    recorder
}

/// Rows `[pos, width]` of a point in a pass over all tokens at once.
fn rows(model: &Decoder, ids: &[u32], point: HookPoint, edits: Vec<Edit>) -> Array2<f32> {
    let hooks = Hooks::new().edits(edits).capture(point);
    let batch = Batch::single(ids).unwrap();
    let out = model.forward(&batch, &hooks, LogitsAt::None).unwrap();
    let rows = out.captured[&point].squeeze(0).unwrap();
    let rows: Vec<Vec<f32>> = rows.flatten_from(1).unwrap().to_vec2().unwrap();
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j])
}

fn logits(model: &Decoder, ids: &[u32], edits: Vec<Edit>) -> Vec<Vec<f32>> {
    let hooks = Hooks::new().edits(edits);
    let batch = Batch::single(ids).unwrap();
    let out = model.forward(&batch, &hooks, LogitsAt::All).unwrap();
    out.logits().unwrap().squeeze(0).unwrap().to_vec2().unwrap()
}

/// The library's own edits of latents, from a position on.
fn plain_edits(splice: &Splice, tokens: usize, from: usize, list: &[&str]) -> Vec<Edit> {
    let places = Arc::new(vec![(0..tokens).map(|position| position >= from).collect()]);
    let splice = splice.clone().keeping_error().editing(edits(list)).unwrap();
    splice.edits_at(places)
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 2e-4 * (1.0 + a.abs().max(b.abs()))
}

#[test]
fn what_is_recorded_is_what_a_pass_over_the_whole_text_gives() {
    for family in FAMILIES {
        let model = open(family);
        let scope = scope(&model);
        let recorder = run(&scope, &model, &warm(3), Turns::none());
        let trace = recorder.trace();
        let ids = trace.ids();
        assert_eq!(
            (ids.len(), trace.prompt, trace.end),
            (14, 6, Some(End::Length))
        );
        let read = rows(&model, &ids, at("resid_post.0"), Vec::new());
        let codes = scope.splice().dictionary().encode(read.view()).unwrap();
        for (t, step) in trace.steps.iter().enumerate() {
            let (latents, values) = codes.row(t);
            assert_eq!(
                step.codes.iter().map(|c| c.0).collect::<Vec<_>>(),
                latents,
                "{family} {t}"
            );
            for (&(latent, value), &expected) in step.codes.iter().zip(values) {
                assert!(
                    near(value.into(), expected.into()),
                    "{family} {t} {latent}: {value} {expected}"
                );
            }
        }
        // The component along the direction, by hand.
        let vector = drawn(1, model.config().d_model, 7);
        let norm = vector
            .iter()
            .map(|x| f64::from(*x).powi(2))
            .sum::<f64>()
            .sqrt();
        let later = rows(&model, &ids, at("resid_post.1"), Vec::new());
        for (step, row) in trace.steps.iter().zip(later.outer_iter()) {
            let dot: f64 = row
                .iter()
                .zip(&vector)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum();
            assert!(
                near(step.values[0], dot / norm),
                "{family}: {} {}",
                step.values[0],
                dot / norm
            );
        }
        // Log-probabilities and entropies in f64 from the logits of the same pass.
        for (t, row) in logits(&model, &ids[..13], Vec::new()).iter().enumerate() {
            let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            let p = |i: usize| f64::from(row[i]).exp() / total;
            let entropy: f64 = (0..row.len()).map(|i| -p(i) * p(i).ln()).sum();
            let step = &trace.steps[t + 1];
            assert!(
                near(step.log_prob.unwrap().into(), p(step.id as usize).ln()),
                "{family} {t}"
            );
            assert!(near(step.entropy.unwrap().into(), entropy), "{family} {t}");
        }
        assert_eq!(
            (trace.steps[0].log_prob, trace.steps[0].entropy),
            (None, None)
        );
    }
}

#[test]
fn without_edits_the_tokens_are_those_of_plain_generation() {
    let greedy = SampleOptions::default();
    for family in FAMILIES {
        let model = open(family);
        let scope = scope(&model);
        for sample in [greedy, warm(3), warm(4)] {
            let options = GenerateOptions {
                max_new: 8,
                sample,
                stop: Vec::new(),
            };
            let plain = generate(&model, &[&PROMPT], &options, &Hooks::new(), &mut |_, _| {
                Continue::Yes
            });
            let recorder = run(&scope, &model, &sample, Turns::none());
            assert_eq!(recorder.trace().answer(), plain.unwrap()[0].ids, "{family}");
            // The seed decides it, to the bit.
            assert_eq!(
                run(&scope, &model, &sample, Turns::none()).trace(),
                recorder.trace()
            );
        }
    }
}

#[test]
fn a_branch_is_a_run_that_had_its_turns_from_the_beginning() {
    for family in FAMILIES {
        let model = open(family);
        let scope = scope(&model);
        let trunk = run(&scope, &model, &warm(3), Turns::none());
        let strong = trunk.trace().steps[2].strongest(1)[0].0;
        let turn = vec![LatentEdit::ablate(strong), "7+40".parse().unwrap()];
        let mut parted = 0;
        for from in [0, 2, 5, 6, 9, 13] {
            let mut branch = trunk.branch(&model, from, turn.clone()).unwrap();
            go_on(&mut branch, &model, 8);
            let fresh = run(
                &scope,
                &model,
                &warm(3),
                Turns::none().with(from, turn.clone()),
            );
            assert_eq!(
                branch.trace().steps,
                fresh.trace().steps,
                "{family} from {from}"
            );
            assert_eq!(branch.trace().branched, Some(from));
            let kept = from.max(5) + 1;
            assert_eq!(branch.trace().ids()[..kept], trunk.trace().ids()[..kept]);
            assert_eq!(branch.trace().steps[..from], trunk.trace().steps[..from]);
            parted += usize::from(branch.trace().ids() != trunk.trace().ids());
        }
        assert!(
            parted >= 3,
            "{family}: the edit is too weak to test anything"
        );
        // A branch of a branch, back to no edits at a later token.
        let mut first = trunk.branch(&model, 7, turn.clone()).unwrap();
        go_on(&mut first, &model, 8);
        let mut second = first.branch(&model, 10, Vec::new()).unwrap();
        go_on(&mut second, &model, 8);
        let turns = Turns::none().with(7, turn).with(10, Vec::new());
        // Turns alone say what to keep.
        let again = trunk.under(&model, second.trace().turns.clone());
        let mut again = again.unwrap();
        go_on(&mut again, &model, 8);
        assert_eq!(again.trace().steps, second.trace().steps);
        assert_eq!(
            second.trace().steps,
            run(&scope, &model, &warm(3), turns).trace().steps
        );
    }
}

#[test]
fn a_latent_that_is_turned_is_so_from_there_on_and_says_what_it_was() {
    let model = open("llama");
    let scope = scope(&model);
    let trunk = run(&scope, &model, &warm(3), Turns::none());
    let fired = |latent: usize| {
        trunk
            .trace()
            .steps
            .iter()
            .filter(|s| s.code(latent) > 0.0)
            .count()
    };
    let common = (0..40).max_by_key(|&latent| fired(latent)).unwrap();
    let turn = vec![LatentEdit::ablate(common), "11=2.5".parse().unwrap()];
    let mut branch = trunk.branch(&model, 3, turn).unwrap();
    go_on(&mut branch, &model, 8);
    let mut was = 0.0f32;
    for (t, step) in branch.trace().steps.iter().enumerate() {
        if t < 3 {
            assert_eq!(step, &trunk.trace().steps[t]);
            continue;
        }
        assert_eq!((step.code(common), step.code(11)), (0.0, 2.5), "{t}");
        assert_eq!(step.unedited.len(), 2);
        was = was.max(step.unedited(common));
    }
    assert!(was > 0.0, "nothing was ablated");
    assert_eq!(
        branch.trace().peak(11),
        (1..14)
            .map(|t| branch.trace().steps[t].unedited(11))
            .fold(0.0, f32::max)
    );
}

#[test]
fn the_model_goes_on_from_what_the_librarys_own_edits_make() {
    for (read, write) in [("resid_post.0", "resid_post.0"), ("mlp_in.0", "mlp_out.0")] {
        let model = open("llama");
        let channels = vec![direction(&model, "resid_post.1"), direction(&model, write)];
        let splice = splice(&model, read, write);
        let scope = Scope::new(model.config(), splice, channels, Vec::new()).unwrap();
        let list = ["3*3", "7+4", "20=0"];
        let recorder = run(
            &scope,
            &model,
            &warm(1),
            Turns::none().with(4, edits(&list)),
        );
        let trace = recorder.trace();
        for (channel, point) in [(0, at("resid_post.1")), (1, at(write))] {
            let edits = plain_edits(scope.splice(), 14, 4, &list);
            let edited = rows(&model, &trace.ids(), point, edits);
            let values = drawn(1, model.config().d_model, 7);
            let norm = values
                .iter()
                .map(|x| f64::from(*x).powi(2))
                .sum::<f64>()
                .sqrt();
            for (t, row) in edited.outer_iter().enumerate() {
                let dot: f64 = row
                    .iter()
                    .zip(&values)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum();
                let found = trace.steps[t].values[channel];
                assert!(
                    near(found, dot / norm),
                    "{write} {point} {t}: {found} {}",
                    dot / norm
                );
            }
        }
        let clean = rows(&model, &trace.ids(), at(write), Vec::new());
        let edits = plain_edits(scope.splice(), 14, 4, &list);
        assert_ne!(clean, rows(&model, &trace.ids(), at(write), edits));
    }
}

#[test]
fn a_latent_is_turned_in_mid_run_and_a_run_is_cancelled_and_gone_on_with() {
    let model = open("llama");
    let scope = scope(&model);
    let whole = run(
        &scope,
        &model,
        &warm(3),
        Turns::none().with(9, edits(&["7+40"])),
    );
    let mut recorder = scope
        .start(&model, &PROMPT, &warm(3), Turns::none())
        .unwrap();
    let mut told = Vec::new();
    let cancel = Cancel::new();
    let stopped = cancel.watch(|| {
        recorder.run(&model, &limits(8), &mut |trace, new| {
            told.push(new.clone());
            if new.end == 9 {
                cancel.request();
            }
            assert_eq!(new.end, trace.steps.len());
            Continue::Yes
        })
    });
    assert!(matches!(
        stopped,
        Err(FeatureError::Model(ModelError::Cancelled))
    ));
    assert_eq!(told, [0..6, 6..7, 7..8, 8..9]);
    recorder.turn(&model, edits(&["7+40"])).unwrap();
    go_on(&mut recorder, &model, 8);
    // A token was drawn before the pass was cancelled: it is read with the turn of its position, and the next one is edited.
    let late = run(
        &scope,
        &model,
        &warm(3),
        Turns::none().with(10, edits(&["7+40"])),
    );
    assert_eq!(recorder.trace().steps, late.trace().steps);
    let mut recorder = scope
        .start(&model, &PROMPT, &warm(3), Turns::none())
        .unwrap();
    recorder
        .run(&model, &limits(8), &mut |_, new| {
            if new.end == 9 {
                Continue::No
            } else {
                Continue::Yes
            }
        })
        .unwrap();
    recorder.turn(&model, edits(&["7+40"])).unwrap();
    go_on(&mut recorder, &model, 8);
    assert_eq!(recorder.trace().steps, whole.trace().steps);
    // Longer later is as long at once.
    go_on(&mut recorder, &model, 10);
    let mut longer = scope
        .start(&model, &PROMPT, &warm(3), whole.trace().turns.clone())
        .unwrap();
    go_on(&mut longer, &model, 10);
    assert_eq!(recorder.trace(), longer.trace());
}

#[test]
fn a_stop_token_ends_it_and_is_read() {
    let model = open("llama");
    let scope = scope(&model);
    let trunk = run(&scope, &model, &warm(3), Turns::none());
    let limits = Limits {
        max_new: 8,
        stop: vec![trunk.trace().answer()[3]],
    };
    let first = trunk
        .trace()
        .answer()
        .iter()
        .position(|id| limits.stop.contains(id))
        .unwrap();
    let mut recorder = scope
        .start(&model, &PROMPT, &warm(3), Turns::none())
        .unwrap();
    recorder
        .run(&model, &limits, &mut |_, _| Continue::Yes)
        .unwrap();
    assert_eq!(recorder.trace().end, Some(End::Stop));
    assert_eq!(recorder.trace().steps, trunk.trace().steps[..7 + first]);
}

#[test]
fn edits_that_hold_throughout_stand_before_the_latents() {
    let model = open("llama");
    let plain = scope(&model);
    let op = EditOp::Scale { factor: -1.5 };
    let base = vec![Edit::new(at("mlp_out.0"), op)];
    let channels = plain.channels().to_vec();
    let scope = Scope::new(
        model.config(),
        plain.splice().clone(),
        channels,
        base.clone(),
    )
    .unwrap();
    let recorder = run(&scope, &model, &warm(3), Turns::none());
    let ids = recorder.trace().ids();
    let read = rows(&model, &ids, at("resid_post.0"), base);
    let codes = scope.splice().dictionary().encode(read.view()).unwrap();
    for (t, step) in recorder.trace().steps.iter().enumerate() {
        assert_eq!(
            step.codes.iter().map(|c| c.0).collect::<Vec<_>>(),
            codes.row(t).0,
            "{t}"
        );
    }
    assert_ne!(
        recorder.trace().steps,
        run(&plain, &model, &warm(3), Turns::none()).trace().steps
    );
}

/// A probe with drawn weights at the toy's stream.
fn probe(toy: &Checkpoint, point: &str) -> ProbeFile {
    let d = toy.config().d_model;
    let probe = LinearProbe {
        weights: drawn(1, d, 11).iter().map(|x| f64::from(*x)).collect(),
        bias: 0.75,
        mean: vec![0.0; d],
        scale: vec![1.0; d],
        c: None,
    };
    let platt = Platt {
        n: 4,
        a: 1.0,
        b: 0.0,
    };
    let about = ProbeAbout {
        model: "toy".into(),
        fingerprint: toy.fingerprint().unwrap().clone(),
        place: Place {
            point: at(point),
            position: Position::FromEnd(1),
        },
        fitting: Fitting::default(),
        c: None,
        bias: 0.75,
        calibrated: Calibrated {
            platt,
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
    ProbeFile { about, probe }
}

#[test]
fn a_probe_says_at_every_token_what_the_librarys_reading_says() {
    let toy = Checkpoint::toy(0).unwrap();
    let model = &toy.decoder;
    let file = probe(&toy, "resid_post.2");
    let channel = Channel::probe("hot", &file);
    assert_eq!(
        (channel.info().at, channel.info().threshold),
        (at("resid_post.2"), Some(1.5))
    );
    let splice = splice(model, "resid_post.1", "resid_post.1");
    let scope = Scope::new(model.config(), splice, vec![channel], Vec::new()).unwrap();
    let list = ["7+3", "12*0"];
    for turns in [Turns::none(), Turns::none().with(5, edits(&list))] {
        let edited = !turns.all().is_empty();
        let recorder = run(&scope, model, &warm(2), turns);
        let ids = recorder.trace().ids();
        let edits = if edited {
            plain_edits(scope.splice(), ids.len(), 5, &list)
        } else {
            Vec::new()
        };
        let expected = token_scores(model, &ids, &file, &edits).unwrap();
        for (step, expected) in recorder.trace().steps.iter().zip(&expected) {
            assert!(
                near(step.values[0], *expected),
                "{} {expected}",
                step.values[0]
            );
        }
        assert_eq!(
            recorder.trace().lane(Lane::Channel(0)).len(),
            expected.len()
        );
    }
}

fn step(id: u32, codes: &[(u32, f32)], value: f64) -> Step {
    Step {
        id,
        log_prob: Some(-1.0),
        entropy: None,
        codes: codes.to_vec(),
        unedited: Vec::new(),
        values: vec![value],
    }
}

fn made(steps: Vec<Step>) -> Trace {
    Trace {
        prompt: 1,
        sample: SampleOptions::default(),
        turns: Turns::none(),
        channels: Vec::new(),
        branched: None,
        steps,
        end: None,
    }
}

#[test]
fn traces_are_compared_by_hand() {
    let a = made(vec![
        step(1, &[(2, 1.0)], 0.5),
        step(2, &[(2, 1.0), (5, 3.0)], 1.0),
        step(3, &[], 4.0),
        step(4, &[], 8.0),
    ]);
    let b = made(vec![
        step(1, &[(2, 1.0)], 0.5),
        step(2, &[(5, 1.0), (9, 0.5)], 0.0),
        step(7, &[], 1.0),
    ]);
    let lanes = [Lane::Latent(5), Lane::Channel(0), Lane::Entropy];
    let found: Comparison = compare(&a, &b, &lanes);
    assert_eq!(
        (found.shared, found.diverges, found.turned),
        (2, Some(2), None)
    );
    assert_eq!(found.lanes[0].difference, [Some(0.0), Some(-2.0)]);
    assert_eq!(found.lanes[0].largest, Some((1, -2.0)));
    assert_eq!(found.lanes[1].after, [Some(6.0), Some(1.0)]);
    assert_eq!(
        (found.lanes[2].largest, found.lanes[2].after),
        (None, [None, None])
    );
    let changed: Vec<_> = found
        .latents
        .iter()
        .map(|l| (l.latent, l.difference, l.at))
        .collect();
    assert_eq!(changed, [(5, -2.0, 1), (2, -1.0, 1), (9, 0.5, 1)]);
    // One is the beginning of the other: they do not diverge.
    let short = made(a.steps[..2].to_vec());
    assert_eq!(
        (
            compare(&a, &short, &[]).shared,
            compare(&a, &short, &[]).diverges
        ),
        (2, None)
    );
    assert!(compare(&a, &a, &lanes).latents.is_empty());
}

#[test]
fn the_divergence_is_zero_before_the_turn_and_the_plain_passes_after() {
    for family in ["llama", "gemma2"] {
        let model = open(family);
        let scope = scope(&model);
        let trunk = run(&scope, &model, &warm(3), Turns::none());
        let list = ["7+6"];
        let mut branch = trunk.branch(&model, 4, edits(&list)).unwrap();
        go_on(&mut branch, &model, 8);
        let [a, b] = [trunk.trace(), branch.trace()];
        let found = scope.kl(&model, a, b).unwrap();
        let compared = compare(a, b, &[]);
        assert_eq!((found.len(), compared.turned), (compared.shared, Some(4)));
        assert_eq!(found[..4], [0.0; 4]);
        let ids = &a.ids()[..compared.shared];
        let edits = plain_edits(scope.splice(), ids.len(), 4, &list);
        let (before, after) = (logits(&model, ids, Vec::new()), logits(&model, ids, edits));
        for t in 4..ids.len() {
            let expected = kl(&before[t], &after[t]);
            assert!(
                found[t] > 0.0 && (found[t] - expected).abs() <= 1e-3 * expected + 1e-6,
                "{family} {t}: {} {expected}",
                found[t]
            );
        }
        assert!(scope.kl(&model, a, a).unwrap().iter().all(|&x| x == 0.0));
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let model = open("llama");
    let scope = scope(&model);
    let sample = SampleOptions::default();
    let said = |error: FeatureError| error.to_string();
    let far = scope.start(&model, &PROMPT, &sample, Turns::always(edits(&["40=0"])));
    assert!(said(far.unwrap_err()).contains("40"), "latent out of range");
    assert!(scope.start(&model, &[], &sample, Turns::none()).is_err());
    let recorder = run(&scope, &model, &sample, Turns::none());
    assert!(said(recorder.branch(&model, 14, Vec::new()).unwrap_err()).contains("there are 14"));
    assert!(said(recorder.branch(&model, 3, edits(&["99*2"])).unwrap_err()).contains("99"));
    let zero = Channel::direction("none", at("resid_post.0"), &[0.0; 8]).unwrap_err();
    assert!(said(zero).contains("points nowhere"));
    for (point, width, word) in [
        ("resid_post.0", 3, "3"),
        ("pattern.0", 3, "pairs of tokens"),
        ("resid_post.99", 3, "99"),
    ] {
        let channel = Channel::direction("d", at(point), &vec![1.0; width]).unwrap();
        assert_eq!(channel.info().kind, ChannelKind::Direction);
        let refused = Scope::new(
            model.config(),
            scope.splice().clone(),
            vec![channel],
            Vec::new(),
        );
        assert!(said(refused.unwrap_err()).contains(word), "{point}");
    }
}
