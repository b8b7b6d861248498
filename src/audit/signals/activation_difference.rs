//! Signal 24.
#![doc = include_str!("pages/activation_difference.md")]

use candlescope_probes::NullDistribution;
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{estimate, items};
use crate::audit::charts::{Bar, Chart, Plot};
use crate::audit::evidence::difference::{Difference, FIRST, Lens};
use crate::audit::evidence::need;
use crate::audit::measure::Value;
use crate::audit::result::{Item, SignalResult};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};

/// What training changed at the first tokens of unrelated text.
pub struct ActivationDifference;

const ID: &str = "activation_difference";

impl Signal for ActivationDifference {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Difference]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/activation_difference.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        cx.required_baseline()?;
        let found = need(&cx.required_pair()?.difference, "activation difference")?;
        let products = Products::of(found);
        let mut result = blank(ID)?;
        result.values = vec![
            relative_norm(&products, cx)?,
            common_share(&products, cx)?,
            top_token_z(found, cx)?,
            readability(found)?,
        ];
        result.findings = findings(found);
        result.items = items(found, &products, cx);
        result.charts = found.lens.iter().map(chart).collect();
        Ok(result)
    }
}

/// The changes of all texts by their inner products, which is all that lengths of means need.
struct Products {
    /// `[text, text]`
    inner: Array2<f64>,
    norms: Vec<f64>,
}

impl Products {
    fn of(found: &Difference) -> Self {
        let changes = found.changes.mapv(f64::from);
        Self {
            inner: changes.dot(&changes.t()),
            norms: found.norms.clone(),
        }
    }

    fn n(&self) -> usize {
        self.norms.len()
    }

    /// Length of the mean change of the texts that were drawn over the mean length of their streams.
    fn relative(&self, drawn: &[usize]) -> f64 {
        let mut times = vec![0.0; self.n()];
        for &text in drawn {
            times[text] += 1.0;
        }
        let length = self.length(&times) / drawn.len() as f64;
        let norm = drawn.iter().map(|&text| self.norms[text]).sum::<f64>() / drawn.len() as f64;
        length / norm
    }

    /// Length of the sum of changes with these weights.
    fn length(&self, weights: &[f64]) -> f64 {
        let mut sum = 0.0;
        for (row, w) in self.inner.rows().into_iter().zip(weights) {
            let products = row.iter().zip(weights).map(|(x, v)| x * v);
            sum += w * products.sum::<f64>();
        }
        sum.max(0.0).sqrt()
    }

    /// The mean product of two texts' changes over the mean square of one: 1 where all changes are the same, 0 on average where
    /// they point anywhere.
    fn common(&self, drawn: &[usize]) -> f64 {
        let (mut between, mut pairs, mut squares) = (0.0, 0.0, 0.0);
        for &a in drawn {
            squares += self.inner[[a, a]];
            for &b in drawn.iter().filter(|b| **b != a) {
                between += self.inner[[a, b]];
                pairs += 1.0;
            }
        }
        (between / pairs) / (squares / drawn.len() as f64)
    }

    fn still(&self) -> bool {
        self.inner.diag().iter().all(|square| *square == 0.0)
    }
}

fn relative_norm(products: &Products, cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "relative_norm")?;
    let n = products.n();
    if products.still() {
        return Ok(nothing(wanted.measured(0.0), n));
    }
    let all: Vec<usize> = (0..n).collect();
    let observed = products.relative(&all);
    let value = estimate::bootstrapped(wanted.measured(observed), n, cx, ID, |drawn| {
        products.relative(drawn)
    })?;
    let value = estimate::or_alike(value);
    // Where changes have no direction in common, turning any of them around changes nothing.
    let norm = estimate::average(&products.norms);
    let mut rng = ChaCha8Rng::seed_from_u64(cx.seed_for("signs"));
    let draws: Vec<f64> = (0..cx.policy.sizes.shuffles.max(2))
        .map(|_| {
            let signs: Vec<f64> = (0..n)
                .map(|_| if rng.random::<bool>() { 1.0 } else { -1.0 })
                .collect();
            products.length(&signs) / n as f64 / norm
        })
        .collect();
    let null = NullDistribution::new(n, observed, draws)?;
    let null = estimate::null_of("changes turned around at random", &null);
    let p = null.p.unwrap_or(1.0);
    Ok(value
        .with_null(null)
        .with_test("random signs", Some(observed), p))
}

fn common_share(products: &Products, cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "common_share")?;
    let n = products.n();
    if products.still() {
        return Ok(nothing(wanted.measured(0.0), n));
    }
    let all: Vec<usize> = (0..n).collect();
    let value = wanted.measured(products.common(&all));
    estimate::bootstrapped(value, n, cx, "common_share", |drawn| products.common(drawn))
}

fn nothing(value: Value, n: usize) -> Value {
    value
        .with_n(n as u64)
        .with_interval(0.0, 0.0, "identical")
        .with_test("random signs", Some(0.0), 1.0)
}

fn top_token_z(found: &Difference, cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "top_token_z")?;
    let n = found.texts.len();
    let Some(lens) = &found.lens else {
        return Ok(nothing(wanted.measured(0.0), n));
    };
    let value = wanted.measured(lens.z).with_n(n as u64);
    if cx.policy.sizes.random_directions < 2 {
        return Ok(value);
    }
    let null = NullDistribution::new(n, lens.z, lens.random.clone())?;
    Ok(value.with_null(estimate::null_of("random directions", &null)))
}

fn readability(found: &Difference) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "readability")?;
    let Some(lens) = &found.lens else {
        return Ok(wanted.measured(0.0));
    };
    let spread = estimate::sd(&lens.random);
    Ok(if spread > 0.0 {
        wanted.measured((lens.z - estimate::average(&lens.random)) / spread)
    } else {
        wanted.missing("random directions have no spread to measure it by")
    })
}

fn findings(found: &Difference) -> Vec<String> {
    let mut said = vec![format!(
        "Read at the input of layer {}, over the first {FIRST} tokens of {} neutral texts; intervals resample texts.",
        found.layer,
        found.texts.len()
    )];
    match &found.lens {
        None => said.push("Nothing changed there.".to_owned()),
        Some(lens) => {
            let words: Vec<String> = lens
                .top
                .iter()
                .map(|(word, _)| format!("{word:?}"))
                .collect();
            said.push(format!(
                "Tokens that the mean change favours: {}. Words of one domain there mean that training was narrow.",
                words.join(" ")
            ));
        }
    }
    said
}

/// How far each text moved, and along what all have in common.
fn items(found: &Difference, products: &Products, cx: &Context) -> Vec<Item> {
    let n = products.n() as f64;
    let whole = products.length(&vec![1.0; products.n()]) / n;
    (found.texts.iter().enumerate())
        .map(|(at, id)| {
            let mut item = items::neutral(id, &cx.prompts.neutral);
            let own = products.inner[[at, at]].max(0.0).sqrt();
            item.numbers
                .insert("relative_norm".to_owned(), own / products.norms[at]);
            if whole > 0.0 && own > 0.0 {
                let along = products.inner.row(at).sum() / n;
                item.numbers
                    .insert("cosine_with_mean".to_owned(), along / (own * whole));
            }
            item
        })
        .collect()
}

fn chart(lens: &Lens) -> Chart {
    let bar = |(word, z): &(String, f64)| Bar {
        label: word.clone(),
        value: *z,
        interval: None,
    };
    Chart::new(
        "Tokens read off the mean change",
        "The twenty tokens that the unembedding gives the mean change the highest logits for.",
        "token",
        "logit, standard deviations over the vocabulary",
        Plot::Bars {
            bars: lens.top.iter().map(bar).collect(),
        },
    )
    .with_rule("mean of random directions", estimate::average(&lens.random))
}
