//! The subspace that is taken out: an orthonormal basis in f64, and what it is on the other side of a post-norm.
//!
//! Always: rows are of unit length and orthogonal to 1e-15 (Gram-Schmidt, twice); what points nowhere is refused, never
//! dropped silently.

use std::sync::Arc;

use super::EditError;
use crate::hooks::Vector;

/// A direction whose length falls under this share by projection is taken to lie in the span: the sources are f32.
pub(super) const LEAST: f64 = 1e-5;

/// An orthonormal basis `[rank, d_model]` of directions in the residual stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Basis {
    rows: Vec<Vec<f64>>,
    width: usize,
}

impl Basis {
    /// Of the span of directions `[d_model]`; their lengths do not matter.
    ///
    /// # Errors
    /// None given, different widths, an entry that is not finite, length zero, one that lies in the span of others.
    pub fn new(directions: &[Vector]) -> Result<Self, EditError> {
        Self::projected(directions, &[])
    }

    /// Of directions made orthogonal to others first, such as the mean of harmless prompts ("projected" abliteration): what
    /// the model needs for those prompts is then left alone.
    ///
    /// # Errors
    /// As [`Self::new`], for both; a direction that lies in the span of `kept`.
    pub fn projected(directions: &[Vector], kept: &[Vector]) -> Result<Self, EditError> {
        let width = directions.first().ok_or(EditError::NoDirection)?.len();
        let mut basis = Self {
            rows: Vec::new(),
            width,
        };
        let kept = if kept.is_empty() {
            basis.clone()
        } else {
            let kept = Self::new(kept)?;
            expect_width("the vector to project out", width, kept.width)?;
            kept
        };
        for (index, direction) in directions.iter().enumerate() {
            expect_width(&format!("direction {index}"), width, direction.len())?;
            let mut row: Vec<f64> = direction.iter().map(|&x| f64::from(x)).collect();
            if row.iter().any(|x| !x.is_finite()) {
                return Err(EditError::NotFinite { index });
            }
            if !normalise(&mut row) {
                let why = "its length is zero";
                return Err(EditError::NoLength { index, why });
            }
            kept.remove_from(&mut row);
            if length(&row) < LEAST || !normalise(&mut row) {
                let why = "nothing is left of it once the given vector is projected out";
                return Err(EditError::NoLength { index, why });
            }
            basis.remove_from(&mut row);
            if length(&row) < LEAST || !normalise(&mut row) {
                return Err(EditError::Dependent { index });
            }
            basis.rows.push(row);
        }
        Ok(basis)
    }

    /// Of rows that are orthonormal already.
    pub(super) fn of_rows(rows: Vec<Vec<f64>>, width: usize) -> Self {
        Self { rows, width }
    }

    /// Directions.
    pub fn rank(&self) -> usize {
        self.rows.len()
    }

    /// Channels of the residual stream.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The unit vectors.
    pub fn rows(&self) -> &[Vec<f64>] {
        &self.rows
    }

    /// The unit vectors for edits by hook.
    pub fn vectors(&self) -> Vec<Vector> {
        let narrow = |row: &Vec<f64>| Arc::new(row.iter().map(|&x| x as f32).collect());
        self.rows.iter().map(narrow).collect()
    }

    /// The span of `map(row)`; rows that fall to nothing there are no constraint and are left out.
    pub(super) fn mapped(&self, map: impl Fn(&[f64]) -> Vec<f64>) -> Self {
        let mut mapped = Self {
            rows: Vec::new(),
            width: self.width,
        };
        for row in &self.rows {
            let mut row = map(row);
            if !normalise(&mut row) {
                continue;
            }
            mapped.remove_from(&mut row);
            // These come of f64 rows, so only what is rounding counts as dependent.
            if length(&row) > 1e-12 && normalise(&mut row) {
                mapped.rows.push(row);
            }
        }
        mapped
    }

    /// Takes the subspace's part out of a vector; twice, so that rounding leaves none either.
    fn remove_from(&self, x: &mut [f64]) {
        for _ in 0..2 {
            for row in &self.rows {
                let along = dot(row, x);
                x.iter_mut().zip(row).for_each(|(x, r)| *x -= along * r);
            }
        }
    }

    /// Coefficients of a vector along the rows.
    pub(super) fn along(&self, x: &[f64]) -> Vec<f64> {
        self.rows.iter().map(|row| dot(row, x)).collect()
    }

    /// The subspace's part of a vector.
    pub(super) fn part_of(&self, x: &[f64]) -> Vec<f64> {
        let mut part = vec![0.0; x.len()];
        for (row, along) in self.rows.iter().zip(self.along(x)) {
            part.iter_mut().zip(row).for_each(|(p, r)| *p += along * r);
        }
        part
    }
}

fn expect_width(what: &str, expected: usize, found: usize) -> Result<(), EditError> {
    if expected == found {
        return Ok(());
    }
    Err(EditError::Width {
        what: what.to_owned(),
        expected,
        found,
    })
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(super) fn length(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

/// Divides by the length; false, and nothing done, where there is none.
fn normalise(x: &mut [f64]) -> bool {
    let length = length(x);
    let there = length > 0.0 && length.is_finite();
    if there {
        for x in x {
            *x /= length;
        }
    }
    there
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn v(x: &[f32]) -> Vector {
        Arc::new(x.to_vec())
    }

    #[test]
    fn the_rows_are_orthonormal_and_span_what_was_given() {
        // (3, 4, 0) and (1, 0, 2): the second less its part along (0.6, 0.8, 0) is (0.64, -0.48, 2), of length √4.64.
        let basis = Basis::new(&[v(&[3.0, 4.0, 0.0]), v(&[1.0, 0.0, 2.0])]).unwrap();
        let by_hand = [
            [0.6, 0.8, 0.0],
            [0.64, -0.48, 2.0].map(|x: f64| x / 4.64f64.sqrt()),
        ];
        for (row, expected) in basis.rows().iter().zip(by_hand) {
            for (x, y) in row.iter().zip(expected) {
                assert!((x - y).abs() < 1e-15, "{row:?}");
            }
        }
    }

    #[test]
    fn what_points_nowhere_is_refused_by_number() {
        let text = |directions: &[Vector], kept: &[Vector]| {
            Basis::projected(directions, kept).unwrap_err().to_string()
        };
        let (a, b) = (v(&[1.0, 2.0]), v(&[2.0, 4.0]));
        assert!(text(&[], &[]).contains("no direction"));
        assert!(text(&[v(&[0.0, 0.0])], &[]).contains("direction 0: its length is zero"));
        assert!(text(&[a.clone(), b.clone()], &[]).contains("direction 1 lies in the span"));
        assert!(text(std::slice::from_ref(&a), &[b]).contains("nothing is left"));
        assert!(text(&[a.clone(), v(&[f32::NAN, 0.0])], &[]).contains("direction 1 has an entry"));
        assert!(text(&[a.clone(), v(&[1.0])], &[]).contains("expected 2 numbers"));
        assert!(text(&[a], &[v(&[1.0, 0.0, 0.0])]).contains("expected 2 numbers"));
    }

    #[test]
    fn a_projected_direction_leaves_the_kept_one_alone() {
        let mean = v(&[1.0, 1.0, 0.0]);
        let basis = Basis::projected(&[v(&[1.0, 0.0, 1.0])], std::slice::from_ref(&mean)).unwrap();
        let mean: Vec<f64> = mean.iter().map(|&x| f64::from(x)).collect();
        assert!(basis.along(&mean)[0].abs() < 1e-15);
    }
}
