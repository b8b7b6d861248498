//! Every number of golden_ppo.json: scores, advantages, two epochs of updates by plain gradient descent, all metrics.
//!
//! TRL's trainer averages some metrics over padding. Those are computed here from the masked ones and what TRL puts in the
//! padding, so that they can be compared too.

use candle_core::{DType, Tensor};
use candlescope::model::{Batch, Decoder, ScoreModel, Trainable, score};
use candlescope::train::loss::advantage::{Estimator, gae, penalised, rewards, whiten};
use candlescope::train::loss::{
    Clip, Metrics, PolicyBatch, RolloutRow, ValueBatch, policy_loss, rollout_metrics, value_loss,
};
use candlescope::train::ppo::{Plan, Ppo, judged};
use candlescope::train::rollout::{self, Answer, Sampling};
use candlescope_ops::TokenLogprobs;

use crate::fixture::*;

const RESPONSES: [&[u32]; 4] = [
    &[20, 21, 22, 2, 30, 31],
    &[33, 34, 35, 36, 37, 38],
    &[50, 2, 51, 52, 53, 54],
    &[60, 61, 62, 63, 9, 2],
];
const END: u32 = 2;
const TEMPERATURE: f64 = 0.7 + 1e-7;
const BETA: f64 = 0.05;

/// Kept tokens of each response: up to and with the first end.
fn kept() -> Vec<usize> {
    let len = |r: &&[u32]| {
        r.iter()
            .position(|&id| id == END)
            .map_or(r.len(), |i| i + 1)
    };
    RESPONSES.iter().map(len).collect()
}

/// Value slots: one more than tokens, where the response has room for it.
fn slots() -> Vec<usize> {
    let pairs = kept().into_iter().zip(RESPONSES);
    pairs.map(|(n, r)| (n + 1).min(r.len())).collect()
}

fn cut(lengths: &[usize]) -> Vec<&'static [u32]> {
    let pairs = RESPONSES.iter().zip(lengths);
    pairs.map(|(r, &n)| &r[..n]).collect()
}

fn batch() -> Batch {
    Batch::new(&joined(&PROMPTS, &RESPONSES)).unwrap()
}

fn logprobs(hidden: &Tensor, head: &Tensor, responses: &[&[u32]]) -> TokenLogprobs {
    let rows = joined(&PROMPTS, responses);
    let from: Vec<usize> = PROMPTS.iter().map(|p| p.len()).collect();
    logprobs_at(
        &Batch::new(&rows).unwrap(),
        hidden,
        head,
        &from,
        TEMPERATURE,
    )
}

/// At the kept tokens of all responses.
fn tokens_of(hidden: impl Fn(&Batch) -> Tensor, head: &Tensor) -> TokenLogprobs {
    let kept = cut(&kept());
    let rows = joined(&PROMPTS, &kept);
    logprobs(&hidden(&Batch::new(&rows).unwrap()), head, &kept)
}

fn by_row(values: &[f64], lengths: &[usize]) -> Vec<Vec<f64>> {
    let mut rest = values;
    let rows = lengths.iter().map(|&n| {
        let (row, after) = rest.split_at(n);
        rest = after;
        row.to_vec()
    });
    rows.collect()
}

fn sampled(model: &Decoder) -> Vec<Vec<f64>> {
    let hidden = |batch: &Batch| model.hidden(batch).unwrap();
    by_row(
        &numbers(&tokens_of(hidden, &model.weights().head).logps),
        &kept(),
    )
}

/// Values at the slots of all responses, `[slots]`: the state before a token values it.
fn values(hidden: &Tensor, head: &Tensor) -> Tensor {
    let all = score::values(hidden, head).unwrap();
    let batch = batch();
    let rows: Vec<Tensor> = slots()
        .iter()
        .enumerate()
        .map(|(row, &n)| {
            let first = batch.pad()[row] + PROMPTS[row].len() - 1;
            all.get(row).unwrap().narrow(0, first, n).unwrap()
        })
        .collect();
    Tensor::cat(&rows, 0).unwrap()
}

struct Rollout {
    old: Vec<Vec<f64>>,
    kl: Vec<Vec<f64>>,
    scores: Vec<f64>,
    values: Vec<Vec<f64>>,
    advantages: Vec<Vec<f64>>,
    returns: Vec<Vec<f64>>,
}

fn rollout(dtype: DType, value: &ScoreModel) -> Rollout {
    let (old, reference) = (language_model(0.02, dtype), reference(dtype));
    let (old, theirs) = (sampled(&old), sampled(&reference));
    let texts = Batch::new(&joined(&PROMPTS, &cut(&kept()))).unwrap();
    let raw = numbers(&score_model(0.0, dtype).scores(&texts).unwrap());
    let ended = RESPONSES.map(|r| r.contains(&END));
    let scores: Vec<f64> = (0..4).map(|i| penalised(raw[i], ended[i], 1.0)).collect();
    let hidden = value.decoder().hidden(&batch()).unwrap();
    let values = by_row(&numbers(&values(&hidden, value.head())), &slots());
    let kl: Vec<Vec<f64>> = (0..4)
        .map(|i| Estimator::K1.row(&old[i], &theirs[i]))
        .collect();
    let (mut advantages, mut returns) = (Vec::new(), Vec::new());
    for i in 0..4 {
        let rewards = rewards(&kl[i], scores[i], slots()[i], BETA).unwrap();
        let mut found = gae(&rewards, &values[i], 1.0, 0.95).unwrap();
        found.advantages.truncate(kept()[i]);
        advantages.push(found.advantages);
        returns.push(found.returns);
    }
    whiten(&mut advantages, true);
    Rollout {
        old,
        kl,
        scores,
        values,
        advantages,
        returns,
    }
}

#[test]
fn every_number_of_ppo_in_f32() {
    all(DType::F32);
}

#[test]
fn every_number_of_ppo_in_f64() {
    all(DType::F64);
}

fn all(dtype: DType) {
    let mut golden = Golden::of("ppo", dtype);
    let policy = policy(dtype);
    let value = Trainable::scored(&score_model(0.1, dtype)).unwrap();
    let roll = rollout(dtype, &value.score_model().unwrap());
    golden.are("scores", &roll.scores, 0.0);
    let padded = |row: &[f64]| {
        let mut row = row.to_vec();
        row.resize(6, 0.0);
        row
    };
    // Differences of numbers around 1, whitened.
    golden.are("A_row0", &padded(&roll.advantages[0]), 1.0);
    golden.are("ret_row0", &padded(&roll.returns[0]), 1.0);
    objective(&mut golden, &roll);
    let mut epochs = Vec::new();
    for epoch in 0..2 {
        epochs.push(update(&mut golden, epoch, &policy, &value, &roll));
    }
    let mean = |of: &dyn Fn(&Epoch) -> f64| epochs.iter().map(of).sum::<f64>() / 2.0;
    golden.is("loss/policy_avg", mean(&|e| e.policy));
    golden.is("loss/value_avg", mean(&|e| e.value));
    golden.is("policy/clipfrac_avg", mean(&|e| e.clipped));
    golden.is("val/clipfrac_avg", mean(&|e| e.value_clipped));
    golden.is("approxkl masked", mean(&|e| e.approx_kl));
    golden.is("policy/approxkl_avg", mean(&|e| e.approx_kl * share()));
    golden.is("entropy masked", mean(&|e| e.entropy));
    golden.is("policy/entropy_avg", mean(&|e| e.entropy_everywhere));
    golden.is("ratio masked", mean(&|e| e.ratio));
    golden.is("val/ratio", mean(&|e| e.ratio * share() + 1.0 - share()));
    golden.raw("per_epoch");
    golden.raw("g");
    golden.finish();
}

/// Kept tokens over all positions.
fn share() -> f64 {
    kept().iter().sum::<usize>() as f64 / 24.0
}

fn objective(golden: &mut Golden, roll: &Rollout) {
    let rows: Vec<RolloutRow> = (0..4)
        .map(|i| RolloutRow {
            logps: &roll.old[i],
            kl: &roll.kl[i],
            score: roll.scores[i],
            ended: RESPONSES[i].contains(&END),
        })
        .collect();
    let found = rollout_metrics(&rows, BETA);
    let get = |name: &str| found.get(name).unwrap();
    // Differences of log-probabilities of some 20 nats an answer.
    golden.is_difference("objective/kl", get("objective/kl"), 20.0);
    let name = "objective/non_score_reward";
    golden.is_difference(name, get(name), 20.0 * BETA);
    golden.is("objective/rlhf_reward", get("objective/rlhf_reward"));
    golden.is("objective/scores", get("objective/scores"));
    golden.is("objective/entropy_masked", get("objective/entropy"));
    // TRL counts 1 nat less for each cut-off token.
    let cut_off = 24.0 - kept().iter().sum::<usize>() as f64;
    golden.is(
        "objective/entropy",
        get("objective/entropy") - cut_off / 4.0,
    );
    assert_eq!(get("val/num_eos_tokens"), 3.0);
}

struct Epoch {
    policy: f64,
    value: f64,
    clipped: f64,
    value_clipped: f64,
    approx_kl: f64,
    entropy: f64,
    entropy_everywhere: f64,
    ratio: f64,
}

/// One epoch: both losses, the golden numbers of the epoch, and a step of plain gradient descent.
fn update(
    golden: &mut Golden,
    epoch: usize,
    policy: &Trainable,
    value: &Trainable,
    roll: &Rollout,
) -> Epoch {
    let new = tokens_of(|batch| policy.hidden(batch).unwrap(), policy.head());
    let (tokens, count) = (kept().iter().sum(), slots().iter().sum());
    let batch_of = PolicyBatch {
        new: &new.logps,
        old: &roll.old.concat(),
        advantages: &roll.advantages.concat(),
        entropy: &new.entropy,
    };
    let pg = policy_loss(&batch_of, &Clip::default(), tokens).unwrap();
    let hidden = value.hidden(&batch()).unwrap();
    let values = values(&hidden, value.score_head().unwrap());
    let value_batch = ValueBatch {
        new: &values,
        old: &roll.values.concat(),
        returns: &roll.returns.concat(),
    };
    let vf = value_loss(&value_batch, &Clip::default(), count).unwrap();
    let everywhere = policy.decoder().hidden(&batch()).unwrap();
    let head = &policy.decoder().weights().head;
    let everywhere = numbers(&logprobs(&everywhere, head, &RESPONSES).entropy);

    let get = |name: &str| pg.metrics.get(name).or(vf.metrics.get(name)).unwrap();
    let found = Epoch {
        policy: number(&pg.loss),
        value: number(&vf.loss),
        clipped: get("policy/clipfrac_avg"),
        value_clipped: get("val/clipfrac_avg"),
        approx_kl: get("policy/approxkl_avg"),
        entropy: get("policy/entropy_avg"),
        entropy_everywhere: everywhere.iter().sum::<f64>() / 24.0,
        ratio: get("val/ratio"),
    };
    let theirs = golden.raw("per_epoch")[epoch].clone();
    let tolerance = golden.tolerance();
    let check = |name: &str, found: f64, of: f64| {
        close(name, found, theirs[name].as_f64().unwrap(), tolerance, of);
    };
    // A mean of whitened advantages is near 0: it is a difference of numbers around 1.
    check("pg", found.policy, 1.0);
    check("vl", found.value, 0.0);
    check("clip", found.clipped, 0.0);
    check("vclip", found.value_clipped, 0.0);
    // Half the square of a difference of log-probabilities of some 4 nats.
    check("approxkl_masked", found.approx_kl, 0.1);
    check("approxkl_trl", found.approx_kl * share(), 0.1);
    check("ent_masked", found.entropy, 0.0);
    check("ent_trl", found.entropy_everywhere, 0.0);
    check("ratio_masked", found.ratio, 0.0);
    check("ratio_trl", found.ratio * share() + 1.0 - share(), 0.0);
    close("pg metric", get("loss/policy_avg"), found.policy, 1e-5, 1.0);
    close("vl metric", get("loss/value_avg"), found.value, 1e-5, 0.0);

    let policy_grads = gradients(policy, &pg.loss);
    let value_grads = gradients(value, &(vf.loss * 0.1).unwrap());
    let norms = golden.raw("g")[epoch].clone();
    for (i, grads) in [&policy_grads, &value_grads].into_iter().enumerate() {
        let norm = norms[i].as_f64().unwrap();
        close("gradient norm", global_norm(grads), norm, tolerance, 0.0);
    }
    for (model, grads) in [(policy, policy_grads), (value, value_grads)] {
        for (param, grad) in model.params().iter().zip(grads) {
            let moved = (param.var.as_tensor() - (grad * 0.5).unwrap()).unwrap();
            param.var.set(&moved.detach()).unwrap();
        }
    }
    found
}

#[test]
fn in_the_first_epoch_the_ratio_is_1_and_nothing_is_clipped() {
    let policy = policy(DType::F32);
    let old = sampled(policy.decoder());
    let new = tokens_of(|batch| policy.hidden(batch).unwrap(), policy.head());
    let advantages: Vec<f64> = (0..18).map(|i| (f64::from(i)).sin()).collect();
    let batch = PolicyBatch {
        new: &new.logps,
        old: &old.concat(),
        advantages: &advantages,
        entropy: &new.entropy,
    };
    let scored = policy_loss(&batch, &Clip::default(), 18).unwrap();
    // The tracked pass has the bits of the untracked one, so this is exact.
    assert_eq!(scored.metrics.get("val/ratio"), Some(1.0));
    assert_eq!(scored.metrics.get("policy/clipfrac_avg"), Some(0.0));
    assert_eq!(scored.metrics.get("policy/approxkl_avg"), Some(0.0));
}

#[test]
fn a_dual_clip_bounds_what_a_bad_token_can_lose() {
    let new = Tensor::new(&[2.0f64, 2.0, 0.0], &candle_core::Device::Cpu).unwrap();
    let entropy = new.zeros_like().unwrap();
    let batch = PolicyBatch {
        new: &new,
        old: &[0.0, 0.0, 0.0],
        advantages: &[-1.0, 1.0, -1.0],
        entropy: &entropy,
    };
    let loss = |dual| {
        let clip = Clip {
            dual,
            ..Clip::default()
        };
        number(&policy_loss(&batch, &clip, 3).unwrap().loss) * 3.0
    };
    // Ratios e², e², 1: losses e² (free), -1.2 (clipped), 1.
    let free = 2.0f64.exp();
    close("free", loss(None), free - 1.2 + 1.0, 1e-14, 0.0);
    close("dual", loss(Some(3.0)), 3.0 - 1.2 + 1.0, 1e-14, 0.0);
}

/// The same numbers through the trainer's own way: answers cut at their end, a rollout, a plan, the losses of its passes.
#[test]
fn the_trainer_finds_every_number_of_the_first_epoch() {
    for dtype in [DType::F32, DType::F64] {
        by_the_trainer(dtype);
    }
}

fn by_the_trainer(dtype: DType) {
    let mut golden = Golden::of("ppo", dtype);
    let options = Ppo {
        rollout: Sampling {
            temperature: TEMPERATURE,
            response_length: 6,
            ..Sampling::default()
        },
        ..Ppo::default()
    };
    let pairs = PROMPTS.iter().zip(RESPONSES);
    let answers: Vec<Answer> = pairs.map(|(p, r)| Answer::new(p, r, &[END])).collect();
    let (old, reference) = (language_model(0.02, dtype), reference(dtype));
    // Two passes, so that rows of a pass are not rows of the rollout.
    let sizes = (3, 6, TEMPERATURE);
    let mut roll = rollout::Rollout::of(answers, (&old, &reference), sizes, Estimator::K1).unwrap();
    let texts: Vec<Vec<u32>> = roll.answers.iter().map(Answer::row).collect();
    let raw = score_model(0.0, dtype).scores(&Batch::new(&texts).unwrap());
    let raw = numbers(&raw.unwrap());
    let ended = roll.answers.iter().map(|answer| answer.ended);
    roll.scores = ended.zip(raw).map(|(e, s)| penalised(s, e, 1.0)).collect();
    golden.are("scores", &roll.scores, 0.0);
    let found = roll.metrics(BETA);
    golden.is_difference("objective/kl", found.get("objective/kl").unwrap(), 20.0);
    golden.is(
        "objective/rlhf_reward",
        found.get("objective/rlhf_reward").unwrap(),
    );
    // The exact divergence of training-peers' note: 0.01897766 nats an answer, by torch.
    close("kl_exact", roll.divergence(), 0.018_977_66, 1e-6, 1.0);

    let policy = policy(dtype);
    let value = Trainable::scored(&score_model(0.1, dtype)).unwrap();
    let head = value.score_head().unwrap().detach();
    let values = roll.passes.iter().map(|pass| {
        let hidden = value.decoder().hidden(&pass.batch).unwrap();
        by_row(&numbers(&pass.values(&hidden, &head).unwrap()), &pass.slots)
    });
    let values = values.collect::<Vec<_>>().concat();
    assert_eq!(values.iter().map(Vec::len).collect::<Vec<_>>(), slots());
    let plan = Plan::new(&roll, values, BETA, &options).unwrap();
    let padded = |row: &[f64]| [row, &vec![0.0; 6 - row.len()]].concat();
    golden.are("A_row0", &padded(&plan.advantages[0]), 1.0);
    golden.are("ret_row0", &padded(&plan.returns[0]), 1.0);

    let counts = (kept().iter().sum(), slots().iter().sum());
    let mut metrics = Metrics::new();
    let (mut pg, mut vl) = (0.0, 0.0);
    for at in 0..2 {
        let found = judged(
            (&policy, Some(&value)),
            (&roll, &plan),
            at,
            &options,
            counts,
        )
        .unwrap();
        pg += number(&found.policy.loss);
        vl += number(&found.value.loss);
        metrics.add(&found.policy.metrics);
        metrics.add(&found.value.metrics);
    }
    let theirs = golden.raw("per_epoch")[0].clone();
    let check = |name: &str, found: f64, of: f64| {
        close(
            name,
            found,
            theirs[name].as_f64().unwrap(),
            golden.tolerance(),
            of,
        );
    };
    check("pg", pg, 1.0);
    check("vl", vl, 0.0);
    check("ratio_masked", metrics.get("val/ratio").unwrap(), 0.0);
    check(
        "approxkl_masked",
        metrics.get("policy/approxkl_avg").unwrap(),
        0.1,
    );
    check(
        "ent_masked",
        metrics.get("policy/entropy_avg").unwrap(),
        0.0,
    );
    check("clip", metrics.get("policy/clipfrac_avg").unwrap(), 0.0);
    check("vclip", metrics.get("val/clipfrac_avg").unwrap(), 0.0);
    // These log-probabilities are of another policy than the rollout's, which the trainer would refuse.
    let moved = judged((&policy, Some(&value)), (&roll, &plan), 0, &options, counts).unwrap();
    let said = roll.expect_unmoved(0, &moved.logps, 1).unwrap_err();
    assert!(
        said.to_string().contains("the ratio of the first update"),
        "{said}"
    );
    assert!(roll.expect_at_reference(1).is_err());
}
