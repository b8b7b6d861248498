//! Against plain sums in f64, at sizes that end inside a vector, a block and a band.
#![allow(clippy::unwrap_used)]

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

struct Case {
    rows: usize,
    width: usize,
    latents: usize,
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    scale: Vec<f32>,
}

impl Case {
    fn new(rows: usize, width: usize, latents: usize) -> Self {
        Self {
            rows,
            width,
            latents,
            x: numbers(1, rows * width),
            w: numbers(2, latents * width),
            bias: numbers(3, latents),
            scale: numbers(4, latents).iter().map(|s| s.abs() + 0.1).collect(),
        }
    }

    fn latents(&self) -> Latents<'_> {
        Latents {
            weights: &self.w,
            bias: &self.bias,
            scale: Some(&self.scale),
        }
    }

    fn dense(&self, row: usize, latent: usize) -> f64 {
        let x = &self.x[row * self.width..][..self.width];
        let w = &self.w[latent * self.width..][..self.width];
        let dot: f64 = x
            .iter()
            .zip(w)
            .map(|(x, w)| f64::from(*x) * f64::from(*w))
            .sum();
        (dot + f64::from(self.bias[latent])) * f64::from(self.scale[latent])
    }
}

/// Small ones, one with several bands and blocks, one wide enough for tiles.
fn cases() -> Vec<Case> {
    let sizes = [(1, 1, 1), (3, 5, 7), (300, 24, 530), (270, 70, 600)];
    sizes.map(|(r, w, l)| Case::new(r, w, l)).into()
}

#[test]
fn the_largest_are_kept_and_no_others() {
    for case in cases() {
        for k in [1, 4, case.latents] {
            for signed in [false, true] {
                let which = if signed {
                    Keep::TopSigned(k)
                } else {
                    Keep::Top(k)
                };
                let kept = keep(&case.x, case.width, case.latents(), which);
                assert_eq!(kept.rows(), case.rows);
                for row in 0..case.rows {
                    let mut all: Vec<(usize, f64)> =
                        (0..case.latents).map(|l| (l, case.dense(row, l))).collect();
                    all.retain(|(_, v)| signed || *v > 0.0);
                    all.sort_by(|a, b| b.1.total_cmp(&a.1));
                    all.truncate(k);
                    let at = kept.starts[row]..kept.starts[row + 1];
                    assert_eq!(at.len(), all.len());
                    assert!(kept.latents[at.clone()].is_sorted_by(|a, b| a < b));
                    let least = all.last().map_or(0.0, |(_, v)| *v);
                    for e in at {
                        let truth = case.dense(row, kept.latents[e] as usize);
                        assert!((f64::from(kept.values[e]) - truth).abs() < 2e-5);
                        assert!(truth >= least - 1e-5, "{truth} {least}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_above_its_bound_is_kept() {
    for case in cases() {
        let bounds = numbers(5, case.latents);
        let kept = keep(&case.x, case.width, case.latents(), Keep::Above(&bounds));
        let mut count = 0;
        for row in 0..case.rows {
            for (latent, &bound) in bounds.iter().enumerate() {
                let truth = case.dense(row, latent);
                let at = kept.starts[row]..kept.starts[row + 1];
                let found = kept.latents[at.clone()].binary_search(&(latent as u32));
                let clear = (truth - f64::from(bound)).abs() > 1e-5;
                if clear {
                    assert_eq!(found.is_ok(), truth > f64::from(bound));
                }
                if let Ok(e) = found {
                    count += 1;
                    assert!((f64::from(kept.values[at.start + e]) - truth).abs() < 2e-5);
                }
            }
        }
        assert_eq!(count, kept.len());
    }
}

#[test]
fn of_equals_the_lower_latents_are_kept_and_a_nan_is_seen() {
    let (x, w, bias) = (vec![1f32; 2], vec![1f32; 100], vec![0f32; 100]);
    let latents = Latents {
        weights: &w,
        bias: &bias,
        scale: None,
    };
    let kept = keep(&x, 1, latents, Keep::Top(3));
    assert_eq!(kept.latents, [0, 1, 2, 0, 1, 2]);
    let x = [f32::NAN, 1.0];
    let kept = keep(&x, 1, latents, Keep::Top(3));
    assert!(kept.values[0].is_nan() && kept.values[3] == 1.0);
}

#[test]
fn decoding_dots_and_gathering_are_the_sums_they_say() {
    // To some 4e-6 of the size of what is summed, where many entries are taken together by tiles in two terms.
    let near = |found: f32, truth: f64, size: f64| {
        let error = (f64::from(found) - truth).abs();
        assert!(error <= 1e-5 * size + 1e-6, "{found} {truth} {size}");
    };
    for case in cases() {
        for k in [5, case.latents] {
            let kept = keep(&case.x, case.width, case.latents(), Keep::Top(k));
            let mut out = numbers(6, case.rows * case.width);
            let before = out.clone();
            decode(&kept, &case.w, case.width, &mut out);
            let rows = numbers(7, case.rows * case.width);
            let found = dots(&kept, &rows, &case.w, case.width);
            let by = ByLatent::new(&kept, case.latents);
            let mut sums = vec![0f32; case.latents * case.width];
            let all = 0..case.latents;
            gather(&by, all, &kept.values, &rows, case.width, &mut sums);
            let mut expected = vec![(0f64, 0f64); sums.len()];
            for row in 0..case.rows {
                let at = row * case.width..(row + 1) * case.width;
                let start = before[at.clone()].iter().map(|&x| f64::from(x));
                let mut decoded: Vec<(f64, f64)> = start.map(|x| (x, x.abs())).collect();
                let (latents, values) = kept.row(row);
                let found = &found[kept.starts[row]..kept.starts[row + 1]];
                for ((&latent, &value), &found) in latents.iter().zip(values).zip(found) {
                    let from = latent as usize * case.width;
                    let (mut dot, mut size) = (0.0, 0.0);
                    for j in 0..case.width {
                        let w = f64::from(case.w[from + j]);
                        let g = f64::from(rows[at.start + j]);
                        let value = f64::from(value);
                        for (sum, term) in [
                            (&mut decoded[j], value * w),
                            (&mut expected[from + j], value * g),
                        ] {
                            sum.0 += term;
                            sum.1 += term.abs();
                        }
                        dot += g * w;
                        size += (g * w).abs();
                    }
                    near(found, dot, size);
                }
                for (found, (truth, size)) in out[at].iter().zip(decoded) {
                    near(*found, truth, size);
                }
            }
            for (found, (truth, size)) in sums.iter().zip(expected) {
                near(*found, truth, size);
            }
            let mut totals = vec![0f64; case.latents];
            for (&latent, &value) in kept.latents.iter().zip(&kept.values) {
                totals[latent as usize] += f64::from(value);
            }
            for (found, truth) in by.sums(&kept.values).iter().zip(totals) {
                assert!((found - truth).abs() <= 1e-12 * truth.abs());
            }
            let part = case.latents / 3..case.latents;
            let mut some = vec![0f32; sums.len()];
            gather(
                &by,
                part.clone(),
                &kept.values,
                &rows,
                case.width,
                &mut some,
            );
            let (before, within) = some.split_at(part.start * case.width);
            assert!(before.iter().all(|x| *x == 0.0));
            let alike = within.iter().zip(&sums[part.start * case.width..]);
            assert!(
                alike
                    .into_iter()
                    .all(|(a, b)| (a - b).abs() <= 1e-4 * (1.0 + b.abs()))
            );
        }
        let lengths = norms(&case.w, case.width);
        let total: f64 = lengths.iter().map(|l| f64::from(*l).powi(2)).sum();
        assert!((total / squares(&case.w) - 1.0).abs() < 1e-6);
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let case = Case::new(700, 40, 900);
    let all = || {
        let kept = keep(&case.x, case.width, case.latents(), Keep::Top(9));
        let found = dots(&kept, &case.x, &case.w, case.width);
        let by = ByLatent::new(&kept, case.latents);
        let mut sums = vec![0f32; case.latents * case.width];
        gather(&by, 0..case.latents, &found, &case.x, case.width, &mut sums);
        (kept, found, sums, squares(&case.x))
    };
    let pool = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap()
    };
    assert_eq!(pool(1).install(all), pool(3).install(all));
}
