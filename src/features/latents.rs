//! What is done to codes between encoding and decoding: latents set, held, scaled or pushed.
//!
//! Written `LATENT=VALUE`, `LATENT*FACTOR`, `LATENT+AMOUNT`, `LATENT-AMOUNT` or `LATENT:LOW..HIGH`; what is read and written
//! again is the same.

use std::fmt;
use std::str::FromStr;

use candlescope_sae::{Codes, Dictionary};
use serde::{Deserialize, Serialize};

use super::FeatureError;

/// A change of one latent, in every row that is edited.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentEdit {
    /// Which.
    pub latent: usize,
    /// What becomes of its value.
    #[serde(flatten)]
    pub change: Change,
}

/// What becomes of a latent's value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// This value, whether it fired or not; 0 ablates it.
    Set(f32),
    /// So many times its value: a latent that did not fire stays silent.
    Scale(f32),
    /// So much more, whether it fired or not.
    Add(f32),
    /// Held between these.
    Clamp(f32, f32),
}

impl LatentEdit {
    /// A latent that never fires.
    pub fn ablate(latent: usize) -> Self {
        let change = Change::Set(0.0);
        Self { latent, change }
    }

    /// Refuses a latent that the dictionary lacks, and numbers that are not finite or bounds the wrong way round.
    ///
    /// # Errors
    /// As said.
    pub fn check(&self, dictionary: &Dictionary) -> Result<(), FeatureError> {
        if self.latent >= dictionary.d_sae() {
            return Err(dictionary.no_latent(self.latent).into());
        }
        let refuse = |why: &str| {
            Err(FeatureError::Edit {
                text: self.to_string(),
                why: why.into(),
            })
        };
        let numbers = match self.change {
            Change::Set(x) | Change::Scale(x) | Change::Add(x) => [x, x],
            Change::Clamp(low, high) => [low, high],
        };
        if numbers.iter().any(|x| !x.is_finite()) {
            return refuse("a number is not finite");
        }
        if numbers[0] > numbers[1] {
            return refuse("the lower bound is above the upper one");
        }
        Ok(())
    }
}

impl Change {
    fn of(self, value: f32) -> f32 {
        match self {
            Self::Set(to) => to,
            Self::Scale(factor) => value * factor,
            Self::Add(amount) => value + amount,
            Self::Clamp(low, high) => value.clamp(low, high),
        }
    }
}

/// The codes with edits applied, one after the other, to each row.
pub(super) fn edited(codes: &Codes, edits: &[LatentEdit]) -> Codes {
    let mut out = Codes::new();
    for row in 0..codes.rows() {
        let (latents, values) = codes.row(row);
        let mut entries: Vec<(u32, f32)> = latents
            .iter()
            .copied()
            .zip(values.iter().copied())
            .collect();
        for edit in edits {
            let latent = edit.latent as u32;
            match entries.binary_search_by_key(&latent, |entry| entry.0) {
                Ok(at) => entries[at].1 = edit.change.of(entries[at].1),
                Err(at) => entries.insert(at, (latent, edit.change.of(0.0))),
            }
        }
        out.push(entries.into_iter().filter(|entry| entry.1 != 0.0));
    }
    out
}

impl fmt::Display for LatentEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latent = self.latent;
        match self.change {
            Change::Set(to) => write!(f, "{latent}={to}"),
            Change::Scale(factor) => write!(f, "{latent}*{factor}"),
            Change::Add(amount) => write!(f, "{latent}{amount:+}"),
            Change::Clamp(low, high) => write!(f, "{latent}:{low}..{high}"),
        }
    }
}

impl FromStr for LatentEdit {
    type Err = FeatureError;

    fn from_str(text: &str) -> Result<Self, FeatureError> {
        let read = || {
            let end = text.find(|c: char| !c.is_ascii_digit())?;
            let latent = text[..end].parse().ok()?;
            let sign = text[end..].chars().next()?;
            let rest = &text[end + sign.len_utf8()..];
            let number = |text: &str| text.trim().parse().ok().filter(|x: &f32| x.is_finite());
            let change = match sign {
                '=' => Change::Set(number(rest)?),
                '*' => Change::Scale(number(rest)?),
                '+' => Change::Add(number(rest)?),
                '-' => Change::Add(-number(rest)?),
                ':' => {
                    let (low, high) = rest.split_once("..")?;
                    Change::Clamp(number(low)?, number(high)?)
                }
                _ => return None,
            };
            Some(Self { latent, change })
        };
        read().ok_or_else(|| FeatureError::Edit {
            text: text.into(),
            why: "it is written LATENT=VALUE, LATENT*FACTOR, LATENT+AMOUNT, LATENT-AMOUNT or LATENT:LOW..HIGH".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn codes_by_hand() {
        let mut codes = Codes::new();
        codes.push([(1, 2.0), (4, 3.0)]);
        codes.push([]);
        let edits: Vec<LatentEdit> = ["0+1", "1*0", "2*9", "3:0.5..1", "4:0..2"]
            .map(|e| e.parse().unwrap())
            .to_vec();
        let edited = edited(&codes, &edits);
        assert_eq!(edited.row(0), (&[0, 3, 4][..], &[1.0, 0.5, 2.0][..]));
        assert_eq!(edited.row(1), (&[0, 3][..], &[1.0, 0.5][..]));
        assert_eq!(super::edited(&codes, &[]), codes);
    }

    #[test]
    fn written_and_read_again() {
        for text in ["7=5", "7*0", "7+1.5", "7-2", "12:0..3.5", "0:-1..1"] {
            let edit: LatentEdit = text.parse().unwrap();
            assert_eq!(edit.to_string(), text);
            let json = serde_json::to_string(&edit).unwrap();
            assert_eq!(serde_json::from_str::<LatentEdit>(&json).unwrap(), edit);
        }
        for text in [
            "", "7", "=5", "x=5", "7=", "7=nan", "7:3", "7/2", "7:1..inf",
        ] {
            let error = text.parse::<LatentEdit>().unwrap_err().to_string();
            assert!(error.contains("LATENT=VALUE"), "{error}");
        }
    }
}
