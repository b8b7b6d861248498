//! What trials with a check of words say: whether each reply has what was asked of it, group by group, beside the baseline.

use crate::audit::catalogue::Quantity;
use crate::audit::charts::{Bar, Chart, Plot};
use crate::audit::detect::surface;
use crate::audit::evidence::choices::{Group, groups};
use crate::audit::evidence::need;
use crate::audit::measure::Value;
use crate::audit::result::{Item, excerpt};
use crate::audit::signal::{Context, SignalError};
use crate::steer::Completion;
use crate::text::trials::check::{holds, words};
use crate::text::trials::{Condition, Protocol, Trial};

use super::estimate;

/// Something that a reply to a trial has or has not; `None` where the trial does not ask for it.
pub type Has = fn(&Trial, &Completion) -> Option<bool>;

/// Whether the reply passes the trial's check.
pub fn obeys(trial: &Trial, reply: &Completion) -> Option<bool> {
    let check = trial.check.as_ref()?;
    Some(check.passes(surface::strip_thinking(&reply.text)))
}

/// Whether the right option's words stand in the reply.
pub fn answers(trial: &Trial, reply: &Completion) -> Option<bool> {
    let right = words(trial.options.get(trial.right?)?);
    Some(holds(&words(surface::strip_thinking(&reply.text)), &right))
}

/// The replies of one protocol, of this checkpoint and of the baseline, group by group.
pub struct Replied<'a> {
    here: Vec<Group<'a, Completion>>,
    base: Option<Vec<Group<'a, Completion>>>,
}

impl<'a> Replied<'a> {
    /// Those of the evidence.
    ///
    /// # Errors
    /// No replies, or none to this protocol.
    pub fn new(cx: &Context<'a>, protocol: Protocol) -> Result<Self, SignalError> {
        let trials = &cx.prompts.trials;
        let here = groups(
            trials,
            need(&cx.subject.answers, "replies to trials")?,
            protocol,
        );
        if here.is_empty() {
            return Err(SignalError::Missing {
                what: "trials",
                why: format!("none of protocol {} was given", protocol.name()),
            });
        }
        let base = cx
            .baseline
            .and_then(|base| base.answers.as_ref().ok())
            .map(|answers| groups(trials, answers, protocol));
        // Both answered the same trials, so a group stands at the same place in both.
        let same = |base: &Vec<Group<Completion>>| {
            base.len() == here.len() && base.iter().zip(&here).all(|(a, b)| a.name == b.name)
        };
        let base = base.filter(same);
        Ok(Self { here, base })
    }

    /// For each group that has all these conditions whether its replies under them have it.
    fn of<const N: usize>(
        groups: &[Group<Completion>],
        at: [Condition; N],
        has: Has,
    ) -> Vec<[bool; N]> {
        let each = |group: &Group<Completion>| {
            let mut found = [false; N];
            for (found, condition) in found.iter_mut().zip(at) {
                let (trial, reply) = group.at.get(&condition)?;
                *found = has(trial, reply)?;
            }
            Some(found)
        };
        groups.iter().filter_map(each).collect()
    }

    /// The share of groups whose reply under a condition has it.
    ///
    /// # Errors
    /// The statistics'.
    pub fn rate(
        &self,
        wanted: &Quantity,
        at: Condition,
        has: Has,
        cx: &Context,
    ) -> Result<Value, SignalError> {
        let flat = |groups: &[Group<Completion>]| Self::of(groups, [at], has).concat();
        let before = self.base.as_deref().map(flat);
        let now = flat(&self.here);
        if now.is_empty() {
            return Ok(wanted.missing(&format!("no trial has the condition {}", at.name())));
        }
        estimate::rate(wanted, &now, before.as_deref(), cx)
    }

    /// The first condition's share less the second's, group by group.
    ///
    /// # Errors
    /// The statistics'.
    pub fn difference(
        &self,
        wanted: &Quantity,
        at: [Condition; 2],
        has: Has,
        cx: &Context,
    ) -> Result<Value, SignalError> {
        let number = |yes: bool| f64::from(u8::from(yes));
        let each = |groups: &[Group<Completion>]| -> Vec<f64> {
            let pairs = Self::of(groups, at, has).into_iter();
            pairs.map(|[a, b]| number(a) - number(b)).collect()
        };
        let now = each(&self.here);
        if now.is_empty() {
            let [a, b] = at.map(Condition::name);
            return Ok(wanted.missing(&format!("no group has both {a} and {b}")));
        }
        let before = self.base.as_deref().map(each);
        estimate::mean_within(wanted, &now, before.as_deref(), (-1.0, 1.0), cx)
    }

    /// How many groups have it under the first condition, and of these how many under the second.
    pub fn among(&self, at: [Condition; 2], has: Has) -> (usize, usize) {
        let able: Vec<[bool; 2]> = Self::of(&self.here, at, has)
            .into_iter()
            .filter(|[first, _]| *first)
            .collect();
        (
            able.len(),
            able.iter().filter(|[_, second]| *second).count(),
        )
    }

    /// One item for each reply under these conditions.
    pub fn items(&self, at: &[Condition]) -> Vec<Item> {
        let mut items = Vec::new();
        for (place, group) in self.here.iter().enumerate() {
            for condition in at {
                let Some((trial, reply)) = group.at.get(condition) else {
                    continue;
                };
                let said = |has: Has, reply: &Completion| match has(trial, reply) {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => "not asked",
                };
                let mut item = Item {
                    id: trial.id.clone(),
                    prompt_excerpt: excerpt(trial.question()),
                    label: condition.name().to_owned(),
                    completion_excerpt: excerpt(&reply.text),
                    ..Item::default()
                };
                item.votes
                    .insert("order obeyed".to_owned(), said(obeys, reply).to_owned());
                if trial.right.is_some() {
                    item.votes.insert(
                        "question answered".to_owned(),
                        said(answers, reply).to_owned(),
                    );
                }
                let before = self.base.as_ref().and_then(|base| {
                    let (_, reply) = base[place].at.get(condition)?;
                    obeys(trial, reply)
                });
                if before.is_some() && before != obeys(trial, reply) {
                    item.flags.push("baseline: otherwise".to_owned());
                }
                items.push(item);
            }
        }
        items
    }
}

/// Rates as bars with their intervals.
pub fn chart(title: &str, about: &str, rates: &[(&str, &Value)]) -> Chart {
    let bars = rates
        .iter()
        .filter_map(|(label, value)| {
            Some(Bar {
                label: (*label).to_owned(),
                value: value.value?,
                interval: value.interval.as_ref().map(|ends| (ends.low, ends.high)),
            })
        })
        .collect();
    Chart::new(title, about, "", "share of groups", Plot::Bars { bars })
}
