//! What a data set is like before anything is trained on it: lengths, ends, duplicates, what is lost, what rewards length.
//!
//! Always: the numbers are of the very ids and masks that training would see, with the same options; each has its `n`.
//! [`Survey::findings`] says in words what to look at. `candlescope data check` shows it.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::encode::Encoder;
use super::encoded::Dropped;
use super::error::{DataError, Reason};
use super::options::Truncation;
use super::quantities::{Quantiles, Share};
use super::repeats::repeats;
use super::rows::{Body, Dataset, Kind, Row};
use crate::text::Tokenizer;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Training would refuse it, or its numbers would not mean what they say.
    Problem,
    /// Training goes on, and something is lost or learned that may not be meant.
    Warning,
}

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What it is, and what to try.
    pub text: String,
}

/// A data set in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Survey {
    /// The file.
    pub file: String,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// What its rows are.
    pub kind: Kind,
    /// Rows read.
    pub rows: usize,
    /// Rows that training would see.
    pub usable: usize,
    /// Rows shortened to the limit.
    pub cut: usize,
    /// Rows left out, by reason.
    pub dropped: Dropped,
    /// Columns that nothing is read from.
    pub unread: Vec<String>,
    /// Tokens of all usable rows.
    pub tokens: usize,
    /// Those that are targets of the loss.
    pub supervised: usize,
    /// Tokens of each part: prompt, completion, chosen, rejected, row.
    pub lengths: BTreeMap<&'static str, Quantiles>,
    /// Answers whose last target ends a generation.
    pub ended: Option<Share>,
    /// Rows of plain strings that a model with a chat template reads without it.
    pub plain: usize,
    /// Rows that stand there already.
    pub duplicates: usize,
    /// Rows whose prompt stands there already, with other answers or the same.
    pub repeated_prompts: usize,
    /// Tokens of chosen less those of rejected.
    pub length_difference: Option<Quantiles>,
    /// Rows whose chosen answer is longer, of those where they differ in length.
    pub chosen_longer: Option<Share>,
    /// Rows labelled desirable.
    pub desirable: Option<Share>,
    /// What to look at.
    pub findings: Vec<Finding>,
}

impl Survey {
    /// Goes through all rows. Rows that cannot be used are counted, whatever the policy of the encoder.
    ///
    /// # Errors
    /// Of the template or tokenizer, about the first row that they refuse.
    pub fn of(data: &Dataset, encoder: &Encoder, tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let mut tally = Tally::default();
        let each = |row| {
            let mut tally = Tally::default();
            tally.row(row, encoder, tokenizer).map(|()| tally)
        };
        let rows: Vec<_> = data.rows.par_iter().map(each).collect();
        for row in rows {
            match row {
                Ok(row) => tally.absorb(row),
                Err(error) => tally.dropped.count(error)?,
            }
        }
        let (duplicates, repeated_prompts) = repeats(&data.rows);
        let mut survey = Self {
            file: data.file.to_string(),
            sha256: data.sha256.clone(),
            kind: data.kind,
            rows: data.rows.len(),
            usable: tally.usable,
            cut: tally.cut,
            dropped: tally.dropped,
            unread: data.unread.clone(),
            tokens: tally.tokens,
            supervised: tally.supervised,
            lengths: tally
                .lengths
                .into_iter()
                .filter_map(|(part, n)| Some((part, Quantiles::of(n)?)))
                .collect(),
            ended: Share::of(tally.ended, tally.answers),
            plain: data
                .rows
                .iter()
                .filter(|row| encoder.bypasses_template(row))
                .count(),
            duplicates,
            repeated_prompts,
            chosen_longer: Share::of(
                tally.difference.iter().filter(|d| **d > 0).count(),
                tally.difference.iter().filter(|d| **d != 0).count(),
            ),
            length_difference: Quantiles::of(tally.difference),
            desirable: Share::of(tally.desirable, tally.labelled),
            findings: Vec::new(),
        };
        survey.findings = survey.find(encoder);
        Ok(survey)
    }

    /// True if nothing keeps the data from being trained on.
    pub fn ok(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.level != Level::Problem)
    }

    fn find(&self, encoder: &Encoder) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut say = |level, text| found.push(Finding { level, text });
        if self.usable == 0 {
            say(Level::Problem, "no row can be trained on".into());
        }
        for (reason, dropped) in self.dropped.iter() {
            let level = match reason {
                Reason::OverLimit => Level::Warning,
                _ => Level::Problem,
            };
            say(
                level,
                format!(
                    "{} {}; the first: {}",
                    rows(dropped.rows),
                    reason.words(),
                    dropped.first
                ),
            );
        }
        if self.plain > 0 {
            let text = format!(
                "{} of plain strings: the model has a chat template, which they do not go through; --chat makes turns of them",
                rows(self.plain)
            );
            say(Level::Warning, text);
        }
        if self.cut > 0 {
            let lost = match encoder.options.truncation {
                Truncation::KeepStart => "their end, with the end token, is lost",
                _ => "their beginning is lost",
            };
            say(
                Level::Warning,
                format!(
                    "{} cut to {} tokens: {lost}",
                    rows(self.cut),
                    encoder.options.max_length
                ),
            );
        }
        if let Some(ended) = self.ended.as_ref().filter(|ended| ended.count < ended.n) {
            let text = format!(
                "{} of {} answers end with a token that ends a generation; from the others the model does not learn to stop",
                ended.count, ended.n
            );
            say(Level::Warning, text);
        }
        if self.duplicates > 0 {
            say(
                Level::Warning,
                format!(
                    "{} stand there already, word for word",
                    rows(self.duplicates)
                ),
            );
        }
        let biased = self
            .chosen_longer
            .as_ref()
            .filter(|s| s.interval[0] > 0.5 || s.interval[1] < 0.5);
        if let Some(share) = biased {
            let text = format!(
                "chosen is the longer answer in {:.0} % of rows (95 % interval {:.0} to {:.0}): a reward can be had by length alone",
                share.value() * 100.0,
                share.interval[0] * 100.0,
                share.interval[1] * 100.0
            );
            say(Level::Warning, text);
        }
        if let Some(share) = self
            .desirable
            .as_ref()
            .filter(|s| s.count == 0 || s.count == s.n)
        {
            say(
                Level::Problem,
                format!(
                    "{} of {} rows are labelled desirable; KTO needs both labels",
                    share.count, share.n
                ),
            );
        }
        found
    }
}

fn rows(n: usize) -> String {
    if n == 1 {
        "1 row".into()
    } else {
        format!("{n} rows")
    }
}

#[derive(Default)]
struct Tally {
    usable: usize,
    cut: usize,
    dropped: Dropped,
    tokens: usize,
    supervised: usize,
    lengths: BTreeMap<&'static str, Vec<i64>>,
    ended: usize,
    answers: usize,
    difference: Vec<i64>,
    desirable: usize,
    labelled: usize,
}

impl Tally {
    fn row(
        &mut self,
        row: &Row,
        encoder: &Encoder,
        tokenizer: &Tokenizer,
    ) -> Result<(), DataError> {
        let stop = |id: Option<&u32>| id.is_some_and(|id| tokenizer.stop_ids().contains(id));
        match &row.body {
            Body::Preference(..) => {
                let pair = encoder.pair(row)?;
                let (chosen, rejected) = (pair.chosen.len(), pair.rejected.len());
                self.length("prompt", pair.prompt.len());
                self.length("chosen", chosen);
                self.length("rejected", rejected);
                self.difference.push(chosen as i64 - rejected as i64);
                self.tokens += 2 * pair.prompt.len() + chosen + rejected;
                self.supervised += chosen + rejected;
                for answer in [&pair.chosen, &pair.rejected] {
                    self.answer(stop(answer.last()));
                }
            }
            Body::Unpaired(..) => {
                for one in encoder.labelled(row)? {
                    self.length("prompt", one.prompt.len());
                    self.length("completion", one.completion.len());
                    self.tokens += one.prompt.len() + one.completion.len();
                    self.supervised += one.completion.len();
                    self.answer(stop(one.completion.last()));
                    self.labelled += 1;
                    self.desirable += usize::from(one.label);
                }
            }
            Body::Prompt(_) => {
                let prompt = encoder.prompt(row)?.prompt;
                self.length("prompt", prompt.len());
                self.tokens += prompt.len();
            }
            Body::Text(_) | Body::Messages(_) | Body::PromptCompletion(..) => {
                let cut = encoder.example(row)?;
                let (ids, supervised) = (&cut.item.ids, &cut.item.supervised);
                let targets = cut.item.targets();
                if matches!(row.body, Body::PromptCompletion(..)) {
                    let before = supervised.iter().position(|s| *s).unwrap_or(ids.len());
                    self.length("prompt", before);
                    self.length("completion", targets);
                } else {
                    self.length("row", ids.len());
                    self.length("supervised", targets);
                }
                self.tokens += ids.len();
                self.supervised += targets;
                self.cut += usize::from(cut.cut);
                let last = supervised.iter().rposition(|s| *s);
                self.answer(stop(last.map(|at| &ids[at])));
            }
        }
        Ok(())
    }

    fn absorb(&mut self, row: Self) {
        self.usable += 1;
        self.cut += row.cut;
        self.tokens += row.tokens;
        self.supervised += row.supervised;
        for (part, lengths) in row.lengths {
            self.lengths.entry(part).or_default().extend(lengths);
        }
        self.ended += row.ended;
        self.answers += row.answers;
        self.difference.extend(row.difference);
        self.desirable += row.desirable;
        self.labelled += row.labelled;
    }

    fn length(&mut self, part: &'static str, tokens: usize) {
        self.lengths.entry(part).or_default().push(tokens as i64);
    }

    fn answer(&mut self, ended: bool) {
        self.answers += 1;
        self.ended += usize::from(ended);
    }
}
