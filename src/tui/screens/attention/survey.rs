//! The map of all heads: how much each is of one kind on this prompt, the strongest of it a key away.
//!
//! Always: the colour is the score of the kind that is looked for, in every head, whatever that head does most; the kind
//! it does most is named in its cell where there is room. Kinds and their scores: `crate::lens::heads`.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::reading::Survey;
use super::view::Drawing;
use super::{AttentionScreen, SURVEYED, head_label, heads};
use crate::lens::{HeadKind, HeadScores, HeadSummary};
use crate::tui::cells::{self, HeatMap};
use crate::tui::screen::{Context, Target};
use crate::tui::theme::Scale;

/// The kinds that can be looked for, in the order of the key.
const KINDS: [HeadKind; 5] = [
    HeadKind::Previous,
    HeadKind::Induction,
    HeadKind::Duplicate,
    HeadKind::Current,
    HeadKind::First,
];

/// What an action does while the map stands in place of the pattern: its rows are layers, its columns heads.
pub(super) fn instead(surveying: bool, action: &'static str) -> &'static str {
    match action {
        "later" if surveying => "shallower",
        "earlier" if surveying => "deeper",
        "next_key" if surveying => "next_head",
        "previous_key" if surveying => "previous_head",
        "strongest" if surveying => "survey",
        other => other,
    }
}

/// How much a head is of a kind; none where the prompt cannot tell.
fn score(scores: &HeadScores, kind: HeadKind) -> Option<f64> {
    match kind {
        HeadKind::Previous => Some(scores.previous),
        HeadKind::First => Some(scores.first),
        HeadKind::Current => Some(scores.current),
        HeadKind::Duplicate => scores.duplicate,
        HeadKind::Induction => scores.induction,
        HeadKind::Diffuse => None,
    }
}

/// A kind in three letters.
fn short(kind: HeadKind) -> &'static str {
    match kind {
        HeadKind::Previous => "pre",
        HeadKind::First => "1st",
        HeadKind::Current => "cur",
        HeadKind::Duplicate => "dup",
        HeadKind::Induction => "ind",
        HeadKind::Diffuse => "-",
    }
}

impl Survey {
    /// All heads that have a score of this kind, the strongest first.
    pub(super) fn ranked(&self, kind: HeadKind) -> Vec<(f64, &HeadSummary)> {
        let mut all: Vec<(f64, &HeadSummary)> = (self.kinds.iter())
            .filter_map(|head| Some((score(&head.scores, kind)?, head)))
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all
    }
}

impl AttentionScreen {
    /// Looks for the next kind, and goes to the head that is strongest in it; shows the map if it is not there.
    pub(super) fn next_kind(&mut self, cx: &mut Context) {
        if !std::mem::replace(&mut self.surveying, true) {
            return;
        }
        let Some(survey) = &self.survey else {
            return;
        };
        // A prompt without repetition has no score for two of them.
        let at = KINDS.iter().position(|kind| *kind == self.kind);
        let after = KINDS.iter().cycle().skip(at.map_or(0, |at| at + 1));
        let told = |kind: &&HeadKind| !survey.ranked(**kind).is_empty();
        if let Some(kind) = after.take(KINDS.len()).find(told) {
            self.kind = *kind;
            self.of_kind(None, cx);
        }
    }

    /// Goes along the heads of the kind by their strength, from the cursor's; without a step to the strongest.
    pub(super) fn of_kind(&mut self, step: Option<isize>, cx: &mut Context) {
        let Some(survey) = &self.survey else {
            return;
        };
        let ranked = survey.ranked(self.kind);
        let here = (cx.shared.layer, self.head(cx.shared));
        let at = ranked
            .iter()
            .position(|(_, head)| (head.layer, head.head) == here);
        let to = match (step, at) {
            (Some(step), Some(at)) => {
                let last = ranked.len().saturating_sub(1);
                at.saturating_add_signed(step).min(last)
            }
            _ => 0,
        };
        let name = self.kind.label();
        let Some((score, head)) = ranked.get(to) else {
            let why = format!("no token of the prompt repeats, so no head has a score for {name}");
            return cx.say(why);
        };
        let n = ranked.len();
        let (layer, index) = (head.layer, head.head);
        cx.say(format!(
            "head {layer}.{index}: {name} {score:.2}, number {} of {n}",
            to + 1
        ));
        cx.shared.layer = layer.min(cx.shared.layers() - 1);
        self.head = index.min(heads(cx.shared) - 1);
    }
}

impl Drawing<'_> {
    /// The map, in place of the pattern.
    pub(super) fn survey(&self, area: Rect, buf: &mut Buffer, hits: &mut crate::tui::screen::Hits) {
        let (screen, shared, theme) = (self.screen, self.view.shared, self.theme);
        let kind = screen.kind;
        let old = match &screen.survey {
            Some(survey) if survey.version == shared.version() => "",
            Some(_) => ", being read again",
            None => ", being read",
        };
        let title = format!("all heads: {} score{old}", kind.label());
        let inner = cells::panel(buf, area, &title, true, theme);
        let Some(survey) = &screen.survey else {
            cells::put(buf, inner, 0, 0, "one pass over all layers", theme.dim());
            return;
        };
        let count = heads(shared);
        let of = |layer: usize, head: usize| survey.kinds.get(layer * count + head);
        let number = |layer: usize, head: usize| {
            let found = of(layer, head).and_then(|head| score(&head.scores, kind));
            found.map_or(f32::NAN, |score| score as f32)
        };
        let wide = (inner.width.saturating_sub(5) / count.max(1) as u16).clamp(4, 9);
        let text = |layer: usize, head: usize| {
            let label = head_label(layer, head);
            let cut = if self.cut(&label) {
                theme.pick("⊘", "x")
            } else {
                ""
            };
            let Some(found) = of(layer, head) else {
                return String::new();
            };
            let digits = match number(layer, head) {
                score if score.is_nan() => "  ".to_owned(),
                score if score >= 0.995 => "1.0".to_owned(),
                score => format!("{score:.2}").replacen("0.", ".", 1),
            };
            if wide < 6 && !cut.is_empty() {
                cut.to_owned()
            } else if wide >= 8 {
                format!("{cut}{digits} {}", short(found.kind))
            } else {
                format!("{cut}{digits}")
            }
        };
        let marked = |layer: usize, head: usize| of(layer, head).is_some_and(|h| h.kind == kind);
        let columns: Vec<String> = (0..count).map(|head| format!("H{head}")).collect();
        let rows: Vec<String> = (0..shared.layers())
            .map(|layer| format!("L{layer}"))
            .collect();
        let cursor = (shared.layer, screen.head(shared));
        let high = usize::from(inner.height.saturating_sub(1));
        let map = HeatMap {
            columns: &columns,
            rows: &rows,
            value: &number,
            text: Some(&text),
            marked: Some(&marked),
            digits: false,
            scale: Scale::Sequential,
            lo: 0.0,
            hi: 1.0,
            cursor: Some(cursor),
            offset: (
                cursor.0.saturating_sub(high / 2),
                cursor.1.saturating_sub(usize::from(inner.width / wide) / 2),
            ),
            cell_width: wide,
            stale: survey.version != shared.version(),
        };
        let drawn = cells::heat_map(buf, inner, &map, theme);
        for layer in drawn.rows.clone() {
            for head in drawn.columns.clone() {
                if let Some(place) = drawn.cell(layer, head) {
                    hits.add(place, Target::Place(SURVEYED, head, layer));
                }
            }
        }
        cells::legend(buf, area, Scale::Sequential, ("0", "1"), theme);
        cells::note(buf, area, "underlined: does this most", theme);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn head(layer: usize, head: usize, previous: f64, induction: Option<f64>) -> HeadSummary {
        let scores = HeadScores {
            previous,
            first: 0.1,
            current: 0.1,
            duplicate: None,
            induction,
            entropy: 1.0,
        };
        HeadSummary {
            layer,
            head,
            kind: scores.kind().0,
            scores,
        }
    }

    #[test]
    fn heads_stand_by_their_score_and_those_without_one_are_left_out() {
        let survey = Survey {
            version: 0,
            kinds: vec![
                head(0, 0, 0.2, None),
                head(0, 1, 0.9, None),
                head(1, 0, 0.5, Some(0.7)),
            ],
        };
        let places = |kind| -> Vec<(usize, usize)> {
            let ranked = survey.ranked(kind);
            ranked.iter().map(|(_, h)| (h.layer, h.head)).collect()
        };
        assert_eq!(places(HeadKind::Previous), [(0, 1), (1, 0), (0, 0)]);
        assert_eq!(places(HeadKind::Induction), [(1, 0)]);
        assert!(places(HeadKind::Duplicate).is_empty() && places(HeadKind::Diffuse).is_empty());
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> = KINDS.iter().map(|kind| short(*kind)).collect();
        assert_eq!(names.len(), KINDS.len());
        assert!(!names.contains(short(HeadKind::Diffuse)));
    }
}
