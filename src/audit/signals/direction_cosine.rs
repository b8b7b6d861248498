//! Signal 8.
#![doc = include_str!("pages/direction_cosine.md")]

use candlescope_probes::direction::{cosine, split_half};
use candlescope_probes::{Contrast, Direction, NullDistribution, controls, similarity};
use ndarray::{Array2, Axis};

use super::estimate;
use crate::audit::charts::{Chart, Plot, Series};
use crate::audit::evidence::probes::stack;
use crate::audit::evidence::{Activations, AtSite, Place, Use, need};
use crate::audit::measure::Interval;
use crate::audit::result::SignalResult;
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// Whether the refusal direction still points where the baseline's did.
pub struct DirectionCosine;

const ID: &str = "direction_cosine";

/// Random halves behind a reliability.
const SPLITS: usize = 100;

impl Signal for DirectionCosine {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Direction]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/direction_cosine.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let base = need(
            &cx.required_baseline()?.direction,
            "the baseline's direction",
        )?;
        let here = need(&cx.subject.direction, "refusal direction")?;
        let (now, before) = (here.at(base.site)?, base.at(base.site)?);
        let seed = cx.seed_for(ID);
        let halves = |read: &AtSite| {
            split_half(
                read.harmful.view(),
                read.harmless.view(),
                SPLITS,
                estimate::LEVEL,
                seed,
            )
        };
        let (own, theirs) = (halves(now)?, halves(before)?);
        let n = (now.harmful.nrows() + now.harmless.nrows()) as u64;
        let reliability = quantity(ID, "reliability")?
            .measured(own.full)
            .with_n(n)
            .with_interval(own.full_range.low, own.full_range.high, "split halves")
            .with_baseline(
                theirs.full,
                (own == theirs).then(|| Interval::new(0.0, 0.0, "identical")),
            );
        let mut options = cx.bootstrap("direction_cosine");
        options.resamples = options.resamples.max(100);
        let found = similarity(&contrast(before), &contrast(now), true, &options)?;
        let null = permuted(now, before, cx)?;
        let raw = quantity(ID, "cosine")?
            .measured(found.cosine)
            .with_n(n)
            .with_null(estimate::null_of("the baseline's labels shuffled", &null));
        let wanted = quantity(ID, "cosine_disattenuated")?;
        let corrected = match found.disattenuated {
            Some(value) => wanted.measured(value).with_n(n),
            None => wanted.missing("a direction is not reliable enough to correct by"),
        };
        let corrected = match found.interval {
            Some(ends) => corrected.with_interval(ends.low, ends.high, "paired bootstrap"),
            None => corrected,
        };
        let mut result = blank(ID)?;
        result.charts = chart(cx).into_iter().collect();
        result.values = vec![reliability, raw, corrected];
        result.findings = vec![format!(
            "Both checkpoints are read at the baseline's place, {}, on test prompts; the baseline's reliability is {:.3}.",
            base.site, theirs.full
        )];
        if here.site != base.site {
            result.findings.push(format!(
                "This checkpoint's own choice is another place: {}.",
                here.site
            ));
        }
        Ok(result)
    }
}

fn contrast(read: &AtSite) -> Contrast<'_> {
    Contrast {
        positive: read.harmful.view(),
        negative: read.harmless.view(),
    }
}

/// The cosine with directions of the baseline's activations under shuffled labels: what unrelated directions give.
fn permuted(now: &AtSite, before: &AtSite, cx: &Context) -> Result<NullDistribution, SignalError> {
    let (all, labels) = labelled(before)?;
    let own = Direction::difference_of_means(now.harmful.view(), now.harmless.view())?;
    Ok(controls::label_shuffle(
        &labels,
        cx.policy.sizes.shuffles.max(2),
        cx.seed_for("direction_cosine labels"),
        |labels| {
            let side = |wanted: bool| {
                let rows: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == wanted).collect();
                all.select(Axis(0), &rows)
            };
            let other = Direction::difference_of_means(side(true).view(), side(false).view())?;
            cosine(&own.vector, &other.vector)
        },
    )?)
}

fn labelled(read: &AtSite) -> Result<(Array2<f32>, Vec<bool>), SignalError> {
    let labels = [
        vec![true; read.harmful.nrows()],
        vec![false; read.harmless.nrows()],
    ]
    .concat();
    Ok((stack(&[read.harmful.view(), read.harmless.view()])?, labels))
}

/// The cosine of both checkpoints' differences of means, layer by layer, at the last template token of test prompts.
fn chart(cx: &Context) -> Option<Chart> {
    let now = cx.subject.activations.as_ref().ok()?;
    let before = cx.baseline?.activations.as_ref().ok()?;
    let points = (0..now.layers().min(before.layers()))
        .filter_map(|layer| {
            let direction = |read: &Activations| {
                let [harmful, harmless] = read.at(Use::Test, Place::Template, layer).ok()?;
                Direction::difference_of_means(harmful, harmless).ok()
            };
            let value = direction(now)?.cosine(&direction(before)?).ok()?;
            Some((layer as f64, value))
        })
        .collect();
    Some(Chart::new(
        "Cosine with the baseline's direction by layer",
        "As measured, not corrected for noise, at the last template token.",
        "layer",
        "cosine",
        Plot::Line {
            series: vec![Series {
                name: "this checkpoint and the baseline".to_owned(),
                points,
                band: Vec::new(),
            }],
        },
    ))
}
