//! What is read of one checkpoint of a run, on a thread of its own.
//!
//! Always: a checkpoint is opened, read and let go here, so that there is one at a time; the prompt becomes token ids once, by
//! the words of the run's last checkpoint, and a checkpoint with other words is refused, since the ids mean other things to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::held::{Read, TOP, Wish};
use crate::compare::{MomentOptions, moment};
use crate::model::checkpoint::words;
use crate::model::{Cancel, Checkpoint, LoadOptions, Opened};
use crate::pipeline::stations::{Station, Stations};
use crate::steer::refusal_tokens;
use crate::text::Tokenizer;
use crate::tui::shared::{Prompt, Token};

/// Next tokens that a layer keeps.
const OF_LAYER: usize = 3;

/// The prompt in the words of the run.
pub(super) struct Words {
    run: u64,
    prompt: Prompt,
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// For tokens that are typed.
    pub tokenizer: Tokenizer,
    hash: String,
    /// The run's last checkpoint has a chat template.
    pub chat: bool,
}

impl Words {
    /// Whether they are of the prompt and the run of a wish.
    pub(super) fn are_of(&self, wish: &Wish) -> bool {
        self.run == wish.run && self.prompt == wish.prompt
    }
}

/// What is to be read.
pub(super) struct Ask {
    pub run: Arc<Stations>,
    pub station: usize,
    pub wish: Wish,
    /// The prompt, if it was encoded already.
    pub words: Option<Arc<Words>>,
    pub direction: Option<Arc<Vec<f32>>>,
}

/// What came of it.
pub(super) struct Told {
    pub station: usize,
    pub wish: Wish,
    pub words: Option<Arc<Words>>,
    pub result: Read,
}

/// Reads a checkpoint.
pub(super) fn read(ask: Ask) -> Told {
    let mut words = ask.words.clone();
    let result = seen(&ask, &mut words);
    Told {
        station: ask.station,
        wish: ask.wish,
        words,
        result,
    }
}

fn seen(ask: &Ask, known: &mut Option<Arc<Words>>) -> Read {
    let stations = &ask.run.all;
    let (Some(station), Some(last)) = (stations.get(ask.station), stations.last()) else {
        return Err("the run has no such checkpoint any more; o opens it again".to_owned());
    };
    let words = match known {
        Some(words) => Arc::clone(words),
        None => {
            let encoded = Arc::new(encoded(last, &ask.wish)?);
            Arc::clone(known.insert(encoded))
        }
    };
    if words.tokens.is_empty() {
        return Err("the prompt has no tokens; p edits it".to_owned());
    }
    let checkpoint = open(station)?;
    if checkpoint.tokenizer.hash() != words.hash {
        return Err(format!(
            "{} has another tokenizer than {}, the run's last checkpoint: the prompt's tokens mean other things to it",
            station.name(),
            last.name()
        ));
    }
    let ids: Vec<u32> = words.tokens.iter().map(|token| token.id).collect();
    let position = ask.wish.place.unwrap_or(usize::MAX).min(ids.len() - 1);
    let vocab = checkpoint.config().vocab_size;
    let options = MomentOptions {
        position,
        top_k: OF_LAYER.min(vocab),
        direction: ask.direction.as_ref().map(|vector| vector.to_vec()),
        // A tokenizer may have none of the words that refusals open with.
        refusal: refusal_tokens(&checkpoint).ok(),
    };
    Cancel::check().map_err(|error| error.to_string())?;
    let moment = moment(&checkpoint.decoder, &ids, &options).map_err(|e| e.to_string())?;
    let tops = moment.layers.iter().flat_map(|layer| layer.top.clone());
    let named = tops.chain(moment.top(TOP));
    let text: BTreeMap<u32, String> = named
        .map(|top| (top.id, checkpoint.tokenizer.token(top.id)))
        .collect();
    Ok((position, moment, text))
}

fn open(station: &Station) -> Result<Checkpoint, String> {
    let opened = Checkpoint::open(&station.name(), &station.path, &LoadOptions::default());
    opened.map_err(|error| format!("{}: {error}", station.name()))
}

fn encoded(last: &Station, wish: &Wish) -> Result<Words, String> {
    let said = |error: crate::model::ModelError| format!("{}: {error}", last.name());
    let opened = Opened::at(&last.path, &LoadOptions::default()).map_err(said)?;
    let (tokenizer, template) = words(&opened, &last.path).map_err(said)?;
    let ids = wish.prompt.encode_with(&tokenizer, template.as_ref())?;
    let token = |id| Token {
        id,
        text: tokenizer.token(id),
    };
    Ok(Words {
        run: wish.run,
        prompt: wish.prompt.clone(),
        tokens: ids.into_iter().map(token).collect(),
        hash: tokenizer.hash(),
        chat: template.is_some(),
        tokenizer,
    })
}
