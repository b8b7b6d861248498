//! Steering while generating: what each form does to a stream, and where it is done. To whom, by conditions: `condition.rs`.
#![allow(clippy::unwrap_used, missing_docs)]

mod condition;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use candlescope::hooks::{Edit, EditOp, HookPoint, Hooks, Point, PositionSelect, Vector};
use candlescope::model::generate::{Continue, GenerateOptions, generate};
use candlescope::model::sample::SampleOptions;
use candlescope::model::session::Session;
use candlescope::model::{Batch, Decoder, LoadOptions, LogitsAt, Opened};
use candlescope::steer::{
    Aim, EncodedPrompt, Form, Options, RefusalTokens, Scorer, Span, Steering, ablation, addition,
    random_directions, relative_doses, sweep,
};

fn open(name: &str) -> Decoder {
    let options = LoadOptions {
        dtype: DType::F32,
        ..LoadOptions::default()
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/models")
        .join(name);
    Opened::at(&path, &options)
        .unwrap()
        .decoder(&options)
        .unwrap()
}

/// Prompts of different lengths after a shared opening; the tails have one or two tokens.
fn prompts(n: usize) -> Vec<EncodedPrompt> {
    let make = |i: usize| {
        let mut ids = vec![3, 1, 4, 1, 5];
        ids.extend((0..=i % 4).map(|j| 7 + (11 * i as u32 + 5 * j as u32) % 40));
        let end = ids.len() - 1;
        ids.extend([2, 6].iter().take(1 + i % 2));
        EncodedPrompt {
            id: format!("p{i}"),
            instruction_end: end,
            tail: end + 1..ids.len(),
            ids,
        }
    };
    (0..n).map(make).collect()
}

fn direction(model: &Decoder, seed: u64, length: f32) -> Vector {
    let unit = random_directions(1, model.config().d_model, seed)
        .unwrap()
        .remove(0);
    Arc::new(unit.iter().map(|x| x * length).collect())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum()
}

/// The streams `[pos][d_model]` of one row at a point.
fn stream(model: &Decoder, ids: &[u32], at: HookPoint, hooks: &Hooks) -> Vec<Vec<f32>> {
    let batch = Batch::single(ids).unwrap();
    let out = model
        .forward(&batch, &hooks.clone().capture(at), LogitsAt::None)
        .unwrap();
    out.captured[&at].get(0).unwrap().to_vec2().unwrap()
}

fn resid(layer: usize) -> HookPoint {
    HookPoint::new(Point::ResidPre, layer)
}

/// Each form at layer 1 with its dose, on a plane of two directions.
fn forms(model: &Decoder) -> Vec<(Form, Vec<Edit>)> {
    let (a, b) = (direction(model, 1, 3.0), direction(model, 2, 1.0));
    let doses = [
        (Form::Add, 2.0),
        (Form::Subspace, 1.0),
        (Form::Clamp, 1.5),
        (Form::Cap, -0.5),
        (Form::Floor, 0.5),
        (Form::OneSided, 1.0),
        (Form::Affine, 1.0),
        (Form::Rotate, 70.0),
        (Form::RotateTo, 30.0),
    ];
    doses
        .into_iter()
        .map(|(form, dose)| {
            let vectors = match form {
                Form::Rotate | Form::RotateTo | Form::Affine | Form::Subspace => {
                    vec![a.clone(), b.clone()]
                }
                _ => vec![a.clone()],
            };
            let op = form.op(&vectors, dose).unwrap();
            (form, vec![Edit::new(resid(1), op)])
        })
        .collect()
}

#[test]
fn each_form_does_to_the_stream_what_it_says() {
    let model = open("llama");
    let ids: Vec<u32> = vec![3, 1, 4, 1, 5, 9, 2, 6];
    let (a, b) = (direction(&model, 1, 3.0), direction(&model, 2, 1.0));
    let unit: Vec<f32> = a.iter().map(|x| x / 3.0).collect();
    let before = stream(&model, &ids, resid(1), &Hooks::new());
    // The second axis of the plane, by hand.
    let along = dot(&b, &unit);
    let second: Vec<f64> = b
        .iter()
        .zip(&unit)
        .map(|(&b, &u)| f64::from(b) - along * f64::from(u))
        .collect();
    let length = second.iter().map(|x| x * x).sum::<f64>().sqrt();
    let second: Vec<f32> = second.iter().map(|x| (x / length) as f32).collect();
    for (form, edits) in forms(&model) {
        let after = stream(&model, &ids, resid(1), &Hooks::new().edits(edits));
        let mut changed = 0.0f64;
        for (x, y) in before.iter().zip(&after) {
            let (p, q) = (dot(x, &unit), dot(x, &second));
            let wanted = match form {
                Form::Add => (p + 6.0, q),
                Form::Subspace => (0.0, 0.0),
                Form::Clamp => (1.5, q),
                Form::Cap => (p.min(-0.5), q),
                Form::Floor => (p.max(0.5), q),
                Form::OneSided => (p.min(0.0), q),
                // The origin is b, whose component along a is `along`; a is 3 long.
                Form::Affine => (along + 3.0, q),
                Form::Rotate => {
                    let (sin, cos) = 70f64.to_radians().sin_cos();
                    (p * cos - q * sin, p * sin + q * cos)
                }
                Form::RotateTo => {
                    let (sin, cos) = 30f64.to_radians().sin_cos();
                    (p.hypot(q) * cos, p.hypot(q) * sin)
                }
            };
            let found = (dot(y, &unit), dot(y, &second));
            let scale = 1.0 + dot(x, x).sqrt();
            assert!(
                (found.0 - wanted.0).abs() < 1e-5 * scale
                    && (found.1 - wanted.1).abs() < 1e-5 * scale,
                "{form:?}: {found:?} {wanted:?}"
            );
            if matches!(form, Form::Rotate | Form::RotateTo) {
                assert!((dot(x, x).sqrt() - dot(y, y).sqrt()).abs() < 1e-5 * scale);
            }
            // Nothing outside the plane moves.
            for j in 0..x.len() {
                let planned = f64::from(x[j])
                    + (wanted.0 - p) * f64::from(unit[j])
                    + (wanted.1 - q) * f64::from(second[j]);
                assert!((f64::from(y[j]) - planned).abs() < 1e-5 * scale, "{form:?}");
            }
            changed = changed.max((wanted.0 - p).abs() + (wanted.1 - q).abs());
        }
        assert!(changed > 1e-2, "{form:?} changes nothing");
    }
}

#[test]
fn an_amount_of_zero_changes_no_bit() {
    let model = open("llama");
    let ids = [3, 1, 4, 1, 5, 9, 2, 6];
    let (a, b) = (direction(&model, 1, 3.0), direction(&model, 2, 1.0));
    let before = stream(
        &model,
        &ids,
        HookPoint::new(Point::ResidPost, 1),
        &Hooks::new(),
    );
    let affine = EditOp::Affine {
        direction: a.clone(),
        target: 4.0,
        amount: 0.0,
    };
    let one = |form: Form, vectors: &[Vector]| form.op(vectors, 0.0).unwrap();
    let pair = [a.clone(), b];
    for op in [
        one(Form::Add, &pair[..1]),
        one(Form::Subspace, &pair),
        one(Form::OneSided, &pair[..1]),
        one(Form::Rotate, &pair),
        affine,
    ] {
        let name = op.name();
        let hooks = Hooks::new().edit(Edit::new(resid(1), op));
        let after = stream(&model, &ids, HookPoint::new(Point::ResidPost, 1), &hooks);
        assert_eq!(before, after, "{name}");
    }
}

fn answers(model: &Decoder, prompts: &[&[u32]], hooks: &Hooks) -> Vec<Vec<u32>> {
    let options = GenerateOptions {
        max_new: 6,
        sample: SampleOptions::default(),
        stop: Vec::new(),
    };
    let mut on_token = |_, _| Continue::Yes;
    generate(model, prompts, &options, hooks, &mut on_token)
        .unwrap()
        .into_iter()
        .map(|row| row.ids)
        .collect()
}

/// Greedy answer without any cache: the whole row again for each token, edits at positions chosen by hand.
fn uncached(model: &Decoder, prompt: &[u32], edits: &[Edit], touched: &Range<usize>) -> Vec<u32> {
    let mut ids = prompt.to_vec();
    for _ in 0..6 {
        let last = touched.end.min(ids.len());
        let chosen: Vec<i64> = (touched.start..last).map(|p| p as i64).collect();
        let mut hooks = Hooks::new();
        if !chosen.is_empty() {
            for edit in edits {
                let mut edit = edit.clone();
                edit.select.positions = PositionSelect::At(chosen.clone());
                hooks = hooks.edit(edit);
            }
        }
        let batch = Batch::single(&ids).unwrap();
        let out = model.forward(&batch, &hooks, LogitsAt::Last).unwrap();
        let logits = out.logits().unwrap().flatten_all().unwrap();
        ids.push(logits.argmax(0).unwrap().to_scalar::<u32>().unwrap());
    }
    ids.split_off(prompt.len())
}

#[test]
fn batched_and_cached_steering_is_that_of_each_prompt_alone_at_every_span() {
    for name in ["llama", "gemma2", "gpt2"] {
        let model = open(name);
        let mut differ = 0;
        for (form, edits) in forms(&model) {
            for span in [Span::All, Span::Prompt, Span::Generated, Span::After] {
                // Tails of one kind, as `conditional` makes them.
                let prompts: Vec<EncodedPrompt> = prompts(8)
                    .into_iter()
                    .filter(|p| p.tail.len() == 2)
                    .collect();
                let rows: Vec<&[u32]> = prompts.iter().map(|p| p.ids.as_slice()).collect();
                let hooks = Hooks::new().edits(span.restrict(edits.clone(), 2));
                let together = answers(&model, &rows, &hooks);
                for (prompt, answer) in prompts.iter().zip(&together) {
                    let alone = answers(&model, &[&prompt.ids], &hooks);
                    assert_eq!(alone[0], *answer, "{name} {form:?} {span:?}");
                    let n = prompt.ids.len();
                    let touched = match span {
                        Span::All => 0..usize::MAX,
                        Span::Prompt => 0..n,
                        Span::Generated => n..usize::MAX,
                        Span::After => prompt.tail.start..usize::MAX,
                    };
                    let by_hand = uncached(&model, &prompt.ids, &edits, &touched);
                    assert_eq!(by_hand, *answer, "{name} {form:?} {span:?}");
                    let plain = answers(&model, &[&prompt.ids], &Hooks::new());
                    differ += usize::from(plain[0] != *answer);
                    if span == Span::Generated {
                        assert_eq!(plain[0][0], answer[0], "the first token is the model's own");
                    }
                }
            }
        }
        assert!(differ > 4, "{name}: steering changes {differ} answers");
    }
}

#[test]
fn a_session_steers_as_generation_does_and_never_takes_an_answer_for_a_prompt() {
    let model = open("llama");
    let prompt = prompts(4).remove(3).ids;
    let (_, edits) = forms(&model).remove(0);
    for span in [Span::Prompt, Span::Generated, Span::After] {
        let hooks = Hooks::new().edits(span.restrict(edits.clone(), 2));
        let sample = SampleOptions::default();
        let mut session = Session::new(&model, &prompt, &sample, &hooks).unwrap();
        for _ in 0..6 {
            session.step(&model).unwrap();
        }
        assert_eq!(
            session.answer(),
            answers(&model, &[&prompt], &hooks)[0],
            "{span:?}"
        );
        // The conversation goes on: what was an answer is now part of the prompt.
        let longer = [&prompt[..], session.answer(), &[9, 2]].concat();
        let mut next = Session::after(&model, &session, &longer, &sample, &hooks).unwrap();
        for _ in 0..6 {
            next.step(&model).unwrap();
        }
        assert_eq!(
            next.answer(),
            answers(&model, &[&longer], &hooks)[0],
            "{span:?}"
        );
    }
}

#[test]
fn a_planted_direction_is_moved_taken_out_and_set() {
    let model = open("llama");
    let ids = [3, 1, 4, 1, 5, 9, 2, 6];
    let v = direction(&model, 5, 1.0);
    let n = model.config().n_layers;
    let before = stream(&model, &ids, resid(1), &Hooks::new());
    let added = stream(
        &model,
        &ids,
        resid(1),
        &Hooks::new().edits(addition(&v, 1, 2.5)),
    );
    for (x, y) in before.iter().zip(&added) {
        assert!((dot(y, &v) - dot(x, &v) - 2.5).abs() < 1e-5);
    }
    let hooks = Hooks::new().edits(ablation(&v, model.config()));
    for layer in 0..n {
        let at = HookPoint::new(Point::ResidPost, layer);
        let left = stream(&model, &ids, at, &hooks);
        assert!(
            left.iter()
                .all(|x| dot(x, &v).abs() < 1e-5 * dot(x, x).sqrt())
        );
    }
    let clamp = Steering::form(Form::Clamp, "d@1*-0.75").unwrap();
    let edits = clamp.edits(&v, model.config()).unwrap();
    let set = stream(&model, &ids, resid(1), &Hooks::new().edits(edits));
    assert!(set.iter().all(|x| (dot(x, &v) + 0.75).abs() < 1e-5));
}

#[test]
fn weights_by_layer_multiply_the_dose() {
    let model = open("llama");
    let v = direction(&model, 5, 1.0);
    let made = |text: &str| {
        let steering = Steering::ablation(text).unwrap();
        steering.edits(&v, model.config()).unwrap()
    };
    let told: Vec<(String, f64)> = made("d@attn=peak(p=1,d=2,max=1.5)+mlp=list(0:0.25)*2")
        .iter()
        .map(|edit| match edit.op {
            EditOp::Ablate { amount, .. } => (edit.at.to_string(), amount),
            _ => panic!(),
        })
        .collect();
    let mut expected = vec![
        ("attn_contrib.0".to_owned(), 1.5),
        ("attn_contrib.1".to_owned(), 3.0),
    ];
    // The rest of the triangle, then the list; how many of the former depends on the model's depth.
    if model.config().n_layers > 2 {
        expected.push(("attn_contrib.2".to_owned(), 1.5));
    }
    expected.push(("mlp_contrib.0".to_owned(), 0.5));
    assert_eq!(told, expected);
    // As text with weight 1 the old form and the new one agree, but for the stream itself.
    let old = made("d@1");
    assert_eq!(old.len(), 3);
    let clamp = Steering::form(Form::Clamp, "d@peak(p=1,d=1)*1").unwrap();
    let error = clamp.edits(&v, model.config()).unwrap_err().to_string();
    assert!(error.contains("no weight by layer"), "{error}");
    let rotate = Steering::form(Form::Rotate, "d@1*30").unwrap();
    let error = rotate.edits(&v, model.config()).unwrap_err().to_string();
    assert!(error.contains("expected two directions"), "{error}");
}

#[test]
fn edits_are_written_down_and_read_again() {
    let model = open("llama");
    for (form, edits) in forms(&model) {
        for span in [Span::All, Span::Prompt, Span::Generated, Span::After] {
            let edits = span.restrict(edits.clone(), 3);
            let text = serde_json::to_string(&edits).unwrap();
            let again: Vec<Edit> = serde_json::from_str(&text).unwrap();
            assert_eq!(
                serde_json::to_string(&again).unwrap(),
                text,
                "{form:?} {span:?}"
            );
        }
    }
}

#[test]
fn a_relative_dose_is_the_vectors_length_over_the_streams() {
    let model = open("llama");
    let (v, prompts) = (direction(&model, 5, 4.0), prompts(5));
    let edits = addition(&v, 1, 0.5);
    let found = relative_doses(&model, &prompts, &edits, &Options::default()).unwrap();
    assert_eq!((found.len(), found[0].at.as_str()), (1, "resid_pre.1"));
    assert!((found[0].change - 2.0).abs() < 1e-4);
    let mut norms = Vec::new();
    for prompt in &prompts {
        let rows = stream(&model, &prompt.ids, resid(1), &Hooks::new());
        norms.extend(rows[1..].iter().map(|x| dot(x, x).sqrt()));
    }
    let mean = norms.iter().sum::<f64>() / norms.len() as f64;
    assert_eq!(found[0].tokens, norms.len());
    assert!((found[0].share - 2.0 / mean).abs() < 1e-4 * found[0].share);
}

#[test]
fn a_sweep_scores_each_dose_beside_random_directions() {
    let model = open("llama");
    let prompts = prompts(6);
    // The unembedding of a token, put in before the last block's end: its log-odds rise with the dose.
    let head = model.weights().embed.clone();
    let token = 11u32;
    let row: Vec<f32> = head.get(token as usize).unwrap().to_vec1().unwrap();
    let tokens = RefusalTokens {
        ids: vec![token],
        words: vec!["x".into()],
    };
    let v: Vector = Arc::new(row);
    let last = model.config().n_layers - 1;
    let steering = Steering::addition(&format!("d@{last}*1")).unwrap();
    let run = |scorer: &Scorer, aim| {
        sweep(
            &model,
            &prompts,
            (&steering, std::slice::from_ref(&v)),
            &[1.0, 3.0],
            (scorer, aim, Span::All),
            (8, 0),
            &Options::default(),
        )
        .unwrap()
    };
    let found = run(&Scorer::LogOdds(tokens), Aim::Up);
    let doses: Vec<f64> = found.doses.iter().map(|dosed| dosed.dose).collect();
    assert_eq!(doses, [0.0, 1.0, 3.0]);
    assert_eq!(found.doses[0].kl.to_bits(), 0f64.to_bits());
    assert!(found.doses[2].kl > 0.0);
    assert_eq!(found.health.slopes.len(), 6);
    let null = found.null.as_ref().unwrap();
    assert_eq!(null.effects.len(), 8);
    assert!((null.effect - (found.doses[2].mean - found.doses[0].mean)).abs() < 1e-12);
    // Along itself a direction cannot but rise, for every prompt.
    let along = run(&Scorer::Projection(v.clone()), Aim::Up);
    assert_eq!(along.health.anti_steered.successes, 0);
    assert!((along.health.monotone - 1.0).abs() < 1e-12);
    let down = run(&Scorer::Projection(v.clone()), Aim::Down);
    assert_eq!(down.health.anti_steered.successes, 6);
}

#[test]
fn padding_is_never_read_by_a_form() {
    // A batch with left padding has, at every token, the bits of each row alone, under every form at once.
    let model = open("llama");
    let edits: Vec<Edit> = forms(&model)
        .into_iter()
        .flat_map(|(_, edits)| edits)
        .collect();
    let prompts = prompts(5);
    let rows: Vec<&[u32]> = prompts.iter().map(|p| p.ids.as_slice()).collect();
    let batch = Batch::new(&rows).unwrap();
    let at = HookPoint::new(Point::ResidPost, 1);
    let hooks = Hooks::new().edits(edits.clone()).capture(at);
    let out = model.forward(&batch, &hooks, LogitsAt::None).unwrap();
    for (i, row) in rows.iter().enumerate() {
        let pad = batch.pad()[i];
        let own: Tensor = out.captured[&at]
            .get(i)
            .unwrap()
            .narrow(0, pad, row.len())
            .unwrap();
        let alone = stream(&model, row, at, &Hooks::new().edits(edits.clone()));
        assert_eq!(own.to_vec2::<f32>().unwrap(), alone, "row {i}");
    }
    assert!(batch.pad().iter().any(|&pad| pad > 0));
}
