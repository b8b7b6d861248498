//! Which latents are worth a page where nobody named any.

use candlescope_sae::measure::{DENSE_ABOVE, Density};

/// Firings below which a latent says too little about itself.
const FEWEST: u64 = 10;

/// Up to `count` latents, rising: of those that fired at least ten times and in at most a tenth of the rows, spread evenly
/// over their order by density, from the rare to the common. Where these are too few, the others that fired, the rarest
/// first among the dense and the commonest first among the rare.
pub fn interesting(density: &Density, count: usize) -> Vec<usize> {
    let mut fired: Vec<usize> = (0..density.latents())
        .filter(|&l| density.fired()[l] > 0)
        .collect();
    fired.sort_by_key(|&l| (density.fired()[l], l));
    let (band, rest): (Vec<usize>, Vec<usize>) = fired
        .into_iter()
        .partition(|&l| density.fired()[l] >= FEWEST && density.of(l) <= DENSE_ABOVE);
    let mut chosen: Vec<usize> = if band.len() <= count {
        let (rare, dense): (Vec<usize>, Vec<usize>) = rest
            .into_iter()
            .partition(|&l| density.of(l) <= DENSE_ABOVE);
        let others = dense.into_iter().chain(rare.into_iter().rev());
        let missing = count - band.len();
        band.into_iter().chain(others.take(missing)).collect()
    } else {
        // The middle of each of `count` equal parts.
        let middle = |part: usize| (2 * part + 1) * band.len() / (2 * count);
        (0..count).map(|part| band[middle(part)]).collect()
    };
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candlescope_sae::Codes;

    /// Latent `l` fires in `times[l]` of 1000 rows.
    fn density(times: &[usize]) -> Density {
        let mut codes = Codes::new();
        for row in 0..1000 {
            let fire = times.iter().enumerate().filter(|(_, t)| row < **t);
            codes.push(fire.map(|(l, _)| (l as u32, 1.0)));
        }
        let mut density = Density::new(times.len());
        density.add(&codes).unwrap();
        density
    }

    #[test]
    fn neither_dead_nor_dense_nor_seen_too_seldom() {
        // Dead, too rare, then ten to a hundred times, then dense.
        let density = density(&[0, 9, 10, 30, 50, 70, 100, 101, 900]);
        assert_eq!(interesting(&density, 5), [2, 3, 4, 5, 6]);
        // Parts [10, 30 | 50, 70, 100] have their middles at 30 and 70.
        assert_eq!(interesting(&density, 2), [3, 5]);
        assert_eq!(interesting(&density, 6), [2, 3, 4, 5, 6, 7]);
        assert_eq!(interesting(&density, 99), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(interesting(&density, 0).is_empty());
    }
}
