//! Feature absorption (Chanin et al. 2024, arXiv 2409.14507) by first letters, after SAEBench's `absorption`: the latent of
//! "starts with s" falls silent on some tokens that do, where a latent of the token itself carries the letter's direction.
//!
//! For each letter: a logistic probe on activations finds the letter's direction `p` (letters of which it has an F1 below
//! 0.6 on test tokens are left out); its main latents are the most telling ones, taken in while each raises the F1 of a
//! probe on them by 0.03, at most 10. Then every test token of the letter that the probe gets right is asked, with
//! `x·p` its projection and `code · cos(w_dec, p)` what a latent adds to it:
//! - full absorption: no main latent fires, and the latent that adds most has a cosine of 0.025 or more and adds 0.4 or more
//!   of the projection;
//! - fraction: the share of what main latents and (at most three) absorbing ones add that the absorbing ones do, 0 where
//!   those add less than 0.4 of the projection.
//!
//! The simplest faithful form: where SAEBench picks latents by an L1 probe, ours are those of the largest standardised
//! difference of class means among those that fire more for the letter, and tokens come from the tokenizer behind a fixed few-shot prompt.

use candlescope_probes::linear::{ChooseC, Kind, fit};
use candlescope_probes::sparse::top_features;
use candlescope_probes::{LinearProbe, Score};
use candlescope_sae::{Dictionary, dense};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::{FeatureError, Splice};
use crate::activations::Harvest;
use crate::model::Checkpoint;

/// What stands before a token, so that the model has its spelling in mind.
const BEFORE: &str = "tartan: T\nmirth: M\nplanet: P\nviolin: V\nhonest: H\n";
/// Every so many tokens of a letter one is a test token.
const TEST: usize = 3;

/// The numbers of the definition.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AbsorptionOptions {
    /// Smallest F1 of a letter's probe on test tokens.
    pub probe_f1: f64,
    /// By how much a further main latent raises the F1.
    pub f1_jump: f64,
    /// Most main latents.
    pub most_main: usize,
    /// Smallest cosine of an absorbing latent, for full absorption.
    pub full_cosine: f64,
    /// Smallest cosine of an absorbing latent, for the fraction.
    pub fraction_cosine: f64,
    /// Smallest share of the projection that absorbing latents add.
    pub share: f64,
    /// Most absorbing latents, for the fraction.
    pub most_absorbing: usize,
}

impl Default for AbsorptionOptions {
    fn default() -> Self {
        Self {
            probe_f1: 0.6,
            f1_jump: 0.03,
            most_main: 10,
            full_cosine: 0.025,
            fraction_cosine: 0.1,
            share: 0.4,
            most_absorbing: 3,
        }
    }
}

/// Tokens that are words, with their first letters and activations.
#[derive(Debug, Clone, PartialEq)]
pub struct LetterTokens {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Lower-case first letters.
    pub letters: Vec<char>,
    /// At the token, `[n, d_in]`.
    pub activations: Array2<f32>,
}

impl LetterTokens {
    /// Takes up to `most` words of each letter from the tokenizer, evenly over its ids, and reads a point at each.
    ///
    /// # Errors
    /// The model; a tokenizer without words.
    pub fn of(
        checkpoint: &Checkpoint,
        splice: &Splice,
        most: usize,
        batch: usize,
    ) -> Result<Self, FeatureError> {
        let tokenizer = &checkpoint.tokenizer;
        let mut by_letter: Vec<Vec<u32>> = vec![Vec::new(); 26];
        for id in 0..tokenizer.vocab_size() as u32 {
            let text = tokenizer.token(id);
            let word = text.trim();
            let is_word = word.len() > 2 && word.bytes().all(|b| b.is_ascii_alphabetic());
            if is_word && !tokenizer.is_special(id) {
                let first = word.as_bytes()[0].to_ascii_lowercase();
                by_letter[usize::from(first - b'a')].push(id);
            }
        }
        let (mut ids, mut letters) = (Vec::new(), Vec::new());
        for (letter, all) in ('a'..='z').zip(&by_letter) {
            let step = all.len().div_ceil(most.max(1)).max(1);
            for &id in all.iter().step_by(step) {
                ids.push(id);
                letters.push(letter);
            }
        }
        if ids.is_empty() {
            let what =
                "the tokenizer has no tokens that are words, so first letters cannot be asked"
                    .into();
            return Err(FeatureError::Nothing { what });
        }
        let before = tokenizer
            .encode(BEFORE, true)
            .map_err(crate::model::ModelError::from)?;
        let contexts: Vec<Vec<u32>> = ids
            .iter()
            .map(|&id| [&before[..], &[id]].concat())
            .collect();
        let harvest = Harvest::new(&checkpoint.decoder, &[splice.read()])?;
        let width = harvest.widths()[0];
        let mut activations = Array2::zeros((ids.len(), width));
        let mut at = 0;
        for part in contexts.chunks(batch.max(1)) {
            for tokens in harvest.pass(part, at as u64)? {
                let values = &tokens.values[0];
                let last = ArrayView1::from(&values[values.len() - width..]);
                activations.row_mut(at).assign(&last);
                at += 1;
            }
        }
        Ok(Self {
            ids,
            letters,
            activations,
        })
    }
}

/// What was found for a letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LetterAbsorption {
    /// The letter.
    pub letter: char,
    /// F1 of its probe on test tokens.
    pub probe_f1: f64,
    /// Its main latents, the most telling first: several where the feature is split.
    pub main: Vec<usize>,
    /// Test tokens of the letter that the probe gets right.
    pub tokens: usize,
    /// Of these, fully absorbed.
    pub absorbed: usize,
    /// Mean of the fraction over these.
    pub fraction: f64,
}

/// All letters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LetterAbsorptions {
    /// Those that could be asked.
    pub letters: Vec<LetterAbsorption>,
    /// Those whose probe was too poor, that had too few tokens, or for which no latent fires more than for others.
    pub left_out: Vec<char>,
    /// Mean over letters of the share that is fully absorbed; `None` without a letter.
    pub full: Option<f64>,
    /// Mean over letters of the fraction.
    pub fraction: Option<f64>,
    /// Mean over letters of the number of main latents.
    pub split: Option<f64>,
    /// The numbers of the definition.
    pub options: AbsorptionOptions,
}

/// Measures absorption on tokens with activations `[n, d_in]` and first letters.
///
/// # Errors
/// Rows that the dictionary cannot read, a failed fit.
pub fn absorption(
    dictionary: &Dictionary,
    activations: ArrayView2<f32>,
    letters: &[char],
    options: &AbsorptionOptions,
) -> Result<LetterAbsorptions, FeatureError> {
    let codes = dense(&dictionary.encode(activations)?, dictionary.d_sae());
    let mut distinct = letters.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    for letter in distinct {
        let labels: Vec<bool> = letters.iter().map(|&l| l == letter).collect();
        let sides = split(&labels);
        let asked = Asked {
            dictionary,
            activations: activations.view(),
            codes: codes.view(),
            labels: &labels,
            sides: &sides,
        };
        match asked.letter(letter, options)? {
            Some(result) => found.push(result),
            None => left_out.push(letter),
        }
    }
    let mean = |of: &dyn Fn(&LetterAbsorption) -> f64| {
        let sum: f64 = found.iter().map(of).sum();
        (!found.is_empty()).then(|| sum / found.len() as f64)
    };
    Ok(LetterAbsorptions {
        full: mean(&|l| l.absorbed as f64 / l.tokens as f64),
        fraction: mean(&|l| l.fraction),
        split: mean(&|l| l.main.len() as f64),
        letters: found,
        left_out,
        options: *options,
    })
}

/// Training and test tokens: every third of each class is a test token.
fn split(labels: &[bool]) -> [Vec<usize>; 2] {
    let mut seen = [0; 2];
    let (test, train) = (0..labels.len()).partition(|&i| {
        let count = &mut seen[usize::from(labels[i])];
        *count += 1;
        *count % TEST == 0
    });
    [train, test]
}

struct Asked<'a> {
    dictionary: &'a Dictionary,
    activations: ArrayView2<'a, f32>,
    codes: ArrayView2<'a, f32>,
    labels: &'a [bool],
    sides: &'a [Vec<usize>; 2],
}

impl Asked<'_> {
    fn letter(
        &self,
        letter: char,
        options: &AbsorptionOptions,
    ) -> Result<Option<LetterAbsorption>, FeatureError> {
        let [train, test] = self.sides;
        let positive = |rows: &[usize]| rows.iter().filter(|&&i| self.labels[i]).count();
        if positive(train) < 2 || positive(test) < 1 {
            return Ok(None);
        }
        let (probe, scores) = self.probe(self.activations)?;
        let probe_f1 = self.f1(&scores);
        if probe_f1 < options.probe_f1 {
            return Ok(None);
        }
        let main = self.main(options)?;
        if main.is_empty() {
            return Ok(None);
        }
        let direction = unit(probe.weights.iter().copied().collect());
        let cosines: Vec<f64> = self
            .dictionary
            .parts()
            .decoder
            .outer_iter()
            .map(|row| cosine(row, &direction))
            .collect();
        let hits = test
            .iter()
            .zip(&scores)
            .filter(|(i, score)| self.labels[**i] && **score > 0.0);
        let (mut tokens, mut absorbed, mut fraction) = (0, 0, 0.0);
        for (&token, _) in hits {
            let projection: f64 = self
                .activations
                .row(token)
                .iter()
                .zip(&direction)
                .map(|(&x, p)| f64::from(x) * p)
                .sum();
            let adds: Vec<f64> = self
                .codes
                .row(token)
                .iter()
                .zip(&cosines)
                .map(|(&c, cos)| f64::from(c) * cos)
                .collect();
            let silent = main.iter().all(|&l| self.codes[(token, l)] == 0.0);
            tokens += 1;
            absorbed += usize::from(silent && full(projection, &adds, &cosines, options));
            fraction += share(projection, &adds, &cosines, &main, options);
        }
        Ok((tokens > 0).then(|| LetterAbsorption {
            letter,
            probe_f1,
            main,
            tokens,
            absorbed,
            fraction: fraction / tokens as f64,
        }))
    }

    /// A probe on training rows, and its scores on test rows.
    fn probe(&self, x: ArrayView2<f32>) -> Result<(LinearProbe, Vec<f64>), FeatureError> {
        let [train, test] = self.sides;
        let labels: Vec<bool> = train.iter().map(|&i| self.labels[i]).collect();
        let probe = fit(
            Kind::Logistic,
            x.select(Axis(0), train).view(),
            &labels,
            ChooseC::Fixed(1.0),
        )?;
        let scores = probe.scores(x.select(Axis(0), test).view())?;
        Ok((probe, scores))
    }

    fn f1(&self, scores: &[f64]) -> f64 {
        let [mut both, mut either] = [0.0_f64; 2];
        for (&i, &score) in self.sides[1].iter().zip(scores) {
            let (is, said) = (self.labels[i], score > 0.0);
            both += f64::from(u8::from(is && said));
            either += f64::from(u8::from(is)) + f64::from(u8::from(said));
        }
        if either > 0.0 {
            2.0 * both / either
        } else {
            0.0
        }
    }

    /// The main latents.
    fn main(&self, options: &AbsorptionOptions) -> Result<Vec<usize>, FeatureError> {
        let train = &self.sides[0];
        let labels: Vec<bool> = train.iter().map(|&i| self.labels[i]).collect();
        let most = options.most_main.clamp(1, self.codes.ncols());
        let codes = self.codes.select(Axis(0), train);
        let order = top_features(codes.view(), &labels, codes.ncols())?;
        // A latent of another letter tells them apart as well, by keeping still.
        let speaks = |latent: &usize| {
            let [mut with, mut without] = [0.0_f64; 2];
            for (&code, &is) in codes.column(*latent).iter().zip(&labels) {
                *(if is { &mut with } else { &mut without }) += f64::from(code);
            }
            let positive = labels.iter().filter(|l| **l).count();
            with / positive as f64 > without / (labels.len() - positive) as f64
        };
        let order: Vec<usize> = order.into_iter().filter(speaks).take(most).collect();
        let mut before = None;
        for k in 1..=order.len() {
            let (_, scores) = self.probe(self.codes.select(Axis(1), &order[..k]).view())?;
            let f1 = self.f1(&scores);
            if before.is_some_and(|before| f1 < before + options.f1_jump) {
                return Ok(order[..k - 1].to_vec());
            }
            before = Some(f1);
        }
        Ok(order)
    }
}

fn full(projection: f64, adds: &[f64], cosines: &[f64], options: &AbsorptionOptions) -> bool {
    let top = (0..adds.len()).max_by(|&a, &b| adds[a].total_cmp(&adds[b]));
    projection > 0.0
        && top.is_some_and(|top| {
            cosines[top] >= options.full_cosine && adds[top] / projection >= options.share
        })
}

fn share(
    projection: f64,
    adds: &[f64],
    cosines: &[f64],
    main: &[usize],
    options: &AbsorptionOptions,
) -> f64 {
    let of_main: f64 = main.iter().map(|&l| adds[l]).sum();
    let others =
        (0..adds.len()).filter(|l| !main.contains(l) && cosines[*l] >= options.fraction_cosine);
    let mut absorbing: Vec<f64> = others.map(|l| adds[l]).filter(|&a| a > 0.0).collect();
    absorbing.sort_by(|a, b| b.total_cmp(a));
    let absorbing: f64 = absorbing.iter().take(options.most_absorbing).sum();
    if projection <= 0.0 || of_main >= projection || absorbing / projection < options.share {
        return 0.0;
    }
    if of_main <= 0.0 {
        return 1.0;
    }
    let absorbing = absorbing.min(projection - of_main);
    absorbing / (absorbing + of_main)
}

fn unit(direction: Array1<f64>) -> Array1<f64> {
    let norm = direction.dot(&direction).sqrt();
    direction / norm.max(f64::MIN_POSITIVE)
}

fn cosine(row: ArrayView1<f32>, direction: &Array1<f64>) -> f64 {
    let row = unit(row.mapv(f64::from));
    row.dot(direction)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candlescope_sae::{About, Activation, Parts, Scaling};

    /// Channel 0 says "a", channel 1 says "b", channel 2 marks one word of "a" in forty. In the honest dictionary a latent
    /// stands for each; in the absorbing one the latent of "a" keeps still on that word, whose own latent writes both.
    fn dictionary(absorbing: bool) -> Dictionary {
        let mut encoder = Array2::eye(3);
        let mut decoder = Array2::eye(3);
        if absorbing {
            encoder[(0, 2)] = -1.0;
            decoder[(2, 0)] = 1.0;
        }
        Dictionary::new(Parts {
            encoder,
            decoder,
            encoder_bias: Array1::from_elem(3, -0.25),
            decoder_bias: Array1::zeros(3),
            centred: false,
            activation: Activation::Relu,
            skip: None,
            scaling: Scaling::None,
            about: About::default(),
        })
        .unwrap()
    }

    #[test]
    fn an_absorbing_dictionary_is_told_from_an_honest_one() {
        let letters: Vec<char> = (0..960)
            .map(|i| if i % 2 == 0 { 'a' } else { 'b' })
            .collect();
        let activations = Array2::from_shape_fn((960, 3), |(i, channel)| {
            let jitter = (i * 13 % 17) as f32 / 170.0;
            match (channel, letters[i]) {
                (0, 'a') | (1, 'b') => 1.0 + jitter,
                (2, 'a') if i % 80 == 0 => 1.5,
                _ => 0.0,
            }
        });
        let run = |absorbing| {
            let options = AbsorptionOptions::default();
            absorption(
                &dictionary(absorbing),
                activations.view(),
                &letters,
                &options,
            )
            .unwrap()
        };
        let of_a = |all: &LetterAbsorptions| {
            all.letters
                .iter()
                .find(|l| l.letter == 'a')
                .unwrap()
                .clone()
        };
        let (honest, absorbing) = (run(false), run(true));
        assert_eq!(
            (of_a(&honest).absorbed, of_a(&honest).main.clone()),
            (0, vec![0])
        );
        assert_eq!(honest.full, Some(0.0));
        let a = of_a(&absorbing);
        // Every third of the 480 tokens of "a" is tested, and 4 of these are the absorbed word.
        assert_eq!((a.main.clone(), a.tokens, a.absorbed), (vec![0], 160, 4));
        assert!((a.fraction - 4.0 / 160.0).abs() < 1e-12, "{}", a.fraction);
        assert!(absorbing.left_out.is_empty());
    }

    #[test]
    fn fractions_by_hand() {
        let options = AbsorptionOptions::default();
        // Main adds 1 of 4, others 2 and 1.5: absorbing 3 of the 3 that main leaves.
        let at = |adds: &[f64], cosines: &[f64]| share(4.0, adds, cosines, &[0], &options);
        assert_eq!(at(&[1.0, 2.0, 1.5], &[0.9; 3]), 0.75);
        assert_eq!(at(&[0.0, 2.0, 0.0], &[0.9; 3]), 1.0);
        assert_eq!(at(&[1.0, 1.0, 0.5], &[0.9; 3]), 0.0);
        assert_eq!(at(&[1.0, 2.0, 1.5], &[0.9, 0.05, 0.05]), 0.0);
        assert_eq!(at(&[5.0, 2.0, 1.5], &[0.9; 3]), 0.0);
        assert!(full(4.0, &[0.0, 1.6], &[0.9, 0.03], &options));
        assert!(!full(4.0, &[0.0, 1.5], &[0.9, 0.03], &options));
        assert!(!full(4.0, &[0.0, 3.0], &[0.9, 0.02], &options));
    }
}
