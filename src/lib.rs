//! candlescope: an interpretability and alignment workbench.
