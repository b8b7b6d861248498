//! The command line: one file for each noun; thin: parse, call the library, print.
