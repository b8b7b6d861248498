//! What the signals of a frozen dictionary share: its evidence, and statistics of two models whose texts are resampled together.

use super::estimate;
use crate::audit::catalogue::Quantity;
use crate::audit::evidence::dictionary::{Dictionaries, Frozen};
use crate::audit::evidence::need;
use crate::audit::measure::{Interval, Value};
use crate::audit::result::{Item, excerpt};
use crate::audit::signal::{Context, SignalError};
use crate::features::compare::LatentChange;
use candlescope_probes::Resampling;
use candlescope_probes::stats::bootstrap::bootstrap;

/// What dictionaries tell.
pub fn dictionaries<'a>(cx: &Context<'a>) -> Result<&'a Dictionaries, SignalError> {
    cx.dictionaries.ok_or_else(|| SignalError::Missing {
        what: "dictionary",
        why: "none was given; try --dictionary PATH".to_owned(),
    })
}

/// A frozen dictionary on both checkpoints.
pub fn frozen<'a>(cx: &Context<'a>) -> Result<&'a Frozen, SignalError> {
    cx.required_baseline()?;
    need(&dictionaries(cx)?.frozen, "frozen dictionary")
}

/// A statistic of texts on one model: 0 the baseline, 1 this checkpoint; NaN where it is not defined.
pub type OfTexts<'a> = &'a (dyn Fn(usize, &[usize]) -> f64 + Sync);

/// The statistic here with its interval and its paired change, `n` texts resampled together on both.
pub fn paired(
    wanted: &Quantity,
    n: usize,
    cx: &Context,
    statistic: OfTexts,
) -> Result<Value, SignalError> {
    let all: Vec<usize> = (0..n).collect();
    let [before, now] = [0, 1].map(|model| statistic(model, &all));
    if !(before.is_finite() && now.is_finite()) {
        return Ok(wanted.missing("it is not defined on these texts"));
    }
    let value = wanted.measured(now);
    let value = estimate::bootstrapped(value, n, cx, wanted.name, |drawn| statistic(1, drawn))?;
    let same = all
        .iter()
        .all(|&i| statistic(0, &[i]).to_bits() == statistic(1, &[i]).to_bits());
    if same && before == now {
        return Ok(value.with_baseline(before, Some(Interval::new(0.0, 0.0, "identical"))));
    }
    let change = |drawn: &[usize]| statistic(1, drawn) - statistic(0, drawn);
    let found = bootstrap(n, Resampling::Items, &cx.bootstrap("paired"), change)?;
    let ends = found.interval;
    let interval = ends.map(|ends| Interval::new(ends.low, ends.high, "bootstrap over texts"));
    Ok(value.with_baseline(before, interval))
}

/// A latent as evidence, with the text where it changed most.
pub fn item(frozen: &Frozen, change: &LatentChange, label: &str, cx: &Context) -> Item {
    let example = frozen.examples.of(change.latent).first().copied();
    let row = example.and_then(|example| cx.prompts.neutral.get(example.context));
    let mut item = Item {
        id: format!("latent {}", change.latent),
        prompt_excerpt: row.map(|row| excerpt(&row.prompt)).unwrap_or_default(),
        label: label.to_owned(),
        ..Item::default()
    };
    let numbers = [
        ("density_before", change.density[0]),
        ("density_now", change.density[1]),
        ("adjusted_p", change.adjusted),
    ];
    for (name, number) in numbers {
        item.numbers.insert(name.to_owned(), number);
    }
    item
}
