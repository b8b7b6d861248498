//! Every number of golden_losses.json: supervised, reward and preference losses, their gradient norms, log-probabilities.

use candle_core::{DType, Tensor};
use candlescope::hooks::{Edge, Edit, EditOp, HookPoint, Hooks, Point, Selector};
use candlescope::model::{Batch, LogitsAt, Trainable};
use candlescope::train::loss::{
    Kind, Kto, KtoBatch, Options, Pairs, Preference, RewardLoss, Sft, rotated, sft_loss,
};

use crate::fixture::*;

#[test]
fn every_number_of_the_direct_losses_in_f32() {
    all(DType::F32);
}

#[test]
fn every_number_of_the_direct_losses_in_f64() {
    all(DType::F64);
}

fn all(dtype: DType) {
    let mut golden = Golden::of("losses", dtype);
    supervised(&mut golden, dtype);
    reward(&mut golden, dtype);
    preference(&mut golden, dtype);
    kto(&mut golden, dtype);
    golden.finish();
}

fn supervised(golden: &mut Golden, dtype: DType) {
    let model = policy(dtype);
    logits(golden, &model);
    let rows = joined(&PROMPTS, &CHOSEN);
    let batch = Batch::new(&rows).unwrap();
    let loss = |kind, from: &[usize]| {
        let hidden = model.hidden(&batch).unwrap();
        let found = logprobs_at(&batch, &hidden, model.head(), from, 1.0);
        let n = found.top1.len();
        sft_loss(kind, &found.logps, &found.entropy, &found.top1, n)
            .unwrap()
            .loss
    };
    let from: Vec<usize> = PROMPTS.iter().map(|p| p.len()).collect();
    let nll = loss(Sft::Nll, &from);
    golden.is("sft/loss", number(&nll));
    let grads = gradients(&model, &nll);
    golden.is("sft/gnorm", global_norm(&grads));
    let at = |name: &str, row: usize, column: usize| {
        let i = model.params().iter().position(|p| p.name == name).unwrap();
        number(&grads[i].get(row).unwrap().get(column).unwrap())
    };
    golden.is("sft/grad lm_head[2,0]", at("lm_head.weight", 2, 0));
    let q = "model.layers.0.self_attn.q_proj.weight";
    golden.is("sft/grad q0[0,0]", at(q, 0, 0));
    golden.is("sft_full/loss", number(&loss(Sft::Nll, &[1; 4])));
    golden.is("dft/loss", number(&loss(Sft::Dft, &from)));
}

/// torch ran the first row with one padding token on its right, which sees the row but not itself.
fn logits(golden: &mut Golden, model: &Trainable) {
    let mut row = joined(&PROMPTS, &CHOSEN).remove(0);
    row.push(0);
    let edge = Edge { query: 8, key: 8 };
    let blind = |layer| Edit {
        at: HookPoint::new(Point::AttnScores, layer),
        op: EditOp::Knockout { edges: vec![edge] },
        select: Selector::all(),
    };
    let hooks = Hooks::new().edits((0..2).map(blind));
    let batch = Batch::single(&row).unwrap();
    let out = model
        .decoder()
        .forward(&batch, &hooks, LogitsAt::All)
        .unwrap();
    let logits = out.logits().unwrap().squeeze(0).unwrap();
    let all = numbers(&logits);
    let largest = all.iter().map(|x| x.abs()).sum::<f64>();
    golden.is_difference("logits_sum", all.iter().sum(), largest);
    golden.is("logit[0,3,20]", all[3 * 64 + 20]);
}

fn reward(golden: &mut Golden, dtype: DType) {
    let model = Trainable::scored(&score_model(0.0, dtype)).unwrap();
    let scores = |all: &[&[u32]]| {
        let batch = Batch::new(&joined(&PROMPTS, all)).unwrap();
        let hidden = model.hidden(&batch).unwrap();
        candlescope::model::score::scores(&hidden, model.score_head().unwrap()).unwrap()
    };
    let (chosen, rejected) = (scores(&CHOSEN), scores(&REJECTED));
    golden.are("rm/chosen", &numbers(&chosen), 0.0);
    golden.are("rm/rejected", &numbers(&rejected), 0.0);
    let of = |options: RewardLoss, margins: Option<&Tensor>| {
        options.of(&chosen, &rejected, margins, 4).unwrap()
    };
    let plain = of(RewardLoss::default(), None);
    golden.is("rm/loss", number(&plain.loss));
    golden.is("rm/gnorm", global_norm(&gradients(&model, &plain.loss)));
    golden.is("rm/accuracy", plain.metrics.get("accuracy").unwrap());
    let mean = |t: &Tensor| numbers(t).iter().sum::<f64>() / 4.0;
    let margin = plain.metrics.get("margin").unwrap();
    close(
        "margin",
        margin,
        mean(&chosen) - mean(&rejected),
        1e-12,
        1.0,
    );
    let margins = Tensor::new(&[0.5, 0.0, 1.0, 0.25], chosen.device()).unwrap();
    let margins = margins.to_dtype(dtype).unwrap();
    let with = |label_smoothing, centring| RewardLoss {
        label_smoothing,
        centring,
    };
    golden.is(
        "rm_margin/loss",
        number(&of(with(0.0, 0.0), Some(&margins)).loss),
    );
    golden.is("rm_center/loss", number(&of(with(0.0, 0.01), None).loss));
    golden.is("rm_ls/loss", number(&of(with(0.1, 0.0), None).loss));
}

fn preference(golden: &mut Golden, dtype: DType) {
    let (model, reference) = (policy(dtype), reference(dtype));
    let reference = [
        summed_by(&reference, &PROMPTS, &CHOSEN),
        summed_by(&reference, &PROMPTS, &REJECTED),
    ];
    golden.are("dpo/ref_chosen", &numbers(&reference[0]), 0.0);
    golden.are("dpo/ref_rejected", &numbers(&reference[1]), 0.0);
    let beta = |beta| Options {
        beta: Some(beta),
        ..Options::default()
    };
    let smoothed = Options {
        label_smoothing: Some(0.1),
        ..beta(0.1)
    };
    let table = [
        ("dpo_sigmoid", Kind::Sigmoid, beta(0.1)),
        ("cdpo_0.1", Kind::Sigmoid, smoothed),
        ("robust_0.1", Kind::Robust, smoothed),
        ("hinge", Kind::Hinge, beta(0.1)),
        ("ipo_avg", Kind::IpoMean, beta(0.1)),
        ("ipo_sum", Kind::IpoSum, beta(0.1)),
        ("sigmoid_norm", Kind::SigmoidNorm, beta(0.1)),
        (
            "simpo",
            Kind::Simpo,
            Options {
                gamma: Some(1.0),
                ..beta(2.0)
            },
        ),
        ("orpo", Kind::Orpo, beta(0.1)),
        ("slic_hf", Kind::SlicHf, Options::default()),
    ];
    for (name, kind, options) in table {
        let chosen = summed(&model, &PROMPTS, &CHOSEN);
        let rejected = summed(&model, &PROMPTS, &REJECTED);
        let whole = kind.needs_likelihood().then(|| {
            let batch = Batch::new(&joined(&PROMPTS, &CHOSEN)).unwrap();
            let hidden = model.hidden(&batch).unwrap();
            let logps = logprobs_at(&batch, &hidden, model.head(), &[1; 4], 1.0).logps;
            (logps.sum_all().unwrap(), logps.elem_count())
        });
        let pairs = Pairs {
            chosen: &chosen,
            rejected: &rejected,
            reference: kind
                .needs_reference()
                .then_some((&reference[0], &reference[1])),
            chosen_tokens: &lengths(&CHOSEN),
            rejected_tokens: &lengths(&REJECTED),
            likelihood: whole.as_ref().map(|(sum, count)| (sum, *count)),
        };
        let scored = Preference::new(kind, &options)
            .unwrap()
            .of(&pairs, 4)
            .unwrap();
        golden.is(&format!("{name}/loss"), number(&scored.loss));
        let norm = global_norm(&gradients(&model, &scored.loss));
        golden.is(&format!("{name}/gnorm"), norm);
        if name == "dpo_sigmoid" {
            golden.are("dpo/chosen", &numbers(&chosen), 0.0);
            golden.are("dpo/rejected", &numbers(&rejected), 0.0);
            for metric in ["chosen", "rejected", "margins"] {
                let metric = format!("rewards/{metric}");
                // β times a difference of log-probabilities of some 20 nats.
                golden.is_difference(&metric, scored.metrics.get(&metric).unwrap(), 2.0);
            }
            let name = "rewards/accuracies";
            golden.is(name, scored.metrics.get(name).unwrap());
        }
        if name == "orpo" {
            let nll = scored.metrics.get("nll_loss").unwrap();
            close(
                "nll_loss",
                nll,
                golden.golden("sft_full/loss")[0],
                1e-5,
                0.0,
            );
        }
    }
}

fn kto(golden: &mut Golden, dtype: DType) {
    let (model, reference) = (policy(dtype), reference(dtype));
    let all = [CHOSEN[0], REJECTED[1], CHOSEN[2], REJECTED[3]];
    let mismatched = rotated(&all).unwrap();
    let [policy, kl] = [&all[..], &mismatched].map(|c| summed(&model, &PROMPTS, c));
    let [ours, kl_reference] = [&all[..], &mismatched].map(|c| summed_by(&reference, &PROMPTS, c));
    let batch = KtoBatch {
        policy: &policy,
        reference: &ours,
        labels: &[true, false, true, false],
        mismatched: &kl,
        mismatched_reference: &kl_reference,
    };
    let scored = Kto::default().of(&batch, 4).unwrap();
    golden.is_difference("kto/kl_raw", scored.metrics.get("kl").unwrap(), 20.0);
    golden.is("kto/loss", number(&scored.loss));
    golden.is("kto/gnorm", global_norm(&gradients(&model, &scored.loss)));
}

/// TRL 1.16's own values on the same fixture, 6 decimals (no torch twin).
#[test]
fn the_losses_that_only_trl_has_agree_with_trl() {
    let (model, reference) = (policy(DType::F64), reference(DType::F64));
    let [chosen, rejected] = [CHOSEN, REJECTED].map(|c| summed(&model, &PROMPTS, &c));
    let [rc, rr] = [CHOSEN, REJECTED].map(|c| summed_by(&reference, &PROMPTS, &c));
    let pairs = Pairs {
        chosen: &chosen,
        rejected: &rejected,
        reference: Some((&rc, &rr)),
        chosen_tokens: &lengths(&CHOSEN),
        rejected_tokens: &lengths(&REJECTED),
        likelihood: None,
    };
    for (kind, trl) in [
        (Kind::ExoPair, 2.717290),
        (Kind::NcaPair, 1.380190),
        (Kind::BcoPair, 1.373746),
        // By hand from the fixture's log-probabilities, sorted with Python.
        (Kind::Aot, 0.680_701_457),
        (Kind::AotUnpaired, 0.680_394_905),
        (Kind::SppoHard, 47.672489),
        (Kind::ApoZero, 0.993575),
        (Kind::ApoDown, 1.000900),
        (Kind::Discopop, 0.852234),
    ] {
        let options = Options::default();
        let scored = Preference::new(kind, &options)
            .unwrap()
            .of(&pairs, 4)
            .unwrap();
        close(kind.name(), number(&scored.loss), trl, 4e-6, 1.0);
    }
}
