//! Latents that fire on the same tokens: the phi coefficient and the Jaccard index of two latents over the rows seen.
//!
//! Always: counts are exact. What is bounded is who is compared: each latent that is followed with all latents of the
//! dictionary, or, where that table would not fit, with the others that are followed.

use candlescope_sae::{Codes, measure::Density};
use serde::{Deserialize, Serialize};

/// Most numbers of the table.
const MOST: usize = 64 << 20;
/// Rows in which two latents have fired together at least, to be told of.
const FEWEST: u32 = 3;

/// With whom latents are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CofiringOver {
    /// All latents of the dictionary.
    All,
    /// Those that were collected.
    Collected,
    /// None: it was not asked for, or too many were collected.
    None,
}

/// Another latent that fires with this one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cofiring {
    /// Which.
    pub index: usize,
    /// The phi coefficient: correlation of the two indicators of firing.
    pub phi: f64,
    /// Rows with both over rows with either.
    pub jaccard: f64,
    /// Rows with both.
    pub rows: u64,
}

/// Correlation of two indicators that are 1 in `[a, b]` of `rows` rows, together in `both`; `None` where one never changes.
pub fn phi(both: u64, [a, b]: [u64; 2], rows: u64) -> Option<f64> {
    let [both, a, b, rows] = [both, a, b, rows].map(|n| n as f64);
    let spread = a * b * (rows - a) * (rows - b);
    (spread > 0.0).then(|| (both * rows - a * b) / spread.sqrt())
}

/// In how many rows followed latents fired with others.
#[derive(Debug)]
pub(super) struct Together {
    over: CofiringOver,
    width: usize,
    counts: Vec<u32>,
}

impl Together {
    /// For `followed` of `latents`.
    pub(super) fn new(followed: usize, latents: usize, wanted: bool) -> Self {
        let (over, width) = if !wanted {
            (CofiringOver::None, 0)
        } else if followed * latents <= MOST {
            (CofiringOver::All, latents)
        } else if followed * followed <= MOST {
            (CofiringOver::Collected, followed)
        } else {
            (CofiringOver::None, 0)
        };
        Self {
            over,
            width,
            counts: vec![0; followed * width],
        }
    }

    pub(super) fn over(&self) -> CofiringOver {
        self.over
    }

    /// Takes in the codes of some rows; `slot` gives the place of a latent among those followed.
    pub(super) fn add(&mut self, codes: &Codes, slot: impl Fn(u32) -> Option<usize>) {
        if self.over == CofiringOver::None {
            return;
        }
        for row in 0..codes.rows() {
            let (latents, _) = codes.row(row);
            for own in latents.iter().filter_map(|&l| slot(l)) {
                let counts = &mut self.counts[own * self.width..(own + 1) * self.width];
                for &other in latents {
                    let column = match self.over {
                        CofiringOver::All => Some(other as usize),
                        _ => slot(other),
                    };
                    if let Some(column) = column {
                        counts[column] += 1;
                    }
                }
            }
        }
    }

    /// The `most` latents that go most with the one at `slot`, by phi.
    pub(super) fn of(
        &self,
        slot: usize,
        followed: &[usize],
        density: &Density,
        most: usize,
    ) -> Vec<Cofiring> {
        let (own, rows) = (followed[slot], density.rows());
        let counts = &self.counts[slot * self.width..(slot + 1) * self.width];
        let pair = |(column, both): (usize, &u32)| {
            let index = match self.over {
                CofiringOver::All => column,
                _ => followed[column],
            };
            if index == own || *both < FEWEST {
                return None;
            }
            let fired = [own, index].map(|l| density.fired()[l]);
            let both = u64::from(*both);
            Some(Cofiring {
                index,
                phi: phi(both, fired, rows)?,
                jaccard: both as f64 / (fired[0] + fired[1] - both) as f64,
                rows: both,
            })
        };
        let mut all: Vec<Cofiring> = counts.iter().enumerate().filter_map(pair).collect();
        all.sort_by(|a, b| b.phi.total_cmp(&a.phi).then(a.index.cmp(&b.index)));
        all.truncate(most);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fired or not, in 500 rows of 9 latents, some of them tied to others.
    fn fired() -> Vec<[bool; 9]> {
        let row = |i: usize| {
            std::array::from_fn(|l| match l {
                0 => i.is_multiple_of(3),
                1 => i.is_multiple_of(3) && !i.is_multiple_of(7),
                2 => !i.is_multiple_of(3),
                8 => false,
                _ => (i * (l + 3) + i * i) % (l + 4) == 1,
            })
        };
        (0..500).map(row).collect()
    }

    /// The correlation of two columns from its definition.
    fn correlation(rows: &[[bool; 9]], a: usize, b: usize) -> f64 {
        let n = rows.len() as f64;
        let of = |l: usize| rows.iter().map(move |r| f64::from(u8::from(r[l])));
        let mean = |l: usize| of(l).sum::<f64>() / n;
        let (ma, mb) = (mean(a), mean(b));
        let covariance: f64 = of(a).zip(of(b)).map(|(x, y)| (x - ma) * (y - mb)).sum();
        let scatter = |l: usize, m: f64| of(l).map(|x| (x - m).powi(2)).sum::<f64>();
        covariance / (scatter(a, ma) * scatter(b, mb)).sqrt()
    }

    #[test]
    fn as_the_definition_over_all_rows() -> Result<(), candlescope_sae::SaeError> {
        let rows = fired();
        let mut codes = Codes::new();
        for row in &rows {
            codes.push((0..9).filter(|l| row[*l]).map(|l| (l as u32, 1.5)));
        }
        let mut density = Density::new(9);
        density.add(&codes)?;
        let followed = [0, 4, 2, 8];
        let slot = |l: u32| followed.iter().position(|f| *f == l as usize);
        let mut together = Together::new(4, 9, true);
        assert_eq!(together.over(), CofiringOver::All);
        together.add(&codes, slot);
        for (at, own) in followed.iter().enumerate() {
            let found = together.of(at, &followed, &density, 9);
            for pair in &found {
                let expected = correlation(&rows, *own, pair.index);
                assert!((pair.phi - expected).abs() < 1e-12, "{own} {pair:?}");
                let count = |of: &dyn Fn(&[bool; 9]) -> bool| rows.iter().filter(|r| of(r)).count();
                let both = count(&|r| r[*own] && r[pair.index]);
                let either = count(&|r| r[*own] || r[pair.index]);
                assert_eq!(pair.rows, both as u64);
                assert!((pair.jaccard - both as f64 / either as f64).abs() < 1e-12);
            }
            assert!(found.is_sorted_by(|a, b| a.phi >= b.phi));
        }
        assert_eq!(together.of(0, &followed, &density, 9)[0].index, 1);
        // 0 and 2 are never together, and 8 never fires.
        let found = together.of(0, &followed, &density, 9);
        assert!(found.iter().all(|p| p.index != 2 && p.index != 8));
        assert!(together.of(3, &followed, &density, 9).is_empty());
        Ok(())
    }

    #[test]
    fn a_table_that_would_not_fit_is_made_smaller() {
        let over = |followed, latents| Together::new(followed, latents, true).over();
        assert_eq!(over(100, 100_000), CofiringOver::All);
        assert_eq!(over(4000, 100_000), CofiringOver::Collected);
        assert_eq!(over(100_000, 100_000), CofiringOver::None);
        assert_eq!(phi(1, [1, 5], 5), None);
    }
}
