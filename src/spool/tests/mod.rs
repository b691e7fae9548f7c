//! The store against a model of a disk, and against damage.

mod damage;
mod disk;
mod model;
mod thread;
