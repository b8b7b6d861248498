//! What the lens projects the stream on: the direction of an intervention, or a direction or a probe from a file.
//!
//! Always: a file is read when it is named, and refused there and then if this stream cannot be projected on it; whether it was
//! made on this forward pass is found out by the worker, which may take the time to hash the weights. A probe is read at every
//! layer and token with the same weights; what belongs to the one place at which it was fitted says so.

use std::path::Path;
use std::sync::Arc;

use super::LensScreen;
use super::modes::Mode;
use super::reading::direction;
use crate::hooks::Vector;
use crate::model::{Checkpoint, Fingerprint};
use crate::probing;
use crate::steer::{Source, file};
use crate::tui::cells::visible;
use crate::tui::screen::Context;
use crate::tui::shared::{ModelFacts, Shared};

/// The number of the direction of an intervention; files count from 1.
const INTERVENTION: u64 = 0;

/// A number for each place of the stream: its product with a vector.
#[derive(Debug, Clone)]
pub struct Along {
    /// `[d_model]`, of any length.
    pub vector: Vector,
    /// What the product with the unit vector is multiplied with: 1 for a direction, the weights' length for a probe.
    pub times: f64,
    /// What is added: a probe's bias.
    pub plus: f64,
    /// The file and the forward pass that it was made on, where it says so.
    made_on: Option<(String, Fingerprint)>,
}

impl Along {
    /// Refuses what was made on another forward pass.
    pub fn fits(&self, checkpoint: &Checkpoint) -> Result<(), String> {
        let Some((file, made_on)) = &self.made_on else {
            return Ok(());
        };
        let here = checkpoint.fingerprint().map_err(|e| e.to_string())?;
        let fits = here.expect(made_on, file);
        fits.map_err(|e| format!("{e}; `:project` and `:probe` alone let a file go"))
    }
}

/// A direction or a probe from a file.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// As it was named.
    pub spec: String,
    /// Tells it from those loaded before it.
    number: u64,
    along: Along,
    /// What its number means, in a line.
    pub about: String,
}

impl Loaded {
    /// The file's name without its folders.
    pub fn name(&self) -> &str {
        let path = Path::new(&self.spec).file_name().and_then(|n| n.to_str());
        path.unwrap_or(&self.spec)
    }
}

/// What there is to project on.
#[derive(Debug, Default)]
pub struct Sources {
    direction: Option<Loaded>,
    probe: Option<Loaded>,
    /// Files that were loaded.
    count: u64,
}

impl Sources {
    /// What a mode projects on, with its number; `None` for a mode that does not, and where there is nothing.
    pub fn of(&self, mode: Mode, shared: &Shared) -> Option<(u64, Along)> {
        match mode {
            Mode::Projection => match self.loaded(mode) {
                Some(file) => Some((file.number, file.along.clone())),
                None => direction(shared).map(|(_, vector)| {
                    let along = Along {
                        vector,
                        times: 1.0,
                        plus: 0.0,
                        made_on: None,
                    };
                    (INTERVENTION, along)
                }),
            },
            Mode::Probe => (self.loaded(mode)).map(|file| (file.number, file.along.clone())),
            _ => None,
        }
    }

    /// The file of a mode.
    pub fn loaded(&self, mode: Mode) -> Option<&Loaded> {
        match mode {
            Mode::Projection => self.direction.as_ref(),
            Mode::Probe => self.probe.as_ref(),
            _ => None,
        }
    }

    /// Why a mode has nothing to show.
    pub fn lacks(&self, mode: Mode, shared: &Shared) -> Option<&'static str> {
        let nothing =
            matches!(mode, Mode::Projection | Mode::Probe) && self.of(mode, shared).is_none();
        nothing.then_some(match mode {
            Mode::Probe => "no probe: `:probe FILE` reads one that `probe fit` wrote",
            _ => "no projection: `:project FILE` reads a direction, or ablate or add one",
        })
    }

    /// Whether numbers of this source are scores of a probe.
    pub fn is_probe(&self, number: Option<u64>) -> bool {
        let probe = self.probe.as_ref().map(|file| file.number);
        number.is_some() && number == probe
    }

    /// Lets a file go.
    pub fn forget(&mut self, mode: Mode) {
        match mode {
            Mode::Probe => self.probe = None,
            _ => self.direction = None,
        }
    }

    /// Reads a direction: `FILE` or `FILE:TENSOR`.
    ///
    /// # Errors
    /// A file that is none, another width, a direction of length 0.
    pub fn project(&mut self, spec: &str, facts: &ModelFacts) -> Result<(), String> {
        let Source::File { path, tensor } = Source::parse(spec) else {
            return Err(format!(
                "`{spec}` is made of prompts: `candlescope direction extract` writes it to a file"
            ));
        };
        let read = file::load(&path, &tensor).map_err(|e| e.to_string())?;
        self.count += 1;
        let layer = read
            .layer
            .map_or(String::new(), |l| format!("; read before block {l}"));
        self.direction = Some(Loaded {
            number: self.count,
            about: format!("part of the stream along it at length 1{layer}"),
            along: along(spec, &read.vector, None, read.fingerprint, facts)?,
            spec: spec.to_owned(),
        });
        Ok(())
    }

    /// Reads a probe of the residual stream.
    ///
    /// # Errors
    /// A file that is none, one of another point, another width, weights of length 0.
    pub fn probe(&mut self, spec: &str, facts: &ModelFacts) -> Result<(), String> {
        let read = probing::file::load(Path::new(spec)).map_err(|e| e.to_string())?;
        read.in_stream().map_err(|e| e.to_string())?;
        let about = &read.about;
        let weights: Vec<f32> = read.probe.weights.iter().map(|w| *w as f32).collect();
        let made_on = Some(about.fingerprint.clone());
        self.count += 1;
        self.probe = Some(Loaded {
            number: self.count,
            about: format!(
                "`{}` high; fitted at {}, called above {:.2} there only",
                visible(&about.positive, false),
                about.place,
                about.threshold
            ),
            along: along(spec, &weights, Some(about.bias), made_on, facts)?,
            spec: spec.to_owned(),
        });
        Ok(())
    }
}

impl LensScreen {
    /// Reads a direction or a probe from a file and shows it; without a name lets it go.
    pub(super) fn project(
        &mut self,
        mode: Mode,
        file: &str,
        cx: &mut Context,
    ) -> Result<(), String> {
        self.adopt(cx.shared);
        let Some(facts) = cx.shared.model.facts() else {
            return Err("no model is open".into());
        };
        if file.is_empty() {
            self.sources.forget(mode);
            if self.mode == mode && self.sources.lacks(mode, cx.shared).is_some() {
                self.mode = Mode::default();
            }
            return Ok(());
        }
        match mode {
            Mode::Probe => self.sources.probe(file, facts)?,
            _ => self.sources.project(file, facts)?,
        }
        self.mode = mode;
        Ok(())
    }
}

/// A vector for this model; a bias makes it a probe's weights.
fn along(
    file: &str,
    vector: &[f32],
    bias: Option<f64>,
    made_on: Option<Fingerprint>,
    facts: &ModelFacts,
) -> Result<Along, String> {
    let width = facts.config.d_model;
    if vector.len() != width {
        let found = vector.len();
        return Err(format!(
            "{file}: expected {width} numbers, the width of {}, found {found}",
            facts.name
        ));
    }
    let length = vector
        .iter()
        .map(|&x| f64::from(x).powi(2))
        .sum::<f64>()
        .sqrt();
    if length == 0.0 {
        return Err(format!("{file}: a vector of length 0 has no direction"));
    }
    Ok(Along {
        vector: Arc::new(vector.to_vec()),
        times: if bias.is_some() { length } else { 1.0 },
        plus: bias.unwrap_or(0.0),
        made_on: made_on.map(|made_on| (file.to_owned(), made_on)),
    })
}
