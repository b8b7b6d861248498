//! What a step down one example's loss does to a property of the model: TracIn (Pruthi et al. 2020) at one checkpoint.
//!
//! A property S is a sum of log-probabilities or of log-odds. A step of plain gradient descent on example i moves S by
//! `-lr <grad loss_i, grad S>`, so the push of an example is `-<grad loss_i, grad S>`. Gradients are exact, by the tape that
//! trains: a backward pass costs about what the two forward passes of a finite difference along `grad S` cost, has no step
//! size, and gives the norm of `grad loss_i` as well.
//!
//! Always: gradients are with respect to what trains (an adapter's tensors where an adapter trains); sums are in f64.

use candle_core::{Tensor, Var};
use candlescope_ops::{self as ops, Gradients};
use rayon::prelude::*;

use super::{Bench, Examples, TrainError, bench::value, targets::Targets};
use crate::model::Batch;

/// Rows of one pass.
const ROWS: usize = 8;

/// Keeps the logarithm of a share of nothing finite, as the refusal score does.
const EPSILON: f64 = 1e-8;

/// An answer with what it counts in a property.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// The answer's.
    pub answer: Vec<u32>,
    /// What its log-probability counts.
    pub weight: f64,
}

/// A property's value and its gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct Slope {
    /// The value.
    pub value: f64,
    /// The gradient, tensor by tensor; none where the property does not depend on one.
    parts: Vec<Option<Vec<f32>>>,
    /// Its Euclidean norm.
    pub norm: f64,
}

/// What one example does to a property.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Push {
    /// `-<grad loss_i, grad S>`: how fast a step on it raises the property.
    pub raw: f64,
    /// The same between gradients of length 1, from -1 to 1; 0 where one of them is 0.
    pub cosine: f64,
    /// The norm of the example's gradient.
    pub norm: f64,
    /// The example's loss.
    pub loss: f64,
}

fn params(bench: &Bench) -> Vec<(String, Var)> {
    let params = bench.policy.params().iter();
    params.map(|p| (p.name.clone(), p.var.clone())).collect()
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>, TrainError> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let each = a.iter().zip(b);
    each.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// The gradient of a sum of parts, each on the tape of the policy.
fn slope<T>(
    bench: &Bench,
    rows: &[T],
    part: impl Fn(&[T]) -> Result<Tensor, TrainError>,
) -> Result<Slope, TrainError> {
    let params = params(bench);
    let mut gradients = Gradients::new(params.len());
    let mut total = 0.0;
    for rows in rows.chunks(ROWS) {
        let part = part(rows)?;
        total += value(&part)?;
        gradients.add(&params, ops::backward(&part)?)?;
    }
    let parts = (0..params.len())
        .map(|i| gradients.get(i)?.map(|g| flat(&g)).transpose())
        .collect::<Result<Vec<_>, TrainError>>()?;
    let squares = parts.iter().flatten().map(|part| dot(part, part));
    Ok(Slope {
        value: total,
        norm: squares.sum::<f64>().sqrt(),
        parts,
    })
}

/// `sum of weight * log p(answer | prompt)`, by the policy.
///
/// # Errors
/// The model's; an answer without tokens counts nothing.
pub fn of_answers(bench: &Bench, said: &[Said]) -> Result<Slope, TrainError> {
    let said: Vec<&Said> = said.iter().filter(|said| !said.answer.is_empty()).collect();
    slope(bench, &said, |said| {
        let rows: Vec<Vec<u32>> = said
            .iter()
            .map(|said| [said.prompt.as_slice(), &said.answer].concat())
            .collect();
        let batch = Batch::new(&rows)?;
        let mut targets = Targets::default();
        let mut weights = Vec::new();
        for (row, said) in said.iter().enumerate() {
            let from = said.prompt.len().max(1);
            targets.add(&batch, row, from..rows[row].len());
            weights.extend(std::iter::repeat_n(said.weight, rows[row].len() - from));
        }
        let logps = targets.by_policy(bench, &batch)?.logps;
        let weights = Tensor::new(weights, logps.device())?.to_dtype(logps.dtype())?;
        Ok((logps * weights)?.sum_all()?)
    })
}

/// `sum of weight * log-odds` that one of `ids` comes first after a prompt, by the policy.
///
/// # Errors
/// The model's.
pub fn of_log_odds(
    bench: &Bench,
    prompts: &[(Vec<u32>, f64)],
    ids: &[u32],
) -> Result<Slope, TrainError> {
    slope(bench, prompts, |prompts| {
        let rows: Vec<&Vec<u32>> = prompts.iter().map(|(prompt, _)| prompt).collect();
        let batch = Batch::new(&rows)?;
        let hidden = bench.policy.hidden(&batch)?;
        // Rows are padded on the left, so that the last slot is the last token of each.
        let last = hidden.narrow(1, batch.len() - 1, 1)?.squeeze(1)?;
        let mut logits = ops::linear(&last.contiguous()?, bench.policy.head(), None)?;
        if let Some(cap) = bench.policy.decoder().config().final_softcap {
            logits = ((logits / cap)?.tanh()? * cap)?;
        }
        let shares = ops::log_softmax_last_dim(&logits)?.exp()?;
        let ids = Tensor::new(ids, shares.device())?;
        let mass = shares.index_select(&ids, 1)?.sum(1)?;
        let rest = mass.affine(-1.0, 1.0)?;
        let odds = ((mass + EPSILON)?.log()? - (rest.relu()? + EPSILON)?.log()?)?;
        let weights: Vec<f64> = prompts.iter().map(|(_, weight)| *weight).collect();
        let weights = Tensor::new(weights, odds.device())?.to_dtype(odds.dtype())?;
        Ok((odds * weights)?.sum_all()?)
    })
}

/// What a step down an example's loss does to a property whose slope is known.
///
/// # Errors
/// The model's; a gradient that is no number.
pub fn push(
    bench: &Bench,
    examples: &dyn Examples,
    example: usize,
    slope: &Slope,
) -> Result<Push, TrainError> {
    let loss = examples.loss(bench, example)?;
    let found = ops::backward(&loss)?;
    let params = bench.policy.params().par_iter().zip(&slope.parts);
    let both: Vec<(f64, f64)> = params
        .map(|(param, part)| {
            let Some(gradient) = found.get(&param.var) else {
                return Ok((0.0, 0.0));
            };
            let own = flat(gradient)?;
            let along = part.as_ref().map_or(0.0, |part| dot(&own, part));
            Ok((along, dot(&own, &own)))
        })
        .collect::<Result<_, TrainError>>()?;
    let along: f64 = both.iter().map(|(along, _)| along).sum();
    let norm = both.iter().map(|(_, square)| square).sum::<f64>().sqrt();
    let lengths = norm * slope.norm;
    if !along.is_finite() || !norm.is_finite() {
        return Err(TrainError::NotFinite {
            step: bench.step(),
            what: "gradient of an example",
            value: along,
            rows: vec![examples.place(example)],
            batch: serde_json::Value::Null,
        });
    }
    Ok(Push {
        raw: -along,
        cosine: if lengths > 0.0 { -along / lengths } else { 0.0 },
        norm,
        loss: value(&loss)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{DType, Device};

    use super::*;
    use crate::hooks::Hooks;
    use crate::model::{Checkpoint, Decoder, LogitsAt};
    use crate::train::{Config, Parts, prepare};

    /// Three rows for fine-tuning, and a run of the toy model on them.
    fn parts(method: &str) -> (tempfile::TempDir, Parts) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        let rows = if method == "sft" {
            "{\"prompt\": \"one two\", \"completion\": \" three\"}\n{\"prompt\": \"red\", \"completion\": \" blue and green\"}\n"
        } else {
            "{\"prompt\": \"one two\", \"chosen\": \" three\", \"rejected\": \" nothing at all\"}\n"
        };
        std::fs::write(&path, rows).unwrap();
        let reference = if method == "dpo" {
            "[method.dpo]\nprecompute_reference = false\n"
        } else {
            ""
        };
        let text = format!(
            "[model]\nname = 'toy'\n[data]\ntrain = ['{}']\nmax_length = 64\n{reference}",
            path.display()
        );
        let config = Config::parse("config", &text, method, &[]).unwrap();
        let parts = prepare(config, Checkpoint::toy(3).unwrap()).unwrap();
        (dir, parts)
    }

    fn tokens(parts: &Parts, text: &str) -> Vec<u32> {
        parts.tokenizer.encode(text, false).unwrap()
    }

    /// Log-probabilities of what follows each token of a row, in f64 from the logits.
    fn shares(decoder: &Decoder, ids: &[u32]) -> Vec<Vec<f64>> {
        let batch = Batch::single(ids).unwrap();
        let logits = decoder.forward(&batch, &Hooks::new(), LogitsAt::All);
        let logits = logits
            .unwrap()
            .logits()
            .unwrap()
            .to_dtype(DType::F64)
            .unwrap();
        let rows = logits.get(0).unwrap().to_vec2::<f64>().unwrap();
        let normed = |row: &Vec<f64>| {
            let total = row.iter().map(|x| x.exp()).sum::<f64>().ln();
            row.iter().map(|x| x - total).collect()
        };
        rows.iter().map(normed).collect()
    }

    fn said(parts: &Parts) -> Vec<Said> {
        [("one two", " four", 0.5), ("red", " blue", -1.5)]
            .map(|(prompt, answer, weight)| Said {
                prompt: tokens(parts, prompt),
                answer: tokens(parts, answer),
                weight,
            })
            .into()
    }

    #[test]
    fn a_property_is_what_the_logits_say() {
        let (_dir, parts) = parts("sft");
        let decoder = parts.bench.policy.decoder();
        let said = said(&parts);
        let by_hand: f64 = said
            .iter()
            .map(|said| {
                let rows = shares(decoder, &[said.prompt.as_slice(), &said.answer].concat());
                let each = said.answer.iter().enumerate();
                let sum: f64 = each
                    .map(|(i, &id)| rows[said.prompt.len() + i - 1][id as usize])
                    .sum();
                said.weight * sum
            })
            .sum();
        let found = of_answers(&parts.bench, &said).unwrap();
        assert!(
            (found.value - by_hand).abs() < 1e-4,
            "{} {by_hand}",
            found.value
        );

        let ids = [5u32, 9, 11];
        let prompts: Vec<(Vec<u32>, f64)> =
            said.iter().map(|s| (s.prompt.clone(), s.weight)).collect();
        let by_hand: f64 = prompts
            .iter()
            .map(|(prompt, weight)| {
                let last = shares(decoder, prompt).pop().unwrap();
                let mass: f64 = ids.iter().map(|&id| last[id as usize].exp()).sum();
                weight * ((mass + EPSILON).ln() - (1.0 - mass + EPSILON).ln())
            })
            .sum();
        let found = of_log_odds(&parts.bench, &prompts, &ids).unwrap();
        assert!(
            (found.value - by_hand).abs() < 1e-4,
            "{} {by_hand}",
            found.value
        );
    }

    /// The loss of an example after a step of `h` along a slope, divided by its length.
    fn loss_at(parts: &Parts, examples: &dyn Examples, slope: &Slope, h: f64) -> f64 {
        let before: Vec<(String, Tensor)> = (parts.bench.policy.values().into_iter())
            .map(|(name, tensor)| (name, tensor.copy().unwrap()))
            .collect();
        let moved: Vec<(String, Tensor)> = before
            .iter()
            .zip(&slope.parts)
            .map(|((name, tensor), part)| {
                let moved = match part {
                    Some(part) => {
                        let part = Tensor::new(part.as_slice(), &Device::Cpu).unwrap();
                        let part = part.reshape(tensor.shape()).unwrap();
                        (tensor + (part * (h / slope.norm)).unwrap()).unwrap()
                    }
                    None => tensor.clone(),
                };
                (name.clone(), moved)
            })
            .collect();
        parts.bench.policy.restore(&moved).unwrap();
        let loss = value(&examples.loss(&parts.bench, 0).unwrap()).unwrap();
        parts.bench.policy.restore(&before).unwrap();
        loss
    }

    #[test]
    fn the_push_is_the_finite_difference_along_the_slope() {
        let (_dir, parts) = parts("sft");
        let examples = parts.method.examples().unwrap();
        let slope = of_answers(&parts.bench, &said(&parts)).unwrap();
        let push = push(&parts.bench, examples, 0, &slope).unwrap();
        // Two forward passes, a step up and a step down the unit gradient.
        let h = 2e-2;
        let rise = loss_at(&parts, examples, &slope, h) - loss_at(&parts, examples, &slope, -h);
        let difference = -rise / (2.0 * h) * slope.norm;
        let share = (push.raw - difference).abs() / difference.abs();
        assert!(share < 0.02, "{} {difference}", push.raw);
        assert!((push.cosine - push.raw / (push.norm * slope.norm)).abs() < 1e-12);
        // A step down the loss moves the property as the push says: S(w - e g) - S(w) = e push + O(e²).
        assert!(push.cosine.abs() > 1e-4);
    }

    #[test]
    fn a_row_that_says_the_answer_itself_pushes_as_hard_as_can_be() {
        let (_dir, parts) = parts("sft");
        let examples = parts.method.examples().unwrap();
        for example in 0..2 {
            let taught = examples.taught(example).remove(0);
            let start = taught.answer.iter().position(|is| *is).unwrap();
            let own = |weight: f64| Said {
                prompt: taught.ids[..start].to_vec(),
                answer: taught.ids[start..].to_vec(),
                weight,
            };
            // S is minus the row's own loss, so the gradients are opposite.
            let slope = of_answers(&parts.bench, &[own(1.0)]).unwrap();
            let found = push(&parts.bench, examples, example, &slope).unwrap();
            assert!((found.loss + slope.value).abs() < 1e-5);
            assert!((found.cosine - 1.0).abs() < 1e-5, "{found:?}");
            assert!((found.raw / (slope.norm * slope.norm) - 1.0).abs() < 1e-4);
            let slope = of_answers(&parts.bench, &[own(-2.0)]).unwrap();
            let against = push(&parts.bench, examples, example, &slope).unwrap();
            assert!((against.cosine + 1.0).abs() < 1e-5);
            assert!((against.raw / found.raw + 2.0).abs() < 1e-4);
        }
    }

    #[test]
    fn a_pair_pushes_to_the_chosen_answer() {
        let (_dir, mut parts) = parts("dpo");
        let run = tempfile::tempdir().unwrap();
        let folder = crate::train::RunFolder::create(&run.path().join("run"), "").unwrap();
        parts.method.ready(&parts.bench, &folder).unwrap();
        let examples = parts.method.examples().unwrap();
        let [chosen, rejected] = <[_; 2]>::try_from(examples.taught(0)).unwrap();
        assert_eq!((chosen.sign, rejected.sign), (1.0, -1.0));
        let said = [chosen, rejected].map(|taught| {
            let start = taught.answer.iter().position(|is| *is).unwrap();
            Said {
                prompt: taught.ids[..start].to_vec(),
                answer: taught.ids[start..].to_vec(),
                weight: taught.sign,
            }
        });
        // At its reference the loss of a pair is ln 2 and its gradient -beta/2 times that of the margin.
        let slope = of_answers(&parts.bench, &said).unwrap();
        let found = push(&parts.bench, examples, 0, &slope).unwrap();
        assert!(
            (found.loss - std::f64::consts::LN_2).abs() < 1e-5,
            "{found:?}"
        );
        assert!((found.cosine - 1.0).abs() < 1e-4, "{found:?}");
        assert!((found.norm / slope.norm - 0.05).abs() < 1e-4, "{found:?}");
    }
}
