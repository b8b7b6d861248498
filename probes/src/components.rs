//! Principal components without centring, and subspaces: effective rank, principal angles.
//!
//! Not centred on purpose: the components of differences between two classes must keep the mean difference, which a PCA that
//! centres first throws away (the default of two steering libraries; on SmolLM2 its first component has a cosine of 0.02 to
//! 0.52 with the mean difference, that of differences left as they are 0.22 to 0.96).

use linfa_linalg::eigh::EighInto;
use linfa_linalg::svd::SVD;
use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use crate::error::{ProbeError, at_least, same_length};
use crate::linalg::norm;

/// Components of rows, strongest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Components {
    /// Unit vectors, `[k, d]`.
    pub vectors: Array2<f64>,
    /// Sum of squared projections of the rows on each, `[k]`.
    pub energy: Vec<f64>,
    /// The same summed over all components, whatever their number.
    pub total: f64,
}

/// The `k` strongest components of rows `[n, d]` about the origin, in f64; fewer where the rows span less. Signs are arbitrary.
///
/// # Errors
/// No rows; rows that are all zero or not finite.
pub fn components(rows: ArrayView2<f64>, k: usize) -> Result<Components, ProbeError> {
    at_least("rows", 1, rows.nrows())?;
    if let Some(((row, column), _)) = rows.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(ProbeError::NonFinite {
            what: "rows",
            row,
            column,
        });
    }
    let total: f64 = rows.iter().map(|v| v * v).sum();
    if total < 1e-24 {
        return Err(ProbeError::NoDirection {
            what: "rows",
            norm: total.sqrt(),
        });
    }
    // The smaller of the two Gram matrices has the same spectrum.
    let wide = rows.ncols() > rows.nrows();
    let gram = if wide {
        rows.dot(&rows.t())
    } else {
        rows.t().dot(&rows)
    };
    let (values, vectors) = gram.eigh_into().map_err(|error| ProbeError::Numerical {
        what: "principal components",
        reason: error.to_string(),
    })?;
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order.retain(|&i| values[i] > 1e-12 * total);
    order.truncate(k);
    let mut found = Array2::zeros((order.len(), rows.ncols()));
    for (mut target, &i) in found.rows_mut().into_iter().zip(&order) {
        let own = vectors.column(i);
        let vector: Array1<f64> = if wide {
            rows.t().dot(&own)
        } else {
            own.to_owned()
        };
        target.assign(&(&vector / norm(vector.view())));
    }
    Ok(Components {
        vectors: found,
        energy: order.iter().map(|&i| values[i]).collect(),
        total,
    })
}

/// How many components share the energy: exp of the entropy of their shares (Roy and Vetterli 2007). Between 1 and their
/// number; 0 without any.
pub fn effective_rank(energy: &[f64]) -> f64 {
    let total: f64 = energy.iter().sum();
    if total <= 0.0 {
        return 0.0;
    }
    let shares = energy.iter().map(|e| e / total).filter(|&p| p > 0.0);
    shares.map(|p| -p * p.ln()).sum::<f64>().exp()
}

/// [`effective_rank`] of vectors of which only the inner products `[k, k]` are known. Eigenvalues under 0, which a matrix of
/// products freed of noise may have, count as 0.
///
/// # Errors
/// No vectors, products that are not finite.
pub fn effective_rank_of_products(products: Array2<f64>) -> Result<f64, ProbeError> {
    at_least("vectors", 1, products.nrows())?;
    if let Some(((row, column), _)) = products.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(ProbeError::NonFinite {
            what: "inner products",
            row,
            column,
        });
    }
    let (values, _) = products
        .eigh_into()
        .map_err(|error| ProbeError::Numerical {
            what: "effective rank",
            reason: error.to_string(),
        })?;
    let energy: Vec<f64> = values.iter().map(|v| v.max(0.0)).collect();
    Ok(effective_rank(&energy))
}

/// An orthonormal basis of the span of vectors `[k, d]`, in their order (Gram and Schmidt, twice); what adds less than a
/// millionth of its length is left out.
pub fn orthonormal(vectors: ArrayView2<f64>) -> Array2<f64> {
    let mut basis: Vec<Array1<f64>> = Vec::new();
    for row in vectors.rows() {
        let length = norm(row);
        let mut rest = row.to_owned();
        for _ in 0..2 {
            for b in &basis {
                let along = rest.dot(b);
                rest.scaled_add(-along, b);
            }
        }
        let left = norm(rest.view());
        if left > 1e-6 * length && left > 1e-150 {
            basis.push(rest / left);
        }
    }
    let mut out = Array2::zeros((basis.len(), vectors.ncols()));
    for (mut target, row) in out.rows_mut().into_iter().zip(&basis) {
        target.assign(row);
    }
    out
}

/// Cosines of the principal angles between the spans of `[k, d]` and `[m, d]`, largest first: min(k, m) of them (Björck and
/// Golub 1973).
///
/// # Errors
/// Other widths, a span of nothing.
pub fn principal_cosines(
    first: ArrayView2<f64>,
    second: ArrayView2<f64>,
) -> Result<Vec<f64>, ProbeError> {
    same_length(
        "width of the second subspace",
        first.ncols(),
        second.ncols(),
    )?;
    let (a, b) = (orthonormal(first), orthonormal(second));
    at_least("dimensions of a subspace", 1, a.nrows().min(b.nrows()))?;
    let (_, values, _) =
        a.dot(&b.t())
            .svd(false, false)
            .map_err(|error| ProbeError::Numerical {
                what: "principal angles",
                reason: error.to_string(),
            })?;
    let mut values: Vec<f64> = values.iter().map(|v| v.clamp(0.0, 1.0)).collect();
    values.sort_by(|x, y| y.total_cmp(x));
    Ok(values)
}

/// Differences of the i-th row of `[n, d]` and the i-th of `[m, d]`, as many as there are pairs.
pub fn deltas(positive: ArrayView2<f32>, negative: ArrayView2<f32>) -> Array2<f64> {
    let pairs = positive.nrows().min(negative.nrows());
    let of = |x: ArrayView2<f32>| x.slice(s![..pairs, ..]).mapv(f64::from);
    of(positive) - of(negative)
}

/// Means of groups of rows `[n, d]`, less a vector; a row a group.
pub fn group_differences(
    rows: ArrayView2<f32>,
    groups: &[Vec<usize>],
    from: &Array1<f64>,
) -> Array2<f64> {
    let mut out = Array2::zeros((groups.len(), rows.ncols()));
    for (mut target, group) in out.rows_mut().into_iter().zip(groups) {
        let own = rows.select(Axis(0), group);
        target.assign(&(crate::linalg::means(own.view()) - from));
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::array;
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        // Rows along (3, 4)/5 and (−4, 3)/5 with squares 50 and 4.
        let (u, v) = (array![0.6, 0.8], array![-0.8, 0.6]);
        let rows = ndarray::stack![Axis(0), &u * 5.0, &u * -5.0, &v * 2.0];
        let found = components(rows.view(), 5).unwrap();
        assert_eq!(found.vectors.nrows(), 2);
        assert!((found.vectors.row(0).dot(&u).abs() - 1.0).abs() < 1e-12);
        assert!((found.energy[0] - 50.0).abs() < 1e-10 && (found.energy[1] - 4.0).abs() < 1e-10);
        assert!((found.total - 54.0).abs() < 1e-10);
        // Shares 1/2 and 1/2 are two, one alone is one.
        assert!((effective_rank(&[2.0, 2.0]) - 2.0).abs() < 1e-12);
        assert!((effective_rank(&[7.0]) - 1.0).abs() < 1e-12);
        // The same from products: (5, 0), (0, 5) twice orthogonal; a product freed of noise under 0 counts as none.
        let rank = |products| effective_rank_of_products(products).unwrap();
        assert!((rank(array![[25.0, 0.0], [0.0, 25.0]]) - 2.0).abs() < 1e-12);
        assert!((rank(array![[4.0, 0.0], [0.0, -1.0]]) - 1.0).abs() < 1e-12);
        // Entropy of (3/4, 1/4) is 0.562335 nats.
        assert!((effective_rank(&[3.0, 1.0]) - 0.562_335_144_618_808_3_f64.exp()).abs() < 1e-12);
    }

    #[test]
    fn angles_between_planes_by_hand() {
        let a = array![[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]];
        let b = array![[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]];
        let found = principal_cosines(a.view(), b.view()).unwrap();
        assert!((found[0] - 1.0).abs() < 1e-12);
        assert!((found[1] - 0.5f64.sqrt()).abs() < 1e-12);
        let line = array![[0.0, 0.0, 2.0]];
        assert!(principal_cosines(a.view(), line.view()).unwrap()[0] < 1e-12);
    }

    #[test]
    fn nothing_and_nonsense_are_refused() {
        let zero = Array2::<f64>::zeros((3, 4));
        assert!(components(zero.view(), 1).is_err());
        assert!(components(array![[f64::NAN]].view(), 1).is_err());
        assert!(principal_cosines(zero.view(), array![[1.0, 0.0, 0.0, 0.0]].view()).is_err());
    }

    proptest! {
        #[test]
        fn energies_are_those_of_projections_and_wide_is_as_tall(
            values in proptest::collection::vec(-3.0f64..3.0, 15),
        ) {
            let rows = Array2::from_shape_vec((3, 5), values).unwrap();
            prop_assume!(rows.iter().map(|v| v * v).sum::<f64>() > 0.1);
            let wide = components(rows.view(), 3).unwrap();
            for (vector, energy) in wide.vectors.rows().into_iter().zip(&wide.energy) {
                let along = rows.dot(&vector);
                prop_assert!((along.dot(&along) - energy).abs() < 1e-7 * wide.total);
            }
            prop_assert!((wide.energy.iter().sum::<f64>() - wide.total).abs() < 1e-7 * wide.total);
            // Rows of zeros change nothing but which Gram matrix is used.
            let tall = ndarray::concatenate![Axis(0), rows, Array2::<f64>::zeros((4, 5))];
            let tall = components(tall.view(), 3).unwrap();
            for (a, b) in wide.energy.iter().zip(&tall.energy) {
                prop_assert!((a - b).abs() < 1e-7 * wide.total);
            }
        }
    }
}
