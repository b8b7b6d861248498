//! What must hold of the losses whatever the numbers: identities, finite differences, refusals.

use candle_core::{DType, Device, Tensor, Var};
use candlescope::model::{Batch, Trainable};
use candlescope::train::loss::{
    Clip, Kind, Kto, KtoBatch, LossError, Options, Pairs, PolicyBatch, Preference, RewardLoss, Sft,
    ValueBatch, policy_loss, rloo_loss, rotated, sft_loss, sum_runs, value_loss,
};

use crate::fixture::*;

const KINDS: [Kind; 18] = [
    Kind::Sigmoid,
    Kind::SigmoidNorm,
    Kind::Robust,
    Kind::Hinge,
    Kind::IpoMean,
    Kind::IpoSum,
    Kind::ExoPair,
    Kind::NcaPair,
    Kind::ApoZero,
    Kind::ApoDown,
    Kind::SppoHard,
    Kind::Discopop,
    Kind::BcoPair,
    Kind::Aot,
    Kind::AotUnpaired,
    Kind::SlicHf,
    Kind::Orpo,
    Kind::Simpo,
];

fn var(values: &[f64]) -> Var {
    Var::from_tensor(&Tensor::new(values, &Device::Cpu).unwrap()).unwrap()
}

/// Gradients of `loss` at `at` against central differences.
fn differences(name: &str, at: &[Vec<f64>], loss: impl Fn(&[Tensor]) -> Tensor) {
    let vars: Vec<Var> = at.iter().map(|v| var(v)).collect();
    let inputs: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let grads = loss(&inputs).backward().unwrap();
    for (i, v) in vars.iter().enumerate() {
        let grad = grads.get(v).map_or_else(|| vec![0.0; at[i].len()], numbers);
        for j in 0..at[i].len() {
            let moved = |by: f64| {
                let mut at = at.to_vec();
                at[i][j] += by;
                let at: Vec<Tensor> = at
                    .iter()
                    .map(|v| Tensor::new(v.as_slice(), &Device::Cpu).unwrap())
                    .collect();
                number(&loss(&at))
            };
            let h = 1e-5;
            let slope = (moved(h) - moved(-h)) / (2.0 * h);
            let name = format!("{name}: input {i}, entry {j}");
            close(&name, grad[j], slope, 1e-7, 1.0);
        }
    }
}

fn constant(values: &[f64]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

#[test]
fn gradients_of_preference_losses_are_their_finite_differences() {
    let reference = [
        constant(&[-10.0, -7.5, -20.1]),
        constant(&[-11.2, -9.0, -18.0]),
    ];
    // One pair at the reference itself, where formulas with |x| have the wrong slope.
    let at = vec![
        vec![-10.0, -6.1, -23.4],
        vec![-11.2, -9.7, -16.0],
        vec![-40.0],
    ];
    for kind in KINDS {
        differences(kind.name(), &at, |x| {
            let whole = x[2].sum_all().unwrap();
            let pairs = Pairs {
                chosen: &x[0],
                rejected: &x[1],
                reference: kind
                    .needs_reference()
                    .then_some((&reference[0], &reference[1])),
                chosen_tokens: &[4, 6, 9],
                rejected_tokens: &[3, 7, 8],
                likelihood: kind.needs_likelihood().then_some((&whole, 30)),
            };
            let loss = Preference::new(kind, &Options::default()).unwrap();
            loss.of(&pairs, 3).unwrap().loss
        });
    }
}

#[test]
fn gradients_of_the_other_losses_are_their_finite_differences() {
    let margins = constant(&[0.5, 0.0, -0.2]);
    let reward = RewardLoss {
        label_smoothing: 0.1,
        centring: 0.01,
    };
    let scores = vec![vec![0.3, -1.0, 2.0], vec![0.3, 0.4, -9.0]];
    differences("reward", &scores, |x| {
        reward.of(&x[0], &x[1], Some(&margins), 3).unwrap().loss
    });

    let kto = Kto {
        undesirable_weight: 1.5,
        ..Kto::default()
    };
    let reference = constant(&[-10.0, -12.0, -7.0]);
    let mismatched = [
        constant(&[-30.0, -29.0, -33.0]),
        constant(&[-31.0, -31.0, -33.0]),
    ];
    differences("kto", &[vec![-9.0, -14.0, -7.0]], |x| {
        let batch = KtoBatch {
            policy: &x[0],
            reference: &reference,
            labels: &[true, false, false],
            mismatched: &mismatched[0],
            mismatched_reference: &mismatched[1],
        };
        kto.of(&batch, 3).unwrap().loss
    });

    let old = [-1.0, -2.0, -0.5, -3.0, -1.5];
    let new = vec![-1.1, -1.2, -0.9, -3.05, -2.5];
    let advantages = [1.0, 2.0, -1.0, -0.5, -1.0];
    let clip = Clip {
        dual: Some(3.0),
        ..Clip::default()
    };
    let entropy = constant(&[1.0; 5]);
    differences("ppo", std::slice::from_ref(&new), |x| {
        let batch = PolicyBatch {
            new: &x[0],
            old: &old,
            advantages: &advantages,
            entropy: &entropy,
        };
        policy_loss(&batch, &clip, 5).unwrap().loss
    });
    differences("rloo", std::slice::from_ref(&new), |x| {
        rloo_loss(&x[0], &old, &advantages, &Clip::default(), 5)
            .unwrap()
            .loss
    });
    differences("value", &[new], |x| {
        let batch = ValueBatch {
            new: &x[0],
            old: &old,
            returns: &advantages,
        };
        value_loss(&batch, &Clip::default(), 5).unwrap().loss
    });
    let runs = |x: &[Tensor]| {
        let sums = sum_runs(&x[0], &[2, 0, 3]).unwrap();
        sums.sqr().unwrap().sum_all().unwrap()
    };
    differences("sum_runs", &[vec![1.0, -2.0, 3.0, 0.5, 0.25]], runs);
}

/// DFT weighs each token by its probability, which is a constant for the gradient: `-p / count`.
#[test]
fn dynamic_fine_tuning_holds_its_weights_constant() {
    let at = [-0.1f64, -2.0, -5.0];
    let logps = var(&at);
    let entropy = constant(&[1.0; 3]);
    let scored = sft_loss(Sft::Dft, &logps, &entropy, &[true, false, false], 6).unwrap();
    let grads = scored.loss.backward().unwrap();
    for (g, x) in numbers(grads.get(&logps).unwrap()).iter().zip(at) {
        close("dft", *g, -x.exp() / 6.0, 1e-14, 0.0);
    }
    let accuracy = scored.metrics.get("mean_token_accuracy").unwrap();
    close("accuracy", accuracy, 1.0 / 3.0, 1e-15, 0.0);
}

#[test]
fn where_policy_and_reference_agree_dpo_is_ln_2_and_pulls_by_half_beta() {
    let model = policy(DType::F64);
    let [chosen, rejected] = [CHOSEN, REJECTED].map(|c| summed(&model, &PROMPTS, &c));
    let reference = [chosen.detach(), rejected.detach()];
    let pairs = Pairs {
        chosen: &chosen,
        rejected: &rejected,
        reference: Some((&reference[0], &reference[1])),
        chosen_tokens: &lengths(&CHOSEN),
        rejected_tokens: &lengths(&REJECTED),
        likelihood: None,
    };
    let dpo = Preference::new(Kind::Sigmoid, &Options::default()).unwrap();
    let scored = dpo.of(&pairs, 4).unwrap();
    close("ln 2", number(&scored.loss), 2.0f64.ln(), 1e-15, 0.0);
    assert_eq!(scored.metrics.get("rewards/margins"), Some(0.0));
    let found = gradients(&model, &scored.loss);
    // The mean over pairs of -½ β (∇ lp_c - ∇ lp_r).
    let pull = ((&chosen - &rejected).unwrap().sum_all().unwrap() * (-0.5 * 0.1 / 4.0)).unwrap();
    for (a, b) in found.iter().zip(gradients(&model, &pull)) {
        for (a, b) in numbers(a).iter().zip(numbers(&b)) {
            close("gradient", *a, b, 1e-12, 1e-3);
        }
    }
}

#[test]
fn a_constant_added_to_all_rewards_changes_nothing_unless_they_are_centred() {
    let (chosen, rejected) = (constant(&[0.3, -1.0]), constant(&[0.5, -2.0]));
    let moved = [&chosen, &rejected].map(|x| (x + 7.0).unwrap());
    let loss = |options: RewardLoss, c: &Tensor, r: &Tensor| {
        number(&options.of(c, r, None, 2).unwrap().loss)
    };
    let plain = RewardLoss::default();
    let before = loss(plain, &chosen, &rejected);
    close(
        "moved",
        loss(plain, &moved[0], &moved[1]),
        before,
        1e-14,
        0.0,
    );
    let centred = RewardLoss {
        centring: 0.01,
        ..plain
    };
    assert!(loss(centred, &moved[0], &moved[1]) > loss(centred, &chosen, &rejected) + 1.0);
}

/// The loss of supervised completions and its gradients, in micro-batches of these rows.
fn accumulated(model: &Trainable, parts: &[&[usize]], right_padded: bool) -> (f64, Vec<Tensor>) {
    let count: usize = lengths(&CHOSEN).iter().sum();
    let mut total = 0.0;
    let mut sums: Option<Vec<Tensor>> = None;
    for part in parts {
        let prompts: Vec<&[u32]> = part.iter().map(|&i| PROMPTS[i]).collect();
        let completions: Vec<&[u32]> = part.iter().map(|&i| CHOSEN[i]).collect();
        let rows = joined(&prompts, &completions);
        let loss = if right_padded {
            right_padded_loss(model, &rows, &prompts, count)
        } else {
            let batch = Batch::new(&rows).unwrap();
            let from: Vec<usize> = prompts.iter().map(|p| p.len()).collect();
            let hidden = model.hidden(&batch).unwrap();
            let found = logprobs_at(&batch, &hidden, model.head(), &from, 1.0);
            sft_loss(Sft::Nll, &found.logps, &found.entropy, &found.top1, count)
                .unwrap()
                .loss
        };
        total += number(&loss);
        let grads = gradients(model, &loss);
        sums = Some(match sums {
            None => grads,
            Some(sums) => sums
                .iter()
                .zip(grads)
                .map(|(a, b)| (a + b).unwrap())
                .collect(),
        });
    }
    (total, sums.unwrap())
}

/// Rows with their padding behind them: causal attention never sees it, so it may be any token.
fn right_padded_loss(
    model: &Trainable,
    rows: &[Vec<u32>],
    prompts: &[&[u32]],
    count: usize,
) -> Tensor {
    let longest = rows.iter().map(Vec::len).max().unwrap();
    let padded: Vec<Vec<u32>> = rows
        .iter()
        .map(|row| {
            let mut row = row.clone();
            row.resize(longest, 0);
            row
        })
        .collect();
    let batch = Batch::new(&padded).unwrap();
    let hidden = model.hidden(&batch).unwrap();
    let from: Vec<usize> = prompts.iter().map(|p| p.len()).collect();
    let all = logprobs_at(&batch, &hidden, model.head(), &from, 1.0);
    let mut keep = Vec::new();
    let mut at = 0u32;
    for (row, from) in rows.iter().zip(&from) {
        keep.extend((0..row.len() - from).map(|i| at + i as u32));
        at += (longest - from) as u32;
    }
    let keep = Tensor::new(keep.as_slice(), &Device::Cpu).unwrap();
    let kept = |x: &Tensor| x.index_select(&keep, 0).unwrap();
    let n = keep.elem_count();
    sft_loss(
        Sft::Nll,
        &kept(&all.logps),
        &kept(&all.entropy),
        &vec![true; n],
        count,
    )
    .unwrap()
    .loss
}

fn same(a: (f64, Vec<Tensor>), b: (f64, Vec<Tensor>), tolerance: f64) {
    close("loss", a.0, b.0, tolerance, 0.0);
    for (a, b) in a.1.iter().zip(&b.1) {
        for (a, b) in numbers(a).iter().zip(numbers(b)) {
            close("gradient", *a, b, tolerance, 0.1);
        }
    }
}

#[test]
fn four_times_one_row_is_one_batch_of_four_though_lengths_differ() {
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-12)] {
        let model = policy(dtype);
        let whole = accumulated(&model, &[&[0, 1, 2, 3]], false);
        let apart = accumulated(&model, &[&[0], &[1], &[2], &[3]], false);
        let uneven = accumulated(&model, &[&[3, 1, 0], &[2]], false);
        same(apart, (whole.0, whole.1.clone()), tolerance);
        same(uneven, whole, tolerance);
    }
}

#[test]
fn padding_on_the_left_is_padding_on_the_right() {
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-12)] {
        let model = policy(dtype);
        let left = accumulated(&model, &[&[0, 1, 2, 3]], false);
        let right = accumulated(&model, &[&[0, 1, 2, 3]], true);
        same(left, right, tolerance);
    }
}

#[test]
fn packed_rows_have_the_loss_and_the_gradients_of_rows_apart() {
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-12)] {
        let model = policy(dtype);
        let apart = accumulated(&model, &[&[0, 1, 2, 3]], false);
        let rows = joined(&PROMPTS, &CHOSEN);
        let packed = |documents: &[usize]| {
            let mut starts = Vec::new();
            let mut ids = Vec::new();
            for &i in documents {
                starts.push(ids.len());
                ids.extend_from_slice(&rows[i]);
            }
            (ids, starts)
        };
        let batch = Batch::packed(&[packed(&[0, 1, 2]), packed(&[3])]).unwrap();
        let hidden = model.hidden(&batch).unwrap();
        let flat = hidden.flatten(0, 1).unwrap();
        let (mut slots, mut targets) = (Vec::new(), Vec::new());
        let len = batch.len();
        let documents = (0..2).flat_map(|row| {
            let documents = batch.documents(row).into_iter();
            documents.map(move |d| row * len + d.start)
        });
        for (i, start) in documents.enumerate() {
            for (j, &id) in rows[i].iter().enumerate().skip(PROMPTS[i].len()) {
                slots.push((start + j - 1) as u32);
                targets.push(id);
            }
        }
        let slots = Tensor::new(slots.as_slice(), &Device::Cpu).unwrap();
        let states = flat.index_select(&slots, 0).unwrap();
        let options = candlescope_ops::HeadOptions::default();
        let found = candlescope_ops::token_logprobs(&states, model.head(), &targets, options);
        let found = found.unwrap();
        let n = targets.len();
        let loss = sft_loss(Sft::Nll, &found.logps, &found.entropy, &found.top1, n)
            .unwrap()
            .loss;
        same((number(&loss), gradients(&model, &loss)), apart, tolerance);
    }
}

#[test]
fn metrics_of_micro_batches_are_those_of_the_batch() {
    let reference = constant(&[-10.0, -7.0, -20.0]);
    let (chosen, rejected) = (
        constant(&[-9.0, -8.0, -15.0]),
        constant(&[-11.0, -6.0, -20.0]),
    );
    let dpo = Preference::new(Kind::Sigmoid, &Options::default()).unwrap();
    let part = |from: usize, n: usize| {
        let cut = |x: &Tensor| x.narrow(0, from, n).unwrap();
        let [c, r, f] = [&chosen, &rejected, &reference].map(cut);
        let pairs = Pairs {
            chosen: &c,
            rejected: &r,
            reference: Some((&f, &f)),
            chosen_tokens: &vec![4; n],
            rejected_tokens: &vec![5; n],
            likelihood: None,
        };
        dpo.of(&pairs, 3).unwrap()
    };
    let (whole, mut apart) = (part(0, 3), part(0, 1));
    let rest = part(1, 2);
    let sum = number(&apart.loss) + number(&rest.loss);
    close("loss", sum, number(&whole.loss), 1e-14, 0.0);
    apart.metrics.add(&rest.metrics);
    for ((name, a), (other, b)) in apart.metrics.values().zip(whole.metrics.values()) {
        assert_eq!(name, other);
        close(name, a, b, 1e-14, 0.0);
    }
}

#[test]
fn what_a_loss_would_ignore_is_refused() {
    let smoothed = Options {
        label_smoothing: Some(0.1),
        ..Options::default()
    };
    let ignored = |kind, options: &Options, named: &str| {
        let error = Preference::new(kind, options).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, LossError::Ignored { .. }), "{text}");
        assert!(text.contains(kind.name()) && text.contains(named), "{text}");
    };
    for kind in [
        Kind::IpoMean,
        Kind::IpoSum,
        Kind::Hinge,
        Kind::NcaPair,
        Kind::Orpo,
    ] {
        ignored(kind, &smoothed, "label_smoothing");
    }
    let gamma = Options {
        gamma: Some(0.5),
        ..Options::default()
    };
    let beta = Options {
        beta: Some(0.5),
        ..Options::default()
    };
    ignored(Kind::Sigmoid, &gamma, "gamma");
    ignored(Kind::SlicHf, &beta, "beta");
    for bad in [-1.0, 0.0, f64::NAN] {
        let options = Options {
            beta: Some(bad),
            ..Options::default()
        };
        let refused = Preference::new(Kind::Sigmoid, &options);
        assert!(matches!(refused, Err(LossError::Option { .. })));
    }
    let x = constant(&[-1.0]);
    let pairs = Pairs {
        chosen: &x,
        rejected: &x,
        reference: None,
        chosen_tokens: &[1],
        rejected_tokens: &[1],
        likelihood: None,
    };
    let with = |kind| Preference::new(kind, &Options::default()).unwrap();
    let missing = with(Kind::Sigmoid).of(&pairs, 1);
    assert!(matches!(missing, Err(LossError::Missing { .. })));
    let referenced = Pairs {
        reference: Some((&x, &x)),
        ..pairs
    };
    let refused = with(Kind::Simpo).of(&referenced, 1);
    assert!(matches!(refused, Err(LossError::Ignored { .. })));
    let likely = Pairs {
        likelihood: Some((&x, 1)),
        ..referenced
    };
    let refused = with(Kind::Sigmoid).of(&likely, 1);
    assert!(matches!(refused, Err(LossError::Ignored { .. })));
    let missing = with(Kind::Orpo).of(&pairs, 1);
    assert!(matches!(missing, Err(LossError::Missing { .. })));
    // More pairs than the window has, and pairs that do not pair up.
    assert!(with(Kind::Simpo).of(&pairs, 0).is_err());
    let uneven = Pairs {
        chosen_tokens: &[1, 2],
        ..pairs
    };
    let refused = with(Kind::Simpo).of(&uneven, 1);
    assert!(matches!(refused, Err(LossError::Count { .. })));
    assert!(rotated(&[1]).is_err());
    assert_eq!(rotated(&[1, 2, 3]).unwrap(), [3, 1, 2]);
}

/// Distributions are compared: which pair a log-ratio belongs to does not count.
#[test]
fn aot_does_not_see_which_pair_a_ratio_belongs_to() {
    let loss = |reference: [&[f64]; 2]| {
        let [rc, rr] = reference.map(constant);
        let (chosen, rejected) = (
            constant(&[-10.0, -6.1, -23.4]),
            constant(&[-11.2, -9.7, -16.0]),
        );
        let pairs = Pairs {
            chosen: &chosen,
            rejected: &rejected,
            reference: Some((&rc, &rr)),
            chosen_tokens: &[4, 6, 9],
            rejected_tokens: &[3, 7, 8],
            likelihood: None,
        };
        let of = |kind| {
            let loss = Preference::new(kind, &Options::default()).unwrap();
            numbers(&loss.of(&pairs, 3).unwrap().loss)[0]
        };
        [of(Kind::Aot), of(Kind::Sigmoid)]
    };
    let one = loss([&[-10.0, -7.5, -20.1], &[-11.2, -9.0, -18.0]]);
    let other = loss([&[-20.1, -10.0, -7.5], &[-18.0, -11.2, -9.0]]);
    assert!((one[0] - other[0]).abs() < 1e-12, "{one:?} {other:?}");
    assert!((one[1] - other[1]).abs() > 1e-3, "{one:?} {other:?}");
}
