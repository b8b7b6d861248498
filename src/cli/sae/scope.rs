//! `sae scope`: what latents, probes and directions do token by token while a model answers; with latents turned, and a
//! branch beside it.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;

use super::on::points;
use crate::cli::{
    Outcome, args::ModelArgs, edits::EditArgs, failure::Usage, interrupt, output::Out,
    progress::Bar,
};
use crate::features::scope::{
    Channel, Comparison, Lane, Limits, Record, Recorder, Run, SCHEMA, Scope, Turns, compare,
};
use crate::features::{self, LatentEdit, Splice};
use crate::hooks::{HookPoint, Point};
use crate::model::fetch::Progress as _;
use crate::model::generate::Continue;
use crate::model::{Checkpoint, sample::SampleOptions};
use crate::probing;
use crate::steer;
use crate::text::{Message, Vars};

mod show;

/// Strongest latents that have columns where none are named.
const COLUMNS: usize = 4;

/// Record latents, probes and directions token by token while a model answers, and branch with latents turned
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  candlescope sae scope smollm2-135m-instruct sae/ \"Why is the sky blue?\"
  candlescope sae scope smollm2-135m-instruct sae/ \"Why is the sky blue?\" --latent 4211 --turn 4211+12
  candlescope sae scope smollm2-135m-instruct sae/ \"Why is the sky blue?\" --branch 4211=0@40 --probe p.safetensors --json")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A dictionary's folder or file
    dictionary: PathBuf,
    /// What to answer
    prompt: String,
    /// Continue the text as it is, without the chat template
    #[arg(long)]
    raw: bool,
    /// A latent with a column of its own, from 0; repeatable [default: the strongest of the answer]
    #[arg(long, value_name = "N")]
    latent: Vec<usize>,
    /// A probe's file, read at every token at its own point; repeatable
    #[arg(long, value_name = "FILE")]
    probe: Vec<PathBuf>,
    /// A direction: the projection on it at every token, at resid_pre of the layer it was made at, or the point named, or
    /// where the dictionary reads; repeatable
    #[arg(long, value_name = "FILE[:TENSOR][@POINT]")]
    direction: Vec<String>,
    /// Latents turned from a token on, until the next turn: N=VALUE, N*FACTOR, N+AMOUNT, N-AMOUNT or N:LOW..HIGH, several
    /// with commas; from the last token of the prompt if no token is named. Repeatable
    #[arg(long, value_name = "EDITS[@FROM]")]
    turn: Vec<TurnArg>,
    /// Then a branch with these latents turned instead from a token on, and what sets it apart
    #[arg(long, value_name = "EDITS[@FROM]")]
    branch: Option<TurnArg>,
    /// Most new tokens
    #[arg(long, value_name = "N", default_value_t = 32)]
    max_new: usize,
    /// 0 is greedy
    #[arg(
        long,
        value_name = "T",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    temperature: f64,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The hook point the dictionary reads, where its file does not say
    #[arg(long, value_name = "POINT")]
    reads: Option<HookPoint>,
    /// The hook point it writes [default: what its file says, else the one it reads]
    #[arg(long, value_name = "POINT")]
    writes: Option<HookPoint>,
    #[command(flatten)]
    edits: EditArgs,
}

/// Latents turned from a token on.
#[derive(Debug, Clone, PartialEq)]
struct TurnArg {
    edits: Vec<LatentEdit>,
    from: Option<usize>,
}

impl FromStr for TurnArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (list, from) = match text.rsplit_once('@') {
            Some((list, from)) => {
                let from = from.parse();
                let from =
                    from.map_err(|_| format!("`{text}`: after @ stands a token's position"))?;
                (list, Some(from))
            }
            None => (text, None),
        };
        // `as-is@40` ends a turn.
        let edits = match list {
            "as-is" => Vec::new(),
            list => (list.split(','))
                .map(|edit| {
                    edit.parse()
                        .map_err(|e: features::FeatureError| e.to_string())
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { edits, from })
    }
}

pub fn run(args: &Args, out: &Out) -> anyhow::Result<Outcome> {
    let sample = SampleOptions {
        temperature: args.temperature,
        seed: args.seed,
        ..SampleOptions::default()
    };
    sample.check()?;
    let opened = features::open(&args.dictionary)?;
    let places = points(&opened, args.reads, args.writes)?;
    let model = args.model.open(out)?;
    if !args.edits.accept_foreign_direction {
        opened.expect(&model)?;
    }
    let dictionary = Arc::new(opened.dictionary);
    let splice = Splice::new(dictionary, &opened.name, places, model.config())?;
    let scope = Scope::new(
        model.config(),
        splice,
        args.channels(&model, places[0])?,
        args.edits.edits(&model)?,
    )?;
    let ids = args.ids(&model)?;
    let last = ids.len().saturating_sub(1);
    let turns = args.turns(last)?;
    let trunk = scope.start(&model.decoder, &ids, &sample, turns)?;
    let trunk = recorded(trunk, args.max_new, &model, out)?;
    let branch = match &args.branch {
        Some(turn) => {
            let at = turn.from.unwrap_or(last);
            let new = trunk.branch(&model.decoder, at, turn.edits.clone())?;
            Some(recorded(new, args.max_new, &model, out)?)
        }
        None => None,
    };
    let lanes = args.lanes(&trunk, branch.as_ref())?;
    let comparison = match &branch {
        Some(branch) => {
            let mut found = compare(trunk.trace(), branch.trace(), &lanes);
            found.kl = scope.kl(&model.decoder, trunk.trace(), branch.trace())?;
            Some(found)
        }
        None => None,
    };
    told(
        &model,
        [Some(&trunk), branch.as_ref()],
        lanes,
        comparison,
        out,
    )?;
    Ok(Outcome::Done)
}

/// Runs a recording to its end, with a bar.
fn recorded(
    mut recorder: Recorder,
    max_new: usize,
    model: &Checkpoint,
    out: &Out,
) -> anyhow::Result<Recorder> {
    let limits = Limits {
        max_new,
        stop: model.stop_ids(),
    };
    let bar = Bar::counting(out);
    let tokens = recorder.trace().prompt + max_new;
    bar.start("recording tokens", Some(tokens as u64));
    bar.advance(recorder.trace().steps.len() as u64);
    let ran = recorder.run(&model.decoder, &limits, &mut |_, new| {
        bar.advance(new.len() as u64);
        if interrupt::requested() {
            return Continue::No;
        }
        Continue::Yes
    });
    bar.done();
    ran?;
    interrupt::check()?;
    Ok(recorder)
}

/// Prints the runs.
fn told(
    model: &Checkpoint,
    runs: [Option<&Recorder>; 2],
    lanes: Vec<Lane>,
    comparison: Option<Comparison>,
    out: &Out,
) -> anyhow::Result<()> {
    let words = |recorder: &Recorder| -> Vec<String> {
        let ids = recorder.trace().ids();
        ids.into_iter()
            .map(|id| model.tokenizer.token(id))
            .collect()
    };
    let recorders: Vec<&Recorder> = runs.into_iter().flatten().collect();
    let Some(first) = recorders.first() else {
        return Ok(());
    };
    let splice = first.scope().splice();
    let branches = recorders.iter().enumerate().map(|(i, recorder)| Run {
        tokens: words(recorder),
        parent: i.checked_sub(1),
        trace: recorder.trace(),
    });
    let record = Record {
        model: &model.name,
        dictionary: splice.name(),
        reads: splice.read(),
        writes: splice.write(),
        shown: recorders.len() - 1,
        lanes,
        branches: branches.collect(),
        comparison: comparison.as_ref(),
    };
    if out.json {
        return out.json(SCHEMA, &record);
    }
    show::print(&record, out)
}

impl Args {
    fn ids(&self, model: &Checkpoint) -> anyhow::Result<Vec<u32>> {
        if self.raw {
            return Ok(model.tokenizer.encode(&self.prompt, true)?);
        }
        if model.template.is_none() {
            return Ok(model.encode_prompt(&self.prompt, None)?.ids);
        }
        let turns = [Message::user(&self.prompt)];
        Ok(model.encode_chat(&turns, &Vars::default())?.ids)
    }

    fn turns(&self, last: usize) -> anyhow::Result<Turns> {
        let mut turns: Vec<(usize, &TurnArg)> = (self.turn.iter())
            .map(|turn| (turn.from.unwrap_or(last), turn))
            .collect();
        turns.sort_by_key(|turn| turn.0);
        if let Some(twice) = turns.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let why = format!("two turns begin at token {}", twice[0].0);
            return Err(Usage::new(why, "give their edits together, with commas").into());
        }
        let with = |all: Turns, (from, turn): (usize, &TurnArg)| all.with(from, turn.edits.clone());
        Ok(turns.into_iter().fold(Turns::none(), with))
    }

    fn channels(&self, model: &Checkpoint, read: HookPoint) -> anyhow::Result<Vec<Channel>> {
        let mut channels = Vec::new();
        for file in &self.probe {
            let probe = probing::file::load(file)?;
            probe.fits(file, model, self.edits.accept_foreign_direction)?;
            let name = file.file_stem().unwrap_or(file.as_os_str());
            channels.push(Channel::probe(&name.to_string_lossy(), &probe));
        }
        for spec in &self.direction {
            channels.push(
                self.direction(spec, model, read)
                    .context(format!("--direction {spec}"))?,
            );
        }
        Ok(channels)
    }

    fn direction(
        &self,
        spec: &str,
        model: &Checkpoint,
        read: HookPoint,
    ) -> anyhow::Result<Channel> {
        let (spec, named) = match spec.rsplit_once('@') {
            Some((file, point)) => (file, Some(point.parse::<HookPoint>()?)),
            None => (spec, None),
        };
        let (file, tensor) = steer::file::parse(spec);
        let direction = steer::file::load(&file, tensor)?;
        if let Some(made_on) = direction
            .fingerprint
            .as_ref()
            .filter(|_| !self.edits.accept_foreign_direction)
        {
            model.fingerprint()?.expect(made_on, spec)?;
        }
        let own = direction
            .layer
            .map(|layer| HookPoint::new(Point::ResidPre, layer));
        let name = file
            .file_stem()
            .unwrap_or(file.as_os_str())
            .to_string_lossy();
        let at = named.or(own).unwrap_or(read);
        Ok(Channel::direction(&name, at, &direction.vector)?)
    }

    /// The columns: what was named, or the latents that were strongest in the answer.
    fn lanes(&self, trunk: &Recorder, branch: Option<&Recorder>) -> anyhow::Result<Vec<Lane>> {
        let trace = trunk.trace();
        let dictionary = trunk.scope().splice().dictionary();
        if let Some(&latent) = self.latent.iter().find(|l| **l >= dictionary.d_sae()) {
            return Err(dictionary.no_latent(latent).into());
        }
        let mut lanes: Vec<Lane> = (0..trace.channels.len()).map(Lane::Channel).collect();
        let mut latents = self.latent.clone();
        let turned = [Some(trunk), branch].into_iter().flatten();
        let turned = turned
            .flat_map(|r| r.trace().turns.all())
            .flat_map(|turn| &turn.edits);
        latents.extend(turned.map(|edit| edit.latent));
        if self.latent.is_empty() {
            latents.extend(trace.strongest(trace.prompt..trace.steps.len(), COLUMNS));
        }
        for latent in latents {
            if !lanes.contains(&Lane::Latent(latent)) {
                lanes.push(Lane::Latent(latent));
            }
        }
        Ok(lanes)
    }
}
