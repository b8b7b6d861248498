//! What `sae eval` measures beside: how much a few latents say about a label, and where latents fall silent for others.

use serde::Serialize;

use crate::activations::Policy;
use crate::cli::{
    interrupt,
    output::{Out, Table},
    progress::Bar,
};
use crate::features::{
    AbsorptionOptions, LetterAbsorptions, LetterTokens, MeanCodes, SPARSE_K, SparseProbe, Splice,
    absorption, sparse_probing,
};
use crate::model::{Checkpoint, fetch::Progress as _};
use crate::probing::{Labelled, Splits, encode};

/// Texts of one pass.
const BATCH: usize = 8;

/// What else is measured.
#[derive(clap::Args, Debug)]
#[group(skip)]
pub struct FurtherArgs {
    /// Also sparse probing (k = 1, 2, 5) on built-in suites, each a class: harmful, harmless, lookalike, neutral
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    probe_suites: Vec<String>,
    /// Also feature absorption by first letters, on up to so many words of each letter from the tokenizer
    #[arg(long, value_name = "N")]
    letters: Option<usize>,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct Further {
    /// Of the suites.
    sparse_probing: Option<Probed>,
    /// Of the letters.
    absorption: Option<LetterAbsorptions>,
}

/// Sparse probes on codes, and on as many plain activations.
#[derive(Debug, Serialize)]
struct Probed {
    data: String,
    positive: String,
    train: usize,
    test: usize,
    latents: Vec<SparseProbe>,
    activations: Vec<SparseProbe>,
}

impl FurtherArgs {
    pub fn run(
        &self,
        model: &Checkpoint,
        splice: &Splice,
        policy: &Policy,
        out: &Out,
    ) -> anyhow::Result<Further> {
        let bar = Bar::counting(out);
        let mut further = Further {
            sparse_probing: None,
            absorption: None,
        };
        if !self.probe_suites.is_empty() {
            bar.start("probing latents", None);
            further.sparse_probing = Some(self.probed(model, splice, policy)?);
            bar.done();
        }
        interrupt::check()?;
        if let Some(most) = self.letters {
            bar.start("reading first letters", None);
            let words = LetterTokens::of(model, splice, most, BATCH)?;
            let options = AbsorptionOptions::default();
            let found = absorption(
                splice.dictionary(),
                words.activations.view(),
                &words.letters,
                &options,
            )?;
            further.absorption = Some(found);
            bar.done();
        }
        interrupt::check()?;
        Ok(further)
    }

    fn probed(
        &self,
        model: &Checkpoint,
        splice: &Splice,
        policy: &Policy,
    ) -> anyhow::Result<Probed> {
        let names: Vec<&str> = self.probe_suites.iter().map(String::as_str).collect();
        let data = Labelled::suites(&names)?;
        let positive = data.positive(None)?;
        let splits = Splits::of(&data, positive, 0)?;
        let texts: Vec<Vec<u32>> = encode(model, &data.rows)?
            .into_iter()
            .map(|row| row.ids)
            .collect();
        let means = MeanCodes::of(model, splice, &texts, policy, BATCH)?;
        let labels = data.labels(positive);
        let train = [&splits.train[..], &splits.validation].concat();
        let sides = [&train[..], &splits.test];
        Ok(Probed {
            data: data.name.clone(),
            positive: data.classes[positive].clone(),
            train: train.len(),
            test: splits.test.len(),
            latents: sparse_probing(means.codes.view(), &labels, sides, &SPARSE_K)?,
            activations: sparse_probing(means.activations.view(), &labels, sides, &SPARSE_K)?,
        })
    }
}

/// Prints what was measured.
pub fn show(further: &Further, out: &Out) -> anyhow::Result<()> {
    if let Some(probed) = &further.sparse_probing {
        out.line(&format!(
            "\nsparse probing: `{}` in {}, fitted on {} rows, judged on {}",
            probed.positive, probed.data, probed.train, probed.test
        ))?;
        let mut table = Table::new(["k", "accuracy", "AUROC", "of", "which"]);
        for (of, probes) in [
            ("latents", &probed.latents),
            ("activations", &probed.activations),
        ] {
            for probe in probes {
                let which: Vec<String> = probe.chosen.iter().map(ToString::to_string).collect();
                let range = probe.accuracy.interval;
                table.row([
                    probe.k.to_string(),
                    format!(
                        "{:.3} [{:.3}, {:.3}]",
                        probe.accuracy.rate, range.low, range.high
                    ),
                    format!("{:.3}", probe.auroc.value),
                    of.into(),
                    which.join(", "),
                ]);
            }
        }
        table.print(out)?;
    }
    let Some(found) = &further.absorption else {
        return Ok(());
    };
    let mean = |v: Option<f64>| v.map_or_else(|| "undefined".into(), |v| format!("{v:.3}"));
    out.line(&format!(
        "\nfeature absorption by first letters: full {}, fraction {}, latents a letter {}; {} letters, left out {}",
        mean(found.full),
        mean(found.fraction),
        mean(found.split),
        found.letters.len(),
        found.left_out.iter().collect::<String>()
    ))?;
    let mut table = Table::new(["letter", "absorbed", "fraction", "probe F1", "main latents"]);
    for letter in &found.letters {
        let main: Vec<String> = letter.main.iter().map(ToString::to_string).collect();
        table.row([
            letter.letter.to_string(),
            format!("{} of {}", letter.absorbed, letter.tokens),
            format!("{:.3}", letter.fraction),
            format!("{:.3}", letter.probe_f1),
            main.join(", "),
        ]);
    }
    table.print(out)
}
