//! The keys of the features screen.

use crate::tui::keys::{Binding, bind};

/// The table that drives dispatch, footer and help.
pub(super) const KEYS: &[Binding] = &[
    bind("h left", "left", "token", "The token before"),
    bind("l right", "right", "token", "The next token"),
    bind(
        "k up",
        "up",
        "latent",
        "The latent above; on a page a line up",
    ),
    bind(
        "j down",
        "down",
        "latent",
        "The latent below; on a page a line down",
    ),
    bind(
        "enter",
        "page",
        "page",
        "The page of the latent: examples, histogram, logits, neighbours; on it, the latent that tab has chosen",
    ),
    bind(
        "tab",
        "scope",
        "which",
        "Which latents: of this token, of the whole prompt, all of which something is known; on a page the next of the other latents it names",
    ),
    bind(
        "s",
        "sort",
        "sort",
        "Sort them: by strength at the token, by sum over the prompt, by density, by number",
    ),
    bind(
        "v",
        "shows",
        "shows",
        "What the cells of the prompt say: number and label, value",
    ),
    bind(
        "a",
        "ablate",
        "ablate",
        "Silence this latent, as an intervention of all screens; again takes it away",
    ),
    bind(
        "A",
        "add",
        "add",
        "Add this latent at about the strength it fires with, at every token; again takes it away",
    ),
    bind(
        "c",
        "clamp",
        "clamp",
        "Hold this latent at about the strength it fires with, at every token; again takes it away",
    ),
    bind(
        ",",
        "less",
        "turn",
        "Turn it down, by a step; one that is as it was is added with a minus",
    ),
    bind(
        ".",
        "more",
        "turn",
        "Turn it up, by a step; one that is as it was is added",
    ),
    bind("<", "much_less", "", "Down by five steps"),
    bind(">", "much_more", "", "Up by five steps"),
    bind(
        "x",
        "leave",
        "",
        "Leave this latent as it was: take its change away",
    ),
    bind(
        "o",
        "oscilloscope",
        "oscilloscope",
        "Latents token by token while the model answers: pause, rewind, turn them, branch, compare",
    ),
    bind(
        "w",
        "answers",
        "answers",
        "The answers with the latents turned and without, side by side",
    ),
    bind(
        "L",
        "label",
        "label",
        "Give this latent a label of your own; an empty one takes it away",
    ),
    bind(
        "n",
        "next",
        "fires",
        "The next token of the prompt on which it fires; on a page the next latent of the list",
    ),
    bind("N", "previous", "fires", "The one before"),
    bind(
        "r",
        "records",
        "",
        "Look again for records and labels beside the dictionary",
    ),
    bind("pagedown ctrl-d", "far_down", "", "Ten further down"),
    bind("pageup ctrl-u", "far_up", "", "Ten further up"),
    bind("g home", "first", "", "The first latent; the top of a page"),
    bind("G end", "last", "", "The last latent; the end of a page"),
];
