//! Recorders' clients against the test bed's recorder, which PyPI's hikload believes too. A test whose name begins with
//! `quirk_` is about that quirk of real recorders; further ones have their tests beside the code.
#![allow(clippy::unwrap_used, reason = "a test fails that way")]

mod clocks;
mod discovery;
mod downloads;
mod hostile;
mod logins;
mod searches;
mod stage;
