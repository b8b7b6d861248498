//! What training leaves out of a context: its first positions, special tokens, and tokens of an outlying norm.
//!
//! The first token of a context is an attention sink: in SmolLM2-135M at layer 15 its norm is about 24,000 against a median
//! of 172, and 0.4 % of the rows carry 99 % of the variance, so that a dictionary trained on all rows is a dictionary of
//! sinks (Xiao et al. 2023; Sun et al. 2024, massive activations).
//!
//! Always: the reason of each token is written down and counted; the first reason in the order first, special, norm is the
//! one that counts. Medians are measured by [`super::Facts`].

use std::fmt;

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::text::Tokenizer;

/// Contexts that medians are measured on, unless another number is given.
pub const SAMPLE: usize = 32;
/// The largest norm that is kept, in medians.
const NORM: f64 = 10.0;

/// What is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// So many positions at the beginning of each context.
    pub first: usize,
    /// These token ids, in order.
    pub ids: Vec<u32>,
    /// Tokens whose norm at any point is above so many medians of that point.
    pub norm: Option<f64>,
    /// Contexts at the beginning of the source that the medians are of.
    pub sample: usize,
}

impl Policy {
    /// The default for training: the first position, all special tokens, norms above 10 medians.
    pub fn training(tokenizer: &Tokenizer) -> Self {
        Self {
            first: 1,
            ids: special(tokenizer),
            norm: Some(NORM),
            sample: SAMPLE,
        }
    }

    /// Nothing is left out.
    pub fn nothing() -> Self {
        Self {
            first: 0,
            ids: Vec::new(),
            norm: None,
            sample: SAMPLE,
        }
    }

    /// `first,special,norm:10`: parts are `first` or `first:N`, `special`, `id:N`, `norm` or `norm:X`, `sample:N`; or `none`.
    ///
    /// # Errors
    /// [`StoreError::Setting`].
    pub fn parse(text: &str, tokenizer: &Tokenizer) -> Result<Self, StoreError> {
        let mut policy = Self::nothing();
        if text.trim() == "none" {
            return Ok(policy);
        }
        for part in text.split(',').map(str::trim) {
            let (name, value) = part.split_once(':').unwrap_or((part, ""));
            let number = value.parse::<usize>().ok().filter(|n| *n > 0);
            let ratio = value.parse::<f64>().ok();
            let ratio = ratio.filter(|x| x.is_finite() && *x > 1.0);
            let id = number.or((value == "0").then_some(0));
            let id = id.filter(|id| *id < tokenizer.vocab_size());
            match (name, number, ratio, id) {
                ("first", None, _, _) if value.is_empty() => policy.first = 1,
                ("first", Some(n), _, _) => policy.first = n,
                ("special", ..) if value.is_empty() => policy.ids.extend(special(tokenizer)),
                ("id", _, _, Some(id)) => policy.ids.push(id as u32),
                ("norm", ..) if value.is_empty() => policy.norm = Some(NORM),
                ("norm", _, Some(ratio), _) => policy.norm = Some(ratio),
                ("sample", Some(n), _, _) => policy.sample = n,
                _ => {
                    return Err(StoreError::Setting {
                        option: "--drop",
                        expected: "none, or a list of first[:N], special, id:N, norm[:X] with X above 1, sample:N",
                        found: part.into(),
                    });
                }
            }
        }
        policy.ids.sort_unstable();
        policy.ids.dedup();
        Ok(policy)
    }

    /// Why each token of a context is left out. `norms` are its norms at each point, `[point][token]`, and `medians` those
    /// of the points, which may be empty where no norm decides.
    pub fn judge(&self, ids: &[u32], norms: &[Vec<f64>], medians: &[f64]) -> Vec<Reason> {
        let outlies = |at: usize| {
            let most = self.norm.unwrap_or(f64::INFINITY);
            let pairs = norms.iter().zip(medians);
            pairs
                .into_iter()
                .any(|(norms, median)| norms[at] > most * median)
        };
        let reason = |(at, id): (usize, &u32)| {
            if at < self.first {
                Reason::First
            } else if self.ids.binary_search(id).is_ok() {
                Reason::Special
            } else if outlies(at) {
                Reason::Norm
            } else {
                Reason::Kept
            }
        };
        ids.iter().enumerate().map(reason).collect()
    }
}

/// All special tokens, by id.
fn special(tokenizer: &Tokenizer) -> Vec<u32> {
    let all = 0..tokenizer.vocab_size() as u32;
    all.filter(|&id| tokenizer.is_special(id)).collect()
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.first > 0 {
            parts.push(format!("the first {} of each context", self.first));
        }
        if !self.ids.is_empty() {
            parts.push(format!("{} special token ids", self.ids.len()));
        }
        if let Some(norm) = self.norm {
            parts.push(format!("norms above {norm} medians"));
        }
        if parts.is_empty() {
            parts.push("nothing".into());
        }
        f.write_str(&parts.join(", "))
    }
}

/// Why a token is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// It is not.
    Kept = 0,
    /// It stands at the beginning of its context.
    First = 1,
    /// Its id is left out.
    Special = 2,
    /// Its norm is an outlier.
    Norm = 3,
}

/// How many tokens are left out, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Tokens that training sees.
    pub kept: u64,
    /// At the beginning of a context.
    pub first: u64,
    /// Special tokens.
    pub special: u64,
    /// Outlying norms.
    pub norm: u64,
}

impl Tally {
    /// Counts tokens.
    pub fn count(&mut self, reasons: &[Reason]) {
        for reason in reasons {
            match reason {
                Reason::Kept => self.kept += 1,
                Reason::First => self.first += 1,
                Reason::Special => self.special += 1,
                Reason::Norm => self.norm += 1,
            }
        }
    }

    /// Both together.
    pub fn and(&mut self, other: &Self) {
        self.kept += other.kept;
        self.first += other.first;
        self.special += other.special;
        self.norm += other.norm;
    }

    /// Tokens that training does not see.
    pub fn left_out(&self) -> u64 {
        self.first + self.special + self.norm
    }

    /// Their share of all.
    pub fn share(&self) -> f64 {
        let all = self.kept + self.left_out();
        self.left_out() as f64 / all.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_reason_counts_and_any_point_may_outlie() {
        let policy = Policy {
            first: 1,
            ids: vec![2, 9],
            norm: Some(10.0),
            sample: 1,
        };
        // The first norm is an outlier as well, the token 9 too; 100 is not above 10 medians of 10.
        let norms = [
            vec![999.0, 5.0, 999.0, 100.0, 1.0],
            vec![1.0, 1.0, 1.0, 1.0, 10.5],
        ];
        let reasons = policy.judge(&[9, 4, 9, 4, 4], &norms, &[10.0, 1.0]);
        let (kept, out) = (Reason::Kept, [Reason::First, Reason::Special, Reason::Norm]);
        assert_eq!(reasons, [out[0], kept, out[1], kept, out[2]]);
        let mut tally = Tally::default();
        tally.count(&reasons);
        assert_eq!((tally.kept, tally.left_out()), (2, 3));
        assert!((tally.share() - 0.6).abs() < 1e-12);
        let all = Policy::nothing().judge(&[9, 4], &norms, &[]);
        assert_eq!(all, [kept, kept]);
    }
}
