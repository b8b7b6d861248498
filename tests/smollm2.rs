//! The real chat model against transformers 5.23 (tests/fixtures/smollm2-reference.json says how it was made): token ids,
//! top-5 logits, log-sum-exp, residual norms of every layer, greedy text; and the same bits from its safetensors twin.
//!
//! Runs on the model in the cache (`candlescope model fetch smollm2-135m-instruct`); without it, says so and passes.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use candle_core::{DType, Tensor};
use candlescope::hooks::{Hooks, Keep, expand};
use candlescope::model::fetch::{Cache, locate};
use candlescope::model::generate::{Continue, GenerateOptions, generate};
use candlescope::model::{Batch, Checkpoint, LoadOptions, LogitsAt, convert};
use candlescope::text::{Message, Vars};
use serde_json::Value;

fn model() -> Option<Checkpoint> {
    let path = locate("smollm2-135m-instruct", &Cache::new().unwrap()).unwrap();
    if path.is_none() {
        eprintln!("skipped: smollm2-135m-instruct is not in the cache");
    }
    path.map(|path| Checkpoint::open("smollm2", &path, &LoadOptions::default()).unwrap())
}

fn reference() -> Value {
    serde_json::from_str(include_str!("fixtures/smollm2-reference.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_u64().unwrap() as u32)
        .collect()
}

fn flat(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn last_logits(model: &Checkpoint, ids: &[u32]) -> Vec<f64> {
    let out = model
        .decoder
        .forward(&Batch::single(ids).unwrap(), &Hooks::new(), LogitsAt::Last);
    flat(&out.unwrap().logits.unwrap())
}

#[test]
fn the_real_model_gives_the_numbers_of_transformers() {
    let Some(model) = model() else { return };
    let reference = reference();
    let tolerance = |name: &str| reference["tolerance"][name].as_f64().unwrap();
    for prompt in reference["prompts"].as_array().unwrap() {
        let messages: Vec<Message> = serde_json::from_value(prompt["messages"].clone()).unwrap();
        let encoded = model.encode_chat(&messages, &Vars::default()).unwrap();
        assert_eq!(encoded.ids, ids(&prompt["ids"]));

        let logits = last_logits(&model, &encoded.ids);
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let top: Vec<u32> = order[..5].iter().map(|&i| i as u32).collect();
        assert_eq!(top, ids(&prompt["top5_ids"]));
        for (i, want) in top.iter().zip(numbers(&prompt["top5_logits"])) {
            assert!((logits[*i as usize] - want).abs() < tolerance("top5_logits_abs"));
        }
        let max = logits[order[0]];
        let log_sum = max + logits.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
        let want = prompt["logsumexp"].as_f64().unwrap();
        assert!((log_sum - want).abs() < tolerance("logsumexp_abs"));

        let mut points = expand("resid_pre.*", model.config()).unwrap();
        points.push("final_norm".parse().unwrap());
        let hooks = points
            .iter()
            .fold(Hooks::new(), |h, at| h.capture_kept(*at, Keep::Last(1)));
        let batch = Batch::single(&encoded.ids).unwrap();
        let captured = model
            .decoder
            .forward(&batch, &hooks, LogitsAt::None)
            .unwrap()
            .captured;
        for (at, want) in points.iter().zip(numbers(&prompt["resid_last_pos_l2"])) {
            let norm = flat(&captured[at])
                .iter()
                .map(|x| x * x)
                .sum::<f64>()
                .sqrt();
            assert!(
                (norm - want).abs() / want < tolerance("resid_l2_rel"),
                "{at}: {norm} {want}"
            );
        }

        // Up to the first step where two tokens are so close that rounding may choose.
        let want = ids(&prompt["greedy_ids"]);
        let tight = prompt["greedy_min_margin"].as_f64().unwrap() < 0.01;
        let sure = if tight {
            prompt["greedy_min_margin_at"].as_u64().unwrap() as usize
        } else {
            want.len()
        };
        let options = GenerateOptions {
            max_new: sure,
            stop: model.stop_ids(),
            ..Default::default()
        };
        let out = generate(
            &model.decoder,
            &[&encoded.ids],
            &options,
            &Hooks::new(),
            &mut |_, _| Continue::Yes,
        );
        assert_eq!(out.unwrap()[0].ids, want[..sure]);
    }
}

#[test]
fn its_safetensors_twin_gives_the_same_bits() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let twin = folder.path().join("twin");
    convert::to_folder(&model, &twin, DType::F32).unwrap();
    let twin = Checkpoint::open("twin", &twin, &LoadOptions::default()).unwrap();
    for prompt in reference()["prompts"].as_array().unwrap() {
        let messages: Vec<Message> = serde_json::from_value(prompt["messages"].clone()).unwrap();
        let encoded = twin.encode_chat(&messages, &Vars::default()).unwrap();
        assert_eq!(encoded.ids, ids(&prompt["ids"]));
        assert_eq!(
            last_logits(&twin, &encoded.ids),
            last_logits(&model, &encoded.ids)
        );
    }
}
