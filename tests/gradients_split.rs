//! Gradients of a model whose products are large enough for tiles, against f64: the split into two terms, and its size
//! beside that of f32. A program of its own: the choice is the whole process's. On CPUs without AMX both are f32.
#![allow(clippy::unwrap_used, missing_docs)]

use candle_core::{DType, Tensor};
use candlescope::model::{Batch, Decoder, LoadOptions, Opened, Trainable, fresh::FreshShape};
use candlescope_ops::{self as ops, HeadOptions, Products, set_products};

const ROWS: usize = 4;
const TOKENS: usize = 48;

fn shape() -> FreshShape {
    FreshShape {
        family: "llama".to_owned(),
        d_model: 192,
        n_layers: 2,
        n_heads: 6,
        n_kv_heads: 2,
        d_mlp: 512,
        n_ctx: 64,
        tied: true,
        vocab: 768,
        bos: None,
        eos: None,
    }
}

fn open(folder: &std::path::Path, dtype: DType) -> Trainable {
    let options = LoadOptions {
        dtype,
        ..LoadOptions::default()
    };
    let opened = Opened::at(folder, &options).unwrap();
    Trainable::full(opened.decoder(&options).unwrap()).unwrap()
}

/// The gradient of the mean log-probability for every weight, in f64.
fn gradients(model: &Trainable) -> Vec<(String, Vec<f64>)> {
    let id = |row: usize, at: usize| ((row * 7919 + at * at * 31 + at * 17) % 768) as u32;
    let ids: Vec<Vec<u32>> = (0..ROWS)
        .map(|row| (0..TOKENS).map(|at| id(row, at)).collect())
        .collect();
    let hidden = model.hidden(&Batch::new(&ids).unwrap()).unwrap();
    let places: Vec<(usize, usize)> = (0..ROWS)
        .flat_map(|row| (1..TOKENS).map(move |at| (row, at)))
        .collect();
    let from: Vec<u32> = places
        .iter()
        .map(|&(r, at)| (r * TOKENS + at - 1) as u32)
        .collect();
    let targets: Vec<u32> = places.iter().map(|&(r, at)| id(r, at)).collect();
    let states = ops::embedding(&hidden.flatten(0, 1).unwrap(), &from).unwrap();
    let options = HeadOptions {
        temperature: 1.0,
        softcap: None,
    };
    let found = ops::token_logprobs(&states, model.head(), &targets, options).unwrap();
    let grads = ops::backward(&found.logps.mean_all().unwrap()).unwrap();
    let numbers = |t: &Tensor| {
        let t = t.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
        t.to_vec1::<f64>().unwrap()
    };
    let each = model.params().iter();
    each.map(|p| {
        (
            p.name.clone(),
            numbers(grads.get(p.var.as_tensor()).unwrap()),
        )
    })
    .collect()
}

/// The largest error of a weight's gradient, as a share of its length.
fn worst(found: &[(String, Vec<f64>)], exact: &[(String, Vec<f64>)]) -> (f64, String) {
    let length = |of: &mut dyn Iterator<Item = f64>| of.map(|x| x * x).sum::<f64>().sqrt();
    let each = found.iter().zip(exact).map(|((name, found), (_, exact))| {
        let apart = length(&mut found.iter().zip(exact).map(|(a, b)| a - b));
        (apart / length(&mut exact.iter().copied()), name.clone())
    });
    each.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

#[test]
fn gradients_in_two_terms_are_within_rounding_of_f64() {
    let folder = tempfile::tempdir().unwrap();
    let decoder = Decoder::fresh(&shape().config().unwrap(), 1).unwrap();
    Trainable::full(decoder)
        .unwrap()
        .write(folder.path(), DType::F32)
        .unwrap();
    let exact = gradients(&open(folder.path(), DType::F64));
    let of = |products| {
        set_products(products);
        worst(&gradients(&open(folder.path(), DType::F32)), &exact)
    };
    let vectors = of(Products::F32);
    let tiles = of(Products::split(3));
    let rounded = of(Products::split(1));
    println!("f32 {vectors:?}, two terms {tiles:?}, one term {rounded:?}");
    assert!(vectors.0 < 3e-6, "{vectors:?}");
    assert!(tiles.0 < 1e-5, "{tiles:?}");
    if ops::cpu_features().contains("amx") {
        // The products of this model do go through tiles.
        assert!(rounded.0 > 1e-4, "{rounded:?}");
    }
}
