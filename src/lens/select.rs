//! Which positions and which layers: `0-3,-1`, `last:4`, `embed,0-5,29`. What is out of range is refused.

use std::str::FromStr;

use super::{LensError, LensRow};

/// A list of positions; negative ones count from the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    One(i64),
    Span(usize, usize),
    Last(usize),
}

impl Positions {
    /// Every position.
    pub fn all() -> Self {
        Self::default()
    }

    /// The last `n`.
    pub fn last(n: usize) -> Self {
        Self(vec![Part::Last(n)])
    }

    /// The positions among `len`, rising, each once.
    ///
    /// # Errors
    /// A position that the text does not have.
    pub fn resolve(&self, len: usize) -> Result<Vec<usize>, LensError> {
        if self.0.is_empty() {
            return Ok((0..len).collect());
        }
        let refuse = |index: i64| LensError::OutOfRange {
            axis: "position",
            index,
            size: len,
        };
        let mut out = Vec::new();
        for part in &self.0 {
            match *part {
                Part::One(p) => {
                    let at = if p < 0 { len as i64 + p } else { p };
                    let at = usize::try_from(at).ok().filter(|&at| at < len);
                    out.push(at.ok_or_else(|| refuse(p))?);
                }
                Part::Span(_, to) if to >= len => return Err(refuse(to as i64)),
                Part::Span(from, to) => out.extend(from..=to),
                Part::Last(n) if n > len => return Err(refuse(-(n as i64))),
                Part::Last(n) => out.extend(len - n..len),
            }
        }
        out.sort_unstable();
        out.dedup();
        Ok(out)
    }
}

impl FromStr for Positions {
    type Err = LensError;

    fn from_str(text: &str) -> Result<Self, LensError> {
        if matches!(text, "all" | "*") {
            return Ok(Self::all());
        }
        let part = |part: &str| -> Option<Part> {
            if part == "last" {
                return Some(Part::Last(1));
            }
            if let Some(n) = part.strip_prefix("last:") {
                return n.parse().ok().filter(|&n| n > 0).map(Part::Last);
            }
            if let Ok(one) = part.parse() {
                return Some(Part::One(one));
            }
            span(part).map(|(from, to)| Part::Span(from, to))
        };
        let parts: Option<Vec<Part>> = text.split(',').map(|p| part(p.trim())).collect();
        parts.map(Self).ok_or_else(|| LensError::Selection {
            axis: "positions",
            found: text.to_string(),
            expected: "all, last, last:N, or a list such as 0-3,7,-1".into(),
        })
    }
}

fn span(part: &str) -> Option<(usize, usize)> {
    let (from, to) = part.split_once('-')?;
    let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (from <= to).then_some((from, to))
}

/// Rows of the lens: `*`, or a list such as `embed,0-3,29`. They come out in the order of the forward pass, each once.
///
/// # Errors
/// Malformed lists, layers the model lacks.
pub fn parse_layers(text: &str, n_layers: usize) -> Result<Vec<LensRow>, LensError> {
    if matches!(text, "*" | "all") {
        return Ok(LensRow::all(n_layers));
    }
    let mut out = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (from, to) = match part.parse::<usize>() {
            _ if part == "embed" => {
                out.push(LensRow::Embed);
                continue;
            }
            Ok(one) => (one, one),
            Err(_) => span(part).ok_or_else(|| LensError::Selection {
                axis: "layers",
                found: text.to_string(),
                expected: format!(
                    "*, or a list of embed and layers 0 to {}, such as embed,0-3",
                    n_layers - 1
                ),
            })?,
        };
        if to >= n_layers {
            return Err(LensError::OutOfRange {
                axis: "layer",
                index: to as i64,
                size: n_layers,
            });
        }
        out.extend((from..=to).map(LensRow::Layer));
    }
    out.sort_unstable();
    out.dedup();
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn positions(text: &str) -> Result<Vec<usize>, LensError> {
        text.parse::<Positions>()?.resolve(6)
    }

    #[test]
    fn positions_resolve_from_either_end() {
        assert_eq!(positions("all").unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(positions("-1,0-2,1").unwrap(), [0, 1, 2, 5]);
        assert_eq!(positions("last:2").unwrap(), [4, 5]);
        assert_eq!(positions("last").unwrap(), [5]);
        for bad in ["6", "-7", "3-6", "last:7", "last:0", "2-1", "", "x", "1,,2"] {
            assert!(positions(bad).is_err(), "{bad}");
        }
        let error = positions("-7").unwrap_err().to_string();
        assert!(error.contains("-7") && error.contains('6'), "{error}");
    }

    #[test]
    fn layers_come_out_in_order() {
        let rows = parse_layers("3,embed,0-1", 4).unwrap();
        assert_eq!(
            rows,
            [
                LensRow::Embed,
                LensRow::Layer(0),
                LensRow::Layer(1),
                LensRow::Layer(3)
            ]
        );
        assert_eq!(parse_layers("*", 2).unwrap(), LensRow::all(2));
        for bad in ["4", "0-4", "", "embed0", "-1"] {
            assert!(parse_layers(bad, 4).is_err(), "{bad}");
        }
    }
}
