//! Vector mathematics: exponential, hyperbolic tangent and error function at three instruction levels.
