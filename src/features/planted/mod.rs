//! The benchmark with known truth, over architectures and seeds: `sae bench`. No model takes part.
//!
//! Always: in one repeat all architectures see the same rows in the same order; a repeat's seed plants its world and draws its
//! first weights; a coefficient that is searched for is searched on a world of its own. `numbers.rs` says which numbers come
//! out, with intervals over repeats; `written.rs` puts the same rows into files for another program.

mod numbers;
mod written;

use std::ops::ControlFlow;

use candlescope_sae::SaeError;
use candlescope_sae::bench::{Kind, Tuned, World, train, tune};
use candlescope_sae::synthetic::{PlantedSpec, RecoveryOptions, ScoreOptions, score};
use candlescope_sae::train::{Bias, Dead, Recipe, Shape};
use serde::Serialize;

pub use numbers::{Number, Summary};
pub use written::{WriteError, write};

/// What is run.
#[derive(Clone, Debug, Serialize)]
pub struct BenchOptions {
    /// The world; its seed is that of the first repeat.
    pub world: PlantedSpec,
    /// Repeats, each of the next seed.
    pub repeats: usize,
    /// Latents.
    pub d_sae: usize,
    /// Latents that are to fire in a row; none for as many as features do.
    pub k: Option<usize>,
    /// The architectures, with the coefficient where a penalty decides and none is to be searched for.
    pub kinds: Vec<(Kind, Option<f64>)>,
    /// Rows of a batch.
    pub batch: usize,
    /// Batches that are drawn; training goes over them again and again.
    pub batches: usize,
    /// Steps of training.
    pub steps: u64,
    /// Adam's learning rate.
    pub lr: f64,
    /// Where the decoder's bias starts.
    pub b_dec: Bias,
    /// Rows that are scored on; training sees none of them.
    pub held: usize,
    /// From this cosine on a feature counts as found.
    pub found_at: f32,
    /// At most so many dictionaries are trained to find a coefficient.
    pub tries: usize,
}

/// One dictionary of one repeat.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Its architecture.
    pub architecture: Kind,
    /// The seed of its world and its weights.
    pub seed: u64,
    /// Seconds that its steps took.
    pub seconds: f64,
    /// Its numbers, in the order of [`Number::ALL`]; what cannot be said is none.
    pub numbers: Vec<Option<f64>>,
}

/// How one architecture was trained, and what came out over repeats.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// The architecture.
    pub architecture: Kind,
    /// The coefficient, where a penalty decides.
    pub coefficient: Option<f64>,
    /// How it was found, if it was searched for.
    pub tuned: Option<Tuned>,
    /// Means over repeats, in the order of [`Number::ALL`].
    pub summary: Vec<Summary>,
}

/// The whole benchmark.
#[derive(Clone, Debug, Serialize)]
pub struct Bench {
    /// Latents that were to fire.
    pub k: usize,
    /// The names of the numbers.
    pub numbers: Vec<&'static str>,
    /// By architecture.
    pub standings: Vec<Standing>,
    /// Each dictionary.
    pub runs: Vec<Run>,
}

/// What is under way.
pub struct Doing<'a> {
    /// In words.
    pub what: &'a str,
    /// Steps of training done, and of all as far as is known.
    pub steps: [u64; 2],
}

/// Told every step; says whether to go on.
pub type Watch<'a> = dyn FnMut(&Doing) -> ControlFlow<()> + 'a;

impl BenchOptions {
    /// Latents that are to fire: as asked, or as many as features do, by the rates of the world.
    pub fn target(&self) -> Result<usize, SaeError> {
        match self.k {
            Some(k) => Ok(k),
            None => {
                let planted = World::new(self.world.clone(), self.batch, 1)?;
                let (_, truth) = planted.planted().batch(0, self.batch);
                let fired = truth.latents.len() as f64 / truth.rows() as f64;
                Ok((fired.round() as usize).max(1))
            }
        }
    }

    /// The world of a repeat.
    pub fn world(&self, repeat: usize) -> Result<World, SaeError> {
        let seed = self.world.seed.wrapping_add(repeat as u64);
        let spec = PlantedSpec {
            seed,
            ..self.world.clone()
        };
        World::new(spec, self.batch, self.batches)
    }

    /// Steps without firing after which a latent is dead: a tenth of the run, at most SAELens's thousand.
    pub fn dead_after_steps(&self) -> u64 {
        (self.steps / 10).clamp(1, 1000)
    }

    /// Steps over which a penalty rises: a tenth of the run.
    pub fn warmup(&self) -> u64 {
        self.steps / 10
    }

    /// What scores are measured on: batches that training never sees.
    pub fn scored(&self) -> ScoreOptions {
        let rows = self.held.clamp(1, 4096);
        ScoreOptions {
            batches: (self.held / rows) as u64,
            rows,
            recovery: RecoveryOptions {
                found_at: self.found_at,
                absolute: false,
            },
            ..ScoreOptions::default()
        }
    }

    fn recipe(&self, kind: Kind, k: usize, coefficient: f64, seed: u64) -> Recipe {
        let architecture = kind.architecture(k, coefficient, self.d_sae, self.warmup());
        Recipe {
            lr: self.lr,
            b_dec: self.b_dec,
            dead: Dead {
                after: self.dead_after_steps() * self.batch as u64,
                resample_every: 0,
            },
            seed,
            ..Recipe::new(self.d_sae, architecture)
        }
    }

    /// Steps of training in all, if every search takes all its tries.
    fn planned(&self) -> u64 {
        let searched = self.kinds.iter().filter(|(k, c)| searched(*k, *c)).count();
        let trained = self.kinds.len() * self.repeats + searched * self.tries;
        trained as u64 * self.steps
    }
}

fn searched(kind: Kind, coefficient: Option<f64>) -> bool {
    kind.penalised() && coefficient.is_none()
}

/// From where coefficients are searched for, on rows whose features fire at about 1.
const FIRST: f64 = 0.05;

/// Counts steps for the watch.
struct Clock<'a, 'b> {
    done: u64,
    planned: u64,
    watch: &'a mut Watch<'b>,
}

impl Clock<'_, '_> {
    fn step(&mut self, what: &str) -> ControlFlow<()> {
        self.done += 1;
        (self.watch)(&Doing {
            what,
            steps: [self.done, self.planned.max(self.done)],
        })
    }
}

/// Runs it. `None` if the watch says stop.
///
/// # Errors
/// Sizes and rates that cannot be, recipes that cannot be trained, an architecture of which nothing fires in the end.
pub fn bench(options: &BenchOptions, watch: &mut Watch) -> Result<Option<Bench>, SaeError> {
    let k = options.target()?;
    // What cannot be trained is known before anything is.
    for (kind, coefficient) in &options.kinds {
        let recipe = options.recipe(*kind, k, coefficient.unwrap_or(FIRST), 0);
        recipe.check(&Shape::autoencoder(options.world.d))?;
    }
    let mut clock = Clock {
        done: 0,
        planned: options.planned(),
        watch,
    };
    let mut coefficients = Vec::with_capacity(options.kinds.len());
    for (kind, given) in &options.kinds {
        if !searched(*kind, *given) {
            coefficients.push((*given, None));
            continue;
        }
        let Some(tuned) = search(options, *kind, k, &mut clock)? else {
            return Ok(None);
        };
        // What the search did not need is not waited for.
        let spared = options.tries - tuned.tries;
        clock.planned -= spared as u64 * options.steps;
        coefficients.push((Some(tuned.coefficient), Some(tuned)));
    }
    let mut runs = Vec::new();
    for repeat in 0..options.repeats {
        let world = options.world(repeat)?;
        for ((kind, _), (coefficient, _)) in options.kinds.iter().zip(&coefficients) {
            let coefficient = coefficient.unwrap_or_default();
            let Some(run) = one(options, &world, *kind, k, coefficient, &mut clock)? else {
                return Ok(None);
            };
            runs.push(run);
        }
    }
    let standings = options.kinds.iter().zip(coefficients);
    let standings = standings.map(|((kind, _), (coefficient, tuned))| {
        let of_kind = || runs.iter().filter(|run| run.architecture == *kind);
        let at = |n: usize| {
            of_kind()
                .filter_map(|run| run.numbers[n])
                .collect::<Vec<_>>()
        };
        Standing {
            architecture: *kind,
            coefficient: coefficient.filter(|_| kind.penalised()),
            tuned,
            summary: (0..Number::ALL.len())
                .map(|n| Summary::of(&at(n)))
                .collect(),
        }
    });
    Ok(Some(Bench {
        k,
        numbers: Number::ALL.iter().map(|number| number.name()).collect(),
        standings: standings.collect(),
        runs,
    }))
}

/// The coefficient at which `k` latents fire, on a world after those of the repeats.
fn search(
    options: &BenchOptions,
    kind: Kind,
    k: usize,
    clock: &mut Clock,
) -> Result<Option<Tuned>, SaeError> {
    let world = options.world(options.repeats)?;
    let seed = world.planted().spec().seed;
    let what = format!("{}: its coefficient", kind.name());
    tune(k as f64, FIRST, options.tries, &mut |coefficient| {
        let recipe = options.recipe(kind, k, coefficient, seed);
        let ended = train(&world, recipe, options.steps, &mut |_| clock.step(&what))?;
        Ok(ended.map(|ended| ended.l0))
    })
}

fn one(
    options: &BenchOptions,
    world: &World,
    kind: Kind,
    k: usize,
    coefficient: f64,
    clock: &mut Clock,
) -> Result<Option<Run>, SaeError> {
    let seed = world.planted().spec().seed;
    let what = format!("{}, seed {seed}", kind.name());
    let recipe = options.recipe(kind, k, coefficient, seed);
    let ended = train(world, recipe, options.steps, &mut |_| clock.step(&what))?;
    let Some(ended) = ended else {
        return Ok(None);
    };
    let score = score(world.planted(), &ended.dictionary, &options.scored())?;
    Ok(Some(Run {
        architecture: kind,
        seed,
        seconds: ended.took.as_secs_f64(),
        numbers: Number::ALL.iter().map(|number| number.of(&score)).collect(),
    }))
}

#[cfg(test)]
mod tests;
