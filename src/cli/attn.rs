//! `attn`: what each head looks at, what kind of head that makes it, what it gives to a logit, and what cutting it changes.

use serde::Serialize;

use super::{
    Outcome,
    args::ModelArgs,
    edits::EditArgs,
    failure::Usage,
    lens::{encode, label, target},
    output::{self, Out},
};
use crate::{
    hooks::Edit,
    lens::{
        Attention, Attribution, Component, Effect, HeadKind, HeadSummary, attention, attribute,
        grid::Grid, head_kinds, knockout_effect, repeated_tokens,
    },
    model::Checkpoint,
};

/// Look at attention: the kind of each head, patterns, what heads give to the next token, and what a cut changes
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  candlescope attn smollm2-135m-instruct \"The capital of France is\" --target \" Paris\"
  candlescope attn smollm2-135m-instruct --probe
  candlescope attn toy \"red blue green red blue\" --layer 1 --head 0 --value-weighted
  candlescope attn toy \"red blue green red blue\" --knock-out 1.0")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What the model reads
    #[arg(required_unless_present = "probe")]
    prompt: Option<String>,
    /// Wrap the prompt in the model's chat template, as a user's turn
    #[arg(long)]
    chat: bool,
    /// Instead of a prompt, 25 random tokens twice, of this seed: the test for induction and duplicate-token heads
    #[arg(
        long,
        value_name = "SEED",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "0",
        conflicts_with_all = ["prompt", "chat"]
    )]
    probe: Option<u64>,
    /// Only this layer, with every score of its heads
    #[arg(long, value_name = "L")]
    layer: Option<usize>,
    /// Only this head: its pattern, queries down and keys across
    #[arg(long, value_name = "H", requires = "layer")]
    head: Option<usize>,
    /// Weigh the pattern by the length of what each value writes, α·‖W_O v‖ (Kobayashi et al. 2020)
    #[arg(long, requires = "head")]
    value_weighted: bool,
    /// Take the logit of this token apart, leading space included [default: what the model says next]
    #[arg(long, value_name = "TOKEN")]
    target: Option<String>,
    #[command(flatten)]
    edits: EditArgs,
}

/// Tokens of a probe, before they come again.
const PROBE: usize = 25;
/// Lines of the lists below a table.
const LISTED: usize = 10;

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    tokens: &'a [u32],
    words: Vec<String>,
    heads: &'a [HeadSummary],
    attribution: &'a Attribution,
    patterns: Vec<Pattern>,
    /// Of `--knockout`, under all other edits.
    effect: Option<&'a Effect>,
}

/// `[query][key]`
#[derive(Serialize)]
struct Pattern {
    layer: usize,
    head: usize,
    weights: Vec<Vec<f32>>,
    value_weighted: Vec<Vec<f32>>,
}

/// What was computed, with the words for it.
struct Seen<'a> {
    model: &'a Checkpoint,
    ids: Vec<u32>,
    /// The layer asked for.
    read: Option<Attention>,
    heads: Vec<HeadSummary>,
    shares: Attribution,
    effect: Option<Effect>,
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let model = args.model.open(out)?;
    let c = model.config();
    if let Some(head) = args.head.filter(|&head| head >= c.n_heads) {
        return Err(Usage::new(
            format!("--head {head} is out of range"),
            format!("{} has heads 0 to {}", model.name, c.n_heads - 1),
        )
        .into());
    }
    let wanted = args.target.as_deref().map(|text| target(&model, text));
    let ids = match (&args.prompt, args.probe) {
        (Some(prompt), _) => encode(&model, prompt, args.chat)?,
        (None, seed) => repeated_tokens(&model, PROBE, seed.unwrap_or(0)),
    };
    let edits = args.edits.edits(&model)?;
    let seen = Seen {
        read: args
            .layer
            .map(|layer| attention(&model.decoder, &ids, &[layer], &edits))
            .transpose()?,
        heads: heads(args, &model, &ids, &edits)?,
        shares: attribute(&model.decoder, &ids, wanted.transpose()?, None, &edits)?,
        effect: effect(args, &model, &ids)?,
        model: &model,
        ids,
    };
    if out.json {
        out.json("candlescope.attn/1", &seen.report(args))?;
    } else {
        seen.show(args, out)?;
    }
    Ok(Outcome::Done)
}

/// A single head's pattern is shown for any text; kinds need a few tokens.
fn heads(
    args: &Args,
    model: &Checkpoint,
    ids: &[u32],
    edits: &[Edit],
) -> anyhow::Result<Vec<HeadSummary>> {
    let mut heads = match head_kinds(&model.decoder, ids, edits) {
        Err(crate::lens::LensError::TooShort { .. }) if args.head.is_some() => Vec::new(),
        heads => heads?,
    };
    heads.retain(|h| args.layer.is_none_or(|layer| h.layer == layer));
    heads.retain(|h| args.head.is_none_or(|head| h.head == head));
    Ok(heads)
}

fn effect(args: &Args, model: &Checkpoint, ids: &[u32]) -> anyhow::Result<Option<Effect>> {
    let cuts = args.edits.cuts(model)?;
    if cuts.is_empty() {
        return Ok(None);
    }
    let others = args.edits.without_cuts(model)?;
    let top = LISTED.min(model.config().vocab_size);
    Ok(Some(knockout_effect(
        &model.decoder,
        ids,
        &others,
        &cuts,
        top,
    )?))
}

impl Seen<'_> {
    fn report(&self, args: &Args) -> Report<'_> {
        let only = |head: &usize| args.head.is_none_or(|wanted| *head == wanted);
        let pattern = |read: &Attention, head| Pattern {
            layer: read.layers()[0],
            head,
            weights: read.pattern(0, head),
            value_weighted: read.weighted_pattern(0, head),
        };
        let patterns = |read: &Attention| -> Vec<Pattern> {
            let heads = (0..read.n_heads()).filter(only);
            heads.map(|head| pattern(read, head)).collect()
        };
        Report {
            model: &self.model.name,
            tokens: &self.ids,
            words: self
                .ids
                .iter()
                .map(|&id| self.model.tokenizer.token(id))
                .collect(),
            heads: &self.heads,
            attribution: &self.shares,
            patterns: self.read.as_ref().map(patterns).unwrap_or_default(),
            effect: self.effect.as_ref(),
        }
    }

    fn show(&self, args: &Args, out: &Out) -> anyhow::Result<()> {
        match (&self.read, args.head) {
            (Some(read), Some(head)) => self.pattern(read, head, args.value_weighted, out)?,
            (Some(_), None) => self.layer(out)?,
            (None, _) => self.overview(out)?,
        }
        self.list_shares(out)?;
        match &self.effect {
            Some(effect) => self.list_changes(effect, out),
            None => Ok(()),
        }
    }

    /// All layers, later ones below: the kind of each head.
    fn overview(&self, out: &Out) -> anyhow::Result<()> {
        let n_heads = self.model.config().n_heads;
        let mut grid = Grid::new("layer", (0..n_heads).map(|h| format!("head {h}")));
        for layer in self.heads.chunks(n_heads) {
            let cell = |h: &HeadSummary| format!("{} {:.2}", short(h.kind), h.scores.kind().1);
            grid.row(layer[0].layer.to_string(), layer.iter().map(cell).collect());
        }
        out.text(&grid.draw(output::width()))?;
        out.line(
            "mean weight on: prev the token before, first the first token, self the token itself, dup earlier occurrences of \
             it,\nind what came after these; - none above 0.4. dup and ind need repetitions: see --probe",
        )
    }

    /// One layer: every score.
    fn layer(&self, out: &Out) -> anyhow::Result<()> {
        let names = [
            "previous",
            "first",
            "self",
            "duplicate",
            "induction",
            "entropy",
            "to logit",
        ];
        let mut grid = Grid::new("head", names);
        for h in &self.heads {
            let s = &h.scores;
            let optional = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.3}"));
            let mut cells: Vec<String> = [s.previous, s.first, s.current]
                .map(|x| format!("{x:.3}"))
                .to_vec();
            cells.extend([optional(s.duplicate), optional(s.induction)]);
            cells.push(format!("{:.2}", s.entropy));
            cells.push(format!("{:+.3}", self.share(h.layer, h.head)));
            grid.row(format!("{}.{} {}", h.layer, h.head, h.kind.label()), cells);
        }
        out.text(&grid.draw(output::width()))?;
        out.line("mean weights; entropy in nats; - where the text repeats no token")
    }

    fn share(&self, layer: usize, head: usize) -> f64 {
        let component = Component::Head { layer, head };
        let mut found = self.shares.contributions.iter();
        found
            .find(|c| c.component == component)
            .map_or(0.0, |c| c.logit)
    }

    fn pattern(
        &self,
        read: &Attention,
        head: usize,
        weighted: bool,
        out: &Out,
    ) -> anyhow::Result<()> {
        let heading = |(i, &id): (usize, &u32)| format!("{i}:{}", label(self.model, id));
        let names: Vec<String> = self.ids.iter().enumerate().map(heading).collect();
        let mut grid = Grid::new("query", names.clone());
        for (query, name) in names.iter().enumerate() {
            let row = if weighted {
                read.weighted_row(0, head, query)
            } else {
                read.row(0, head, query).to_vec()
            };
            let cells = row[..=query].iter().map(|x| format!("{x:.2}")).collect();
            grid.row(name, cells);
        }
        out.text(&grid.draw(output::width()))?;
        out.line(if weighted {
            "keys across; weight times the length of what the key's value writes, α·‖W_O v‖"
        } else {
            "keys across; attention weights, each row sums to 1"
        })
    }

    /// The largest shares, either way.
    fn list_shares(&self, out: &Out) -> anyhow::Result<()> {
        let mut largest = self.shares.contributions.clone();
        largest.sort_by(|a, b| b.logit.abs().total_cmp(&a.logit.abs()));
        let shown = LISTED.min(largest.len());
        let mut grid = Grid::new("component", ["to the logit"]);
        for c in &largest[..shown] {
            grid.row(name(c.component), vec![format!("{:+.3}", c.logit)]);
        }
        let rest: f64 = largest[shown..].iter().map(|c| c.logit).sum();
        grid.row(
            "all others",
            vec![format!("{:+.3}", rest + self.shares.remainder)],
        );
        out.line(&format!(
            "\nlogit of {} after the last token: {:.3}, as a sum (final norm's scale frozen)",
            label(self.model, self.shares.target),
            self.shares.logit
        ))?;
        out.text(&grid.draw(output::width()))
    }

    fn list_changes(&self, effect: &Effect, out: &Out) -> anyhow::Result<()> {
        let mut grid = Grid::new("next token", ["before", "after", "change"]);
        for c in &effect.changes {
            let cells = [c.before, c.after].map(|p| format!("{p:.4}"));
            let change = format!("{:+.4}", c.after - c.before);
            grid.row(label(self.model, c.id), [&cells[..], &[change]].concat());
        }
        out.line(&format!(
            "\nwith the cut: KL(before ‖ after) {:.4} nats; the largest changes",
            effect.kl
        ))?;
        out.text(&grid.draw(output::width()))
    }
}

fn short(kind: HeadKind) -> &'static str {
    match kind {
        HeadKind::Previous => "prev",
        HeadKind::First => "first",
        HeadKind::Current => "self",
        HeadKind::Duplicate => "dup",
        HeadKind::Induction => "ind",
        HeadKind::Diffuse => "-",
    }
}

fn name(component: Component) -> String {
    match component {
        Component::Embed => "embedding".to_owned(),
        Component::Head { layer, head } => format!("head {layer}.{head}"),
        Component::AttnBias { layer } => format!("attention bias {layer}"),
        Component::Mlp { layer } => format!("mlp {layer}"),
        Component::NormBias => "final norm's bias".to_owned(),
    }
}
