//! Matryoshka BatchTopK: the codes of BatchTopK, reconstructed by every nested prefix of the latents (Bussmann et al. 2025,
//! arXiv 2503.17547). The losses of all levels are added, as in SAELens.

use candlescope_ops::sparse::{ByLatent, Entries, dots, gather, squares};

use super::auxk::{self, AuxK};
use super::batch_topk::{Threshold, largest};
use super::pass::{Batch, Pass};
use super::recipe::{Levels, TopKOptions};
use super::topk::{norms, unscale};

/// One pass with `k` latents a row on average.
pub(super) fn pass(
    batch: &Batch,
    k: f64,
    levels: &Levels,
    options: TopKOptions,
    threshold: &mut Threshold,
    rate: f64,
) -> Pass {
    let norms = options.by_norm.then(|| norms(batch));
    let mut codes = largest(batch, norms.as_deref(), k, threshold.last);
    threshold.update(&codes, rate);
    unscale(&mut codes, norms.as_deref());
    let mut widths = levels.widths.clone();
    if widths.last() != Some(&batch.d_sae()) {
        widths.push(batch.d_sae());
    }
    let errors = errors(batch, &codes, &widths);
    let pull = batch.pull();
    let mut grads = batch.params.zeros();
    let by = ByLatent::new(&codes, batch.d_sae());
    let mut pulls = vec![0.0; codes.len()];
    let shares: Vec<f32> = codes.values.iter().map(|code| code * pull).collect();
    // A latent takes part in its own level and in all above it, so what pulls it is the sum of their errors.
    let mut sum = vec![0f32; errors[0].len()];
    let whole = &errors[widths.len() - 1];
    let (felt, through) = batch.felt(whole, squares(whole));
    let mut first = vec![0];
    first.extend(&widths[..widths.len() - 1]);
    for level in (0..widths.len()).rev() {
        // The whole dictionary's is what a loss behind it pulls at.
        let error = if level + 1 == widths.len() {
            &felt
        } else {
            errors[level].as_slice()
        };
        sum.iter_mut().zip(error).for_each(|(sum, e)| *sum += e);
        let own = first[level]..widths[level];
        gather(
            &by,
            own.clone(),
            &shares,
            &sum,
            batch.d_out,
            &mut grads.w_dec,
        );
        let (part, places) = between(&codes, own.start as u32, own.end as u32);
        let found = dots(&part, &sum, &batch.params.w_dec, batch.d_out);
        for (place, dot) in places.into_iter().zip(found) {
            pulls[place] = pull * dot;
        }
    }
    // After the loop the sum is that of all levels, each of which has the bias and the skip.
    batch.back_output(pull, &sum, &mut grads);
    batch.back_encoder(&by, &pulls, &mut grads);
    let mean = |error: &Vec<f32>| squares(error) / batch.rows as f64;
    let inner: f64 = errors[..widths.len() - 1].iter().map(mean).sum();
    let mut losses = vec![
        ("mse", mean(&errors[widths.len() - 1])),
        ("inner_mse", inner),
    ];
    losses.extend(through);
    let mut aux_loss = None;
    let last = widths.len() - 1;
    for level in 0..widths.len() {
        if !levels.own_aux && level != last {
            continue;
        }
        let aux = AuxK {
            coefficient: options.aux,
            norms: norms.as_deref(),
            latents: if levels.own_aux {
                first[level] as u32..widths[level] as u32
            } else {
                0..batch.d_sae() as u32
            },
        };
        if let Some(loss) = auxk::add(batch, &aux, &errors[level], &mut grads) {
            *aux_loss.get_or_insert(0.0) += loss;
        }
    }
    losses.extend(aux_loss.map(|loss| ("auxk", loss)));
    let error = errors.into_iter().next_back().unwrap_or_default();
    Pass {
        losses,
        grads,
        codes,
        squares: squares(&error),
        error,
    }
}

/// `x̂ - y` of each level, `[n, d_out]`.
fn errors(batch: &Batch, codes: &Entries, widths: &[usize]) -> Vec<Vec<f32>> {
    let mut out: Vec<Vec<f32>> = Vec::with_capacity(widths.len());
    let mut from = 0;
    for &to in widths {
        let (part, _) = between(codes, from as u32, to as u32);
        let error = match out.last() {
            None => batch.error(&part, batch.without_latents(), batch.target),
            Some(before) => {
                let mut error = before.clone();
                candlescope_ops::sparse::decode(
                    &part,
                    &batch.params.w_dec,
                    batch.d_out,
                    &mut error,
                );
                error
            }
        };
        out.push(error);
        from = to;
    }
    out
}

/// The entries of latents `from .. to`, and where they stand among all.
fn between(codes: &Entries, from: u32, to: u32) -> (Entries, Vec<usize>) {
    let inside = |e: usize| (from..to).contains(&codes.latents[e]);
    let places = (0..codes.len()).filter(|&e| inside(e)).collect();
    (codes.filtered(inside), places)
}
