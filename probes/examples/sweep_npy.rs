//! Fits a logistic probe to every cell of a `[n, layers, positions, d]` array and prints times and AUROCs as JSON.
//!
//! `sweep_npy X.npy LABELS.txt TRAIN C`: f32 in C order, one 0 or 1 a line, the first TRAIN rows are fitted on and the rest
//! scored. For setting this crate beside another on the same numbers; `benches/sweep.rs` needs no file.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use candlescope_probes::roc::auroc_value;
use candlescope_probes::{Score, SharedFits};
use ndarray::{Array4, ArrayView2, Axis, s};
use rayon::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, file, labels, train, c] = args.as_slice() else {
        return Err("usage: sweep_npy X.npy LABELS.txt TRAIN C".into());
    };
    let (x, train, c) = (read(file)?, train.parse::<usize>()?, c.parse::<f64>()?);
    let labels: Vec<bool> = std::fs::read_to_string(labels)?
        .lines()
        .map(|l| l.trim() == "1")
        .collect();
    let (_, layers, positions, _) = x.dim();
    let one = |cell: usize| -> Result<f64, Box<dyn Error + Send + Sync>> {
        let x = x.slice(s![.., cell / positions, cell % positions, ..]);
        let (fitted, held): (ArrayView2<f32>, ArrayView2<f32>) = x.split_at(Axis(0), train);
        let probe = SharedFits::new(fitted)?.fit(&labels[..train], c)?;
        Ok(auroc_value(&probe.scores(held)?, &labels[train..])?)
    };
    let mut seconds = Vec::new();
    let mut areas = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        areas = (0..layers * positions)
            .into_par_iter()
            .map(one)
            .collect::<Result<Vec<f64>, _>>()
            .map_err(|e| e.to_string())?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    println!(
        "{}",
        serde_json::json!({ "seconds": seconds, "auroc": areas })
    );
    Ok(())
}

/// A version-1 .npy file of f32 in C order with four axes.
fn read(file: &str) -> Result<Array4<f32>, Box<dyn Error>> {
    let bytes = std::fs::read(file)?;
    let length = usize::from(u16::from_le_bytes(bytes[8..10].try_into()?));
    let header = std::str::from_utf8(&bytes[10..10 + length])?;
    if !header.contains("'<f4'") || header.contains("'fortran_order': True") {
        return Err("expected f32 in C order".into());
    }
    let shape = header.split_once("'shape': (").ok_or("no shape")?.1;
    let shape = shape.split_once(')').ok_or("no shape")?.0;
    let axes: Vec<usize> = shape
        .split(',')
        .filter_map(|n| n.trim().parse().ok())
        .collect();
    let [a, b, c, d] = axes[..] else {
        return Err("expected four axes".into());
    };
    let values = bytes[10 + length..]
        .chunks_exact(4)
        .map(|v| f32::from_le_bytes([v[0], v[1], v[2], v[3]]))
        .collect();
    Ok(Array4::from_shape_vec((a, b, c, d), values)?)
}
