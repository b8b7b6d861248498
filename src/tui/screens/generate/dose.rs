//! Interventions with a dose: chips whose options read as [`Steering`], their slider and its unit.
//!
//! Always: label, options and edits of a chip say the same dose; a run of steps on one chip is one change to undo.

use crate::hooks::{EditOp, Vector};
use crate::steer::{Steering, StreamScale, Way};
use crate::tui::shared::{Intervention, Shared};

/// A chip that can be dosed.
#[derive(Debug, Clone)]
pub struct Dosed {
    /// Its place among the interventions.
    pub index: usize,
    /// What it does.
    pub steering: Steering,
    /// With which vector.
    pub vector: Vector,
    /// Whether it is applied.
    pub on: bool,
}

/// The chips that can be dosed, in their order.
pub fn dosed(shared: &Shared) -> Vec<Dosed> {
    let read = |(index, chip): (usize, &Intervention)| {
        let vector = match &chip.edits.first()?.op {
            EditOp::Add { vector, .. } => vector.clone(),
            EditOp::Ablate { directions, .. } => directions.first()?.clone(),
            _ => return None,
        };
        Some(Dosed {
            index,
            steering: Steering::from_option(&chip.options)?,
            vector,
            on: chip.on,
        })
    };
    shared
        .interventions
        .iter()
        .enumerate()
        .filter_map(read)
        .collect()
}

/// The chip's words: `⊖ contrast:12 ×0.5`, `⊕ refusal@12 ×4`.
pub fn label(steering: &Steering) -> String {
    let source = steering.source.to_string();
    let name = source.rsplit(['/', '\\']).next().unwrap_or(&source);
    let name = name.replace(".safetensors", "");
    match &steering.way {
        Way::Ablate { .. } => format!("⊖ {name} ×{}", steering.dose),
        Way::Add { layer } => format!("⊕ {name}@{layer} ×{}", steering.dose),
        Way::Form { form, layers, .. } => {
            format!("{} {name}@{layers} ×{}", form.name(), steering.dose)
        }
    }
}

/// The chip with another dose.
pub fn with_dose(chip: &Intervention, steering: &Steering, dose: f64) -> Intervention {
    let steering = Steering {
        dose,
        ..steering.clone()
    };
    let mut edits = chip.edits.clone();
    for edit in &mut edits {
        match &mut edit.op {
            EditOp::Add { alpha, .. } => *alpha = dose,
            EditOp::Ablate { amount, .. } => *amount = dose,
            _ => {}
        }
    }
    Intervention {
        label: label(&steering),
        options: steering.option().into(),
        edits,
        on: true,
    }
}

/// Euclidean length.
pub fn length(vector: &[f32]) -> f64 {
    vector
        .iter()
        .map(|&x| f64::from(x).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// What one step of the slider changes: a tenth of an ablation; about a twentieth of the stream's norm of an addition, as
/// a round number.
pub fn step(chip: &Dosed, scale: Option<&StreamScale>) -> f64 {
    let length = length(&chip.vector);
    match (&chip.steering.way, scale) {
        (Way::Ablate { .. }, _) => 0.1,
        (Way::Add { .. }, Some(scale)) if scale.norm > 0.0 && length > 0.0 => {
            round(0.05 * scale.norm / length)
        }
        (Way::Add { .. } | Way::Form { .. }, _) => 0.25,
    }
}

/// The largest of 1, 2, 5 and their tenfolds that is not above a positive number.
pub(in crate::tui::screens) fn round(x: f64) -> f64 {
    let ten = 10f64.powi(x.log10().floor() as i32);
    let first = [5.0, 2.0]
        .into_iter()
        .find(|first| first * ten <= x)
        .unwrap_or(1.0);
    first * ten
}

/// A dose some steps further, on a multiple of the step, so that it reads well and zero is met exactly.
pub fn moved(dose: f64, step: f64, steps: f64) -> f64 {
    let exact = ((dose / step).round() + steps) * step;
    // Six digits: 3 × 0.1 is 0.3 in the chip and on the command line.
    let text = format!("{exact:.6e}");
    text.parse::<f64>().unwrap_or(exact) + 0.0
}

/// The ends of the slider.
pub fn ends(chip: &Dosed, step: f64) -> (f64, f64) {
    let reach = match chip.steering.way {
        Way::Ablate { .. } => 2.0,
        Way::Add { .. } | Way::Form { .. } => 20.0 * step,
    };
    let reach = reach.max(chip.steering.dose.abs());
    match chip.steering.way {
        Way::Ablate { .. } if chip.steering.dose >= 0.0 => (-1f64, reach),
        _ => (-reach, reach),
    }
}

/// What the dose comes to, against the stream's norm; `stale` if that was measured on another prompt.
pub fn explained(chip: &Dosed, scale: Option<&StreamScale>, stale: bool) -> String {
    let dose = chip.steering.dose;
    let Some(scale) = scale else {
        return "the stream's norm was not measured here".into();
    };
    let share = |x: f64| x / scale.norm.max(f64::MIN_POSITIVE);
    let of = if stale {
        "of the prompt before, not of this one yet"
    } else {
        "of this prompt, unedited"
    };
    let against = format!(
        "of the mean norm {:.1} (resid_pre.{}, n = {} tokens {of})",
        scale.norm, scale.layer, scale.n
    );
    match &chip.steering.way {
        Way::Add { .. } | Way::Form { .. } => {
            let size = dose * length(&chip.vector);
            format!("adds {size:+.2} = {:+.3} {against}", share(size))
        }
        Way::Ablate { .. } => {
            let out = dose * scale.component;
            format!(
                "takes out {:.0} % of the component{}: {out:.2} = {:.3} {against}",
                dose * 100.0,
                if dose > 1.0 { ", past zero" } else { "" },
                share(out)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::hooks::{Edit, HookPoint, Point};
    use std::sync::Arc;

    fn chip(text: &str) -> Intervention {
        let steering = Steering::addition(text).unwrap();
        let vector = Arc::new(vec![3.0, 4.0]);
        let op = EditOp::Add {
            vector,
            alpha: steering.dose,
        };
        Intervention {
            label: label(&steering),
            options: steering.option().into(),
            edits: vec![Edit::new(HookPoint::new(Point::ResidPre, 1), op)],
            on: false,
        }
    }

    #[test]
    fn label_option_and_edits_say_the_same_dose() {
        let before = chip("folder/d.safetensors@1*4");
        assert_eq!(before.label, "⊕ d@1 ×4");
        let steering = Steering::from_option(&before.options).unwrap();
        let after = with_dose(&before, &steering, -0.5);
        assert_eq!(after.label, "⊕ d@1 ×-0.5");
        assert_eq!(after.options, ["--add", "folder/d.safetensors@1*-0.5"]);
        assert!(after.on);
        let EditOp::Add { alpha, .. } = after.edits[0].op else {
            panic!()
        };
        assert_eq!(alpha.to_bits(), (-0.5f64).to_bits());
    }

    #[test]
    fn steps_are_round_and_meet_zero() {
        for (x, expected) in [
            (0.37, 0.2),
            (7.0, 5.0),
            (1.0, 1.0),
            (0.05, 0.05),
            (0.0019, 0.001),
        ] {
            assert!((round(x) - expected).abs() < 1e-12, "{x}");
        }
        let mut dose = 1.0;
        for _ in 0..7 {
            dose = moved(dose, 0.1, -1.0);
        }
        assert_eq!(dose.to_string(), "0.3");
        assert_eq!(moved(0.1, 0.1, -1.0).to_string(), "0");
        assert_eq!(moved(0.12, 0.1, 1.0).to_string(), "0.2");
    }

    #[test]
    fn a_dose_is_told_against_the_stream() {
        let mut shared = Shared::default();
        shared.interventions.push(chip("d@1*2"));
        let chips = dosed(&shared);
        let scale = StreamScale {
            norm: 40.0,
            component: 8.0,
            n: 9,
            layer: 1,
        };
        // Length 5, dose 2: 10 of 40. A twentieth of 40 is 2, which is 0.4 of the vector: 0.2 is the round number below.
        assert!(
            explained(&chips[0], Some(&scale), false)
                .starts_with("adds +10.00 = +0.250 of the mean norm 40.0")
        );
        assert!(explained(&chips[0], Some(&scale), true).contains("of the prompt before"));
        assert!((step(&chips[0], Some(&scale)) - 0.2).abs() < 1e-12);
    }
}
