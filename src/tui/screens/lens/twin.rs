//! The command lines that show what the lens screen shows.
//!
//! Always: a line is given only if it reads the same tokens; what the command line has no option for is said in a comment
//! at its end.

use crate::hooks::EditOp;
use crate::model::Checkpoint;
use crate::text::{Message, Vars};
use crate::tui::shared::{ModelFacts, Shared, quoted};

/// The options of all interventions that are on. An intervention without an option of its own is given as a file of edits
/// that the shell makes (`<(…)`, as bash and zsh have it).
pub fn edits(shared: &Shared) -> Result<String, String> {
    let mut options = String::new();
    for chip in shared.interventions.iter().filter(|chip| chip.on) {
        if !chip.options.is_empty() {
            options.extend(
                chip.options
                    .iter()
                    .map(|option| format!(" {}", quoted(option))),
            );
            continue;
        }
        let unwritten = |op: &EditOp| matches!(op, EditOp::Patch { .. } | EditOp::Closure { .. });
        if chip.edits.iter().any(|edit| unwritten(&edit.op)) {
            return Err(format!("`{}` cannot be written as options", chip.label));
        }
        let json = serde_json::to_string(&chip.edits).map_err(|error| error.to_string())?;
        options += &format!(" --edit <(echo {})", quoted(&json));
    }
    Ok(options)
}

/// The file of the direction that is projected on: what stands before the place in `--ablate DIR@LAYERS` and `--add`.
pub fn direction(shared: &Shared) -> Option<&str> {
    let (chip, _) = super::reading::directed(shared)?;
    let spec = match chip.options.as_slice() {
        [option, spec, ..] if option == "--ablate" || option == "--add" => spec,
        _ => return None,
    };
    Some(spec.rsplit_once('@').map_or(spec, |(file, _)| file))
}

/// A prompt as the command line takes it.
pub struct Words {
    /// Through the chat template, as a user's turn.
    pub chat: bool,
    /// The text.
    pub text: String,
}

impl Words {
    /// At the end of a line.
    pub fn last(&self) -> String {
        let chat = if self.chat { " --chat" } else { "" };
        let guard = if self.text.starts_with('-') {
            " --"
        } else {
            ""
        };
        format!("{chat}{guard} {}", quoted(&self.text))
    }
}

/// The prompt; nothing if no one text gives these tokens.
pub fn prompt(shared: &Shared, facts: &ModelFacts) -> Option<Words> {
    let prompt = &shared.prompt;
    let plain = |text: &str| Words {
        chat: false,
        text: text.to_owned(),
    };
    if prompt.raw.is_some() || facts.checkpoint.template.is_none() {
        return Some(plain(prompt.text()));
    }
    if let [only] = prompt.turns.as_slice()
        && only.role == "user"
    {
        return Some(Words {
            chat: true,
            text: only.content.clone(),
        });
    }
    rendered(&facts.checkpoint, &prompt.turns, shared).map(|text| plain(&text))
}

/// Several turns as the raw text that gives the same tokens, where one does.
pub fn rendered(checkpoint: &Checkpoint, turns: &[Message], shared: &Shared) -> Option<String> {
    let template = checkpoint.template.as_ref()?;
    let text = template.render(turns, true, &Vars::default()).ok()?;
    let ids = checkpoint.tokenizer.encode(&text, true).ok()?;
    let same = ids.len() == shared.tokens.len()
        && ids
            .iter()
            .zip(&shared.tokens)
            .all(|(id, token)| *id == token.id);
    same.then_some(text)
}

/// The text that names a token on the command line, if one does.
pub fn token(checkpoint: &Checkpoint, id: u32) -> Option<String> {
    let text = checkpoint.tokenizer.token(id);
    let ids = checkpoint.tokenizer.encode(&text, false).ok()?;
    (ids == [id]).then_some(text)
}

/// The token that a text is, for `target TEXT`: in quotes exactly this, else with a space before it where that is one.
///
/// # Errors
/// A text of several tokens, or none.
pub fn target(checkpoint: &Checkpoint, text: &str) -> Result<u32, String> {
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let forms = match inner {
        Some(exact) => vec![exact.to_owned()],
        None => vec![format!(" {text}"), text.to_owned()],
    };
    let mut counts = Vec::new();
    for form in forms {
        let ids = checkpoint
            .tokenizer
            .encode(&form, false)
            .map_err(|error| error.to_string())?;
        match ids.as_slice() {
            [id] => return Ok(*id),
            ids => counts.push(format!("{form:?} is {} tokens", ids.len())),
        }
    }
    Err(format!(
        "a target is one token: {}; choose one in the list with enter",
        counts.join(", ")
    ))
}
