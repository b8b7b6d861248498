//! A probe from a file, of whichever kind, and what it makes of rows.

use std::path::Path;

use candlescope_probes::Score;
use ndarray::Array2;

use super::input::ReadArgs;
use crate::cli::output::Out;
use crate::model::Checkpoint;
use crate::probing::class_file::{CLASSES, ClassFile, load_classes};
use crate::probing::file::{Calibrated, ProbeFile, load, schema};
use crate::probing::pooled::{ATTENTION, PooledFile, load_pooled};
use crate::probing::{Example, Fitting, Place, Plan, encode};

/// What `probe fit` wrote.
pub enum Kept {
    /// One direction.
    Linear(Box<ProbeFile>),
    /// One direction over pooled tokens.
    Attention(Box<PooledFile>),
    /// A direction for each class.
    Classes(Box<ClassFile>),
}

/// A probe for two classes, whatever it reads.
pub struct Two<'a> {
    pub calibrated: &'a Calibrated,
    pub threshold: f64,
    pub positive: &'a str,
    pub fitting: &'a Fitting,
}

/// What a probe makes of rows.
pub enum Scores {
    /// A number each, and the activations where the probe reads one vector a row.
    Two(Vec<f64>, Option<Array2<f32>>),
    /// Logits `[row][class]`.
    Classes(Vec<Vec<f64>>),
}

impl Kept {
    /// Reads one.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        Ok(match schema(file)?.as_deref() {
            Some(CLASSES) => Self::Classes(Box::new(load_classes(file)?)),
            Some(ATTENTION) => Self::Attention(Box::new(load_pooled(file)?)),
            _ => Self::Linear(Box::new(load(file)?)),
        })
    }

    /// Of two classes, what is known of it.
    pub fn two(&self) -> Option<Two<'_>> {
        match self {
            Self::Linear(file) => Some(Two {
                calibrated: &file.about.calibrated,
                threshold: file.about.threshold,
                positive: &file.about.positive,
                fitting: &file.about.fitting,
            }),
            Self::Attention(file) => Some(Two {
                calibrated: &file.about.calibrated,
                threshold: file.about.threshold,
                positive: &file.about.positive,
                fitting: &file.about.fitting,
            }),
            Self::Classes(_) => None,
        }
    }

    /// Where it reads.
    pub fn place(&self) -> Place {
        match self {
            Self::Linear(file) => file.about.place,
            Self::Attention(file) => file.about.place,
            Self::Classes(file) => file.about.place,
        }
    }

    /// Refuses a model that it was not made on.
    pub fn fits(&self, file: &Path, model: &Checkpoint) -> anyhow::Result<()> {
        match self {
            Self::Linear(probe) => probe.fits(file, model, false)?,
            Self::Attention(probe) => probe.fits(file, model)?,
            Self::Classes(probe) => probe.fits(file, model)?,
        }
        Ok(())
    }

    /// Reads the rows and scores them.
    pub fn scores(
        &self,
        model: &Checkpoint,
        rows: &[Example],
        read: &ReadArgs,
        out: &Out,
    ) -> anyhow::Result<Scores> {
        let place = self.place();
        let point = place.point.to_string();
        let plan = Plan::new(&[&point], &[place.position], model.config())?;
        let encoded = encode(model, rows)?;
        let vectors = || -> anyhow::Result<Array2<f32>> {
            let mut harvest = read.harvest(model, &encoded, &plan, out)?;
            Ok(harvest.data.swap_remove(0))
        };
        Ok(match self {
            Self::Linear(file) => {
                let x = vectors()?;
                Scores::Two(file.probe.scores(x.view())?, Some(x))
            }
            Self::Classes(file) => Scores::Classes(file.probe.logits(vectors()?.view())?),
            Self::Attention(file) => {
                let tokens = read.tokens(model, &encoded, &plan, out)?.swap_remove(0);
                let all: Vec<usize> = (0..rows.len()).collect();
                Scores::Two(tokens.scores(&file.probe, &all)?, None)
            }
        })
    }
}
