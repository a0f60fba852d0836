//! An indirect call: the floor of the switch family. It keeps nothing between two turns.

use super::{Inside, Raw, Turn};
use std::hint::black_box;
use std::io;

/// The contender `call`.
#[derive(Debug, Clone, Copy)]
pub struct Call;

/// The inside of a model behind a function pointer.
pub struct Callee(Box<dyn FnMut()>);

impl std::fmt::Debug for Callee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Callee")
    }
}

impl Raw for Call {
    type Coroutine = Callee;

    fn coroutine(mut inside: impl Inside) -> io::Result<Callee> {
        Ok(Callee(Box::new(move || inside.turn())))
    }

    // A call has no loop to leave, so every turn is the same to it.
    fn resume(callee: &mut Callee, _turn: Turn) {
        // The compiler must not learn which function this is, or it calls none.
        (black_box(&mut callee.0))();
    }
}
