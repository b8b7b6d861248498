//! Language modelling on texts: every token of a document is predicted from those before it, in windows that are packed
//! without padding and do not see each other.
//!
//! Always: the loss, its accumulation and its evaluation are those of `sft.rs`; what is different is the data, read in
//! `texts.rs` and cut in `windows.rs`, and that a model may be made for it: [`fresh`].

mod texts;
mod windows;

use super::{
    Bench, Config, Examples, Method, TrainError, data::Loaded, log::Numbers, loss::Sft as SftLoss,
    method::Facts, sft::Sft,
};
use crate::model::Checkpoint;
use crate::text::dataset::Example;
use crate::text::{ChatTemplate, Tokenizer};

/// The method.
pub(super) struct Lm {
    inner: Sft,
    facts: Facts,
}

impl Lm {
    /// With its data.
    ///
    /// # Errors
    /// Texts that cannot be read, or none that has two tokens.
    pub fn new(config: &Config, tokenizer: &Tokenizer) -> Result<Self, TrainError> {
        let load = |files| -> Result<Loaded<Example>, TrainError> {
            let documents = texts::read(files, &config.data.columns)?;
            windows::cut(&documents, tokenizer, config.data.max_length)
        };
        let train = load(&config.data.train)?;
        let eval = &config.data.eval;
        let eval = (!eval.is_empty()).then(|| load(eval)).transpose()?;
        let inner = Sft::new(config, (SftLoss::default(), true), train, eval)?;
        let facts = Facts {
            // Long documents end in their last window alone.
            end_trained: f64::from(u8::from(tokenizer.eos().is_some())),
            ..inner.facts().clone()
        };
        Ok(Self { inner, facts })
    }
}

/// A mean negative log-likelihood in nats as a perplexity.
fn with_perplexity(mut numbers: Numbers) -> Numbers {
    if let Some(loss) = numbers.get("loss") {
        numbers.set("perplexity", loss.exp());
    }
    numbers
}

impl Method for Lm {
    fn name(&self) -> &'static str {
        "lm"
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn step(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError> {
        Ok(with_perplexity(self.inner.step(bench)?))
    }

    fn evaluate(&mut self, bench: &mut Bench) -> Result<Numbers, TrainError> {
        Ok(with_perplexity(self.inner.evaluate(bench)?))
    }

    fn examples(&self) -> Option<&dyn Examples> {
        Some(&self.inner)
    }
}

/// The fresh model that `[model] new` describes, with its tokenizer: taken from a folder, or trained on the training texts.
///
/// # Errors
/// A config without `model.new`, a shape that cannot be, texts that cannot be read.
pub fn fresh(config: &Config) -> Result<Checkpoint, TrainError> {
    let Some(new) = &config.model.new else {
        let expected = "a `new` model";
        return Err(TrainError::config("model", expected, &config.model.name));
    };
    let mut template = None;
    let (tokenizer, vocab) = if let Some(folder) = &new.tokenizer {
        let tokenizer = Tokenizer::from_folder(folder)?;
        // A folder with words may say how turns are written, too: the talk among the texts has that form.
        template = ChatTemplate::from_folder(folder, &tokenizer)?;
        let words = tokenizer.vocab_size();
        (tokenizer, new.vocab.unwrap_or(words))
    } else {
        let documents = texts::read(&config.data.train, &config.data.columns)?;
        let each = documents.iter().map(|document| document.text.as_str());
        let vocab = new.vocab.unwrap_or(4096);
        let tokenizer = Tokenizer::train(each, vocab, &new.special_tokens)?;
        let words = tokenizer.vocab_size();
        (tokenizer, words)
    };
    let shape = new.shape(vocab, tokenizer.bos(), tokenizer.eos());
    let mut checkpoint = Checkpoint::fresh(&shape, tokenizer, config.seed)?;
    checkpoint.template = template;
    Ok(checkpoint)
}
