//! Documents rendered and looked at, as one program: what its parts share is used by one of them at least.

mod common;
mod hostile;
mod page;
mod text;
