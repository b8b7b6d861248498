//! Which trials are better than which, where two things count and neither is worth a given amount of the other.
//!
//! Smaller is better in both. Always: of equal points the earlier one stands first, so the order is the same each time.

/// Whether `a` is at least as good in both and better in one.
pub fn dominates(a: [f64; 2], b: [f64; 2]) -> bool {
    a[0] <= b[0] && a[1] <= b[1] && a != b
}

/// Indices of the points that none dominates, by the first objective; of equal points the first alone.
pub fn front(points: &[[f64; 2]]) -> Vec<usize> {
    let mut found: Vec<usize> = (0..points.len())
        .filter(|&i| {
            let better = |(j, &other): (usize, &[f64; 2])| {
                dominates(other, points[i]) || (j < i && other == points[i])
            };
            !points.iter().enumerate().any(better)
        })
        .collect();
    found.sort_by(|&i, &j| points[i][0].total_cmp(&points[j][0]).then(i.cmp(&j)));
    found
}

/// All indices, best first: front after front, within one the lonelier point first (Deb et al. 2002, NSGA-II).
pub fn ranked(points: &[[f64; 2]]) -> Vec<usize> {
    let mut left: Vec<usize> = (0..points.len()).collect();
    let mut order = Vec::with_capacity(points.len());
    while !left.is_empty() {
        let values: Vec<[f64; 2]> = left.iter().map(|&i| points[i]).collect();
        let best = front(&values);
        let lonely = crowding(&best.iter().map(|&i| values[i]).collect::<Vec<_>>());
        let mut placed: Vec<(f64, usize)> = lonely
            .into_iter()
            .zip(best.iter().map(|&i| left[i]))
            .collect();
        placed.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        order.extend(placed.iter().map(|(_, i)| *i));
        left.retain(|i| !placed.iter().any(|(_, taken)| taken == i));
    }
    order
}

/// Distance of each point's neighbours along a front, each objective as a share of the front's extent; endless at its ends.
fn crowding(front: &[[f64; 2]]) -> Vec<f64> {
    let last = front.len() - 1;
    let extent = |k: usize| (front[last][k] - front[0][k]).abs().max(f64::MIN_POSITIVE);
    let of = |i: usize| {
        if i == 0 || i == last {
            return f64::INFINITY;
        }
        (0..2)
            .map(|k| (front[i + 1][k] - front[i - 1][k]).abs() / extent(k))
            .sum()
    };
    (0..front.len()).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        let points = [
            [3.0, 1.0],
            [1.0, 3.0],
            [2.0, 2.0],
            [3.0, 3.0],
            [2.0, 2.0],
            [1.0, 4.0],
        ];
        assert_eq!(front(&points), [1, 2, 0]);
        // The ends, then what lies between; then the second front: (2, 2) again and (1, 4); then (3, 3).
        assert_eq!(ranked(&points), [0, 1, 2, 4, 5, 3]);
        assert!(!dominates([1.0, 1.0], [1.0, 1.0]) && dominates([1.0, 1.0], [1.0, 2.0]));
    }

    #[test]
    fn of_a_front_the_lonelier_point_comes_first() {
        // Extents 10 and 10; neighbours of (1, 5): 4 + 9 tenths; of (4, 1): 9 + 5.
        let points = [[0.0, 10.0], [1.0, 5.0], [4.0, 1.0], [10.0, 0.0]];
        assert_eq!(ranked(&points), [0, 3, 2, 1]);
    }

    proptest! {
        #[test]
        fn nothing_on_the_front_is_dominated_and_all_else_is(
            points in prop::collection::vec(prop::array::uniform2(0u8..6), 1..30)
        ) {
            let points: Vec<[f64; 2]> = points.iter().map(|p| p.map(f64::from)).collect();
            let best = front(&points);
            for (i, &p) in points.iter().enumerate() {
                let beaten = points.iter().any(|&other| dominates(other, p));
                prop_assert_eq!(beaten, !best.iter().any(|&j| points[j] == p), "{}", i);
            }
            let mut all = ranked(&points);
            all.sort_unstable();
            prop_assert_eq!(all, (0..points.len()).collect::<Vec<_>>());
        }
    }
}
