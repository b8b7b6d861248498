//! Runs: what is recorded is what plain passes give, and a branch is what a run from the beginning would have been.

use candlescope::features::scope::{End, Limits, Scope, Turns};
use candlescope::features::{FeatureError, LatentEdit};
use candlescope::hooks::{Edit, EditOp, Hooks};
use candlescope::model::generate::{Continue, GenerateOptions, generate};
use candlescope::model::sample::SampleOptions;
use candlescope::model::{Cancel, ModelError};

use crate::fixture::{
    FAMILIES, PROMPT, at, direction, drawn, edits, go_on, limits, logits, near, open, plain_edits,
    rows, run, scope, splice, warm,
};

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
