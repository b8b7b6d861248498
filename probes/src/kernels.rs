//! The loops of the many-fits solver over lines of eight: products of vectors and rows, the Gram matrix, the logistic function.
//!
//! What always holds: vectors and rows are whole lines, padded with zeros, so no loop has a rest; order of summation depends
//! on sizes alone. All are `inline(always)` and run inside a [`crate::lanes::Kernel`]. Next: [`crate::factor`], [`crate::dual`].
// One index runs through several arrays at once, with bounds the compiler knows.
#![allow(clippy::needless_range_loop)]

use crate::lanes::{Kernel, Lanes, Line, ZERO};

/// Rows of numbers, each padded with zeros to whole lines, and rows of zeros up to a multiple of 16.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    lines: Vec<Line>,
    count: usize,
    stride: usize,
}

impl Rows {
    /// Zeros, `[count, width]`.
    pub(crate) fn zeros(count: usize, width: usize) -> Self {
        let stride = width.div_ceil(8);
        Self {
            lines: vec![ZERO; count.next_multiple_of(16) * stride],
            count,
            stride,
        }
    }

    /// Number of rows that were asked for.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Number of rows with those of the padding.
    pub(crate) fn padded(&self) -> usize {
        self.count.next_multiple_of(16)
    }

    /// Lines in a row.
    #[inline(always)]
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &[Line] {
        &self.lines[row * self.stride..(row + 1) * self.stride]
    }

    /// Rows 8·block to 8·block + 7.
    #[inline(always)]
    pub(crate) fn eight(&self, block: usize) -> [&[Line]; 8] {
        let mut rows = [self.row(8 * block); 8];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = self.row(8 * block + r);
        }
        rows
    }

    #[inline(always)]
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [Line] {
        &mut self.lines[row * self.stride..(row + 1) * self.stride]
    }

    #[inline(always)]
    pub(crate) fn at(&self, row: usize, column: usize) -> f64 {
        self.lines[row * self.stride + column / 8].0[column % 8]
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, row: usize, column: usize, value: f64) {
        self.lines[row * self.stride + column / 8].0[column % 8] = value;
    }
}

/// A vector of numbers as lines; what is past its end is `fill`.
pub(crate) fn lines(values: impl ExactSizeIterator<Item = f64>, fill: f64) -> Vec<Line> {
    let mut out = vec![Line([fill; 8]); values.len().div_ceil(8)];
    for (i, value) in values.enumerate() {
        out[i / 8].0[i % 8] = value;
    }
    out
}

/// The first `n` numbers of lines.
pub(crate) fn numbers(lines: &[Line], n: usize) -> impl Iterator<Item = f64> + '_ {
    lines.iter().flat_map(|line| line.0).take(n)
}

/// Σ aᵢ·bᵢ.
#[inline(always)]
pub(crate) fn dot<V: Lanes>(a: &[Line], b: &[Line]) -> f64 {
    let mut sums = [V::splat(0.0); 4];
    let (fours, rest) = a.as_chunks::<4>();
    let (other, other_rest) = b.as_chunks::<4>();
    for (a, b) in fours.iter().zip(other) {
        for i in 0..4 {
            sums[i] = V::load(&a[i]).mul_add(V::load(&b[i]), sums[i]);
        }
    }
    for (a, b) in rest.iter().zip(other_rest) {
        sums[0] = V::load(a).mul_add(V::load(b), sums[0]);
    }
    sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum()
}

/// Σ aᵢ.
#[inline(always)]
pub(crate) fn total<V: Lanes>(a: &[Line]) -> f64 {
    let mut sum = V::splat(0.0);
    for line in a {
        sum = sum.add(V::load(line));
    }
    sum.sum()
}

/// `to` += times · `from`.
#[inline(always)]
pub(crate) fn add<V: Lanes>(to: &mut [Line], times: f64, from: &[Line]) {
    let times = V::splat(times);
    for (to, from) in to.iter_mut().zip(from) {
        V::load(from).mul_add(times, V::load(to)).store(to);
    }
}

/// 1/(1 + e⁻ˣ), to a few units of the last place; 0 and 1 to within 1e-300 where e⁻ˣ would leave the range of f64.
#[inline(always)]
pub(crate) fn sigmoid<V: Lanes>(x: V) -> V {
    // Cody and Waite: e⁻ˣ = 2ⁿ·eʳ with |r| ≤ ln 2 / 2, eʳ by its series, which is exact to f64 from the 13th power on.
    const SERIES: [f64; 12] = [
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
    ];
    // 1.5 · 2⁵² pushes the fraction out of the mantissa, rounding on the way, and leaves n in its low bits.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    let limit = V::splat(700.0);
    let y = V::splat(0.0).sub(x).min(limit).max(V::splat(-700.0));
    let shifted = y.mul_add(V::splat(std::f64::consts::LOG2_E), V::splat(SHIFT));
    let n = shifted.sub(V::splat(SHIFT));
    let r = n.mul_add(V::splat(-6.931_471_803_691_238e-1), y);
    let r = n.mul_add(V::splat(-1.908_214_929_270_587_7e-10), r);
    let mut e = V::splat(1.0 / 6_227_020_800.0);
    for coefficient in SERIES {
        e = e.mul_add(r, V::splat(coefficient));
    }
    e = e.mul_add(r, V::splat(1.0));
    let mut power = shifted.line();
    for p in &mut power.0 {
        *p = f64::from_bits((p.to_bits().wrapping_add(1023)) << 52);
    }
    let one = V::splat(1.0);
    one.div(e.mul_add(V::load(&power), one))
}

/// Sums over k of eight rows times `C` lines of columns: `rows[r][k] · columns[k][c]`, `columns.len()` = 8 · lines of a row.
#[inline(always)]
pub(crate) fn tile<V: Lanes, const C: usize>(
    rows: [&[Line]; 8],
    columns: &[[Line; C]],
) -> [[V; C]; 8] {
    let mut sums = [[V::splat(0.0); C]; 8];
    let (eights, _) = columns.as_chunks::<8>();
    let n = eights.len();
    let rows = rows.map(|row| &row[..n]);
    for (at, eight) in eights.iter().enumerate() {
        for k in 0..8 {
            let mut wide = [V::splat(0.0); C];
            for c in 0..C {
                wide[c] = V::load(&eight[k][c]);
            }
            for r in 0..8 {
                let x = V::splat(rows[r][at].0[k]);
                for c in 0..C {
                    sums[r][c] = x.mul_add(wide[c], sums[r][c]);
                }
            }
        }
    }
    sums
}

/// Writes lines `from..to` of `8·C` rows from `first` on, turned: `columns[k][c]` holds number k of rows 8c to 8c + 7.
#[inline(always)]
pub(crate) fn turn<const C: usize>(
    rows: &Rows,
    first: usize,
    lines: std::ops::Range<usize>,
    columns: &mut [[Line; C]],
) {
    for c in 0..C {
        let eight: [&[Line]; 8] =
            std::array::from_fn(|l| &rows.row(first + 8 * c + l)[lines.clone()]);
        for (at, column) in columns.chunks_exact_mut(8).enumerate() {
            for (k, column) in column.iter_mut().enumerate() {
                let mut turned = ZERO;
                for l in 0..8 {
                    turned.0[l] = eight[l][at].0[k];
                }
                column[c] = turned;
            }
        }
    }
}

/// The inner products of a vector with eight rows; what the rows have more is not read.
#[inline(always)]
pub(crate) fn eight_dots<V: Lanes>(rows: [&[Line]; 8], x: &[Line]) -> Line {
    let n = x.len();
    let rows = rows.map(|row| &row[..n]);
    let mut sums = [V::splat(0.0); 8];
    for (at, x) in x.iter().enumerate() {
        let x = V::load(x);
        for r in 0..8 {
            sums[r] = V::load(&rows[r][at]).mul_add(x, sums[r]);
        }
    }
    let mut out = ZERO;
    for r in 0..8 {
        out.0[r] = sums[r].sum();
    }
    out
}

/// `to` += Σ times[r] · rows[r]; what the rows have more is not read.
#[inline(always)]
pub(crate) fn add_eight<V: Lanes>(to: &mut [Line], times: &Line, rows: [&[Line]; 8]) {
    let n = to.len();
    let rows = rows.map(|row| &row[..n]);
    let mut factors = [V::splat(0.0); 8];
    for r in 0..8 {
        factors[r] = V::splat(times.0[r]);
    }
    for (at, to) in to.iter_mut().enumerate() {
        let mut sums = [V::load(to), V::splat(0.0)];
        for r in 0..8 {
            sums[r % 2] = V::load(&rows[r][at]).mul_add(factors[r], sums[r % 2]);
        }
        sums[0].add(sums[1]).store(to);
    }
}

/// Rows times a vector, as long as there are rows in whole lines.
#[inline(always)]
pub(crate) fn products<V: Lanes>(rows: &Rows, x: &[Line], out: &mut [Line]) {
    for (block, out) in out.iter_mut().enumerate() {
        *out = eight_dots::<V>(rows.eight(block), x);
    }
}

/// The inner products of all rows with each other, `[n, n]`.
pub(crate) struct Gram<'a>(pub(crate) &'a Rows);

/// Lines of a row taken at a time: 16 rows of them, turned, and 8 more fit the first cache.
const SLAB: usize = 24;

impl Kernel for Gram<'_> {
    type Out = Rows;

    #[inline(always)]
    fn run<V: Lanes>(self) -> Rows {
        let x = self.0;
        let n = x.padded();
        let mut out = Rows::zeros(x.count(), n);
        let mut columns = vec![[ZERO; 2]; 8 * SLAB];
        for from in (0..x.stride()).step_by(SLAB) {
            let lines = from..(from + SLAB).min(x.stride());
            for first in (0..n).step_by(16) {
                let columns = &mut columns[..8 * lines.len()];
                turn(x, first, lines.clone(), columns);
                for i in (first..n).step_by(8) {
                    let mut rows = [&x.row(i)[lines.clone()]; 8];
                    for r in 1..8 {
                        rows[r] = &x.row(i + r)[lines.clone()];
                    }
                    let sums = tile::<V, 2>(rows, columns);
                    for r in 0..8 {
                        let target = &mut out.row_mut(i + r)[first / 8..first / 8 + 2];
                        for c in 0..2 {
                            V::load(&target[c]).add(sums[r][c]).store(&mut target[c]);
                        }
                    }
                }
            }
        }
        for i in 0..n {
            for j in 0..i {
                out.set(j, i, out.at(i, j));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::lanes::{Level, run_at};
    use crate::random::{normal, stream};

    const LEVELS: [Level; 3] = [Level::Portable, Level::Avx2, Level::Avx512];

    /// Every kernel on vectors alone: dot, total, sum, logistic.
    struct All<'a>(&'a [Line], &'a [Line]);

    impl Kernel for All<'_> {
        type Out = (f64, f64, Vec<Line>, Vec<Line>);
        #[inline(always)]
        fn run<V: Lanes>(self) -> Self::Out {
            let mut sum = self.0.to_vec();
            add::<V>(&mut sum, -1.5, self.1);
            let logistic = |line| sigmoid(V::load(line)).line();
            let logistic = self.0.iter().map(logistic).collect();
            (dot::<V>(self.0, self.1), total::<V>(self.0), sum, logistic)
        }
    }

    struct Products<'a>(&'a Rows, &'a [Line]);

    impl Kernel for Products<'_> {
        type Out = (Vec<Line>, Vec<Line>);
        #[inline(always)]
        fn run<V: Lanes>(self) -> Self::Out {
            let mut out = vec![ZERO; self.0.count().div_ceil(8)];
            products::<V>(self.0, self.1, &mut out);
            let mut back = self.1.to_vec();
            for (block, times) in out.iter().enumerate() {
                add_eight::<V>(&mut back, times, self.0.eight(block));
            }
            (out, back)
        }
    }

    fn random(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = stream(seed, 0);
        (0..n).map(|_| 3.0 * normal(&mut rng)).collect()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-11 * b.abs().max(1.0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn vectors_are_what_plain_loops_make_of_them(n in 1usize..150, seed in 0u64..1000) {
            let (a, b) = (random(n, seed), random(n, seed + 1000));
            let (x, y) = (lines(a.iter().copied(), 0.0), lines(b.iter().copied(), 0.0));
            for level in LEVELS {
                let (dot, total, sum, logistic) = run_at(level, All(&x, &y));
                prop_assert!(near(dot, a.iter().zip(&b).map(|(a, b)| a * b).sum()), "{level:?}");
                prop_assert!(near(total, a.iter().sum()), "{level:?}");
                for (i, (sum, logistic)) in numbers(&sum, n).zip(numbers(&logistic, n)).enumerate() {
                    prop_assert!(near(sum, a[i] - 1.5 * b[i]), "{level:?}");
                    let expected = 1.0 / (1.0 + (-a[i]).exp());
                    prop_assert!((logistic / expected - 1.0).abs() < 2e-15, "{level:?} {} {logistic}", a[i]);
                }
            }
            // Sums are grouped alike, so a wider register gives the same bits.
            prop_assert_eq!(run_at(Level::Avx2, All(&x, &y)), run_at(Level::Avx512, All(&x, &y)));
        }

        #[test]
        fn matrices_are_what_plain_loops_make_of_them(n in 1usize..50, d in 1usize..450, seed in 0u64..1000) {
            let values = random(n * d, seed);
            let mut x = Rows::zeros(n, d);
            for (i, &v) in values.iter().enumerate() {
                x.set(i / d, i % d, v);
            }
            let row = |i: usize| &values[i * d..(i + 1) * d];
            let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let v = random(d, seed + 1);
            let by = lines(v.iter().copied(), 0.0);
            for level in LEVELS {
                let gram = run_at(level, Gram(&x));
                let (out, back) = run_at(level, Products(&x, &by));
                for i in 0..n {
                    for j in 0..n {
                        prop_assert!((gram.at(i, j) - inner(row(i), row(j))).abs() < 1e-9, "{level:?} {i} {j}");
                    }
                    prop_assert!((out[i / 8].0[i % 8] - inner(row(i), &v)).abs() < 1e-9, "{level:?}");
                }
                for (j, back) in numbers(&back, d).enumerate() {
                    let expected = v[j] + (0..n).map(|i| inner(row(i), &v) * row(i)[j]).sum::<f64>();
                    prop_assert!((back - expected).abs() < 1e-8 * expected.abs().max(1.0), "{level:?}");
                }
            }
        }
    }

    #[test]
    fn the_logistic_function_keeps_its_ends() {
        let x = [
            -1e9,
            -800.0,
            -37.0,
            -1e-300,
            0.0,
            37.0,
            800.0,
            f64::INFINITY,
        ];
        for level in LEVELS {
            let (_, _, _, found) = run_at(level, All(&[Line(x)], &[ZERO]));
            let found = found[0].0;
            assert!(found[0] >= 0.0 && found[1] < 1e-300, "{level:?} {found:?}");
            assert!((found[2] / 8.533_047_625_744_066e-17 - 1.0).abs() < 1e-14);
            assert_eq!((found[3], found[4]), (0.5, 0.5));
            assert!(found[5] <= 1.0 && found[6..] == [1.0, 1.0]);
        }
    }
}
