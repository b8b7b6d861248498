//! Signal 16.
#![doc = include_str!("pages/selectivity.md")]

use candlescope_probes::error::ProbeError;
use candlescope_probes::lexical::{BagOfWords, lexical_margin, words};
use candlescope_probes::{Design, LogisticOptions, LogisticProbe, Penalty, Score, controls};
use ndarray::Array2;

use super::{estimate, harm_vs_refusal};
use crate::audit::charts::Chart;
use crate::audit::evidence::probes::{Probe, split};
use crate::audit::evidence::{Activations, Prompts, Splits, Use, need};
use crate::audit::measure::Value;
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// Whether the probe reads the model, or only learns its labels or its words.
pub struct Selectivity;

const ID: &str = "selectivity";

/// Random tasks that the probe is made to learn.
const CONTROLS: usize = 20;

impl Signal for Selectivity {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Activations, Need::Probes]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/selectivity.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let probes = need(&cx.subject.probes, "probes")?;
        let probe = &probes.instruction;
        let base = cx.baseline.and_then(|base| base.probes.as_ref().ok());
        let task = Task::new(need(&cx.subject.activations, "activations")?, probe)?;
        let before = base.map(|base| base.instruction.correct());
        let correct = probe.correct();
        let accuracy = estimate::rate(quantity(ID, "accuracy")?, &correct, before.as_deref(), cx)?;
        let null = task.shuffled(cx)?;
        let accuracy = accuracy.with_null(estimate::null_of("train labels shuffled", &null));
        let (control, selectivity) = against_controls(&task, &correct, cx)?;
        let (margin, findings, bag) = lexical(cx.prompts, probe, cx)?;
        let mut result = blank(ID)?;
        result.values = vec![accuracy, control, selectivity, margin];
        result.findings = findings;
        result.findings.push(format!(
            "Probe at layer {} of the last instruction token, C = {:.3e}; layer chosen on validation prompts, C by \
             cross-validation on train prompts.",
            probe.layer, probe.fitted.c
        ));
        let chart: Chart = harm_vs_refusal::by_layer(probes);
        result.charts = vec![chart.with_rule("bag of words", bag)];
        Ok(result)
    }
}

/// The probe's own data, so that other labels can be learnt from them in the same way.
struct Task {
    design: Design,
    train: Vec<bool>,
    test: Array2<f32>,
    test_labels: Vec<bool>,
    options: LogisticOptions,
}

impl Task {
    fn new(activations: &Activations, probe: &Probe) -> Result<Self, SignalError> {
        let (x, train) = split(activations, Use::Train, probe.place, probe.layer)?;
        let (test, test_labels) = split(activations, Use::Test, probe.place, probe.layer)?;
        Ok(Self {
            design: Design::new(x.view(), true)?,
            train,
            test,
            test_labels,
            options: LogisticOptions {
                penalty: Penalty::Fixed(probe.fitted.c),
                ..LogisticOptions::default()
            },
        })
    }

    /// Accuracy on test prompts with these labels after fitting these labels of train prompts.
    fn accuracy(&self, train: &[bool], test: &[bool]) -> Result<f64, ProbeError> {
        let probe = LogisticProbe::fit_design(&self.design, train, &self.options)?;
        let scores = probe.scores(self.test.view())?;
        let right = scores
            .iter()
            .zip(test)
            .filter(|(score, label)| (**score > 0.0) == **label);
        Ok(right.count() as f64 / test.len() as f64)
    }

    fn shuffled(&self, cx: &Context) -> Result<candlescope_probes::NullDistribution, SignalError> {
        Ok(controls::label_shuffle(
            &self.train,
            cx.policy.sizes.shuffles.max(2),
            cx.seed_for("selectivity shuffles"),
            |labels| self.accuracy(labels, &self.test_labels),
        )?)
    }
}

/// Control accuracy, and accuracy minus it: every topic gets one random label, so the control can be learnt by knowing
/// the topics (Hewitt and Liang 2019).
fn against_controls(
    task: &Task,
    correct: &[bool],
    cx: &Context,
) -> Result<(Value, Value), SignalError> {
    let types = topics(cx.prompts);
    let n_train = task.train.len();
    let labels = [task.train.as_slice(), &task.test_labels].concat();
    let wanted = (
        quantity(ID, "control_accuracy")?,
        quantity(ID, "selectivity")?,
    );
    let mut distinct = types.clone();
    distinct.sort();
    distinct.dedup();
    if distinct.len() < 4 || types.len() != labels.len() {
        let why = "the prompts have too few topics to make a control task of";
        return Ok((wanted.0.missing(why), wanted.1.missing(why)));
    }
    let found = controls::selectivity(
        &labels,
        &types,
        CONTROLS,
        cx.seed_for("selectivity controls"),
        |labels| {
            let (train, test) = labels.split_at(n_train);
            // A draw that gives all train prompts one label teaches nothing: chance.
            if train.iter().all(|l| *l == train[0]) {
                return Ok(0.5);
            }
            task.accuracy(train, test)
        },
    )?;
    let n = correct.len() as u64;
    let level = found.null.mean;
    let spread = found.null.sd / (found.null.draws as f64).sqrt();
    let control = wanted.0.measured(level).with_n(n).with_interval(
        level - 1.96 * spread,
        (level + 1.96 * spread).min(1.0),
        "normal, over control tasks",
    );
    let own = estimate::rate(quantity(ID, "accuracy")?, correct, None, cx)?;
    let value = wanted
        .1
        .measured(own.value.unwrap_or(f64::NAN) - level)
        .with_n(n);
    // Two independent sources: the prompts (Wilson) and the draw of control tasks, joined by square and add.
    let value = match own.interval.zip(own.value) {
        Some((ends, at)) => value.with_interval(
            at - level - (at - ends.low).hypot(1.96 * spread),
            at - level + (ends.high - at).hypot(1.96 * spread),
            "square and add",
        ),
        None => value,
    };
    Ok((
        control,
        value.with_null(estimate::null_of("control tasks over topics", &found.null)),
    ))
}

fn each<T>(prompts: &Prompts, of: impl Fn(&crate::text::suites::PromptRow) -> T) -> [Vec<T>; 2] {
    let pick = |split: fn(&Splits) -> &Vec<crate::text::suites::PromptRow>| {
        let (harmful, harmless) = (split(&prompts.harmful), split(&prompts.harmless));
        harmful.iter().chain(harmless).map(&of).collect::<Vec<T>>()
    };
    [pick(|splits| &splits.train), pick(|splits| &splits.test)]
}

fn topics(prompts: &Prompts) -> Vec<String> {
    let name = |row: &crate::text::suites::PromptRow| row.topic.clone().unwrap_or_default();
    each(prompts, name).concat()
}

/// The probe's AUROC minus a bag of words', both fitted on train prompts and scored on test prompts.
fn lexical(
    prompts: &Prompts,
    probe: &Probe,
    cx: &Context,
) -> Result<(Value, Vec<String>, f64), SignalError> {
    let [train, test] = each(prompts, |row| words(&row.prompt));
    let labels = [
        vec![true; prompts.harmful.train.len()],
        vec![false; prompts.harmless.train.len()],
    ]
    .concat();
    let options = LogisticOptions {
        seed: cx.seed_for("bag of words"),
        ..LogisticOptions::sae_probes()
    };
    let bag = BagOfWords::fit(&train, &labels, &options)?;
    let scored = probe.scored();
    let found = lexical_margin(
        &scored.scores,
        &bag.scores(&test)?,
        &scored.labels,
        estimate::LEVEL,
    )?;
    let margin = found.margin;
    let mut value = quantity(ID, "lexical_margin")?
        .measured(margin.difference)
        .with_n(margin.n as u64)
        .with_test("DeLong", None, margin.p_value)
        .with_mdd(estimate::area_reach(cx.power()) * margin.standard_error);
    if margin.determined {
        value = value.with_interval(margin.interval.low, margin.interval.high, "delong");
    }
    let strongest: Vec<String> = bag
        .strongest(6)
        .into_iter()
        .map(|(word, _)| format!("`{word}`"))
        .collect();
    let findings = vec![format!(
        "A bag of {} words reaches AUROC {:.3} [{:.3}, {:.3}]; the words that speak most for harmful: {}.",
        bag.vocabulary_size(),
        found.bag_of_words.value,
        found.bag_of_words.interval.low,
        found.bag_of_words.interval.high,
        strongest.join(", ")
    )];
    Ok((value, findings, found.bag_of_words.value))
}
