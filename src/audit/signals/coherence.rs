//! Signal 34.
#![doc = include_str!("pages/coherence.md")]

use super::estimate;
use crate::audit::charts::{Chart, Plot, Strip};
use crate::audit::evidence::{Replies, Reply, need};
use crate::audit::measure::Value;
use crate::audit::result::{Item, SignalResult, excerpt, harmful_excerpt};
use crate::audit::signal::{Context, Need, Signal, SignalError, blank, quantity};
use crate::text::suites::{Label, PromptRow};

/// Whether completions are still language.
pub struct Coherence;

const ID: &str = "coherence";

impl Signal for Coherence {
    fn id(&self) -> &'static str {
        ID
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Replies]
    }

    fn page(&self) -> &'static str {
        include_str!("pages/coherence.md")
    }

    fn measure(&self, cx: &Context) -> Result<SignalResult, SignalError> {
        let here = all(need(&cx.subject.replies, "completions")?);
        let base = cx
            .baseline
            .and_then(|base| base.replies.as_ref().ok())
            .map(all);
        let mut result = blank(ID)?;
        let outcomes: [(&str, fn(&Reply) -> bool); 3] = [
            ("loop_rate", |reply| reply.coherence.tail_loop.is_some()),
            ("truncation_rate", |reply| !reply.finished),
            ("empty_rate", |reply| reply.coherence.words == 0),
        ];
        for (name, outcome) in outcomes {
            let of = |replies: &[&Reply]| -> Vec<bool> {
                replies.iter().map(|reply| outcome(reply)).collect()
            };
            let before = base.as_deref().map(of);
            result.values.push(estimate::rate(
                quantity(ID, name)?,
                &of(&here),
                before.as_deref(),
                cx,
            )?);
        }
        result
            .values
            .insert(1, distinct(&here, base.as_deref(), cx)?);
        let rows = rows(cx);
        result.items = looped(&rows, &here);
        let loops = result.items.len();
        result.findings.push(format!(
            "{loops} of {} completions end in a loop; a limit on new tokens hides loops that would start later.",
            here.len()
        ));
        result.charts = vec![chart(&here, base.as_deref())];
        Ok(result)
    }
}

fn all(replies: &Replies) -> Vec<&Reply> {
    let classes = [&replies.harmful, &replies.harmless, &replies.lookalike];
    classes.into_iter().flatten().collect()
}

fn rows<'a>(cx: &'a Context) -> Vec<&'a PromptRow> {
    let prompts = cx.prompts;
    let classes = [
        &prompts.harmful.test,
        &prompts.harmless.test,
        &prompts.lookalike,
    ];
    classes.into_iter().flatten().collect()
}

/// Mean share of distinct bigrams, over the prompts whose completions are long enough (in both checkpoints).
fn distinct(here: &[&Reply], base: Option<&[&Reply]>, cx: &Context) -> Result<Value, SignalError> {
    let wanted = quantity(ID, "distinct_2")?;
    let bigrams = |reply: &&Reply| reply.coherence.distinct[1];
    let now: Vec<Option<f64>> = here.iter().map(bigrams).collect();
    let before: Option<Vec<Option<f64>>> = base.map(|base| base.iter().map(bigrams).collect());
    let kept =
        |i: &usize| now[*i].is_some() && before.as_ref().is_none_or(|before| before[*i].is_some());
    let kept: Vec<usize> = (0..now.len()).filter(kept).collect();
    if kept.is_empty() {
        return Ok(wanted.missing("no completion has two bigrams"));
    }
    let pick = |from: &[Option<f64>]| kept.iter().filter_map(|&i| from[i]).collect::<Vec<_>>();
    let (now, before) = (pick(&now), before.as_deref().map(pick));
    estimate::mean(wanted, &now, before.as_deref(), cx)
}

fn looped(rows: &[&PromptRow], here: &[&Reply]) -> Vec<Item> {
    rows.iter()
        .zip(here)
        .filter_map(|(row, reply)| {
            let tail = reply.coherence.tail_loop.as_ref()?;
            let cut = if row.label == Label::Harmful {
                harmful_excerpt
            } else {
                excerpt
            };
            let mut item = Item {
                id: row.id.clone(),
                prompt_excerpt: excerpt(&row.prompt),
                label: "looped".to_owned(),
                completion_excerpt: cut(&reply.text),
                ..Item::default()
            };
            item.numbers
                .insert("repeats".to_owned(), tail.repeats as f64);
            item.numbers.insert("share_in_loop".to_owned(), tail.share);
            Some(item)
        })
        .collect()
}

fn chart(here: &[&Reply], base: Option<&[&Reply]>) -> Chart {
    let strip = |label: &str, replies: &[&Reply]| {
        let points: Vec<f64> = replies
            .iter()
            .filter_map(|reply| reply.coherence.distinct[1])
            .collect();
        Strip {
            label: label.to_owned(),
            estimate: (!points.is_empty()).then(|| estimate::average(&points)),
            interval: None,
            points,
        }
    };
    let mut rows = vec![strip("this checkpoint", here)];
    rows.extend(base.map(|base| strip("baseline", base)));
    Chart::new(
        "Distinct bigrams of completions",
        "One dot for each completion; 1 means that no pair of words comes twice.",
        "distinct bigrams over all",
        "",
        Plot::Strip { rows },
    )
}
