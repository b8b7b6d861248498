//! Reading a model: logit lens.
