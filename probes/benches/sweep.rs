//! The fits of a probe sweep: 155 cells (31 layers, 5 positions) of 192 rows and 576 features, as in the peers' script, and
//! the cross-validation of one cell. Made-up numbers of that shape; `examples/sweep_npy.rs` takes real ones.

use candlescope_probes::SharedFits;
use criterion::{Criterion, criterion_group, criterion_main};
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

fn cell(seed: u64, labels: &[bool]) -> Array2<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let shift: Vec<f32> = (0..576).map(|_| rng.random_range(-0.2..0.2)).collect();
    Array2::from_shape_fn((labels.len(), 576), |(i, j)| {
        let moved = if labels[i] { shift[j] } else { 0.0 };
        rng.random_range(-1.0..1.0) + moved
    })
}

fn sweep(criterion: &mut Criterion) {
    let labels: Vec<bool> = (0..192).map(|i| i % 2 == 0).collect();
    let cells: Vec<Array2<f32>> = (0..155).map(|seed| cell(seed, &labels)).collect();
    criterion.bench_function("155 logistic probes, 192 x 576", |bench| {
        bench.iter(|| {
            let fit = |x: &Array2<f32>| SharedFits::new(x.view())?.fit(&labels, 1.0);
            cells.par_iter().map(fit).collect::<Result<Vec<_>, _>>()
        });
    });
    let folds: Vec<usize> = (0..192).map(|i| i / 2 % 5).collect();
    let grid: Vec<f64> = (-4..=2).map(|e| 10f64.powi(e)).collect();
    criterion.bench_function("one cell, 7 values of C on 5 folds", |bench| {
        bench.iter(|| SharedFits::new(cells[0].view())?.fit_chosen(&labels, &folds, &grid));
    });
}

criterion_group!(benches, sweep);
criterion_main!(benches);
