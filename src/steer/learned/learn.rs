//! The loop: examples of a step in small batches, each with one of the cone's directions; the rate is cut twice when validation
//! no longer gets better, then it stops.
//!
//! Always: the examples and directions of a step follow from the seed and the step's number, so a state goes on as it was.

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device, Tensor, Var};
use candlescope_ops as ops;
use rand::{Rng, SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Example, Lessons, Losses, Place, Sphere, State, Step, WEIGHTS, losses};
use crate::model::Decoder;
use crate::steer::{SteerError, grid_file::Key};

/// How often the rate is cut, and to which share.
const CUTS: (usize, f64) = (2, 0.1);

/// How it is learned. The defaults are the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Most steps.
    pub steps: usize,
    /// Learning rate.
    pub rate: f64,
    /// Examples of each kind in a step.
    pub examples: usize,
    /// Of these, run together; each batch sees one direction.
    pub batch: usize,
    /// Steps between measurements on validation examples.
    pub every: usize,
    /// Measurements without a better one before the rate is cut, and after two cuts learning ends.
    pub patience: usize,
    /// Seed of every draw.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            steps: 100,
            rate: 1e-2,
            examples: 16,
            batch: 4,
            every: 2,
            patience: 5,
            seed: 0,
        }
    }
}

/// Nothing learned yet: the starting directions, measured on validation examples.
///
/// # Errors
/// As [`measured`].
pub fn begun(
    model: &Decoder,
    place: Place,
    validation: &Lessons,
    (rows, batch): (Vec<Vec<f64>>, usize),
    key: Key,
) -> Result<State, SteerError> {
    let sphere = Sphere::new(rows);
    let found = weighted(measured(model, place, validation, sphere.rows(), batch)?);
    Ok(State {
        key,
        best: (found, sphere.rows().to_vec()),
        sphere,
        waiting: 0,
        cuts: 0,
        history: Vec::new(),
    })
}

/// Learns until patience or steps run out; `keep` is given the state after every step.
///
/// # Errors
/// A pass's, a loss that is no number, an interruption; `keep`'s.
pub fn learn(
    model: &Decoder,
    place: Place,
    [train, validation]: [&Lessons; 2],
    settings: &Settings,
    state: &mut State,
    cancel: Option<&AtomicBool>,
    keep: &mut dyn FnMut(&State) -> Result<(), SteerError>,
) -> Result<(), SteerError> {
    while state.history.len() < settings.steps && state.cuts <= CUTS.0 {
        if cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(SteerError::Interrupted);
        }
        let number = state.history.len();
        let rows = state.sphere.rows().to_vec();
        let (gradients, found) = gradients(model, place, train, settings, &rows, number)?;
        let rate = settings.rate * CUTS.1.powi(state.cuts as i32);
        state.sphere.step(&gradients, rate);
        let mut step = Step {
            train: found,
            validation: None,
        };
        if (number + 1).is_multiple_of(settings.every.max(1)) {
            let rows = state.sphere.rows();
            let found = weighted(measured(model, place, validation, rows, settings.batch)?);
            step.validation = Some(found);
            if found < state.best.0 {
                (state.best, state.waiting) = ((found, rows.to_vec()), 0);
            } else {
                state.waiting += 1;
            }
            if state.waiting >= settings.patience {
                (state.cuts, state.waiting) = (state.cuts + 1, 0);
            }
        }
        state.history.push(step);
        keep(state)?;
    }
    Ok(())
}

/// Mean losses of each direction of a cone, over all examples: bypass, induce, retain.
///
/// # Errors
/// A pass's, a loss that is no number.
pub fn measured(
    model: &Decoder,
    place: Place,
    lessons: &Lessons,
    rows: &[Vec<f64>],
    batch: usize,
) -> Result<[f64; 3], SteerError> {
    let n = least(lessons);
    let (mut sums, mut weight) = ([0.0; 3], 0.0);
    for row in rows {
        for start in (0..n).step_by(batch.max(1)) {
            let chosen: Vec<usize> = (start..n.min(start + batch.max(1))).collect();
            let direction = tensor(row, model.compute_dtype())?;
            let found = losses(model, &direction, place, &part(lessons, &chosen))?;
            let found = finite(&found)?;
            let share = chosen.len() as f64;
            sums.iter_mut()
                .zip(found)
                .for_each(|(s, x)| *s += share * x);
            weight += share;
        }
    }
    Ok(sums.map(|sum| sum / weight))
}

/// Weighted sum of losses.
fn weighted(found: [f64; 3]) -> f64 {
    found.iter().zip(WEIGHTS).map(|(x, w)| x * w).sum()
}

/// Gradients of a step for each row, and its losses.
fn gradients(
    model: &Decoder,
    place: Place,
    train: &Lessons,
    settings: &Settings,
    rows: &[Vec<f64>],
    number: usize,
) -> Result<(Vec<Vec<f64>>, [f64; 3]), SteerError> {
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    rng.set_stream(number as u64 + 1);
    let n = least(train);
    let chosen = index::sample(&mut rng, n, settings.examples.clamp(1, n)).into_vec();
    let wide = tensor(&rows.concat(), model.compute_dtype())?;
    let basis = Var::from_tensor(&wide.reshape((rows.len(), rows[0].len()))?)?;
    let mut sum = vec![vec![0.0; rows[0].len()]; rows.len()];
    let mut sums = [0.0; 3];
    for part_of in chosen.chunks(settings.batch.max(1)) {
        let mix = mixture(rows.len(), &mut rng);
        let mix = tensor(&mix, model.compute_dtype())?.unsqueeze(0)?;
        let direction = mix.matmul(basis.as_tensor())?.squeeze(0)?;
        let found = losses(model, &direction, place, &part(train, part_of))?;
        let share = part_of.len() as f64 / chosen.len() as f64;
        let numbers = finite(&found)?;
        sums.iter_mut()
            .zip(numbers)
            .for_each(|(s, x)| *s += share * x);
        let grads = ops::backward(&(found.total()? * share)?)?;
        if let Some(found) = grads.get(basis.as_tensor()) {
            let found = found.to_dtype(DType::F64)?.to_vec2::<f64>()?;
            for (sum, found) in sum.iter_mut().zip(found) {
                sum.iter_mut().zip(found).for_each(|(s, g)| *s += g);
            }
        }
    }
    Ok((sum, sums))
}

/// Which direction of a cone a batch sees: every other time one of its edges, else one from within (positive parts, uniform on
/// the sphere).
fn mixture(k: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut mix = vec![0.0; k];
    if k == 1 || rng.random::<bool>() {
        mix[rng.random_range(0..k)] = 1.0;
        return mix;
    }
    for x in &mut mix {
        // The size of a normal draw (Box and Muller 1958): normals have no preferred direction.
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        *x = ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()).abs();
    }
    mix
}

fn least(lessons: &Lessons) -> usize {
    let lengths = [&lessons.bypass, &lessons.induce, &lessons.retain].map(Vec::len);
    lengths.into_iter().min().unwrap_or(0).max(1)
}

fn part(lessons: &Lessons, chosen: &[usize]) -> Lessons {
    let of = |all: &[Example]| chosen.iter().filter_map(|&i| all.get(i).cloned()).collect();
    Lessons {
        bypass: of(&lessons.bypass),
        induce: of(&lessons.induce),
        retain: of(&lessons.retain),
    }
}

fn tensor(values: &[f64], dtype: DType) -> Result<Tensor, SteerError> {
    Ok(Tensor::from_slice(values, values.len(), &Device::Cpu)?.to_dtype(dtype)?)
}

fn finite(found: &Losses) -> Result<[f64; 3], SteerError> {
    let numbers = found.numbers()?;
    if numbers.iter().all(|x| x.is_finite()) {
        return Ok(numbers);
    }
    Err(SteerError::NotFinite {
        id: "of a step".to_owned(),
        what: "loss",
    })
}
