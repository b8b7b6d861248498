//! A removal is a projection, on matrices of any shape: what it leaves, twice, in part, transposed.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use candlescope::steer::edit::{Axis, Basis, Removal, removed, written_length};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_removal_is_a_projection(
        (d, n) in (2usize..7, 1usize..6),
        values in prop::collection::vec(-3.0f64..3.0, 36),
        direction in prop::collection::vec(-1.0f32..1.0, 6),
        amount in -1.0f64..2.0,
        keep_norms in any::<bool>(),
    ) {
        let direction = Arc::new(direction[..d].to_vec());
        prop_assume!(direction.iter().any(|x| x.abs() > 1e-3));
        let basis = Basis::new(&[direction]).unwrap();
        let w = Tensor::from_slice(&values[..d * n], (d, n), &Device::Cpu).unwrap();
        let whole = Removal { amount: 1.0, keep_norms };
        let once = removed(&w, Axis::Rows, &basis, whole).unwrap();
        let size = written_length(&w, Axis::Rows, &basis).unwrap().max(1.0);
        // Nothing is left, and taking it out again changes nothing.
        prop_assert!(written_length(&once, Axis::Rows, &basis).unwrap() < 1e-12 * size * 10.0);
        let twice = removed(&once, Axis::Rows, &basis, whole).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for (a, b) in flat(&once).iter().zip(flat(&twice)) {
            prop_assert!((a - b).abs() < 1e-11);
        }
        // A part of it leaves the rest of it, and the transposed matrix as a table is the same.
        let part = Removal { amount, keep_norms: false };
        let some = removed(&w, Axis::Rows, &basis, part).unwrap();
        let left = written_length(&some, Axis::Rows, &basis).unwrap();
        let was = written_length(&w, Axis::Rows, &basis).unwrap();
        prop_assert!((left - (1.0 - amount).abs() * was).abs() < 1e-11);
        let table = removed(&w.t().unwrap().contiguous().unwrap(), Axis::Columns, &basis, part).unwrap();
        for (a, b) in flat(&some).iter().zip(flat(&table.t().unwrap().contiguous().unwrap())) {
            prop_assert!((a - b).abs() < 1e-12);
        }
    }
}
