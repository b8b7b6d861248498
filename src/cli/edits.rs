//! The edits that a command line can ask for, made into values of the hooks room and checked before anything runs.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::failure::Usage;
use crate::{
    features::Turning,
    hooks::{Edit, EditOp, Hooks, Plan, Vector, expand},
    lens::Cut,
    model::Checkpoint,
    steer::{Options, Source, SteerError, Steering},
};

/// Edits applied while the model runs; the checkpoint on disk is not changed. All are repeatable.
#[derive(Args, Debug, Default, Clone)]
#[command(next_help_heading = "Edits")]
pub struct EditArgs {
    /// Remove a direction: DIR[@LAYERS][*AMOUNT]. DIR is a safetensors file with a vector `direction`, FILE:TENSOR, or
    /// contrast:LAYER, made of built-in harmful and harmless prompts. It is projected out of resid_pre, attn_contrib and
    /// mlp_contrib of the layers (all unless given); amount 1 unless given
    #[arg(long, value_name = "DIR[@LAYERS][*AMOUNT]")]
    pub ablate: Vec<String>,
    /// Add a direction to resid_pre of a layer: DIR@LAYER*ALPHA
    #[arg(long, value_name = "DIR@LAYER*ALPHA")]
    pub add: Vec<String>,
    /// Set a point to zero, such as attn_out.3 or mlp_out.0-5
    #[arg(long, value_name = "POINT")]
    pub zero: Vec<String>,
    /// Cut a head, LAYER.HEAD, or keep a position from seeing another, LAYER:QUERY>KEY in all heads or
    /// LAYER.HEAD:QUERY>KEY in one; negative positions count from the end
    #[arg(
        long,
        visible_alias = "knock-out",
        value_name = "CUT",
        allow_hyphen_values = true
    )]
    pub knockout: Vec<String>,
    /// Turn latents of a sparse dictionary, all else kept: DICT@EDIT[,EDIT], where an edit is LATENT=VALUE (0 silences),
    /// LATENT+AMOUNT, LATENT-AMOUNT, LATENT*FACTOR or LATENT:LOW..HIGH; the first token stays as it is
    #[arg(long, value_name = "DICT@EDITS")]
    pub latents: Vec<String>,
    /// Edits from a file: a JSON array, or TOML with one [[edit]] each
    #[arg(long, value_name = "FILE")]
    pub edit: Vec<PathBuf>,
    /// Use a direction, dictionary or probe that was made on another model, or on this one before a change
    #[arg(long, visible_alias = "accept-foreign")]
    pub accept_foreign_direction: bool,
}

impl EditArgs {
    /// The edits for this checkpoint, each one checked against it.
    pub fn edits(&self, checkpoint: &Checkpoint) -> anyhow::Result<Vec<Edit>> {
        let mut edits = Vec::new();
        for spec in &self.ablate {
            edits.extend(
                self.steered(Steering::ablation(spec), checkpoint)
                    .context(format!("--ablate {spec}"))?,
            );
        }
        for spec in &self.add {
            edits.extend(
                self.steered(Steering::addition(spec), checkpoint)
                    .context(format!("--add {spec}"))?,
            );
        }
        for point in &self.zero {
            let points = expand(point, checkpoint.config()).context(format!("--zero {point}"))?;
            let zero = |at| Edit::new(at, EditOp::Scale { factor: 0.0 });
            edits.extend(points.into_iter().map(zero));
        }
        edits.extend(self.cuts(checkpoint)?);
        for spec in &self.latents {
            let option = || format!("--latents {spec}");
            let turning: Turning = spec.parse().with_context(option)?;
            let turned = turning.load(checkpoint, self.accept_foreign_direction);
            edits.extend(turned.with_context(option)?);
        }
        for path in &self.edit {
            edits.extend(from_file(path).context(format!("--edit {}", path.display()))?);
        }
        let hooks = Hooks::new().edits(edits.clone());
        Plan::new(
            &hooks,
            checkpoint.config(),
            checkpoint.decoder.compute_dtype(),
        )?;
        Ok(edits)
    }

    /// Those of `--ablate` and `--add`, each with its flag.
    pub fn steerings(&self) -> Vec<[String; 2]> {
        let with = |flag: &str, specs: &[String]| -> Vec<[String; 2]> {
            let pair = |spec: &String| [flag.to_owned(), spec.clone()];
            specs.iter().map(pair).collect()
        };
        [with("--ablate", &self.ablate), with("--add", &self.add)].concat()
    }

    /// Those of `--knockout` alone.
    pub fn cuts(&self, checkpoint: &Checkpoint) -> anyhow::Result<Vec<Edit>> {
        let mut edits = Vec::new();
        for spec in &self.knockout {
            edits.extend(knockout(spec, checkpoint).context(format!("--knockout {spec}"))?);
        }
        Ok(edits)
    }

    /// All but those of `--knockout`.
    pub fn without_cuts(&self, checkpoint: &Checkpoint) -> anyhow::Result<Vec<Edit>> {
        let others = Self {
            knockout: Vec::new(),
            ..self.clone()
        };
        others.edits(checkpoint)
    }

    fn steered(
        &self,
        steering: Result<Steering, SteerError>,
        checkpoint: &Checkpoint,
    ) -> anyhow::Result<Vec<Edit>> {
        let steering = steering.map_err(advised)?;
        let vector = load(&steering.source, checkpoint, self.accept_foreign_direction)?;
        Ok(steering.edits(&vector, checkpoint.config())?)
    }
}

/// Reads DIR for this checkpoint: right width, and made on this forward pass unless `foreign`.
pub fn direction(spec: &str, checkpoint: &Checkpoint, foreign: bool) -> anyhow::Result<Vector> {
    load(&Source::parse(spec), checkpoint, foreign)
}

fn load(source: &Source, checkpoint: &Checkpoint, foreign: bool) -> anyhow::Result<Vector> {
    source
        .load(checkpoint, foreign, &Options::default())
        .map_err(advised)
}

/// With a hint where there is one.
fn advised(error: SteerError) -> anyhow::Error {
    match error {
        SteerError::Written { example, .. } => {
            Usage::new(error.to_string(), format!("for example `{example}`")).into()
        }
        SteerError::Width { .. } => Usage::new(
            error.to_string(),
            "a direction fits only models of the width it was made on",
        )
        .into(),
        // What it wraps has hints of its own.
        SteerError::Model(inner) => anyhow::Error::new(*inner),
        other => other.into(),
    }
}

fn knockout(spec: &str, checkpoint: &Checkpoint) -> anyhow::Result<Vec<Edit>> {
    let malformed = || {
        Usage::new(
            "expected LAYER.HEAD, LAYER:QUERY>KEY or LAYER.HEAD:QUERY>KEY",
            "for example `--knockout 3.1` or `--knockout '3:-1>0'`; quote it, or the shell reads `>`",
        )
    };
    let (place, edge) = match spec.split_once(':') {
        Some((place, edge)) => (place, Some(edge.split_once('>').ok_or_else(malformed)?)),
        None => (spec, None),
    };
    let (layers, head) = match place.split_once('.') {
        Some((layers, head)) => (layers, Some(head.parse().map_err(|_| malformed())?)),
        None => (place, None),
    };
    let cut = |layer: usize| -> anyhow::Result<Edit> {
        let cut = match (head, edge) {
            (Some(head), None) => Cut::Head { layer, head },
            (head, Some((query, key))) => Cut::Edge {
                layer,
                head,
                query: query.parse().map_err(|_| malformed())?,
                key: key.parse().map_err(|_| malformed())?,
            },
            (None, None) => return Err(malformed().into()),
        };
        Ok(cut.edit())
    };
    let points = expand(&format!("attn_scores.{layers}"), checkpoint.config())?;
    points.into_iter().map(|at| cut(at.layer)).collect()
}

/// No list of edits is larger than this: a basis of a thousand vectors of a thousand numbers as text.
const MAX_FILE: u64 = 64 << 20;

fn from_file(path: &Path) -> anyhow::Result<Vec<Edit>> {
    let cannot = || format!("cannot read `{}`", path.display());
    let size = std::fs::metadata(path).with_context(cannot)?.len();
    anyhow::ensure!(
        size <= MAX_FILE,
        "`{}` has {size} bytes; at most {MAX_FILE} are read",
        path.display()
    );
    let text = std::fs::read_to_string(path).with_context(cannot)?;
    let is_toml = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("toml"));
    let value: serde_json::Value = if is_toml {
        let mut table: toml::Table = toml::from_str(&text)?;
        let list = table
            .remove("edit")
            .context("expected one [[edit]] for each edit, found none")?;
        if let Some(key) = table.keys().next() {
            anyhow::bail!("unknown key `{key}`; expected [[edit]] only");
        }
        serde_json::to_value(list)?
    } else {
        serde_json::from_str(&text)?
    };
    let list = value.as_array().context("expected a list of edits")?;
    anyhow::ensure!(!list.is_empty(), "the list of edits is empty");
    list.iter()
        .enumerate()
        .map(|(i, value)| one(value).with_context(|| format!("edit {i}")))
        .collect()
}

/// One edit; a key that it does not have is refused, since a misspelt selector would edit everything.
fn one(value: &serde_json::Value) -> anyhow::Result<Edit> {
    let edit: Edit = serde_json::from_value(value.clone())?;
    let known = serde_json::to_value(&edit)?;
    let unknown = value
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys())
        .find(|key| known.get(key.as_str()).is_none());
    match unknown {
        None => Ok(edit),
        Some(key) => {
            let fields = known.as_object().into_iter().flat_map(|map| map.keys());
            let fields: Vec<_> = fields.map(String::as_str).collect();
            Err(Usage::new(
                format!("unknown key `{key}` in an edit of kind {}", edit.op.name()),
                format!("its keys are: {}", fields.join(", ")),
            )
            .into())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<Edit>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        from_file(&path).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn json_and_toml_say_the_same() {
        let json = r#"[{"at": "mlp_out.1", "op": "scale", "factor": 0.5, "select": {"positions": {"at": [-1]}}}]"#;
        let toml = "[[edit]]\nat = \"mlp_out.1\"\nop = \"scale\"\nfactor = 0.5\nselect.positions.at = [-1]\n";
        let (json, toml) = (read("e.json", json).unwrap(), read("e.toml", toml).unwrap());
        assert_eq!(format!("{json:?}"), format!("{toml:?}"));
        assert_eq!(json.len(), 1);
    }

    #[test]
    fn a_misspelt_key_or_point_is_refused() {
        let edit = r#"[{"at": "mlp_out.1", "op": "scale", "factor": 0.5, "selct": {}}]"#;
        assert!(
            read("e.json", edit)
                .unwrap_err()
                .contains("unknown key `selct`")
        );
        let edit = r#"[{"at": "mlp_uot.1", "op": "scale", "factor": 0.5}]"#;
        assert!(
            read("e.json", edit)
                .unwrap_err()
                .contains("did you mean `mlp_out`")
        );
        assert!(read("e.json", "[]").unwrap_err().contains("empty"));
        assert!(
            read("e.toml", "[[edits]]\nat = 1\n")
                .unwrap_err()
                .contains("[[edit]]")
        );
    }
}
