//! Steering as it is written: `DIR[@LAYERS][*AMOUNT]` takes a direction out, `DIR@LAYER*ALPHA` puts it in,
//! `DIR[,DIR]@LAYERS*NUMBER` is any other form (`form.rs`); LAYERS may be weights by layer (`kernel.rs`).
//!
//! Always: what is written, read and written again is the same; the command line and the workbench make their edits here,
//! so that the same words do the same in both. DIR is a file ([`super::file`]), `FILE:TENSOR`, or `contrast:LAYER`,
//! `contrast:LAYER:-K`, `contrast:LAYER:instruction` ([`super::contrast`]).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kernel::{Kernel, Kernels};
use super::{Form, Options, SteerError, Where, contrast, file};
use crate::config::ModelConfig;
use crate::hooks::{Edit, EditOp, HookPoint, Point, Vector, expand};
use crate::model::Checkpoint;

/// Where a direction comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A vector in a safetensors file.
    File {
        /// The file.
        path: PathBuf,
        /// The vector's name.
        tensor: String,
    },
    /// The built-in harmful against harmless prompts, at a position before this layer.
    Contrast {
        /// The layer.
        layer: usize,
        /// The position.
        place: Where,
    },
}

impl Source {
    /// Reads `FILE`, `FILE:TENSOR`, `contrast:LAYER`, `contrast:LAYER:-K` or `contrast:LAYER:instruction`; a file of the whole
    /// name wins.
    pub fn parse(text: &str) -> Self {
        if let Some(rest) = text.strip_prefix("contrast:")
            && let Some(found) = Self::contrast(rest)
            && !Path::new(text).exists()
        {
            return found;
        }
        let (path, tensor) = file::parse(text);
        Self::File {
            path,
            tensor: tensor.to_owned(),
        }
    }

    /// What stands behind `contrast:`.
    fn contrast(text: &str) -> Option<Self> {
        let (layer, place) = text.split_once(':').unwrap_or((text, "-1"));
        let place = match place.strip_prefix('-') {
            Some(back) => Where::FromEnd(back.parse().ok().filter(|&k| k > 0)?),
            None if place == "instruction" => Where::InstructionEnd,
            None => return None,
        };
        let layer = layer.parse().ok()?;
        Some(Self::Contrast { layer, place })
    }

    /// The vector for this checkpoint: right width, and made on this forward pass unless `foreign`.
    ///
    /// # Errors
    /// A file that cannot be read, another width, another forward pass, a layer the model lacks, an interruption.
    pub fn load(
        &self,
        checkpoint: &Checkpoint,
        foreign: bool,
        options: &Options,
    ) -> Result<Vector, SteerError> {
        let (path, tensor) = match self {
            Self::Contrast { layer, place } => {
                return Ok(contrast(checkpoint, *layer, *place, options)?.vector);
            }
            Self::File { path, tensor } => (path, tensor),
        };
        let read = file::load(path, tensor).map_err(crate::model::ModelError::from)?;
        let width = checkpoint.config().d_model;
        if read.vector.len() != width {
            return Err(SteerError::Width {
                file: path.display().to_string(),
                tensor: tensor.clone(),
                expected: width,
                model: checkpoint.name.clone(),
                found: read.vector.len(),
            });
        }
        if let (Some(made_on), false) = (&read.fingerprint, foreign) {
            checkpoint
                .fingerprint()?
                .expect(made_on, &path.display().to_string())?;
        }
        Ok(Arc::new(read.vector))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contrast { layer, place } => match place {
                Where::FromEnd(1) => write!(f, "contrast:{layer}"),
                Where::FromEnd(back) => write!(f, "contrast:{layer}:-{back}"),
                Where::InstructionEnd => write!(f, "contrast:{layer}:instruction"),
            },
            Self::File { path, tensor } if tensor == file::TENSOR => {
                write!(f, "{}", path.display())
            }
            Self::File { path, tensor } => write!(f, "{}:{tensor}", path.display()),
        }
    }
}

/// What is done with a direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Projected out of `resid_pre`, `attn_contrib` and `mlp_contrib` of these layers, `*` for all.
    Ablate {
        /// Layers, as in a hook point: `*`, `12`, `3-9`; or weights, as [`Kernels`] reads them: then `resid_pre` is left out,
        /// where it would be taken out again after every block.
        layers: String,
    },
    /// Added to `resid_pre` of a layer.
    Add {
        /// The layer.
        layer: usize,
    },
    /// Another form, or an addition with weights by layer.
    Form {
        /// Which.
        form: Form,
        /// Layers or weights, as [`Kernels`] reads them.
        layers: String,
        /// Further directions, for forms that take several.
        others: Vec<Source>,
    },
}

/// A direction, what is done with it, and how much.
#[derive(Debug, Clone, PartialEq)]
pub struct Steering {
    /// The direction.
    pub source: Source,
    /// What is done.
    pub way: Way,
    /// Amount of an ablation, 1 to remove all; alpha of an addition.
    pub dose: f64,
}

impl Steering {
    /// Reads `DIR[@LAYERS][*AMOUNT]`; a file of the whole name wins.
    ///
    /// # Errors
    /// An amount that is not finite.
    pub fn ablation(text: &str) -> Result<Self, SteerError> {
        let malformed = || SteerError::Written {
            expected: "DIR[@LAYERS][*AMOUNT]",
            example: "--ablate direction.safetensors@3-9*0.5",
        };
        let (mut rest, mut dose, mut layers) = (text, 1.0, "*");
        if !Path::new(text).exists() {
            // In `DIR@*` the star means all layers.
            if let Some((before, amount)) = rest.rsplit_once('*')
                && !amount.is_empty()
            {
                (rest, dose) = (before, finite(amount).ok_or_else(malformed)?);
            }
            if let Some((before, place)) = rest.rsplit_once('@') {
                (rest, layers) = (before, place);
            }
            if rest.contains(',') && !Path::new(rest).exists() && layers.parse::<Kernels>().is_ok()
            {
                return Self::form(Form::Subspace, &format!("{rest}@{layers}*{dose}"));
            }
        }
        if rest.is_empty() || layers.is_empty() {
            return Err(malformed());
        }
        Ok(Self {
            source: Source::parse(rest),
            way: Way::Ablate {
                layers: layers.to_owned(),
            },
            dose,
        })
    }

    /// Reads `DIR@LAYER*ALPHA`.
    ///
    /// # Errors
    /// Anything else.
    pub fn addition(text: &str) -> Result<Self, SteerError> {
        let read = || {
            let (direction, place) = text.rsplit_once('@')?;
            let (place, alpha) = place.rsplit_once('*')?;
            let way = match place.parse() {
                Ok(layer) => Way::Add { layer },
                Err(_) if place.starts_with(['p', 'l']) => Way::Form {
                    form: Form::Add,
                    layers: place.parse::<Kernels>().ok()?.to_string(),
                    others: Vec::new(),
                },
                Err(_) => return None,
            };
            Some((direction, way, finite(alpha)?))
        };
        let (direction, way, dose) = read().ok_or(SteerError::Written {
            expected: "DIR@LAYER*ALPHA",
            example: "--add direction.safetensors@12*4.5",
        })?;
        Ok(Self {
            source: Source::parse(direction),
            way,
            dose,
        })
    }

    /// Reads `DIR[,DIR…]@LAYERS*NUMBER` of a form.
    ///
    /// # Errors
    /// Anything else.
    pub fn form(form: Form, text: &str) -> Result<Self, SteerError> {
        if form == Form::Add {
            return Self::addition(text);
        }
        let read = || {
            let (directions, place) = text.rsplit_once('@')?;
            let (layers, dose) = place.rsplit_once('*')?;
            let layers = layers.parse::<Kernels>().ok()?.to_string();
            let mut sources = directions.split(',').map(Source::parse);
            let source = sources.next()?;
            let (others, dose) = (sources.collect(), finite(dose)?);
            let named = directions.split(',').all(|name| !name.is_empty());
            named.then_some((source, layers, others, dose))
        };
        let (source, layers, others, dose) = read().ok_or(SteerError::Written {
            expected: "DIR[,DIR]@LAYERS*NUMBER",
            example: "--clamp direction.safetensors@12*0, --rotate refusal.safetensors,other.safetensors@3-9*45",
        })?;
        let way = Way::Form {
            form,
            layers,
            others,
        };
        Ok(Self { source, way, dose })
    }

    /// Reads the two words of [`Self::option`]; `None` if they are another option's.
    pub fn from_option(words: &[String]) -> Option<Self> {
        match words {
            [option, text] if option == "--ablate" => Self::ablation(text).ok(),
            [option, text] if option == "--add" => Self::addition(text).ok(),
            [option, text] => {
                let name = option.strip_prefix("--")?;
                let form = Form::ALL.into_iter().find(|form| form.name() == name)?;
                Self::form(form, text).ok()
            }
            _ => None,
        }
    }

    /// The same with the direction's file by its name alone, as a report names it.
    #[must_use]
    pub fn without_folder(mut self) -> Self {
        let others = match &mut self.way {
            Way::Form { others, .. } => others.as_mut_slice(),
            _ => &mut [],
        };
        for source in std::iter::once(&mut self.source).chain(others) {
            if let Source::File { path, .. } = source
                && let Some(name) = path.file_name()
            {
                *path = name.into();
            }
        }
        self
    }

    /// The option of the command line that does the same.
    pub fn option(&self) -> [String; 2] {
        let (source, dose) = (&self.source, self.dose);
        match &self.way {
            Way::Add { layer } => ["--add".into(), format!("{source}@{layer}*{dose}")],
            Way::Form {
                form,
                layers,
                others,
            } => {
                let sources = std::iter::once(source).chain(others);
                let sources: Vec<String> = sources.map(ToString::to_string).collect();
                let text = format!("{}@{layers}*{dose}", sources.join(","));
                [format!("--{}", form.name()), text]
            }
            Way::Ablate { layers } => {
                let at = if layers == "*" {
                    String::new()
                } else {
                    format!("@{layers}")
                };
                // 1 is what no amount means.
                let dose = if dose == 1.0 {
                    String::new()
                } else {
                    format!("*{dose}")
                };
                ["--ablate".into(), format!("{source}{at}{dose}")]
            }
        }
    }

    /// The vectors of all its sources, the first one first.
    ///
    /// # Errors
    /// As [`Source::load`].
    pub fn load(
        &self,
        checkpoint: &Checkpoint,
        foreign: bool,
        options: &Options,
    ) -> Result<Vec<Vector>, SteerError> {
        let others = match &self.way {
            Way::Form { others, .. } => others.as_slice(),
            _ => &[],
        };
        std::iter::once(&self.source)
            .chain(others)
            .map(|source| source.load(checkpoint, foreign, options))
            .collect()
    }

    /// The edits, with the vector that its source gave; of a form with several directions see [`Self::edits_of`].
    ///
    /// # Errors
    /// A layer the model lacks.
    pub fn edits(&self, vector: &Vector, config: &ModelConfig) -> Result<Vec<Edit>, SteerError> {
        self.edits_of(std::slice::from_ref(vector), config)
    }

    /// The edits, with the vectors that [`Self::load`] gave.
    ///
    /// # Errors
    /// A layer the model lacks, another number of vectors than the form takes, weights where it has no amount.
    pub fn edits_of(
        &self,
        vectors: &[Vector],
        config: &ModelConfig,
    ) -> Result<Vec<Edit>, SteerError> {
        let hook = crate::model::ModelError::from;
        let vector = vectors.first().ok_or(SteerError::TooFew {
            what: "directions",
            needed: 1,
            found: 0,
        })?;
        match &self.way {
            Way::Form { form, layers, .. } => weighted(*form, vectors, layers, self.dose, config),
            Way::Ablate { layers } if layers.contains(['(', '=']) => {
                weighted(Form::Subspace, vectors, layers, self.dose, config)
            }
            Way::Add { layer } => {
                let at = HookPoint::new(Point::ResidPre, *layer)
                    .check(config)
                    .map_err(hook)?;
                let op = EditOp::Add {
                    vector: vector.clone(),
                    alpha: self.dose,
                };
                Ok(vec![Edit::new(at, op)])
            }
            Way::Ablate { layers } => {
                let op = EditOp::Ablate {
                    directions: vec![vector.clone()],
                    amount: self.dose,
                };
                let mut edits = Vec::new();
                for point in ["resid_pre", "attn_contrib", "mlp_contrib"] {
                    let points = expand(&format!("{point}.{layers}"), config).map_err(hook)?;
                    edits.extend(points.into_iter().map(|at| Edit::new(at, op.clone())));
                }
                Ok(edits)
            }
        }
    }
}

/// A form at every layer that has a weight: the dose times that weight.
fn weighted(
    form: Form,
    vectors: &[Vector],
    layers: &str,
    dose: f64,
    config: &ModelConfig,
) -> Result<Vec<Edit>, SteerError> {
    let kernels: Kernels = layers.parse()?;
    let refuse = |why| SteerError::Weighted {
        form: form.name(),
        why,
    };
    let plain = matches!(kernels, Kernels::Both(Kernel::Layers(_)));
    if !plain && !form.weighted() {
        return Err(refuse(
            "its number is a place, which has no weight by layer; give layers",
        ));
    }
    let parts = match (&kernels, form) {
        (Kernels::Both(kernel), Form::Subspace) => {
            let stream = plain.then_some((Point::ResidPre, kernel));
            let writers = [(Point::AttnContrib, kernel), (Point::MlpContrib, kernel)];
            stream.into_iter().chain(writers).collect()
        }
        (Kernels::Both(kernel), _) => vec![(Point::ResidPre, kernel)],
        (Kernels::Apart { attn, mlp }, Form::Subspace) => {
            let attn = attn.as_ref().map(|kernel| (Point::AttnContrib, kernel));
            let mlp = mlp.as_ref().map(|kernel| (Point::MlpContrib, kernel));
            attn.into_iter().chain(mlp).collect()
        }
        (Kernels::Apart { .. }, _) => {
            return Err(refuse(
                "it acts on the stream, not on what attention and MLP add; leave attn= and mlp= out",
            ));
        }
    };
    let mut edits = Vec::new();
    for (point, kernel) in parts {
        for (layer, weight) in kernel.weights(config)?.into_iter().enumerate() {
            if weight != 0.0 {
                let at = HookPoint::new(point, layer);
                edits.push(Edit::new(at, form.op(vectors, dose * weight)?));
            }
        }
    }
    Ok(edits)
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|x: &f64| x.is_finite())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        for text in [
            "d.safetensors",
            "d.safetensors:v",
            "contrast:12",
            "d@3-9",
            "d@2*0.5",
            "contrast:0:instruction*0.5",
            "a@b.safetensors@4",
            "d*-1",
        ] {
            let steering = Steering::ablation(text).unwrap();
            assert_eq!(steering.option(), ["--ablate".to_owned(), text.to_owned()]);
            assert_eq!(Steering::from_option(&steering.option()), Some(steering));
        }
        for (form, text) in [
            (Form::Clamp, "d.safetensors@3-9*0.5"),
            (Form::Rotate, "a,b:w@0*45"),
            (Form::Affine, "a,b@12*1"),
            (Form::OneSided, "d@peak(p=3,d=2,min=0,max=1)*1"),
            (Form::Subspace, "a,b,c@2-4*0.5"),
            (Form::Add, "d@list(1:0.5,2:1)*4"),
        ] {
            let steering = Steering::form(form, text).unwrap();
            assert_eq!(
                steering.option(),
                [format!("--{}", form.name()), text.to_owned()]
            );
            assert_eq!(Steering::from_option(&steering.option()), Some(steering));
        }
        for text in [
            "d.safetensors@12*4.5",
            "contrast:3@3*-0.125",
            "contrast:3:-2@3*1",
            "x@y@0*1",
        ] {
            let steering = Steering::addition(text).unwrap();
            assert_eq!(steering.option(), ["--add".to_owned(), text.to_owned()]);
            assert_eq!(Steering::from_option(&steering.option()), Some(steering));
        }
    }

    #[test]
    fn parts_are_what_they_say() {
        let read = Steering::ablation("d@*").unwrap();
        assert_eq!(read.way, Way::Ablate { layers: "*".into() });
        assert_eq!(read.dose.to_bits(), 1f64.to_bits());
        assert_eq!(
            Steering::addition("contrast:12@7*2").unwrap(),
            Steering {
                source: Source::Contrast {
                    layer: 12,
                    place: Where::FromEnd(1)
                },
                way: Way::Add { layer: 7 },
                dose: 2.0,
            }
        );
        for text in ["d*x", "d@", "@3", "d*inf"] {
            assert!(Steering::ablation(text).is_err(), "{text}");
        }
        for text in ["d", "d@3", "d@x*1", "d@3*nan"] {
            let error = Steering::addition(text).unwrap_err().to_string();
            assert!(error.contains("DIR@LAYER*ALPHA"), "{error}");
        }
    }
}
