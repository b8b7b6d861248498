//! The picker of interventions: what is done with which direction, where.
//!
//! Always: plain state; it answers with a [`Steering`], and the screen has the vector made.

use crossterm::event::{KeyCode, KeyEvent};

use crate::steer::{Source, Steering, Way};
use crate::tui::field::{Field, Outcome};

/// What can be picked: ablation or addition, contrast or file.
pub const ENTRIES: [(&str, &str); 4] = [
    (
        "ablate",
        "contrast: harmful against harmless prompts that are built in",
    ),
    (
        "add",
        "contrast: harmful against harmless prompts that are built in",
    ),
    (
        "ablate",
        "a direction from a file, as `audit run --save-direction` writes it",
    ),
    (
        "add",
        "a direction from a file, as `audit run --save-direction` writes it",
    ),
];

/// Its state.
#[derive(Debug, Clone)]
pub struct Picker {
    /// The entry.
    pub selected: usize,
    /// The layer of contrast and addition.
    pub layer: usize,
    /// Layers of the model.
    pub layers: usize,
    /// The file, while it is typed.
    pub file: Option<Field>,
    /// What is wrong with what was typed.
    pub wrong: Option<String>,
}

/// What a key came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Picked {
    /// Nothing yet.
    Open,
    /// This.
    Chosen(Steering),
}

impl Picker {
    /// At a layer.
    pub fn new(layer: usize, layers: usize) -> Self {
        Self {
            selected: 0,
            layer,
            layers,
            file: None,
            wrong: None,
        }
    }

    /// The layer to begin with: the one looked at. The last, where every model that is opened begins, is a poor place for a
    /// direction, so there it is the middle of the upper half, where refusal directions are found (Arditi et al. 2024).
    pub fn usual(looked_at: usize, layers: usize) -> usize {
        if looked_at + 1 < layers {
            looked_at
        } else {
            (3 * layers / 5).min(layers.saturating_sub(1))
        }
    }

    /// Esc: back from typing; false if there is nothing to go back from.
    pub fn back(&mut self) -> bool {
        self.wrong = None;
        self.file.take().is_some()
    }

    /// A key.
    pub fn key(&mut self, key: KeyEvent) -> Picked {
        if let Some(field) = &mut self.file {
            return match field.key(key) {
                Outcome::Submitted => {
                    let text = field.text().trim().to_owned();
                    self.named(&text)
                }
                Outcome::Refused(why) => {
                    self.wrong = Some(why.to_string());
                    Picked::Open
                }
                _ => Picked::Open,
            };
        }
        match key.code {
            KeyCode::Char('j') | KeyCode::Down => {
                self.selected = (self.selected + 1) % ENTRIES.len();
            }
            KeyCode::Char('k') | KeyCode::Up => {
                self.selected = (self.selected + ENTRIES.len() - 1) % ENTRIES.len();
            }
            KeyCode::Char('l') | KeyCode::Right => {
                self.layer = (self.layer + 1).min(self.layers.saturating_sub(1));
            }
            KeyCode::Char('h') | KeyCode::Left => self.layer = self.layer.saturating_sub(1),
            KeyCode::Enter if self.selected >= 2 => self.file = Some(Field::single()),
            KeyCode::Enter => {
                return Picked::Chosen(self.steering(Source::Contrast {
                    layer: self.layer,
                    place: crate::steer::Where::FromEnd(1),
                }));
            }
            _ => {}
        }
        Picked::Open
    }

    /// Pasted text: a path.
    pub fn paste(&mut self, text: &str) {
        if let Some(field) = &mut self.file {
            field.paste(text.trim());
        }
    }

    fn named(&mut self, text: &str) -> Picked {
        let source = Source::parse(text);
        match &source {
            Source::File { path, .. } if !path.is_file() => {
                self.wrong = Some(format!(
                    "no file `{}`; expected FILE or FILE:TENSOR, a safetensors file",
                    path.display()
                ));
                Picked::Open
            }
            _ => Picked::Chosen(self.steering(source)),
        }
    }

    fn steering(&self, source: Source) -> Steering {
        let way = if ENTRIES[self.selected].0 == "add" {
            Way::Add { layer: self.layer }
        } else {
            Way::Ablate { layers: "*".into() }
        };
        Steering {
            source,
            way,
            dose: 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tui::keys::parse;

    fn press(picker: &mut Picker, keys: &str) -> Picked {
        let mut last = Picked::Open;
        for key in keys.split(' ') {
            last = picker.key(parse(key).unwrap());
        }
        last
    }

    #[test]
    fn an_addition_at_a_layer_of_a_contrast() {
        let mut picker = Picker::new(4, 6);
        let Picked::Chosen(steering) = press(&mut picker, "j l l l h enter") else {
            panic!()
        };
        assert_eq!(steering.option(), ["--add", "contrast:4@4*1"]);
        let Picked::Chosen(steering) = press(&mut Picker::new(2, 6), "enter") else {
            panic!()
        };
        assert_eq!(steering.option(), ["--ablate", "contrast:2"]);
    }

    #[test]
    fn a_file_that_is_not_there_is_said() {
        let mut picker = Picker::new(0, 6);
        assert_eq!(press(&mut picker, "j j enter n o enter"), Picked::Open);
        assert!(picker.wrong.as_ref().unwrap().contains("no file `no`"));
        assert!(picker.back() && picker.wrong.is_none() && !picker.back());
    }
}
