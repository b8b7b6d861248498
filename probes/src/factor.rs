//! Cholesky's factor of K + D in blocks of eight columns, and solving with it, on [`crate::kernels`].
//!
//! Rows are taken eight at a time, so that each number that is loaded is used eight times; the blocks on the diagonal are
//! inverted (8 × 8, by substitution), which turns the serial part of each substitution into one product. In place: one square
//! of n² numbers, of which the lower triangle is used. Next: [`crate::dual`].
// One index runs through several arrays at once, with bounds the compiler knows.
#![allow(clippy::needless_range_loop)]

use crate::kernels::{Rows, add_eight, eight_dots, tile, turn};
use crate::lanes::{Lanes, Line, ZERO};

/// L of L·Lᵀ = K + D.
pub(crate) struct Factor {
    lower: Rows,
    /// Of each block on the diagonal the inverse: its rows, and its columns.
    rows: Vec<[Line; 8]>,
    columns: Vec<[Line; 8]>,
    turned: Vec<[Line; 1]>,
}

impl Factor {
    /// Room for n × n.
    pub(crate) fn room(n: usize) -> Self {
        let lower = Rows::zeros(n, n);
        let blocks = lower.stride();
        Self {
            lower,
            rows: vec![[ZERO; 8]; blocks],
            columns: vec![[ZERO; 8]; blocks],
            turned: vec![[ZERO; 1]; 8 * blocks],
        }
    }

    /// Factors `gram` (symmetric; its lower triangle is read) with `ridge` added to the diagonal, which must be 1 in the padding.
    /// False where that is not positive definite.
    #[inline(always)]
    pub(crate) fn fill<V: Lanes>(&mut self, gram: &Rows, ridge: &[Line]) -> bool {
        for block in 0..self.lower.stride() {
            for i in 8 * block..8 * block + 8 {
                let own = &mut self.lower.row_mut(i)[..=block];
                own.copy_from_slice(&gram.row(i)[..=block]);
                own[block].0[i % 8] += ridge[block].0[i % 8];
            }
        }
        for block in 0..self.lower.stride() {
            let turned = &mut self.turned[..8 * block];
            turn(&self.lower, 8 * block, 0..block, turned);
            for group in block..self.lower.stride() {
                let mut rows = [&self.lower.row(8 * group)[..block]; 8];
                for r in 1..8 {
                    rows[r] = &self.lower.row(8 * group + r)[..block];
                }
                let sums = tile::<V, 1>(rows, turned);
                let mut left = [ZERO; 8];
                for r in 0..8 {
                    let own = &self.lower.row(8 * group + r)[block];
                    V::load(own).sub(sums[r][0]).store(&mut left[r]);
                }
                if group == block {
                    let Some(inverse) = factored(&mut left) else {
                        return false;
                    };
                    for k in 0..64 {
                        self.columns[block][k % 8].0[k / 8] = inverse[k / 8].0[k % 8];
                    }
                    self.rows[block] = inverse;
                }
                for r in 0..8 {
                    let solved = if group == block {
                        left[r]
                    } else {
                        product::<V>(&left[r], &self.columns[block])
                    };
                    self.lower.row_mut(8 * group + r)[block] = solved;
                }
            }
        }
        true
    }

    /// Solves (K + D)·x = b in place. The padding of `b` is 0 and stays so.
    #[inline(always)]
    pub(crate) fn solve<V: Lanes>(&self, b: &mut [Line]) {
        for block in 0..self.lower.stride() {
            let (above, own) = b.split_at_mut(block);
            let known = eight_dots::<V>(self.lower.eight(block), above);
            let left = V::load(&own[0]).sub(V::load(&known)).line();
            own[0] = product::<V>(&left, &self.columns[block]);
        }
        for block in (0..self.lower.stride()).rev() {
            let (above, own) = b.split_at_mut(block);
            own[0] = product::<V>(&own[0], &self.rows[block]);
            let times = V::splat(0.0).sub(V::load(&own[0])).line();
            add_eight::<V>(above, &times, self.lower.eight(block));
        }
    }
}

/// Factors a block on the diagonal in place; its inverse.
fn factored(a: &mut [Line; 8]) -> Option<[Line; 8]> {
    let mut inverse = [ZERO; 8];
    for i in 0..8 {
        for j in 0..=i {
            let mut value = a[i].0[j];
            for k in 0..j {
                value -= a[i].0[k] * a[j].0[k];
            }
            if i > j {
                a[i].0[j] = value * inverse[j].0[j];
            } else if value > 0.0 && value.is_finite() {
                a[i].0[i] = value.sqrt();
                inverse[i].0[i] = 1.0 / a[i].0[i];
            } else {
                return None;
            }
        }
        for j in i + 1..8 {
            a[i].0[j] = 0.0;
        }
    }
    for i in 0..8 {
        for j in 0..i {
            let mut value = 0.0;
            for k in j..i {
                value -= a[i].0[k] * inverse[k].0[j];
            }
            inverse[i].0[j] = value * inverse[i].0[i];
        }
    }
    Some(inverse)
}

/// Σ x[k] · lines[k].
#[inline(always)]
fn product<V: Lanes>(x: &Line, lines: &[Line; 8]) -> Line {
    let mut sums = [V::splat(0.0); 2];
    for k in 0..8 {
        sums[k % 2] = V::splat(x.0[k]).mul_add(V::load(&lines[k]), sums[k % 2]);
    }
    sums[0].add(sums[1]).line()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::{Gram, lines, numbers};
    use crate::lanes::{Kernel, Level, run, run_at};
    use crate::random::{normal, stream};

    struct Solve<'a>(&'a Rows, &'a [Line], &'a [Line]);

    impl Kernel for Solve<'_> {
        type Out = Option<Vec<Line>>;
        #[inline(always)]
        fn run<V: Lanes>(self) -> Self::Out {
            let mut factor = Factor::room(self.0.count());
            let mut b = self.2.to_vec();
            factor.fill::<V>(self.0, self.1).then(|| {
                factor.solve::<V>(&mut b);
                b
            })
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_is_solved_multiplies_back(n in 1usize..90, d in 1usize..50, ridge in 0.01f64..4.0, seed in 0u64..1000) {
            let mut rng = stream(seed, 0);
            let mut x = Rows::zeros(n, d);
            for i in 0..n {
                for j in 0..d {
                    x.set(i, j, normal(&mut rng));
                }
            }
            let gram = run(Gram(&x));
            let ridge = lines((0..n).map(|i| ridge * (1.0 + i as f64)), 1.0);
            let b = lines((0..n).map(|_| normal(&mut rng)), 0.0);
            for level in [Level::Portable, Level::Avx2, Level::Avx512] {
                let solved = run_at(level, Solve(&gram, &ridge, &b)).unwrap();
                let x: Vec<f64> = numbers(&solved, 8 * solved.len()).collect();
                prop_assert!(x[n..].iter().all(|&v| v == 0.0));
                for i in 0..n {
                    let back: f64 = (0..n).map(|j| gram.at(i, j) * x[j]).sum::<f64>() + ridge[i / 8].0[i % 8] * x[i];
                    prop_assert!((back - b[i / 8].0[i % 8]).abs() < 1e-8, "{level:?} row {i}: {back}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        let mut gram = Rows::zeros(3, 3);
        for (i, value) in [2.0, -1.0, 2.0].into_iter().enumerate() {
            gram.set(i, i, value);
        }
        let ridge = |value: f64| lines([value; 3].into_iter(), 1.0);
        let b = lines([1.0; 3].into_iter(), 0.0);
        assert!(run(Solve(&gram, &ridge(0.5), &b)).is_none());
        assert!(run(Solve(&gram, &ridge(f64::NAN), &b)).is_none());
        let solved = run(Solve(&gram, &ridge(1.5), &b)).unwrap();
        assert!((solved[0].0[1] - 2.0).abs() < 1e-15);
    }
}
