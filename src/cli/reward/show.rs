//! A report on reward models as tables: a line for each number, with its interval and what it is of.

use super::super::output::{Out, Table};
use crate::{
    text::visible::visible,
    train::{
        Report,
        loss::{
            calibration::{Bin, Bucket, Calibration},
            interval::{By, Estimate},
        },
        report::Together,
    },
};

/// How a number is written.
#[derive(Clone, Copy)]
enum As {
    Percent,
    Plain,
}

impl As {
    fn text(self, value: f64) -> String {
        match self {
            Self::Percent => format!("{:.1} %", value * 100.0),
            Self::Plain => format!("{value:.4}"),
        }
    }

    fn interval(self, ends: Option<[f64; 2]>) -> String {
        let Some([low, high]) = ends else {
            return "-".to_owned();
        };
        match self {
            Self::Percent => format!("{:.1} to {:.1}", low * 100.0, high * 100.0),
            Self::Plain => format!("{low:.4} to {high:.4}"),
        }
    }
}

pub fn table(report: &Report, out: &Out) -> anyhow::Result<()> {
    for judged in &report.models {
        let numbers = &judged.numbers;
        let pairs = format!("{} pairs of {}", numbers.n, report.data.join(", "));
        let title = format!("{}: {pairs}", judged.model);
        out.line(&out.paint("1", &visible(&title)))?;
        all(numbers).print(out)?;
        out.line("")?;
        reliability(&numbers.reliability).print(out)?;
        out.line("")?;
        lengths(numbers).print(out)?;
        out.line("")?;
    }
    match &report.ensemble {
        Some(together) => ensemble(together, report, out),
        None => Ok(()),
    }
}

fn all(numbers: &Calibration) -> Table {
    let mut table = Table::new(["", "value", "95 % interval", "n", "what it is"]);
    let mut row = |name: &str, value: Option<&Estimate>, how: As, note: &str| {
        let Some(value) = value else {
            let cells = [name, "-", "-", "-", "the scores or the lengths never vary"];
            table.row(cells.map(str::to_owned));
            return;
        };
        let by = match value.by {
            By::Wilson => "",
            By::Bootstrap => " (bootstrap)",
        };
        table.row([
            name.to_owned(),
            how.text(value.value),
            how.interval(value.interval) + by,
            value.n.to_string(),
            note.to_owned(),
        ]);
    };
    let null = numbers.ece_if_calibrated;
    let expected = format!(
        "expected calibration error in 10 bins; a calibrated model would show {:.3}, seldom over {:.3}",
        null.mean, null.high
    );
    row(
        "accuracy",
        Some(&numbers.accuracy),
        As::Percent,
        "pairs whose chosen answer scores higher",
    );
    row(
        "margin",
        Some(&numbers.margin),
        As::Plain,
        "mean of chosen less rejected score",
    );
    row("ECE", Some(&numbers.ece), As::Plain, &expected);
    row(
        "longer is chosen",
        numbers.longer_chosen.as_ref(),
        As::Percent,
        "the data, where lengths differ",
    );
    row(
        "longer is preferred",
        numbers.longer_preferred.as_ref(),
        As::Percent,
        "the model, on the same pairs",
    );
    row(
        "length correlation",
        numbers.length_correlation.as_ref(),
        As::Plain,
        "score and tokens, over all answers (Pearson)",
    );
    row(
        "partial correlation",
        numbers.partial_correlation.as_ref(),
        As::Plain,
        "score and being chosen, length held constant",
    );
    row(
        "partial accuracy",
        Some(&numbers.accuracy_without_length),
        As::Percent,
        "of scores less what length explains of them",
    );
    table
}

/// Accuracy, its interval and n of some pairs.
fn cells(bucket: &Bucket) -> [String; 3] {
    let of = |text: &dyn Fn(&Estimate) -> String| {
        bucket
            .accuracy
            .as_ref()
            .map_or_else(|| "-".to_owned(), text)
    };
    [
        of(&|a| As::Percent.text(a.value)),
        of(&|a| As::Percent.interval(a.interval)),
        bucket.n.to_string(),
    ]
}

fn reliability(bins: &[Bin]) -> Table {
    let mut table = Table::new(["σ(|margin|)", "mean", "accuracy", "95 % interval", "n"]);
    for bin in bins.iter().filter(|bin| bin.bucket.n > 0) {
        let [accuracy, interval, n] = cells(&bin.bucket);
        let range = format!("{:.2} to {:.2}", bin.bucket.low, bin.bucket.high);
        let mean = bin
            .confidence
            .map_or_else(String::new, |c| format!("{c:.3}"));
        table.row([range, mean, accuracy, interval, n]);
    }
    table
}

fn lengths(numbers: &Calibration) -> Table {
    let mut table = Table::new(["answers differ by", "accuracy", "95 % interval", "n"]);
    let mut row = |name: String, bucket: &Bucket| {
        let [accuracy, interval, n] = cells(bucket);
        table.row([name, accuracy, interval, n]);
    };
    for bucket in &numbers.by_length {
        row(format!("{} to {} tokens", bucket.low, bucket.high), bucket);
    }
    row("chosen is longer".into(), &numbers.chosen_longer);
    row("chosen is shorter".into(), &numbers.chosen_shorter);
    table
}

fn ensemble(together: &Together, report: &Report, out: &Out) -> anyhow::Result<()> {
    let agreement = &together.agreement;
    let title = format!("together: {} models", agreement.members);
    out.line(&out.paint("1", &title))?;
    let mut table = Table::new(["", "accuracy", "95 % interval", "margin", "ECE"]);
    let mut row = |name: &str, numbers: &Calibration| {
        table.row([
            name.to_owned(),
            As::Percent.text(numbers.accuracy.value),
            As::Percent.interval(numbers.accuracy.interval),
            As::Plain.text(numbers.margin.value),
            As::Plain.text(numbers.ece.value),
        ]);
    };
    for judged in &report.models {
        row(&judged.model, &judged.numbers);
    }
    row("mean", &together.mean);
    row("min", &together.min);
    row(&format!("UWO, λ {}", together.lambda), &together.uwo);
    table.print(out)?;
    out.line("")?;
    let mut table = Table::new(["", "value", "95 % interval", "n", "what it is"]);
    let mut row = |name: &str, value: Option<&Estimate>, how: As, note: &str| {
        let text = |of: &dyn Fn(&Estimate) -> String| value.map_or_else(|| "-".to_owned(), of);
        table.row([
            name.to_owned(),
            text(&|v| how.text(v.value)),
            text(&|v| how.interval(v.interval)),
            text(&|v| v.n.to_string()),
            note.to_owned(),
        ]);
    };
    row(
        "two agree",
        Some(&agreement.pairwise),
        As::Percent,
        "two models prefer the same answer, mean over couples",
    );
    row(
        "all agree",
        Some(&agreement.unanimous),
        As::Percent,
        "pairs on which all prefer the same answer",
    );
    row(
        "most are right",
        agreement.majority.as_ref(),
        As::Percent,
        "of the pairs on which not all agree",
    );
    row(
        "deviation",
        Some(&agreement.deviation),
        As::Plain,
        "of the margin over models, mean over pairs",
    );
    table.print(out)
}
