//! Which candidate direction is chosen, as a pure function of measured numbers.
//!
//! Two policies: [`SelectionPolicy::arditi`] is the published rule (absolute KL limit), and reproduces the published
//! choices. [`SelectionPolicy::default_`] screens first, asks that ablation really lowers the refusal score, and judges KL
//! against random directions, because an absolute limit does not carry over between model sizes: on a model of width 576
//! a random direction alone costs up to 0.08 of the 0.1 that the published rule allows.

use candlescope_probes::BootstrapOptions;
use serde::{Deserialize, Serialize};

/// Which random directions a KL is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NullKind {
    /// No preferred orientation.
    Isotropic,
    /// Drawn from the covariance of harmless activations at the candidates' places: the stricter comparison, since any
    /// direction read off activations lies where activations vary.
    CovarianceMatched,
}

/// How much an ablation may disturb the answer to harmless prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum KlLimit {
    /// Mean KL of at most this, in nats.
    Absolute {
        /// Arditi: 0.1.
        max: f64,
    },
    /// (log KL − mean log KL of random directions) / their standard deviation of at most this.
    Random {
        /// The limit.
        max_z: f64,
        /// The null.
        null: NullKind,
        /// Random directions; at least 8.
        directions: usize,
        /// Harmless prompts that both sides of the comparison are measured on (the first of the validation prompts).
        prompts: usize,
    },
}

/// How a direction is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelectionPolicy {
    /// For reports.
    pub name: String,
    /// Candidates that are tried on the model: the best-separating one of each of this many bands of layers (separation
    /// saturates, so a plain ranking would try neighbours only). `None` tries all.
    pub screen: Option<usize>,
    /// Layers from `int(max_depth * n_layers)` on are not chosen: an edit so late writes the answer, it does not decide it.
    pub max_depth: f64,
    /// The KL limit.
    pub kl: KlLimit,
    /// Least mean refusal score of harmless prompts under addition; 0 means that refusal becomes the likelier answer.
    pub min_induce: f64,
    /// Ablation must lower the refusal score of harmful prompts: the paired interval of the drop lies above 0.
    pub needs_drop: bool,
    /// Intervals of the means.
    pub bootstrap: BootstrapOptions,
    /// Seed of the random directions.
    pub seed: u64,
}

impl SelectionPolicy {
    /// Arditi et al. (2024): KL at most 0.1, induce at least 0, layer below int(0.8 L); the lowest bypass score wins.
    pub fn arditi() -> Self {
        Self {
            name: "arditi".into(),
            screen: None,
            max_depth: 0.8,
            kl: KlLimit::Absolute { max: 0.1 },
            min_induce: 0.0,
            needs_drop: false,
            bootstrap: BootstrapOptions::default(),
            seed: 0,
        }
    }

    /// Ours: 12 candidates by separation, KL no more than 2 standard deviations above 32 covariance-matched random
    /// directions, induce at least 0, a drop that is not noise; the lowest bypass score wins.
    pub fn default_() -> Self {
        Self {
            name: "default".into(),
            screen: Some(12),
            kl: KlLimit::Random {
                max_z: 2.0,
                null: NullKind::CovarianceMatched,
                directions: 32,
                prompts: 16,
            },
            needs_drop: true,
            ..Self::arditi()
        }
    }

    /// The first layer that is too late.
    pub fn layer_limit(&self, n_layers: usize) -> usize {
        (self.max_depth * n_layers as f64) as usize
    }
}

impl Default for SelectionPolicy {
    fn default() -> Self {
        Self::default_()
    }
}

/// What was measured of one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GridCell {
    /// Layer it was read at.
    pub layer: usize,
    /// Blocks of the model.
    pub n_layers: usize,
    /// Mean refusal score of harmful prompts under ablation.
    pub bypass: f64,
    /// Mean refusal score of harmless prompts under addition.
    pub induce: f64,
    /// Mean KL(base ‖ ablated) of harmless prompts at the last position, nats.
    pub kl: f64,
    /// The same against random directions.
    pub kl_z: Option<f64>,
    /// Lower end of the interval of (base − ablated) refusal score of harmful prompts.
    pub drop_low: Option<f64>,
}

/// Whether a policy lets a candidate be chosen; if not, the first reason.
///
/// # Errors
/// The reason, in words.
pub fn admissible(cell: &GridCell, policy: &SelectionPolicy) -> Result<(), String> {
    if [cell.bypass, cell.induce, cell.kl]
        .iter()
        .any(|x| x.is_nan())
    {
        return Err("a score is not a number".into());
    }
    let limit = policy.layer_limit(cell.n_layers);
    if cell.layer >= limit {
        let layer = cell.layer;
        return Err(format!("layer {layer} is too late (limit {limit})"));
    }
    if cell.induce < policy.min_induce {
        let (found, needed) = (cell.induce, policy.min_induce);
        return Err(format!(
            "adding it does not induce refusal: mean score {found:.2}, needed {needed:.2}"
        ));
    }
    if policy.needs_drop && cell.drop_low.is_none_or(|low| low.is_nan() || low <= 0.0) {
        return Err("ablating it does not lower the refusal score of harmful prompts".into());
    }
    match policy.kl {
        KlLimit::Absolute { max } if cell.kl > max => Err(format!(
            "ablating it changes harmless answers: KL {:.3}, limit {max}",
            cell.kl
        )),
        KlLimit::Random { max_z, .. } => match cell.kl_z {
            Some(z) if z <= max_z => Ok(()),
            Some(z) => Err(format!(
                "ablating it changes harmless answers more than random directions do: z {z:.1}, limit {max_z}"
            )),
            None => Err("its KL could not be compared with random directions".into()),
        },
        KlLimit::Absolute { .. } => Ok(()),
    }
}

/// The admissible cell with the lowest bypass score, the first of equals; `None` where no cell is admissible.
pub fn choose(grid: &[GridCell], policy: &SelectionPolicy) -> Option<usize> {
    grid.iter()
        .enumerate()
        .filter(|(_, cell)| admissible(cell, policy).is_ok())
        .min_by(|(_, a), (_, b)| a.bypass.total_cmp(&b.bypass))
        .map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    fn cell() -> GridCell {
        GridCell {
            layer: 3,
            n_layers: 10,
            bypass: -4.0,
            induce: 1.0,
            kl: 0.05,
            kl_z: Some(0.5),
            drop_low: Some(1.0),
        }
    }

    #[test]
    fn each_limit_is_named() {
        let (theirs, ours) = (SelectionPolicy::arditi(), SelectionPolicy::default_());
        let reason = |cell: GridCell, policy| admissible(&cell, policy).err().unwrap_or_default();
        assert_eq!(reason(cell(), &theirs), "");
        assert_eq!(reason(cell(), &ours), "");
        let late = GridCell { layer: 8, ..cell() };
        assert_eq!(reason(late, &theirs), "layer 8 is too late (limit 8)");
        let last = GridCell { layer: 7, ..cell() };
        assert_eq!(reason(last, &theirs), "");
        let mute = GridCell {
            induce: -0.5,
            ..cell()
        };
        assert!(reason(mute, &ours).contains("does not induce"));
        let costly = GridCell {
            kl: 0.2,
            kl_z: Some(2.5),
            ..cell()
        };
        assert!(reason(costly, &theirs).contains("KL 0.200"));
        assert!(reason(costly, &ours).contains("z 2.5"));
        let idle = GridCell {
            drop_low: Some(-0.1),
            ..cell()
        };
        assert_eq!(reason(idle, &theirs), "");
        assert!(reason(idle, &ours).contains("does not lower"));
        let broken = GridCell {
            kl: f64::NAN,
            ..cell()
        };
        assert!(reason(broken, &theirs).contains("not a number"));
    }

    #[test]
    fn the_lowest_bypass_among_the_admissible() {
        let policy = SelectionPolicy::arditi();
        let grid = [
            cell(),
            GridCell {
                bypass: -9.0,
                kl: 0.5,
                ..cell()
            },
            GridCell {
                bypass: -6.0,
                ..cell()
            },
            GridCell {
                bypass: -6.0,
                layer: 4,
                ..cell()
            },
        ];
        assert_eq!(choose(&grid, &policy), Some(2));
        assert_eq!(choose(&grid[1..2], &policy), None);
        assert_eq!(choose(&[], &policy), None);
    }

    #[derive(serde::Deserialize)]
    struct Grid {
        model: String,
        layers: usize,
        selected: Place,
        rows: Vec<(i64, usize, Option<f64>, Option<f64>, Option<f64>)>,
    }

    #[derive(serde::Deserialize, Debug, PartialEq)]
    struct Place {
        pos: i64,
        layer: usize,
    }

    #[test]
    fn the_published_rule_chooses_the_five_published_directions() {
        let (mut checked, mut limited) = (0, 0);
        for entry in std::fs::read_dir(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/refusal_grids"),
        )
        .unwrap()
        {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let grid: Grid = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            let number = |x: Option<f64>| x.unwrap_or(f64::NAN);
            let cells: Vec<GridCell> = grid
                .rows
                .iter()
                .map(|&(_, layer, bypass, induce, kl)| GridCell {
                    layer,
                    n_layers: grid.layers,
                    bypass: number(bypass),
                    induce: number(induce),
                    kl: number(kl),
                    kl_z: None,
                    drop_low: None,
                })
                .collect();
            let (pos, layer, ..) = grid.rows[choose(&cells, &SelectionPolicy::arditi()).unwrap()];
            assert_eq!(Place { pos, layer }, grid.selected, "{}", grid.model);
            // Without the limits the lowest bypass score would choose otherwise, but for one model.
            let free = SelectionPolicy {
                kl: KlLimit::Absolute { max: f64::INFINITY },
                min_induce: f64::NEG_INFINITY,
                max_depth: 1.0,
                ..SelectionPolicy::arditi()
            };
            let (pos, layer, ..) = grid.rows[choose(&cells, &free).unwrap()];
            limited += usize::from(Place { pos, layer } != grid.selected);
            checked += 1;
        }
        assert_eq!((checked, limited), (5, 4));
    }
}
