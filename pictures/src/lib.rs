//! From a decoder's picture to a JPEG: its planes ([`pixels`]), those of a JPEG ([`colour`]), and its file ([`jpeg`]).

#![forbid(unsafe_code)]

pub mod colour;
pub mod jpeg;
pub mod pixels;
