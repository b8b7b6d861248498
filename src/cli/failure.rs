//! The words of a failure: `error:`, its causes, `hint:` lines, on one screen of stderr; and its exit code.

use std::error::Error;
use std::process::ExitCode;

use super::{
    interrupt::{self, Interrupted},
    output::{Out, to_stderr},
};
use crate::{
    audit::report::text::visible,
    config::ConfigError,
    files::FileError,
    model::{ModelError, fetch::FetchError},
    train::TrainError,
};

/// A mistake in what the command line was given, with what to try.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Usage {
    message: String,
    hint: String,
}

impl Usage {
    /// An error with a hint.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// The longest message that is shown whole, in characters: foreign text in it may be long.
const LONGEST: usize = 1200;

/// Most causes shown.
const CAUSES: usize = 8;

/// Prints an error and gives its exit code.
pub fn report(error: &anyhow::Error, out: &Out) -> ExitCode {
    if error
        .chain()
        .any(<dyn std::error::Error + 'static>::is::<Interrupted>)
        || interrupt::requested()
    {
        to_stderr("interrupted\n");
        return ExitCode::from(interrupt::EXIT_CODE);
    }
    to_stderr(&text(error, out));
    ExitCode::from(2)
}

fn text(error: &anyhow::Error, out: &Out) -> String {
    let mut lines: Vec<String> = Vec::new();
    for cause in error.chain().take(CAUSES) {
        let line = shown(&cause.to_string());
        // Many errors end with the words of their source; those are not said twice.
        if lines.last().is_some_and(|last| last.contains(&line)) {
            continue;
        }
        lines.push(line);
    }
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        let label = if i == 0 {
            out.paint_error("1;31", "error:")
        } else {
            "  cause:".to_owned()
        };
        text += &format!("{label} {line}\n");
    }
    for hint in hints(error) {
        text += &format!("{} {hint}\n", out.paint_error("1;36", "hint:"));
    }
    text
}

fn shown(message: &str) -> String {
    let message = visible(message);
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} […]", &message[..end]),
        None => message,
    }
}

fn hints(error: &anyhow::Error) -> Vec<String> {
    let mut hints: Vec<String> = error.chain().filter_map(hint).collect();
    hints.dedup();
    hints
}

fn hint(cause: &(dyn Error + 'static)) -> Option<String> {
    if let Some(usage) = cause.downcast_ref::<Usage>() {
        return Some(usage.hint.clone());
    }
    if let Some(error) = cause.downcast_ref::<FetchError>() {
        return of_fetch(error).map(str::to_owned);
    }
    if let Some(error) = cause.downcast_ref::<ModelError>() {
        return of_model(error).map(str::to_owned);
    }
    if let Some(error) = cause.downcast_ref::<TrainError>() {
        return of_train(error).map(str::to_owned);
    }
    None
}

fn of_fetch(error: &FetchError) -> Option<&'static str> {
    Some(match error {
        FetchError::UnknownName { .. } => {
            "`candlescope model list` shows the known models and the cache"
        }
        FetchError::Unreachable { .. } | FetchError::AllSources { .. } => {
            "`candlescope doctor` shows which sources can be reached; a model already on this machine is opened by its path"
        }
        _ => return None,
    })
}

fn of_model(error: &ModelError) -> Option<&'static str> {
    Some(match error {
        ModelError::MissingTensor { .. }
        | ModelError::ExtraTensors { .. }
        | ModelError::Shape { .. } => {
            "config and weights disagree: was config.json taken from the same checkpoint, and is the file whole?"
        }
        ModelError::NotANumber { .. } => {
            "`candlescope model check MODEL` names the tensors that hold NaN"
        }
        ModelError::Fingerprint { .. } => {
            "--accept-foreign-direction uses a direction that was made on another forward pass"
        }
        ModelError::ContextTooLong { .. } => "`candlescope model info MODEL` shows the context",
        ModelError::File(FileError::Invalid { .. } | FileError::Tensor { .. })
        | ModelError::Config(ConfigError::File(_)) => {
            "the file may be cut short or damaged; fetch or copy it again"
        }
        _ => return None,
    })
}

fn of_train(error: &TrainError) -> Option<&'static str> {
    Some(match error {
        TrainError::Occupied { .. } => {
            "--resume goes on with the run there; another --out begins a new one"
        }
        TrainError::NotARun { .. } => "`candlescope runs list` shows the runs in a folder",
        TrainError::Reward { .. } => {
            "a checkpoint was saved before the step; mend the reward and go on with --resume"
        }
        TrainError::NotFinite { .. } => {
            "the rows are kept in the run's folder under failed/; a lower optim.lr or optim.max_grad_norm may help"
        }
        TrainError::Mismatch { .. } => {
            "a run goes on with the model, data and config that it began with; another --out begins a new one"
        }
        TrainError::Io { .. } => {
            "is the disk full? the last whole checkpoint stands, and --resume goes on from it"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::args::When;

    #[test]
    fn causes_are_said_once_and_hints_last() {
        let error = anyhow::Error::from(Usage::new("no such direction", "name the tensor"))
            .context("--ablate x.safetensors: no such direction")
            .context("cannot run");
        let text = text(&error, &Out::new(false, When::Never, true));
        assert_eq!(
            text,
            "error: cannot run\n  cause: --ablate x.safetensors: no such direction\nhint: name the tensor\n"
        );
    }

    #[test]
    fn foreign_text_is_cut_and_cannot_act() {
        let error = anyhow::anyhow!("\u{1b}[2J{}", "x".repeat(5000));
        let text = text(&error, &Out::new(false, When::Never, true));
        assert!(
            !text.contains('\u{1b}') && text.len() < 1400,
            "{}",
            text.len()
        );
    }
}
