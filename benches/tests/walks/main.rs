//! Every question, asked at smoke size of every contender: those in the tree in this process, and those of their own
//! folders, where they are built, over the protocol.

#![allow(clippy::disallowed_methods, reason = "a test is no model: it pins and times its own threads")]

mod cells;
mod in_tree;
mod outside;

use std::sync::Mutex;

/// The kernel counts switches by process, so one test at a time.
static PROCESS: Mutex<()> = Mutex::new(());
