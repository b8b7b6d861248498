//! The terminal workbench: `candlescope` in a terminal.
//!
//! Messages come in, `app.rs` changes the state, `frame.rs` and the screens draw it; `work.rs` runs the model on threads
//! of its own; `runtime.rs` is the loop around them in a terminal, `script.rs` the same without one,
//! `plain/` the same in lines of text. A screen is a folder
//! in `screens/` and a line in its table. Everything shown is a library result that a command prints too.

pub mod app;
pub mod background;
pub mod broken;
pub mod cells;
mod command;
pub mod export;
pub mod field;
pub mod filter;
pub mod frame;
pub mod keys;
pub mod log;
pub mod overlay;
pub mod panics;
pub mod pen;
pub mod plain;
pub mod runtime;
pub mod screen;
pub mod screens;
pub mod script;
pub mod shared;
pub mod theme;
pub mod work;
