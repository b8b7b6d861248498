//! A session that is rewound, branched or started from another one computes what a fresh one computes, bit for bit.

use super::*;
use candlescope::model::sample::SampleOptions;
use candlescope::model::{ModelError, Session, Step};

const LENGTH: usize = 9;

fn drawing(temperature: f64, top_p: Option<f64>) -> SampleOptions {
    SampleOptions {
        temperature,
        top_p,
        seed: 5,
        ..SampleOptions::default()
    }
}

fn run(session: &mut Session, model: &Decoder, until: usize) -> Vec<Step> {
    while session.steps().len() < until {
        session.step(model).unwrap();
    }
    session.steps().to_vec()
}

fn addition(model: &Decoder, alpha: f64, positions: PositionSelect) -> Hooks {
    let at = HookPoint::new(Point::ResidPre, 1);
    let vector = Arc::new(
        (0..model.config().d_model)
            .map(|i| (i as f32 * 0.7).sin())
            .collect(),
    );
    let mut edit = Edit::new(at, EditOp::Add { vector, alpha });
    edit.select = Selector::positions(positions);
    Hooks::new().edit(edit)
}

#[test]
fn a_session_draws_what_generate_draws() {
    for name in FAMILIES {
        let model = open(name, DType::F32);
        let prompt = row(11, 3, model.config().vocab_size);
        for sample in [
            drawing(0.0, None),
            drawing(0.9, Some(0.95)),
            drawing(1.0, None),
        ] {
            let hooks = addition(&model, 0.5, PositionSelect::All);
            let mut session = Session::new(&model, &prompt, &sample, &hooks).unwrap();
            let steps = run(&mut session, &model, LENGTH);
            let options = GenerateOptions {
                max_new: LENGTH,
                sample,
                stop: Vec::new(),
            };
            let whole = generate(&model, &[&prompt], &options, &hooks, &mut |_, _| {
                candlescope::model::generate::Continue::Yes
            })
            .unwrap();
            assert_eq!(session.answer(), whole[0].ids, "{name}");
            // The distribution is a distribution, and greedy takes its best.
            for step in &steps {
                assert!(step.log_prob <= 0.0 && step.top[0].1 >= step.log_prob);
                assert_eq!(step.top.len(), 5);
                if sample.temperature == 0.0 {
                    assert_eq!(step.top[0], (step.id, step.log_prob));
                }
            }
        }
    }
}

#[test]
fn rewound_and_generated_again_gives_the_same_bits() {
    for name in FAMILIES {
        let model = open(name, DType::F32);
        let prompt = row(7, 1, model.config().vocab_size);
        let hooks = addition(&model, 0.5, PositionSelect::All);
        let sample = drawing(1.0, None);
        let mut session = Session::new(&model, &prompt, &sample, &hooks).unwrap();
        let fresh = run(&mut session, &model, LENGTH);
        for kept in [8, 4, 0, 9] {
            session.rewind_to(kept).unwrap();
            assert_eq!(session.steps(), &fresh[..kept]);
            assert_eq!(
                run(&mut session, &model, LENGTH),
                fresh,
                "{name} from {kept}"
            );
        }
        assert!(session.rewind_to(LENGTH + 1).is_err());
    }
}

#[test]
fn a_branch_is_what_a_longer_prompt_of_forced_tokens_gives() {
    let model = open("llama", DType::F32);
    let prompt = row(7, 2, model.config().vocab_size);
    let sample = drawing(1.0, None);
    let none = Hooks::new();
    let mut trunk = Session::new(&model, &prompt, &sample, &none).unwrap();
    let before = run(&mut trunk, &model, LENGTH);
    let mut branch = trunk.fork().unwrap();
    branch.rewind_to(3).unwrap();
    let other = before[3]
        .top
        .iter()
        .map(|t| t.0)
        .find(|&id| id != before[3].id)
        .unwrap();
    assert!(branch.push(&model, other).unwrap().forced);
    let branched = run(&mut branch, &model, LENGTH);
    assert_eq!(trunk.steps(), &before, "the trunk is left alone");
    // The same answer, every token put in by hand.
    let mut forced = Session::new(&model, &prompt, &sample, &none).unwrap();
    for step in &branched {
        let again = forced.push(&model, step.id).unwrap();
        assert_eq!((again.log_prob, &again.top), (step.log_prob, &step.top));
    }
    let vocab = model.config().vocab_size as u32;
    assert!(matches!(
        forced.push(&model, vocab),
        Err(ModelError::TokenOutOfRange { .. })
    ));
}

#[test]
fn what_another_session_computed_is_used_only_where_it_is_the_same() {
    for name in FAMILIES {
        let model = open(name, DType::F32);
        let prompt = row(9, 4, model.config().vocab_size);
        let sample = drawing(0.0, None);
        let mut plain = Session::new(&model, &prompt, &sample, &Hooks::new()).unwrap();
        run(&mut plain, &model, 4);
        let late = addition(&model, 2.0, PositionSelect::From(6));
        let all = addition(&model, 2.0, PositionSelect::All);
        for (what, hooks) in [("late", &late), ("all", &all), ("none", &Hooks::new())] {
            let mut fresh = Session::new(&model, &prompt, &sample, hooks).unwrap();
            let expected = run(&mut fresh, &model, LENGTH);
            let mut begun = Session::after(&model, &plain, &prompt, &sample, hooks).unwrap();
            assert_eq!(run(&mut begun, &model, LENGTH), expected, "{name} {what}");
        }
        // From under an edit nothing crosses to another one, nor to none.
        let mut edited = Session::new(&model, &prompt, &sample, &all).unwrap();
        run(&mut edited, &model, 2);
        for hooks in [&late, &Hooks::new()] {
            let mut fresh = Session::new(&model, &prompt, &sample, hooks).unwrap();
            let mut begun = Session::after(&model, &edited, &prompt, &sample, hooks).unwrap();
            assert_eq!(
                run(&mut begun, &model, 5),
                run(&mut fresh, &model, 5),
                "{name}"
            );
        }
    }
}

#[test]
fn a_change_of_drawing_holds_from_the_next_token_on() {
    let model = open("llama", DType::F32);
    let prompt = row(7, 2, model.config().vocab_size);
    let hot = drawing(1.0, None);
    let mut session = Session::new(&model, &prompt, &drawing(0.0, None), &Hooks::new()).unwrap();
    let greedy = run(&mut session, &model, 3);
    session.set_sample(&hot).unwrap();
    let mixed = run(&mut session, &model, LENGTH);
    assert_eq!(mixed[..3], greedy);
    // Put in by hand, tokens use up their draws as well.
    let mut forced = Session::new(&model, &prompt, &hot, &Hooks::new()).unwrap();
    for step in &greedy {
        forced.push(&model, step.id).unwrap();
    }
    run(&mut forced, &model, LENGTH);
    assert_eq!(forced.answer(), session.answer());
}

#[test]
fn a_dose_that_is_turned_runs_the_blocks_above_it_alone() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    for name in FAMILIES {
        let model = open(name, DType::F32);
        let prompt = row(11, 3, model.config().vocab_size);
        let sample = drawing(0.0, None);
        // Counts passes over the whole prompt through the first block; the same closure under every dose.
        let passes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&passes);
        let op = EditOp::Closure {
            name: "count".into(),
            function: Arc::new(move |x, pass| {
                count.fetch_add(usize::from(pass.queries > 1), Ordering::Relaxed);
                Ok(x.clone())
            }),
        };
        let counted = Edit::new(HookPoint::new(Point::ResidPre, 0), op);
        let dosed = |alpha| addition(&model, alpha, PositionSelect::All).edit(counted.clone());
        let mut before = Session::new(
            &model,
            &prompt,
            &sample,
            &Hooks::new().edit(counted.clone()),
        )
        .unwrap();
        run(&mut before, &model, LENGTH);
        for (turn, alpha) in [0.5, 1.5, -2.0].into_iter().enumerate() {
            let mut new = Session::after(&model, &before, &prompt, &sample, &dosed(alpha)).unwrap();
            assert!(new.saves());
            let already = passes.load(Ordering::Relaxed);
            let steps = run(&mut new, &model, LENGTH);
            let whole = passes.load(Ordering::Relaxed) - already;
            assert_eq!(whole, usize::from(turn == 0), "{name}: {alpha}");
            let mut fresh = Session::new(&model, &prompt, &sample, &dosed(alpha)).unwrap();
            assert_eq!(steps, run(&mut fresh, &model, LENGTH), "{name}: {alpha}");
            // What is rewound and forked goes on the same way.
            let mut fork = new.fork().unwrap();
            fork.rewind_to(2).unwrap();
            assert_eq!(run(&mut fork, &model, LENGTH), steps, "{name}: {alpha}");
            before = new;
        }
    }
}
