//! Where you may look and touch: the table of points, captures, edits.
