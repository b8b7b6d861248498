//! Attention: the heads of a layer with what kind they are, the pattern of one, and what it changes to cut a head or an edge.
//!
//! State here, keys in `keys.rs`, the work in `reading.rs`, drawing in `view.rs` and `lists.rs`, the map of all heads in
//! `survey.rs`, command line and files in `written.rs`.
//!
//! Always: a cut is an intervention like any other, so it holds in every screen, stacks and is undone with `z`; the effect
//! that is shown is of all interventions that are on, against the unedited model.

mod keys;
mod lists;
mod reading;
mod spoken;
mod survey;
#[cfg(test)]
mod tests;
mod view;
mod written;

use std::sync::Arc;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::lens::knockout::Cut;
use crate::lens::{HeadKind, HeadSummary};
use crate::tui::cells;
use crate::tui::filter::{Filter, Listed, step};
use crate::tui::keys::Binding;
use crate::tui::screen::{Command, Context, Data, Hits, Screen, View};
use crate::tui::shared::{Intervention, Shared};
use keys::KEYS;
use reading::{Answer, Ask, Changed, Impact, LEAST, Layer, Survey, Value, Wish, read};

/// Places for the mouse.
const HEAD: u16 = 0;
const EDGE: u16 = 1;
const KEY: u16 = 2;
const SURVEYED: u16 = 3;

/// The screen.
pub struct AttentionScreen {
    layer: Option<Layer>,
    changed: Option<Changed>,
    impact: Option<Impact>,
    survey: Option<Survey>,
    /// Whether the map of all heads stands in place of the pattern.
    surveying: bool,
    /// The kind that is looked for in it.
    kind: HeadKind,
    /// Tells one open model from another.
    model: usize,
    asked: Option<Wish>,
    /// Requests that have not ended; all but the newest are on their way out.
    open: usize,
    stopped: Option<Wish>,
    failed: Option<(Wish, String)>,
    head: usize,
    /// Kept at or before the query when it is used; until it is moved, where the query looks most.
    key: Option<usize>,
    value: Value,
    wants_impact: bool,
    digits: bool,
    /// What the keys add to the width of a cell.
    wider: i16,
    filter: Filter,
}

impl Default for AttentionScreen {
    fn default() -> Self {
        Self {
            layer: None,
            changed: None,
            impact: None,
            survey: None,
            surveying: false,
            kind: HeadKind::Previous,
            model: 0,
            asked: None,
            open: 0,
            stopped: None,
            failed: None,
            head: 0,
            key: None,
            value: Value::Weight,
            wants_impact: false,
            digits: true,
            wider: 0,
            filter: Filter::default(),
        }
    }
}

impl AttentionScreen {
    fn wish(&self, shared: &Shared) -> Wish {
        Wish {
            version: shared.version(),
            layer: shared.layer,
            scores: self.value == Value::Score,
            impact: self.wants_impact,
            survey: self.surveying,
        }
    }

    /// The head, kept within the model.
    fn head(&self, shared: &Shared) -> usize {
        self.head.min(heads(shared) - 1)
    }

    /// The key, kept at or before the query.
    fn key(&self, shared: &Shared) -> usize {
        let query = shared.position;
        let key = self.key.or_else(|| self.strongest(shared));
        key.map_or(query, |key| key.min(query))
    }

    /// Where the query looks most, as far as that is known.
    fn strongest(&self, shared: &Shared) -> Option<usize> {
        let layer = self.layer.as_ref()?;
        let row = layer.row(self.value, self.head(shared), shared.position);
        let numbers = row.iter().enumerate().filter(|(_, v)| !v.is_nan());
        let most = numbers.max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
        most.map(|(key, _)| key)
    }

    fn kind(&self, head: usize) -> Option<&HeadSummary> {
        self.layer.as_ref()?.kinds.get(head)
    }

    /// The heads as text.
    fn texts(&self, shared: &Shared) -> Vec<String> {
        let text = |head| {
            let kind = self.kind(head).map_or("", |summary| summary.kind.label());
            let cut = chip(shared, &head_label(shared.layer, head));
            let cut = if cut.is_some() { " cut" } else { "" };
            format!("h{head} {kind}{cut}")
        };
        (0..heads(shared)).map(text).collect()
    }

    /// The heads that the filter leaves.
    fn left(&self, shared: &Shared) -> Vec<usize> {
        if self.filter.is_empty() {
            return (0..heads(shared)).collect();
        }
        self.filter.left(self.texts(shared))
    }

    /// The effect, if it is of the interventions as they are.
    fn effect(&self, shared: &Shared) -> Option<&Changed> {
        self.changed
            .as_ref()
            .filter(|changed| changed.version == shared.version())
    }

    /// What each head would change, if it is of what is shown.
    fn impacts(&self, shared: &Shared) -> Option<&[f64]> {
        let fits = |impact: &&Impact| {
            impact.wish.version == shared.version() && impact.wish.layer == shared.layer
        };
        self.impact
            .as_ref()
            .filter(fits)
            .map(|impact| impact.kl.as_slice())
    }

    /// Adds the cut, or takes it away again where its chip is there.
    fn toggle(label: String, cut: Cut, cx: &mut Context) {
        if let Some(at) = chip(cx.shared, &label) {
            cx.shared.intervene(|chips| {
                if chips[at].on {
                    chips.remove(at);
                } else {
                    chips[at].on = true;
                }
            });
            return;
        }
        let added = Intervention {
            label,
            options: vec!["--knockout".to_owned(), option(cut)],
            edits: vec![cut.edit()],
            on: true,
        };
        cx.shared.intervene(|chips| chips.push(added));
    }

    fn ask(&mut self, ask: Ask, cx: &mut Context) {
        self.stopped = None;
        self.failed = None;
        self.asked = Some(ask.wish);
        self.open += 1;
        let what = format!("attention of layer {}", ask.wish.layer);
        cx.ask(&what, move |checkpoint, ticket| {
            read(checkpoint, ticket, &ask)
        });
    }
}

/// Count of heads of the open model, at least 1.
fn heads(shared: &Shared) -> usize {
    shared
        .model
        .facts()
        .map_or(1, |facts| facts.config.n_heads.max(1))
}

/// Which intervention has this label.
fn chip(shared: &Shared, label: &str) -> Option<usize> {
    shared
        .interventions
        .iter()
        .position(|chip| chip.label == label)
}

/// A cut as the command line's `--knockout` takes it.
fn option(cut: Cut) -> String {
    let head = |head: Option<usize>| head.map_or_else(String::new, |head| format!(".{head}"));
    match cut {
        Cut::Head { layer, head } => format!("{layer}.{head}"),
        Cut::Edge {
            layer,
            head: of,
            query,
            key,
        } => format!("{layer}{}:{query}>{key}", head(of)),
    }
}

fn head_label(layer: usize, head: usize) -> String {
    format!("⊘ head {layer}.{head}")
}

fn edge_label(layer: usize, head: usize, query: usize, key: usize) -> String {
    format!("⊘ edge {layer}.{head} {query}>{key}")
}

impl Screen for AttentionScreen {
    fn id(&self) -> &'static str {
        "attention"
    }

    fn about(&self) -> &'static str {
        "Who looks at whom: the heads of a layer, their patterns, and what cutting one changes"
    }

    fn bindings(&self) -> &'static [Binding] {
        KEYS
    }

    fn enabled(&self, action: &str, shared: &Shared) -> Result<(), String> {
        if shared.model.facts().is_none() {
            return Err("no model is open; `:open NAME` opens one".into());
        }
        match action {
            "cut_head" | "cut_edge" | "impact" if shared.tokens.is_empty() => {
                Err("the prompt is empty; p in the lens writes one".into())
            }
            "cut_edge" if shared.position == 0 => {
                Err("the first token can look at itself only; without that edge there is no attention to compute".into())
            }
            "survey" | "kind" if shared.tokens.len() < LEAST => {
                Err(format!("kinds of heads need a prompt of {LEAST} tokens"))
            }
            "next_of_kind" | "previous_of_kind" if self.survey.is_none() => {
                Err("f reads the kinds of all heads first".into())
            }
            "strongest" if self.layer.is_none() => Err("nothing has been computed yet".into()),
            _ => Ok(()),
        }
    }

    fn act(&mut self, action: &'static str, cx: &mut Context) {
        let (head, key) = (self.head(cx.shared), self.key(cx.shared));
        let (layer, query) = (cx.shared.layer, cx.shared.position);
        let last = cx.shared.tokens.len().saturating_sub(1);
        match survey::instead(self.surveying, action) {
            "survey" => self.surveying = !self.surveying,
            "kind" => self.next_kind(cx),
            "next_of_kind" => self.of_kind(Some(1), cx),
            "previous_of_kind" => self.of_kind(Some(-1), cx),
            "next_head" => self.head = step(&self.left(cx.shared), head, 1),
            "previous_head" => self.head = step(&self.left(cx.shared), head, -1),
            "deeper" => cx.shared.layer = (layer + 1).min(cx.shared.layers() - 1),
            "shallower" => cx.shared.layer = layer.saturating_sub(1),
            "later" => cx.shared.position = (query + 1).min(last),
            "earlier" => cx.shared.position = query.saturating_sub(1),
            "next_key" => self.key = Some((key + 1).min(query)),
            "previous_key" => self.key = Some(key.saturating_sub(1)),
            "first_key" => self.key = Some(0),
            "own_key" => self.key = Some(usize::MAX),
            "strongest" => self.key = None,
            "follow" => cx.shared.position = key,
            "cut_head" => Self::toggle(head_label(layer, head), Cut::Head { layer, head }, cx),
            "cut_edge" => {
                let cut = Cut::Edge {
                    layer,
                    head: Some(head),
                    query: query as i64,
                    key: key as i64,
                };
                // Where the query looks most is elsewhere once the edge is cut; the key that brings it back stays on it.
                self.key = Some(key);
                Self::toggle(edge_label(layer, head, query, key), cut, cx);
            }
            "impact" => self.wants_impact = !self.wants_impact,
            "weighted" => {
                let weighted = self.value == Value::Weighted;
                self.value = if weighted {
                    Value::Weight
                } else {
                    Value::Weighted
                };
            }
            "scores" => {
                let scores = self.value == Value::Score;
                self.value = if scores { Value::Weight } else { Value::Score };
            }
            "digits" => self.digits = !self.digits,
            "lens" => cx.commands.push(Command::Go("lens")),
            "wider" => self.wider = (self.wider + 1).min(15),
            "narrower" => self.wider = (self.wider - 1).max(-15),
            "again" => {
                (self.failed, self.stopped, self.layer) = (None, None, None);
                (self.changed, self.impact, self.survey) = (None, None, None);
            }
            _ => {}
        }
    }

    fn click(&mut self, what: u16, column: usize, row: usize, cx: &mut Context) {
        let last = cx.shared.tokens.len().saturating_sub(1);
        match what {
            HEAD => self.head = row,
            EDGE => {
                cx.shared.position = row.min(last);
                self.key = Some(column);
            }
            KEY => self.key = Some(column),
            SURVEYED => {
                cx.shared.layer = row.min(cx.shared.layers() - 1);
                self.head = column;
            }
            _ => {}
        }
    }

    fn scroll(&mut self, rows: i32, cx: &mut Context) {
        self.act(
            if rows > 0 {
                "next_head"
            } else {
                "previous_head"
            },
            cx,
        );
    }

    fn refresh(&mut self, cx: &mut Context) {
        let Some(facts) = cx.shared.model.facts() else {
            return;
        };
        let model = Arc::as_ptr(&facts.checkpoint) as usize;
        if model != self.model {
            // Another model's heads: nothing of it can be shown, not even as old.
            (self.layer, self.changed, self.impact) = (None, None, None);
            self.survey = None;
            (self.model, self.failed, self.head) = (model, None, 0);
        }
        let wish = self.wish(cx.shared);
        let refused = self
            .failed
            .as_ref()
            .is_some_and(|(failed, _)| *failed == wish);
        let waits = self.asked == Some(wish) || self.stopped == Some(wish);
        if cx.shared.tokens.is_empty() || refused || waits {
            return;
        }
        let surveyed = (self.survey.as_ref()).is_some_and(|s| s.version == wish.version);
        let done = self
            .impacts(cx.shared)
            .is_some_and(|kl| kl.len() == heads(cx.shared));
        let ask = Ask {
            model,
            wish,
            tokens: cx.shared.tokens.clone(),
            edits: cx.shared.edits(),
            layer: !self.layer.as_ref().is_some_and(|layer| layer.serves(&wish)),
            effect: !cx.shared.edits().is_empty() && self.effect(cx.shared).is_none(),
            impact: wish.impact && !done,
            survey: wish.survey && !surveyed && cx.shared.tokens.len() >= LEAST,
        };
        if ask.layer || ask.effect || ask.impact || ask.survey {
            self.ask(ask, cx);
        }
    }

    fn reply(&mut self, reply: crate::tui::screen::Reply, _cx: &mut Context) {
        use crate::tui::screen::Reply;
        let (ended, value, why) = match reply {
            Reply::Part(value) => (false, Some(value), None),
            Reply::Done(value) => (true, Some(value), None),
            Reply::Failed(why) => (true, None, Some(why)),
            Reply::Cancelled => (true, None, None),
        };
        let came = value.and_then(|value| value.downcast::<reading::Reply>().ok());
        match came
            .filter(|came| came.model == self.model)
            .map(|came| came.answer)
        {
            Some(Answer::Layer(layer)) => self.layer = Some(layer),
            Some(Answer::Changed(changed)) => self.changed = Some(changed),
            Some(Answer::Impact(impact)) => self.impact = Some(impact),
            Some(Answer::Survey(survey)) => self.survey = Some(survey),
            Some(Answer::End) | None => {}
        }
        if ended {
            self.open = self.open.saturating_sub(1);
        }
        // What ends before the newest request is of one that it replaced.
        if ended && self.open == 0 {
            let asked = self.asked.take();
            self.failed = asked.zip(why);
        }
    }

    fn cancel(&mut self, _cx: &mut Context) -> bool {
        if std::mem::take(&mut self.surveying) {
            return true;
        }
        // The frame stops the work; it is not to be asked for again at once.
        if self.asked.is_some() {
            self.stopped = self.asked;
        }
        false
    }

    fn list(&self, shared: &Shared) -> Option<Listed> {
        self.layer.as_ref().map(|_| Listed {
            name: "heads",
            rows: self.texts(shared),
        })
    }

    fn narrow(&mut self, _list: &'static str, filter: &Filter, cx: &mut Context) {
        self.filter = filter.clone();
        self.head = step(&self.left(cx.shared), self.head(cx.shared), 0);
    }

    fn command(&mut self, words: &[&str], cx: &mut Context) -> Option<Result<(), String>> {
        match words {
            ["head", name] => {
                let (layer, head) = name.split_once('.').unwrap_or(("", name));
                let layer = if layer.is_empty() {
                    Ok(cx.shared.layer)
                } else {
                    layer.parse()
                };
                Some(match (layer, head.parse::<usize>()) {
                    (Ok(layer), Ok(head))
                        if layer < cx.shared.layers() && head < heads(cx.shared) =>
                    {
                        cx.shared.layer = layer;
                        self.head = head;
                        Ok(())
                    }
                    _ => Err(format!(
                        "head `{name}`: expected LAYER.HEAD up to {}.{}",
                        cx.shared.layers() - 1,
                        heads(cx.shared) - 1
                    )),
                })
            }
            _ => None,
        }
    }

    fn commands(&self) -> &'static [&'static str] {
        &["head LAYER.HEAD"]
    }

    fn view(&self, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        view::draw(self, view, area, buf, hits);
    }

    fn spoken(&self, shared: &Shared) -> Vec<String> {
        spoken::lines(self, shared)
    }

    fn command_line(&self, shared: &Shared) -> Option<String> {
        written::command_line(self, shared)
    }

    fn data(&self, shared: &Shared) -> Option<Data> {
        written::data(self, shared)
    }
}

/// A token of the text for a title.
fn token(shared: &Shared, at: usize, ascii: bool) -> String {
    shared
        .tokens
        .get(at)
        .map_or_else(String::new, |token| cells::visible(&token.text, ascii))
}
