//! The questions of Switchmark and the contenders that answer them.
//!
//! A **model** is the shape of a piece of work, as code: [`models`] has one file each. It is written once, generic
//! over [`concurrency::Concurrency`], checks its own answer and fills the ledger.
//!
//! A **workload** is a question asked of a model, as data: a file in `definitions/<family>/`. A new question on an
//! existing model touches that one file.
//!
//! A **contender** is something that runs models: a folder in `contenders/`. Four live in the tree (`thread`,
//! `coroutine`, `call`, `epoll`) and are served by [`serve`]; their manifest is embedded. The others are programs of their
//! own that speak the worker protocol; one in Rust takes this crate by path and implements
//! [`concurrency::Raw`] or [`concurrency::Concurrency`] for itself.
//!
//! What does not belong here: plans, orders, counters read from outside, statistics. The parent process has them.

#![deny(unsafe_code)]

pub mod concurrency;
mod contenders;
pub mod layout;
pub mod models;
mod reactor;
mod server;
mod sys;

pub use contenders::{Cell, Work, serve, serve_raw, serve_units, with_cell};
pub use server::{Server, Started, serve_echo};

// `DEFINITIONS` and `MANIFESTS`, by `build.rs`.
include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The workload definitions: path below this package, and text.
pub fn definitions() -> impl Iterator<Item = (&'static str, &'static str)> {
    DEFINITIONS.iter().copied()
}

/// The manifests of the contenders in the tree: path below this package, and text.
pub fn manifests() -> impl Iterator<Item = (&'static str, &'static str)> {
    MANIFESTS.iter().copied()
}
