//! corosensei behind the model `bounce`: what its stacks and its switch are, then the shared worker loop.

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, Yielder};
use std::convert::Infallible;
use std::io;
use switchmark_benches::concurrency::{Inside, Raw, Turn};

struct Corosensei;

/// Bytes of a stack, as much as ours have.
const STACK: usize = 64 << 10;

impl Raw for Corosensei {
    type Coroutine = Coroutine<Turn, (), Infallible, DefaultStack>;

    fn coroutine(inside: impl Inside) -> io::Result<Self::Coroutine> {
        let body = |yielder: &Yielder<Turn, ()>, first| inside.live(first, || yielder.suspend(()));
        Ok(Coroutine::with_stack(DefaultStack::new(STACK)?, body))
    }

    #[inline(always)]
    fn resume(coroutine: &mut Self::Coroutine, turn: Turn) {
        coroutine.resume(turn);
    }
}

fn main() -> io::Result<()> {
    switchmark_benches::serve_raw::<Corosensei>("corosensei", "0.3.4")
}
