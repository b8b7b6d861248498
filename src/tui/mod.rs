//! The terminal workbench's look: colours and styles, cells and widgets, text fields, and what a screen is written to.
//!
//! Always: nothing here knows a model, a screen or the terminal; it draws into buffers and answers keys.

pub mod cells;
pub mod export;
pub mod field;
pub mod theme;
