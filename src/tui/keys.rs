//! Keys: how they are written, and the table of those that mean the same everywhere.
//!
//! One table drives dispatch, footer, help and tests: a screen's [`Binding`]s and [`GLOBAL`]. A test rejects a screen's key
//! that a global one shadows.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A key and what it does.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// The keys, written as in `h`, `K`, `ctrl-d`, `enter`, `left`; several separated by spaces.
    pub keys: &'static str,
    /// The action's name, by which a screen is told.
    pub action: &'static str,
    /// Two words for the footer; empty to be shown in the help alone.
    pub short: &'static str,
    /// A sentence for the help.
    pub help: &'static str,
}

/// Keys that mean the same in every screen.
pub const GLOBAL: &[Binding] = &[
    bind(
        "?",
        "help",
        "help",
        "Show every key of this screen; type to search",
    ),
    bind(
        ":",
        "command",
        "command",
        "Type a command: a screen's name, open MODEL, quit; Tab completes",
    ),
    bind("q", "quit", "quit", "Leave; asks while a job runs"),
    bind(
        "'",
        "leap",
        "",
        "Go to a screen by its letter, also to those without a number: a list of the letters is shown",
    ),
    bind("]", "next_screen", "", "The next screen"),
    bind("[", "previous_screen", "", "The previous screen"),
    bind(
        "y",
        "copy",
        "copy",
        "Copy the command line that shows the same",
    ),
    bind(
        "e",
        "export",
        "export",
        "Write this screen as SVG, HTML and text, and its data as CSV and JSON",
    ),
    bind(
        "z",
        "undo",
        "undo",
        "Take the last change of the interventions back",
    ),
    bind(
        "/",
        "filter",
        "filter",
        "Show only the rows of the list that hold what you type; Enter keeps it, Esc shows all again",
    ),
    bind("Z", "redo", "", "Make it again"),
    bind(
        "X",
        "toggle_all",
        "",
        "Switch all interventions off, or on again",
    ),
    bind("D", "drop_last", "", "Remove the last intervention"),
    bind(
        "m",
        "mouse",
        "",
        "Give the mouse back to the terminal, to select text; again to take it",
    ),
    bind(
        "T",
        "theme",
        "",
        "Next theme: dark, light, 16 colours, none",
    ),
    bind(
        "esc",
        "cancel",
        "",
        "Close what is open; stop what is being computed",
    ),
    bind("f12", "timings", "", "Show latencies and memory"),
    bind("ctrl-z", "suspend", "", "Suspend to the shell"),
];

/// For tables of bindings.
pub const fn bind(
    keys: &'static str,
    action: &'static str,
    short: &'static str,
    help: &'static str,
) -> Binding {
    Binding {
        keys,
        action,
        short,
        help,
    }
}

/// How a key is written.
pub fn name(key: KeyEvent) -> String {
    let base = match key.code {
        KeyCode::Char(' ') => "space".to_string(),
        KeyCode::Char(c) => c.to_string(),
        KeyCode::Enter => "enter".into(),
        KeyCode::Esc => "esc".into(),
        KeyCode::Tab => "tab".into(),
        KeyCode::BackTab => "backtab".into(),
        KeyCode::Backspace => "backspace".into(),
        KeyCode::Delete => "delete".into(),
        KeyCode::Left => "left".into(),
        KeyCode::Right => "right".into(),
        KeyCode::Up => "up".into(),
        KeyCode::Down => "down".into(),
        KeyCode::Home => "home".into(),
        KeyCode::End => "end".into(),
        KeyCode::PageUp => "pageup".into(),
        KeyCode::PageDown => "pagedown".into(),
        KeyCode::F(n) => format!("f{n}"),
        _ => return String::new(),
    };
    let mut text = String::new();
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        text.push_str("ctrl-");
    }
    if key.modifiers.contains(KeyModifiers::ALT) {
        text.push_str("alt-");
    }
    text + &base
}

/// The key that is written so.
///
/// # Errors
/// The text, if it is no key.
pub fn parse(text: &str) -> Result<KeyEvent, String> {
    let mut modifiers = KeyModifiers::NONE;
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix("ctrl-") {
            modifiers |= KeyModifiers::CONTROL;
            rest = after;
        } else if let Some(after) = rest.strip_prefix("alt-") {
            modifiers |= KeyModifiers::ALT;
            rest = after;
        } else {
            break;
        }
    }
    let code = match rest {
        "space" => KeyCode::Char(' '),
        "enter" => KeyCode::Enter,
        "esc" => KeyCode::Esc,
        "tab" => KeyCode::Tab,
        "backtab" => KeyCode::BackTab,
        "backspace" => KeyCode::Backspace,
        "delete" => KeyCode::Delete,
        "left" => KeyCode::Left,
        "right" => KeyCode::Right,
        "up" => KeyCode::Up,
        "down" => KeyCode::Down,
        "home" => KeyCode::Home,
        "end" => KeyCode::End,
        "pageup" => KeyCode::PageUp,
        "pagedown" => KeyCode::PageDown,
        _ => {
            let mut chars = rest.chars();
            match (chars.next(), chars.as_str()) {
                (Some(c), "") => KeyCode::Char(c),
                (Some('f'), number) => KeyCode::F(
                    number
                        .parse()
                        .ok()
                        .filter(|n| (1..=12).contains(n))
                        .ok_or_else(|| text.to_string())?,
                ),
                _ => return Err(text.to_string()),
            }
        }
    };
    Ok(KeyEvent::new(code, modifiers))
}

/// The action that a table gives a key.
pub fn action(table: &[Binding], key: KeyEvent) -> Option<&'static str> {
    let name = name(key);
    if name.is_empty() {
        return None;
    }
    table
        .iter()
        .find(|binding| binding.keys.split(' ').any(|key| key == name))
        .map(|binding| binding.action)
}
