//! Trains a dictionary on the rows of a `.npy` file and prints time, error and memory of its steps as JSON lines.
//!
//! `train_npy ROWS.npy HELD.npy ARCHITECTURE STEPS [BATCH] [D_SAE] [K] [TERMS] [EVAL_EVERY]`: f32 `[n, d]` in C order; batches are consecutive
//! rows, as they lie; TERMS are those that f32 is split into where the CPU has AMX: 3 is exact, 1 is bf16, 0 vectors alone.
//! Rows longer than ten times the median, which are attention sinks, are left out, and the rest scaled to a mean norm of √d.
//! For setting this crate beside another on the same numbers.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use candlescope_ops::{Products, set_products};
use candlescope_sae::About;
use candlescope_sae::train::{
    Architecture, Levels, Recipe, Shape, Sparsity, TopKOptions, Trainer, Warmup,
};
use ndarray::{Array2, Axis, s};

fn main() -> Result<(), Box<dyn Error>> {
    candlescope_ops::fast_alloc();
    let args: Vec<String> = std::env::args().collect();
    let number = |i: usize, default: usize| args.get(i).map_or(Ok(default), |n| n.parse::<usize>());
    let (Some(file), Some(held), Some(kind)) = (args.get(1), args.get(2), args.get(3)) else {
        return Err(
            "usage: train_npy ROWS.npy HELD.npy ARCHITECTURE STEPS [BATCH] [D_SAE] [K] [TERMS]"
                .into(),
        );
    };
    let (steps, batch) = (number(4, 12)?, number(5, 4096)?);
    let (d_sae, k) = (number(6, 9216)?, number(7, 32)?);
    set_products(match number(8, 3)? {
        0 => Products::F32,
        terms => Products::split(terms),
    });
    let rows = usual(read(file)?);
    let architecture = architecture(kind, k, d_sae)?;
    let scale = Trainer::unit_scale(rows.slice(s![..batch, ..]))?;
    let shape = Shape::autoencoder(rows.ncols());
    let recipe = Recipe::new(d_sae, architecture);
    let mut trainer = Trainer::new(recipe, shape, rows.slice(s![..batch, ..]), scale)?;
    let every = number(9, 0)?;
    let held = usual(read(held)?);
    let mut seconds = Vec::new();
    let batches = rows.nrows() / batch;
    for step in 0..steps {
        let at = step % batches * batch;
        let started = Instant::now();
        let report = trainer.step(rows.slice(s![at..at + batch, ..]), None)?;
        seconds.push(started.elapsed().as_secs_f64());
        println!(
            "{{\"step\": {}, \"seconds\": {:.4}, \"fvu\": {:.5}, \"l0\": {:.2}, \"loss\": {:.3}, \"grad_norm\": {:.3}}}",
            report.step, seconds[step], report.fvu, report.l0, report.loss, report.grad_norm
        );
        if every > 0 && (step + 1) % every == 0 && step + 1 < steps {
            evaluate(&trainer, &held)?;
        }
    }
    evaluate(&trainer, &held)?;
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    println!(
        "{{\"architecture\": \"{kind}\", \"median_s\": {median:.4}, \"min_s\": {:.4}, \"rows_per_s\": {:.0}, \"peak_mb\": {}}}",
        seconds[0],
        batch as f64 / median,
        peak_mb()
    );
    Ok(())
}

/// The dictionary as it would be used, on rows it was not trained on.
fn evaluate(trainer: &Trainer, held: &Array2<f32>) -> Result<(), Box<dyn Error>> {
    let dictionary = trainer.dictionary(About::default())?;
    let codes = dictionary.encode(held.view())?;
    let error = dictionary.decode(&codes, held.view())? - held;
    let mean = held.mean_axis(Axis(0)).ok_or("no rows held out")?;
    let square = |m: &Array2<f32>| m.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    println!(
        "{{\"rows\": {}, \"held_fvu\": {:.5}, \"held_l0\": {:.2}}}",
        trainer.rows(),
        square(&error) / square(&(held - &mean)),
        codes.len() as f64 / held.nrows() as f64
    );
    Ok(())
}

fn architecture(kind: &str, k: usize, d_sae: usize) -> Result<Architecture, Box<dyn Error>> {
    let options = TopKOptions::default();
    let warmup = Warmup::default();
    Ok(match kind {
        "topk" => Architecture::TopK { k, options },
        "batch-topk" => Architecture::BatchTopK {
            k: k as f64,
            options,
            threshold_rate: 0.01,
        },
        "matryoshka" => Architecture::Matryoshka {
            k: k as f64,
            levels: Levels {
                widths: vec![d_sae / 16, d_sae / 4],
                own_aux: false,
            },
            options,
            threshold_rate: 0.01,
        },
        "relu" => Architecture::Relu {
            l1: 1.0,
            warmup,
            by_norm: true,
        },
        "jumprelu" => Architecture::JumpRelu {
            threshold: 0.01,
            bandwidth: 0.05,
            l0: 1.0,
            warmup,
            sparsity: Sparsity::Step,
            pre_act: 0.0,
            to_input: false,
        },
        "gated" => Architecture::Gated {
            l1: 1.0,
            warmup,
            frozen_decoder: false,
        },
        other => return Err(format!("unknown architecture {other}").into()),
    })
}

/// Rows no longer than ten times the median.
fn usual(rows: Array2<f32>) -> Array2<f32> {
    let norms: Vec<f32> = rows.outer_iter().map(|row| row.dot(&row).sqrt()).collect();
    let mut sorted = norms.clone();
    sorted.sort_by(f32::total_cmp);
    let most = 10.0 * sorted[sorted.len() / 2];
    let kept: Vec<usize> = (0..norms.len()).filter(|&i| norms[i] <= most).collect();
    rows.select(Axis(0), &kept)
}

/// The most memory that this process has held, in MB.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kb.unwrap_or(0) / 1024
}

/// A two-dimensional f32 array of version 1 of the format.
fn read(file: &str) -> Result<Array2<f32>, Box<dyn Error>> {
    let bytes = std::fs::read(file)?;
    let length = usize::from(u16::from_le_bytes(bytes[8..10].try_into()?));
    let header = std::str::from_utf8(&bytes[10..10 + length])?;
    if !header.contains("'<f4'") || !header.contains("'fortran_order': False") {
        return Err(format!("{file}: expected f32 in C order, found {header}").into());
    }
    let shape = header.split(['(', ')']).nth(1).ok_or("no shape")?;
    let sizes: Vec<usize> = shape
        .split(',')
        .filter_map(|n| n.trim().parse().ok())
        .collect();
    let [n, d] = sizes[..] else {
        return Err(format!("{file}: expected two dimensions, found {sizes:?}").into());
    };
    let numbers = bytes[10 + length..].as_chunks().0.iter();
    Ok(Array2::from_shape_vec(
        (n, d),
        numbers.map(|b| f32::from_le_bytes(*b)).collect(),
    )?)
}
