//! The features screen without a terminal.
