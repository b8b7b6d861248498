//! The labels that a probe should not be able to learn: shuffled ones, and those of a control task.
//!
//! Shuffled: training and validation labels change places within their split; the probe is fitted on them, the cell chosen
//! on them, and it is scored on the true test labels. So the null is that of a direction that knows nothing of the label,
//! in this space, chosen as the real one was. Control task (Hewitt and Liang 1909.03368): each type (topic, or the last
//! token of the content) has one random label, in training and test alike; what a probe scores there it has memorised.
//! Fits on either use a fixed C: choosing it anew for each would cost fifty times as much.

use std::collections::BTreeSet;

use candlescope_probes::controls::control_labels;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::sweep::Parts;
use super::{Encoded, Labelled};

/// Types that training and test rows must share for a control task to be one.
const SHARED_TYPES: usize = 6;

/// Labels of all rows, for each draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Controls {
    /// Training and validation labels shuffled; test labels true.
    pub shuffled: Vec<Vec<bool>>,
    /// Control tasks.
    pub tasks: Vec<Vec<bool>>,
    /// Distinct types behind the control tasks.
    pub types: usize,
    /// What the types are, or why there are none.
    pub types_are: String,
}

impl Controls {
    /// Draws `shuffles` shuffles and `tasks` control tasks.
    pub fn draw(
        data: &Labelled,
        encoded: &[Encoded],
        labels: &[bool],
        parts: &Parts,
        (shuffles, tasks): (usize, usize),
        seed: u64,
    ) -> Self {
        let shuffle = |draw: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(draw as u64);
            let mut out = labels.to_vec();
            for rows in [&parts.train, &parts.validation] {
                let mut there: Vec<bool> = rows.iter().map(|&i| labels[i]).collect();
                there.shuffle(&mut rng);
                for (&row, label) in rows.iter().zip(there) {
                    out[row] = label;
                }
            }
            out
        };
        let (types, types_are) = types(data, encoded);
        let (usable, types_are) = shared_types(&types, (&parts.train, &parts.test), types_are);
        let mixed = |task: &Vec<bool>| {
            [&parts.train, &parts.test]
                .iter()
                .all(|rows| rows.iter().any(|&i| task[i]) && rows.iter().any(|&i| !task[i]))
        };
        let tasks: Vec<Vec<bool>> = if usable {
            (0..20 * tasks as u64)
                .map(|draw| control_labels(&types, seed.wrapping_add(draw)))
                .filter(mixed)
                .take(tasks)
                .collect()
        } else {
            Vec::new()
        };
        Self {
            shuffled: (0..shuffles).map(shuffle).collect(),
            tasks,
            types: types.iter().collect::<BTreeSet<_>>().len(),
            types_are,
        }
    }
}

/// Whether enough types stand in training and test rows alike for a control task, and what they are, or why there are none.
pub(super) fn shared_types(
    types: &[String],
    (train, test): (&[usize], &[usize]),
    types_are: String,
) -> (bool, String) {
    let of = |rows: &[usize]| rows.iter().map(|&i| &types[i]).collect::<BTreeSet<_>>();
    let shared = of(train).intersection(&of(test)).count();
    if shared >= SHARED_TYPES {
        return (true, types_are);
    }
    let why = format!(
        "none: only {shared} {types_are}s stand in training and test rows alike, {SHARED_TYPES} are needed"
    );
    (false, why)
}

/// The type of each row: its topic, else the last token of its content; and which of the two.
pub(super) fn types(data: &Labelled, encoded: &[Encoded]) -> (Vec<String>, String) {
    let topics: Option<Vec<String>> = data.rows.iter().map(|r| r.topic.clone()).collect();
    if let Some(topics) = topics {
        return (topics, "topic".into());
    }
    let last = |row: &Encoded| {
        let end = row.content.as_ref().map_or(row.ids.len(), |c| c.end);
        row.ids[end - 1].to_string()
    };
    (
        encoded.iter().map(last).collect(),
        "last content token".into(),
    )
}

/// Test AUROCs under labels that should teach nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nulls {
    /// For each shuffle (AUROC on the shuffled validation labels, AUROC on the true test labels).
    pub shuffled: Vec<(f64, f64)>,
    /// For each control task the AUROC on the test rows' control labels.
    pub control: Vec<f64>,
    /// The AUROC on the task itself at the C that the nulls use.
    pub at_fixed_c: f64,
}
