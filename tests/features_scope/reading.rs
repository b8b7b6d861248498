//! Probes read along, runs set beside each other, and what is refused.

use candlescope::features::FeatureError;
use candlescope::features::scope::{
    Channel, ChannelKind, Comparison, Lane, Scope, Step, Trace, Turns, compare,
};
use candlescope::model::Checkpoint;
use candlescope::model::sample::SampleOptions;
use candlescope::probing::file::{About as ProbeAbout, Calibrated, ProbeFile};
use candlescope::probing::{Fitting, Place, Position, judge, token_scores};
use candlescope::steer::kl;
use candlescope_probes::LinearProbe;
use candlescope_probes::calibration::Platt;

use crate::fixture::{
    PROMPT, at, drawn, edits, go_on, logits, near, open, plain_edits, run, scope, splice, warm,
};

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
