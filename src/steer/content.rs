//! What of a prompt is its own words: the tokens between the template's opening and its end, and their mean state.
//!
//! Always: the opening is found from the template alone, so a prompt has the same content whatever it is batched with; the
//! states are those of the unedited model. Next: `condition/`, which compares them with a direction.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::DType;
use ndarray::Array2;

use super::pass::each_batch;
use super::{EncodedPrompt, Options, PromptSet, SteerError};
use crate::hooks::{HookPoint, Hooks, Point};
use crate::model::generate::Prefix;
use crate::model::{Batch, Checkpoint, Decoder, LogitsAt};
use crate::text::suites::PromptRow;

/// Two prompts that begin with different tokens under any tokenizer.
const UNLIKE: [&str; 2] = ["A", "9"];

/// The content tokens of each prompt: from the first token that the template does not fix to the end of the instruction.
/// The last one alone where tokens of opening and instruction cannot be told apart.
///
/// # Errors
/// A template that cannot be applied.
pub fn content(
    cp: &Checkpoint,
    rows: &[&PromptRow],
    prompts: &[EncodedPrompt],
) -> Result<Vec<Range<usize>>, SteerError> {
    let mut openings: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    let mut found = Vec::with_capacity(prompts.len());
    for (row, prompt) in rows.iter().zip(prompts) {
        let system = row.system.as_deref();
        let opening = match openings.get(&system) {
            Some(&opening) => opening,
            None => {
                let encoded = [
                    cp.encode_prompt(UNLIKE[0], system)?.ids,
                    cp.encode_prompt(UNLIKE[1], system)?.ids,
                ];
                let opening = Prefix::common(&encoded);
                openings.insert(system, opening);
                opening
            }
        };
        let end = prompt.instruction_end;
        found.push(opening.min(end)..end + 1);
    }
    Ok(found)
}

/// The mean state over the content tokens of each prompt at the input of these blocks: one `[prompt, d_model]` for each
/// layer, without edits. Sums in f64.
///
/// # Errors
/// A layer the model lacks, a state that is not finite, an interruption.
pub fn mean_states(
    model: &impl AsRef<Decoder>,
    prompts: &[EncodedPrompt],
    content: &[Range<usize>],
    layers: &[usize],
    options: &Options,
) -> Result<Vec<Array2<f32>>, SteerError> {
    let model = model.as_ref();
    let n_layers = model.config().n_layers;
    if let Some(&layer) = layers.iter().find(|&&layer| layer >= n_layers) {
        return Err(SteerError::Layer { layer, n_layers });
    }
    let points: Vec<HookPoint> = layers
        .iter()
        .map(|&layer| HookPoint::new(Point::ResidPre, layer))
        .collect();
    let hooks = points
        .iter()
        .fold(Hooks::new(), |hooks, &at| hooks.capture(at));
    let mut means =
        vec![Array2::<f32>::zeros((prompts.len(), model.config().d_model)); layers.len()];
    // Whole rows: the content may begin where prompts still agree by chance.
    let set = PromptSet::keeping(prompts, |_| 0);
    each_batch(
        model,
        &set,
        &Hooks::new(),
        options,
        &mut |_, indices, rows| {
            let batch = Batch::new(rows)?;
            let captured = model.forward(&batch, &hooks, LogitsAt::None)?.captured;
            for (means, at) in means.iter_mut().zip(&points) {
                let states = captured[at].to_dtype(DType::F32)?;
                for (row, &index) in indices.iter().enumerate() {
                    let Range { start, end } = content[index].clone();
                    let own = states
                        .get(row)?
                        .narrow(0, batch.pad()[row] + start, end - start)?
                        .to_vec2::<f32>()?;
                    for (j, mean) in means.row_mut(index).iter_mut().enumerate() {
                        let sum: f64 = own.iter().map(|state| f64::from(state[j])).sum();
                        *mean = (sum / own.len() as f64) as f32;
                        if !mean.is_finite() {
                            return Err(SteerError::NotFinite {
                                id: prompts[index].id.clone(),
                                what: "residual stream",
                            });
                        }
                    }
                }
            }
            Ok(())
        },
    )?;
    Ok(means)
}
