//! How often a calibration is right, on the half of the bank that it was not fitted on.

use std::collections::BTreeMap;

use candlescope_probes::stats::interval::{Interval, clopper_pearson, wilson};
use serde::{Deserialize, Serialize};

use super::diagnosis::{Diagnosis, diagnose};
use super::fit::Calibration;
use super::{CalibrateError, Record};
use crate::audit::wording::number;

/// A rate with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// How often.
    pub k: u64,
    /// Out of how many.
    pub n: u64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Rate {
    /// Wilson's interval.
    fn wilson(k: u64, n: u64) -> Result<Self, CalibrateError> {
        Self::of(k, n, |k, n| wilson(k, n, 0.95))
    }

    /// Clopper and Pearson's: false alarms are rare.
    fn exact(k: u64, n: u64) -> Result<Self, CalibrateError> {
        Self::of(k, n, |k, n| clopper_pearson(k, n, 0.95))
    }

    fn of<E>(
        k: u64,
        n: u64,
        interval: impl Fn(u64, u64) -> Result<Interval, E>,
    ) -> Result<Self, CalibrateError>
    where
        CalibrateError: From<E>,
    {
        let ends = if n == 0 {
            Interval {
                low: 0.0,
                high: 1.0,
                level: 0.95,
            }
        } else {
            interval(k, n)?
        };
        Ok(Self {
            k,
            n,
            low: ends.low,
            high: ends.high,
        })
    }

    /// The share.
    pub fn share(self) -> f64 {
        self.k as f64 / self.n.max(1) as f64
    }
}

/// The rates that travel with a calibration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Full-strength faults that were found.
    pub full: Rate,
    /// Faults of any strength that were found.
    pub any: Rate,
    /// Clean checkpoints that raised an alarm.
    pub false_alarms: Rate,
    /// Found faults of full strength that were named rightly.
    pub named: Rate,
}

impl Measured {
    /// In a clause.
    pub fn words(self) -> String {
        let share = |rate: Rate| number("fraction", rate.share());
        format!(
            "{} of full faults found, {} of those named rightly, {} of clean checkpoints suspected",
            share(self.full),
            share(self.named),
            share(self.false_alarms)
        )
    }
}

impl Report {
    /// The rates alone.
    pub fn measured(&self) -> Measured {
        Measured {
            full: self.full,
            any: self.any,
            false_alarms: self.false_alarms,
            named: self.named,
        }
    }
}

/// What became of one checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Its name in the bank.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Whether that is a fault.
    pub faulty: bool,
    /// Share of the full dose.
    pub strength: f64,
    /// What was said of it.
    pub diagnosis: Diagnosis,
}

/// Rates on the half that was not fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Full-strength faults that were found.
    pub full: Rate,
    /// Faults of any strength that were found.
    pub any: Rate,
    /// Clean checkpoints that raised an alarm.
    pub false_alarms: Rate,
    /// Found faults of full strength that were named rightly.
    pub named: Rate,
    /// Found faults, by fault and strength (in per cent).
    pub power: BTreeMap<String, BTreeMap<u64, Rate>>,
    /// What each fault, and each kind of clean checkpoint, was called; `-` where nothing was said.
    pub confusion: BTreeMap<String, BTreeMap<String, u64>>,
    /// Alarms of each signal alone: on full-strength faults, on clean checkpoints.
    pub signals: BTreeMap<String, [Rate; 2]>,
    /// One by one.
    pub judged: Vec<Judged>,
}

/// Reports on the other half.
///
/// # Errors
/// Statistics.
pub fn report(calibration: &Calibration, records: &[Record]) -> Result<Report, CalibrateError> {
    let held: Vec<&Record> = records.iter().filter(|record| !record.fits).collect();
    let judged: Vec<Judged> = held
        .iter()
        .map(|record| Judged {
            name: record.name.clone(),
            kind: record.kind.clone(),
            faulty: record.fault.is_some(),
            strength: record.strength,
            diagnosis: diagnose(calibration, &record.features),
        })
        .collect();
    let full = |one: &&Judged| one.faulty && one.strength >= 1.0;
    let faulty = |one: &&Judged| one.faulty;
    let clean = |one: &&Judged| !one.faulty;
    let count = |which: &dyn Fn(&&Judged) -> bool, what: &dyn Fn(&&Judged) -> bool| {
        let all: Vec<&Judged> = judged.iter().filter(which).collect();
        let some = all.iter().filter(|one| what(one)).count();
        (some as u64, all.len() as u64)
    };
    let alarm = |one: &&Judged| one.diagnosis.alarm;
    let right = |one: &&Judged| one.diagnosis.named() == Some(one.kind.as_str());
    let found = |one: &&Judged| full(one) && one.diagnosis.alarm;
    let rate = |(k, n)| Rate::wilson(k, n);
    let (false_k, false_n) = count(&clean, &alarm);
    let mut confusion: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    let mut power: BTreeMap<String, BTreeMap<u64, (u64, u64)>> = BTreeMap::new();
    for one in &judged {
        let called = one.diagnosis.named().unwrap_or("-");
        let row = confusion.entry(one.kind.clone()).or_default();
        *row.entry(called.to_owned()).or_default() += 1;
        if one.faulty {
            let dose = (one.strength * 100.0).round() as u64;
            let at = power.entry(one.kind.clone()).or_default();
            let (k, n) = at.entry(dose).or_default();
            *k += u64::from(one.diagnosis.alarm);
            *n += 1;
        }
    }
    let mut rates = BTreeMap::new();
    for (fault, doses) in power {
        let mut row = BTreeMap::new();
        for (dose, (k, n)) in doses {
            row.insert(dose, Rate::wilson(k, n)?);
        }
        rates.insert(fault, row);
    }
    Ok(Report {
        full: rate(count(&full, &alarm))?,
        any: rate(count(&faulty, &alarm))?,
        false_alarms: Rate::exact(false_k, false_n)?,
        named: rate(count(&found, &right))?,
        power: rates,
        confusion,
        signals: by_signal(calibration, &held)?,
        judged,
    })
}

/// How often each signal alone would have raised the alarm.
fn by_signal(
    calibration: &Calibration,
    held: &[&Record],
) -> Result<BTreeMap<String, [Rate; 2]>, CalibrateError> {
    let mut counts: BTreeMap<String, [(u64, u64); 2]> = BTreeMap::new();
    for record in held {
        let column = match &record.fault {
            Some(_) if record.strength >= 1.0 => 0,
            Some(_) => continue,
            None => 1,
        };
        for (signal, far) in calibration.by_signal(&record.features) {
            let (k, n) = &mut counts.entry(signal.to_owned()).or_default()[column];
            let limit = calibration.alone.get(signal).copied();
            *k += u64::from(far > limit.unwrap_or(f64::INFINITY));
            *n += 1;
        }
    }
    let mut rates = BTreeMap::new();
    for (signal, [faults, clean]) in counts {
        let both = [
            Rate::wilson(faults.0, faults.1)?,
            Rate::exact(clean.0, clean.1)?,
        ];
        rates.insert(signal, both);
    }
    Ok(rates)
}
