//! The binary: parses, calls the library, maps the outcome to an exit code. Nothing else.
fn main() {}
