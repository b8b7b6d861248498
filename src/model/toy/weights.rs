//! The toy's weights: random, except for a circuit that is set by hand, so that a person finds something when looking.
//!
//! The residual stream (64 wide) is cut into parts: a constant, a flag of the first token, the token's code (16), a copy
//! of the previous token's code (16), and free room. The code's first half is compared by heads, all of it is copied.
//! Rotary pairs 0 to 2 turn fast and serve relative positions; pairs 3 to 6 turn slowly and serve codes, or positions far
//! apart; pair 7 hardly turns and serves the flag.
//!
//! Planted: 0.0 previous token (copies its code), 0.1 and 1.3 first token, 0.2 same token, 1.0 induction (Olsson et al.
//! 2022: looks for the present token among the copies and adds the code it finds there), 1.2 current token (takes its
//! code away, since a tied unembedding would predict it again), 2.1 and 3.1 first token, weaker, 2.2 and 3.2 previous token,
//! blurred. All others are random.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::ModelConfig;
use crate::model::ModelError;
use crate::model::names::{Outer, Role, Scheme, layer_place, outer_stem};
use crate::text::Tokenizer;

/// Base of the rotary progression.
pub(super) const THETA: f64 = 500_000.0;
/// Channels of the stream.
const CONSTANT: usize = 0;
const FLAG: usize = 1;
const CODE: Range<usize> = 2..18;
const COPY: Range<usize> = 18..34;
const FREE: Range<usize> = 34..64;
/// Channels of a head by rotary pair: `i` and `i + HALF` turn together.
const HALF: usize = 8;
const COMPARED: [usize; 8] = [3, 4, 5, 6, 11, 12, 13, 14];
const SINK: usize = 7;
/// Products of query and key in the first pairs, after the attention scale: any other distance than the right one, up to
/// the whole context, loses at least 5.
const SHARP: [f64; 5] = [44.0, 16.0, 8.0, 8.0, 8.0];
/// The same, soft: half of the weight goes to other distances.
const BLURRED: [f64; 5] = [2.0, 1.5, 1.0, 1.0, 1.0];
/// Length of the constant after the norm in layers 0 and 1, as the other parts leave it.
const CONSTANT_AT: [f64; 2] = [5.66, 5.0];

/// Length of a copy. A small one, since the first two positions have none, and a stream of another length would have
/// another constant after the norm.
const COPIED: f64 = 0.5;

/// All tensors under the names of a Hugging Face llama.
pub(super) fn make(
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    seed: u64,
) -> Result<BTreeMap<String, Tensor>, ModelError> {
    let mut random = Random(ChaCha8Rng::seed_from_u64(seed));
    let mut tensors = BTreeMap::new();
    let mut put = |name: String, values: Vec<f32>, shape: &[usize]| -> Result<(), ModelError> {
        tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
        Ok(())
    };
    let outer = |what| format!("{}.weight", outer_stem(config, Scheme::HuggingFace, what));
    let embed = embedding(config, tokenizer, &mut random);
    put(
        outer(Outer::Embed),
        embed,
        &[config.vocab_size, config.d_model],
    )?;
    // The factor makes the likeliest token stand out from some hundred that are random.
    put(
        outer(Outer::FinalNorm),
        vec![3.0; config.d_model],
        &[config.d_model],
    )?;
    for layer in 0..config.n_layers {
        let block = Block::new(config, layer, &mut random);
        let gain = vec![1.0; config.d_model];
        let (d, q) = (config.d_model, config.n_heads * config.d_head);
        let kv = config.n_kv_heads * config.d_head;
        for (role, values, shape) in [
            (Role::AttnNorm, gain.clone(), vec![d]),
            (Role::Q, block.q, vec![q, d]),
            (Role::K, block.k, vec![kv, d]),
            (Role::V, block.v, vec![kv, d]),
            (Role::O, block.o, vec![d, q]),
            (Role::MlpNorm, gain, vec![d]),
            (Role::Gate, block.gate, vec![config.d_mlp, d]),
            (Role::Up, block.up, vec![config.d_mlp, d]),
            (Role::Down, block.down, vec![d, config.d_mlp]),
        ] {
            let place = layer_place(config, Scheme::HuggingFace, layer, role, "weight");
            put(place.name, values, &shape)?;
        }
    }
    Ok(tensors)
}

/// Numbers of mean 0 and variance 1.
struct Random(ChaCha8Rng);

impl Random {
    fn next(&mut self) -> f64 {
        self.0.random_range(-1.0..1.0) * 3f64.sqrt()
    }

    /// A vector of length `norm`.
    fn on_sphere(&mut self, width: usize, norm: f64) -> Vec<f64> {
        let v: Vec<f64> = (0..width).map(|_| self.next()).collect();
        let length = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        v.iter().map(|x| x / length * norm).collect()
    }
}

/// Rows of length √2: the constant, and the flag (first token) or a random code (all others).
fn embedding(config: &ModelConfig, tokenizer: &Tokenizer, random: &mut Random) -> Vec<f32> {
    let mut table = vec![0.0; config.vocab_size * config.d_model];
    for (id, row) in table.chunks_exact_mut(config.d_model).enumerate() {
        row[CONSTANT] = 1.0;
        if tokenizer.bos() == Some(id as u32) {
            row[FLAG] = 1.0;
            continue;
        }
        // Both halves of the same length: every token compares equally well with itself.
        let half = CODE.len() / 2;
        let code = [
            random.on_sphere(half, 0.5f64.sqrt()),
            random.on_sphere(half, 0.5f64.sqrt()),
        ]
        .concat();
        for (channel, x) in CODE.zip(code) {
            row[channel] = x as f32;
        }
    }
    table
}

/// The matrices of a block, row-major `[out, in]`.
struct Block {
    d_model: usize,
    d_head: usize,
    width: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    o: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    down: Vec<f32>,
}

impl Block {
    fn new(config: &ModelConfig, layer: usize, random: &mut Random) -> Self {
        let (d, m, dh) = (config.d_model, config.d_mlp, config.d_head);
        let (q, kv) = (config.n_heads * dh, config.n_kv_heads * dh);
        let mut block = Self {
            d_model: d,
            d_head: dh,
            width: q,
            q: vec![0.0; q * d],
            k: vec![0.0; kv * d],
            v: vec![0.0; kv * d],
            o: vec![0.0; d * q],
            gate: Vec::new(),
            up: Vec::new(),
            down: vec![0.0; d * m],
        };
        let mut dense = |n: usize, scale: f64| -> Vec<f32> {
            (0..n).map(|_| (random.next() * scale) as f32).collect()
        };
        block.gate = dense(m * d, (d as f64).sqrt().recip());
        block.up = dense(m * d, (d as f64).sqrt().recip());
        // Codes and copies reach layer 1 as they are.
        let written: Vec<usize> = if layer == 0 {
            FREE.collect()
        } else {
            CODE.chain(FREE).collect()
        };
        for channel in written {
            let row = dense(m, if layer == 0 { 0.012 } else { 0.02 });
            block.down[channel * m..(channel + 1) * m].copy_from_slice(&row);
        }
        match layer {
            0 => block.copy_previous(random),
            1 => block.induce(random),
            _ => block.blend(random),
        }
        block
    }

    fn copy_previous(&mut self, random: &mut Random) {
        let n = CONSTANT_AT[0];
        self.seek(0, 0, SHARP, n, 1.0);
        self.sink(1, 0, 14.0, (n, n));
        self.carry_code(0);
        self.write_code(0, COPY, COPIED / n);
        let same = (12.0 * 8.0f64).sqrt() / n;
        self.compare(Matrix::Q, 2, CODE, same);
        self.compare(Matrix::K, 1, CODE, same);
        self.scatter(Matrix::Q, 3, 0.3, random);
        self.scatter(Matrix::V, 1, 0.15, random);
        for head in 2..4 {
            self.write_random(head, &FREE.collect::<Vec<_>>(), 0.015, random);
        }
    }

    fn induce(&mut self, random: &mut Random) {
        let (n, first) = (CONSTANT_AT[1], 5.3);
        let found = (48.0 * 8.0f64).sqrt() / n;
        self.compare(Matrix::Q, 0, CODE, found);
        self.compare(Matrix::K, 0, COPY, found / COPIED);
        // Nothing found: less than a find, more than a token that is merely similar.
        self.sink(0, 0, 42.0, (n, first));
        self.carry_code(0);
        self.write_code(0, CODE, 2.2 / n);
        self.scatter(Matrix::Q, 1, 0.05, random);
        self.seek(2, 1, SHARP, n, 0.0);
        self.sink(3, 1, 14.0, (n, first));
        self.carry_code(1);
        self.write_code(2, CODE, -1.0 / n);
        self.write_random(1, &FREE.collect::<Vec<_>>(), 0.02, random);
    }

    fn blend(&mut self, random: &mut Random) {
        let n = 3.2;
        self.scatter(Matrix::K, 0, 0.25, random);
        self.scatter(Matrix::Q, 0, 0.25, random);
        self.sink(1, 0, 7.0, (n, 4.5));
        self.seek(2, 1, BLURRED, n, 1.0);
        self.scatter(Matrix::Q, 3, 0.25, random);
        for kv in 0..2 {
            self.scatter(Matrix::V, kv, 0.15, random);
        }
        for head in 0..4 {
            self.write_random(head, &CODE.chain(FREE).collect::<Vec<_>>(), 0.03, random);
        }
    }

    /// A head that looks `back` positions back, whatever is there. `n` is the length of the normed constant.
    fn seek(&mut self, head: usize, kv: usize, products: [f64; 5], n: f64, back: f64) {
        for (pair, product) in products.into_iter().enumerate() {
            let length = (product * (self.d_head as f64).sqrt()).sqrt() / n;
            let angle = back * THETA.powf(-2.0 * pair as f64 / self.d_head as f64);
            self.set(Matrix::Q, head, pair, CONSTANT, length);
            self.set(Matrix::K, kv, pair, CONSTANT, length * angle.cos());
            self.set(Matrix::K, kv, pair + HALF, CONSTANT, length * angle.sin());
        }
    }

    /// A head that looks at the first token with this score. `n` are the lengths of constant and flag there.
    fn sink(&mut self, head: usize, kv: usize, score: f64, (n, flag): (f64, f64)) {
        let length = (score * (self.d_head as f64).sqrt() / (n * flag)).sqrt();
        self.set(Matrix::Q, head, SINK, CONSTANT, length);
        self.set(Matrix::K, kv, SINK, FLAG, length);
    }

    /// The compared half of a code.
    fn compare(&mut self, matrix: Matrix, head: usize, from: Range<usize>, scale: f64) {
        for (channel, input) in COMPARED.into_iter().zip(from) {
            self.set(matrix, head, channel, input, scale);
        }
    }

    /// The whole code as value.
    fn carry_code(&mut self, kv: usize) {
        for (channel, input) in CODE.enumerate() {
            self.set(Matrix::V, kv, channel, input, 1.0);
        }
    }

    fn write_code(&mut self, head: usize, to: Range<usize>, scale: f64) {
        for (channel, out) in to.enumerate() {
            self.o[out * self.width + head * self.d_head + channel] = scale as f32;
        }
    }

    /// Random entries over codes and free room.
    fn scatter(&mut self, matrix: Matrix, head: usize, scale: f64, random: &mut Random) {
        for channel in 0..self.d_head {
            for input in CODE.chain(FREE) {
                self.set(matrix, head, channel, input, random.next() * scale);
            }
        }
    }

    fn write_random(&mut self, head: usize, to: &[usize], scale: f64, random: &mut Random) {
        for &out in to {
            for channel in 0..self.d_head {
                self.o[out * self.width + head * self.d_head + channel] =
                    (random.next() * scale) as f32;
            }
        }
    }

    fn set(&mut self, matrix: Matrix, head: usize, channel: usize, input: usize, x: f64) {
        let at = (head * self.d_head + channel) * self.d_model + input;
        match matrix {
            Matrix::Q => self.q[at] = x as f32,
            Matrix::K => self.k[at] = x as f32,
            Matrix::V => self.v[at] = x as f32,
        }
    }
}

#[derive(Clone, Copy)]
enum Matrix {
    Q,
    K,
    V,
}
