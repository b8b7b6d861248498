//! Training of one dictionary on a world.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::World;
use crate::train::{Recipe, Shape, StepReport, Trainer};
use crate::{About, Dictionary, SaeError};

/// What came of it.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The dictionary as it is used.
    pub dictionary: Dictionary,
    /// Latents that fired in a row, mean over the last tenth of the steps, as training counts them.
    pub l0: f64,
    /// How long its steps took; drawing rows and scoring apart.
    pub took: Duration,
}

/// Trains on a world's rows as they are, for `steps` steps. `None` if `progress`, which is told each step, says stop.
///
/// # Errors
/// A recipe that cannot be trained, no steps, a loss that is not finite any more.
pub fn train(
    world: &World,
    recipe: Recipe,
    steps: u64,
    progress: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
) -> Result<Option<Ended>, SaeError> {
    if steps == 0 {
        return Err(SaeError::Range {
            what: "steps",
            found: "0".into(),
            allowed: "1 or more".into(),
        });
    }
    let shape = Shape::autoencoder(world.rows().ncols());
    let mut trainer = Trainer::new(recipe, shape, world.batch(0), 1.0)?;
    let last = (steps / 10).max(1);
    let mut fired = 0.0;
    let mut took = Duration::ZERO;
    for step in 0..steps {
        let started = Instant::now();
        let report = trainer.step(world.batch(step), None)?;
        took += started.elapsed();
        if step >= steps - last {
            fired += report.l0;
        }
        if progress(&report).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(Ended {
        dictionary: trainer.dictionary(About::default())?,
        l0: fired / last as f64,
        took,
    }))
}
