//! A latent in lines: what it is called, what is done to it, what it fires on, what it writes, and which are like it.
//!
//! Always: numbers of a record are told with the tokens they are of; what needs text that nobody has read says so, with the
//! command that reads it. The pane beside the list shows the beginning of the same lines.

use super::FeaturesScreen;
use super::bits::{Bit, Line, aligned, around, bars, number, row, token, words};
use super::records::Known;
use super::{turn, written};
use crate::features::dashboard::{Example, LatentRecord, LogitEffects, TokenValue};
use crate::tui::cells;
use crate::tui::shared::Shared;
use crate::tui::theme::Theme;

/// Lines of the prompt.
const PROMPT: usize = 4;
/// Columns before an example.
const VALUE: usize = 8;
/// Columns of a label beside the number of another latent.
const LABEL: usize = 18;

/// What lines are made for.
pub(super) struct Sheet<'a> {
    pub screen: &'a FeaturesScreen,
    pub shared: &'a Shared,
    pub latent: usize,
    pub width: usize,
    pub theme: Theme,
}

/// All that is known of a latent.
pub(super) fn lines(sheet: &Sheet) -> Vec<Line> {
    let known = sheet.screen.records.of(sheet.latent);
    let mut lines = sheet.summary(known.map(|k| &**k));
    lines.extend(sheet.prompt());
    lines.extend(sheet.logits(known.map(|k| &k.latent)));
    match known {
        Some(known) => lines.extend(sheet.examples(&known.latent)),
        None => lines.extend(sheet.missing()),
    }
    lines.extend(sheet.others(known.map(|k| &k.latent)));
    if let Some(known) = known {
        lines.extend(sheet.seen(known));
    }
    lines
}

/// The other latents that the page names, in its order.
pub(super) fn others(screen: &FeaturesScreen) -> Vec<usize> {
    let Some(&latent) = screen.page.last() else {
        return Vec::new();
    };
    let mut all: Vec<usize> = Vec::new();
    let near = near(screen, latent).into_iter().map(|(latent, _)| latent);
    let known = screen.records.of(latent);
    let with = known.into_iter().flat_map(|k| &k.latent.cofiring);
    for other in near.chain(with.map(|one| one.index)) {
        if !all.contains(&other) {
            all.push(other);
        }
    }
    all
}

/// Latents with similar decoder rows, by record or weights.
pub(super) fn near(screen: &FeaturesScreen, latent: usize) -> Vec<(usize, f32)> {
    let looked = screen.effects.get(&latent);
    let looked = looked.and_then(|found| found.as_ref().ok());
    let known = screen.records.of(latent).map(|k| &k.latent.neighbours);
    let known = known.filter(|all| !all.is_empty());
    let all = known.or(looked.map(|found| &found.neighbours));
    let all = all.into_iter().flatten();
    all.map(|one| (one.index, one.cosine)).collect()
}

/// What it does to logits, by record or weights.
pub(super) fn effects(screen: &FeaturesScreen, latent: usize) -> Option<&LogitEffects> {
    let known = screen.records.of(latent);
    let known = known.and_then(|known| known.latent.logits.as_ref());
    let looked = screen.effects.get(&latent);
    let looked = looked.and_then(|found| found.as_ref().ok()?.logits.as_ref());
    known.or(looked)
}

impl Sheet<'_> {
    fn row(&self, name: &str, bits: Vec<Bit>) -> Vec<Line> {
        row(name, bits, self.width, self.theme)
    }

    fn heading(&self, text: &str) -> Vec<Line> {
        let title = Bit::new(text, self.theme.title(), self.theme);
        vec![Vec::new(), vec![title]]
    }

    fn words(&self, text: &str) -> Vec<Bit> {
        words(text, self.theme.text(), self.theme)
    }

    fn dim(&self, text: &str) -> Vec<Bit> {
        words(text, self.theme.dim(), self.theme)
    }

    fn summary(&self, known: Option<&Known>) -> Vec<Line> {
        let (theme, screen) = (self.theme, self.screen);
        let mut lines = Vec::new();
        let own = screen.labels.as_ref().and_then(|l| l.of(self.latent));
        if let Some(own) = own {
            let mut bits = words(own, theme.accent(), theme);
            bits.extend(self.dim("(yours)"));
            lines.extend(self.row("label", bits));
        }
        let label = known.and_then(|known| known.latent.label.as_ref());
        match (label, own, known) {
            (Some(label), ..) => lines.extend(self.row(
                if own.is_some() { "" } else { "label" },
                self.words(&label.to_string()),
            )),
            (None, None, Some(_)) => {
                let none = "none: no token statistic foretells it; L gives it one of yours";
                lines.extend(self.row("label", self.dim(none)));
            }
            (None, None, None) => lines.extend(self.row("label", self.dim("none; L gives it one"))),
            _ => {}
        }
        if let Some(change) = turn::change(screen, self.latent) {
            let text = format!("{} at every token but the first", turn::words(change));
            let mut bits = words(&text, theme.accent(), theme);
            bits.extend(self.dim("(, and . turn it, x leaves it as it was)"));
            lines.extend(self.row("turned", bits));
        }
        let Some(known) = known else {
            return lines;
        };
        let (latent, kept) = (&known.latent, known.place.tally.kept);
        let fires = format!(
            "on {:.4} % of {kept} tokens ({}), mean {}, max {}; decoder norm {}",
            latent.density * 100.0,
            latent.fired,
            latent.mean.map_or_else(|| "-".into(), number),
            number(latent.max.into()),
            number(latent.decoder_norm.into())
        );
        lines.extend(self.row("fires", self.words(&fires)));
        if !latent.histogram.counts.is_empty() {
            let room = self.width.saturating_sub(super::bits::NAME + 9);
            let bars = bars(&latent.histogram.counts, room, theme);
            let bits = vec![
                Bit::new("0 ", theme.dim(), theme),
                Bit::new(&bars, theme.bar(), theme),
                Bit::new(
                    &format!(" {}", number(latent.max.into())),
                    theme.dim(),
                    theme,
                ),
            ];
            lines.extend(self.row("values", bits));
        }
        lines
    }

    /// The prompt by how strongly it fires there.
    fn prompt(&self) -> Vec<Line> {
        let (screen, theme) = (self.screen, self.theme);
        let Some(reading) = &screen.reading else {
            return Vec::new();
        };
        let Some(total) = screen.total(self.latent) else {
            let outside = reading.pieces.iter().filter(|p| p.out.is_some());
            let mut there = outside.filter(|p| p.codes.iter().any(|(l, _)| *l == self.latent));
            let text = match there.next().and_then(|piece| piece.out) {
                Some(why) => format!("fires only where training does not look ({why} token)"),
                None => "fires on no token of it".into(),
            };
            return self.row("prompt", self.dim(&text));
        };
        let value = |at: usize| {
            let piece = &reading.pieces[at];
            let found = piece
                .codes
                .iter()
                .find(|(latent, _)| *latent == self.latent);
            found.filter(|_| piece.out.is_none()).map_or(0.0, |f| f.1)
        };
        let of = |at: usize| {
            let text = &reading.pieces[at].text;
            token(text, value(at), total.max, at == total.at, theme)
        };
        let tokens = (0..reading.pieces.len()).map(of).collect();
        // Lines end before the token that would not fit.
        let room = self.width.saturating_sub(super::bits::NAME + 6) * PROMPT;
        let mut lines = self.row("prompt", around(tokens, total.at, room, theme));
        lines.truncate(PROMPT);
        let old = if screen.stale(self.shared) {
            "before the last change: "
        } else {
            ""
        };
        let n = total.places.len();
        let text = format!(
            "{old}{n} token{}, sum {}, max {}",
            if n == 1 { "" } else { "s" },
            number(total.sum),
            number(total.max.into())
        );
        lines.extend(self.row("", self.dim(&text)));
        lines
    }

    fn logits(&self, known: Option<&LatentRecord>) -> Vec<Line> {
        let looked = self.screen.effects.get(&self.latent);
        let Some(effects) = effects(self.screen, self.latent) else {
            let text = match (known, looked) {
                (Some(_), _) | (None, Some(Ok(_))) => {
                    "none directly: what this dictionary writes is not added to the residual stream as it is".to_owned()
                }
                (None, Some(Err(why))) => format!("not known: {why}"),
                (None, None) => "being computed".to_owned(),
            };
            return self.row("logits", self.dim(&text));
        };
        let side = |tokens: &[TokenValue]| -> Vec<Bit> {
            let one = |token: &TokenValue| {
                let text = cells::visible(&token.token, self.theme.ascii);
                let value = format!(" {:+.2}  ", token.value);
                let mut bit = Bit::new(&text, self.theme.text(), self.theme);
                // Token and value stay together where lines end.
                bit.text += &value;
                bit
            };
            tokens.iter().map(one).collect()
        };
        let mut lines = self.row("raises", side(&effects.positive));
        lines.extend(self.row("lowers", side(&effects.negative)));
        lines
    }

    fn examples(&self, latent: &LatentRecord) -> Vec<Line> {
        if latent.top.is_empty() {
            return self.row("examples", self.dim("it fired on none of the tokens seen"));
        }
        let mut lines = self.heading("top examples, one a context");
        lines.extend(latent.top.iter().map(|one| self.example(one, latent.max)));
        if !latent.quantiles.is_empty() {
            let n = latent.sampled;
            let title = format!("by strength: some of each part of {n} firings");
            lines.extend(self.heading(&title));
        }
        for group in &latent.quantiles {
            for one in &group.examples {
                lines.push(self.example(one, latent.max));
            }
        }
        lines
    }

    fn example(&self, one: &Example, most: f32) -> Line {
        let theme = self.theme;
        let value = format!("{:>7} ", number(one.value.into()));
        let mut line = vec![Bit::new(&value, theme.dim(), theme)];
        let value = |i: usize| one.values.get(i).copied().unwrap_or(0.0);
        let tokens = (one.tokens.iter().enumerate())
            .map(|(i, text)| token(text, value(i), most, i == one.at, theme))
            .collect();
        let room = self.width.saturating_sub(VALUE);
        line.extend(aligned(tokens, one.at, room, theme));
        line
    }

    /// What nobody has read text for.
    fn missing(&self) -> Vec<Line> {
        let mut lines = self.heading("no record of it");
        let mut say = |bits: Vec<Bit>, indent: usize| {
            lines.extend(super::bits::flow(bits, indent, self.width, self.theme));
        };
        let tokens = super::texts::TOKENS;
        let text = format!(
            "Density, histogram, examples and who fires with it take text to find out. `:texts FILE` reads {tokens} tokens of one now; to keep a record of more, which r then finds:"
        );
        say(self.dim(&text), 0);
        let command = written::dashboard(self.screen, self.shared, self.latent);
        say(self.words(&command.unwrap_or_default()), 2);
        lines
    }

    fn others(&self, known: Option<&LatentRecord>) -> Vec<Line> {
        let mut lines = self.heading("other latents");
        let near = near(self.screen, self.latent);
        let near = near
            .iter()
            .map(|&(other, cosine)| self.other(other, f64::from(cosine)));
        let near: Vec<Bit> = near.flatten().collect();
        if near.is_empty() {
            lines.extend(self.row("writes", self.dim("similar rows: being computed")));
        } else {
            lines.extend(self.row("writes", self.dim("something similar, by cosine")));
            lines.extend(self.row("", near));
        }
        let Some(known) = known else {
            return lines;
        };
        let with = known
            .cofiring
            .iter()
            .flat_map(|one| self.other(one.index, one.phi));
        let with: Vec<Bit> = with.collect();
        if with.is_empty() {
            lines.extend(self.row(
                "fires",
                self.dim("with none of the latents that were counted"),
            ));
        } else {
            lines.extend(self.row("fires", self.dim("on the same tokens, by phi")));
            lines.extend(self.row("", with));
        }
        lines
    }

    /// Another latent with a number that says how near it is, and its label.
    fn other(&self, latent: usize, value: f64) -> Vec<Bit> {
        let theme = self.theme;
        let chosen = self.screen.other == Some(latent) && !self.screen.page.is_empty();
        let style = if chosen {
            theme.cursor()
        } else {
            theme.accent()
        };
        let mut number = Bit::new(&latent.to_string(), style, theme);
        number.to = Some(latent);
        let label = self
            .screen
            .label(latent)
            .map_or(String::new(), |(label, _)| {
                format!(
                    " {}",
                    cells::cut(&cells::prose(&label, theme.ascii), LABEL, theme.ascii)
                )
            });
        let rest = format!(" {value:+.2}{label}  ");
        vec![number, Bit::new(&rest, theme.text(), theme)]
    }

    /// What the record is of.
    fn seen(&self, known: &Known) -> Vec<Line> {
        let place = &known.place;
        let mut lines = self.heading("the record");
        let text = format!(
            "{} contexts through {}; left out: {}",
            place.contexts, place.model, place.policy
        );
        lines.extend(self.row("seen", self.dim(&text)));
        let here = self
            .shared
            .model
            .facts()
            .map(|facts| &facts.checkpoint.name);
        if here.is_some_and(|here| *here != place.model) {
            let text = "it was made on a model of another name than the one that is open";
            let bits = words(text, self.theme.warning(), self.theme);
            lines.extend(self.row("", bits));
        }
        lines
    }
}
