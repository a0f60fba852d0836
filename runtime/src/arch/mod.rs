//! The switch: what every architecture provides, and which file provides it here.
//!
//! A *context* is a stack that nobody runs on, named by its saved stack pointer. Three words lie at that
//! pointer, the same three however the context was left, so that a debugger can find them without knowing how:
//!
//! ```text
//!   sp + 16   frame pointer (RBP)
//!   sp +  8   RBX
//!   sp        address at which the context goes on
//! ```
//!
//! | function | who calls it | what it does |
//! |---|---|---|
//! | `prepare_raw` | `raw` | lays a context that runs `entry(argument, link, flag)` at its first resume |
//! | `first_context` | `raw` | where `prepare_raw` leaves it, for telling whether it was resumed |
//! | `resume` | `raw`, the outer side | saves itself and goes into the context, by `call`; the inner side keeps the way back in the link |
//! | `suspend` | `raw`, the inner side | saves itself and goes back to whom the link names, by `ret` |
//! | `finish` | `raw`, the inner side | goes back for good |
//! | `prepare_task` | `sched` | lays a context that runs `entry(argument)` at its first switch |
//! | `switch` | `sched` | saves itself and goes to a context, both of equal rank |
//! | `leave` | `sched` | goes to a context and is never seen again |
//! | `stack_pointer` | identity | where the running code stands |
//! | `control_words` | `sched`, debug builds | what a switch does not save |
//! | `hide` | `sched` | gives a pointer back without the compiler knowing that it is the same |
//! | `prefetch` | `sched`, `net` | asks for lines of memory that will be wanted |
//!
//! **Who owns which register.** A switch saves RBX, RBP and RSP, because the compiler does not let an `asm!` block
//! declare the first two lost; every other register is declared lost, so the compiler saves what it needs and
//! nothing else. A switch therefore costs what its call site has alive. Control words are not saved: a coroutine
//! that changes MXCSR, the x87 control word or the direction flag and suspends before it restores them hands its
//! setting on, as it would to a function it calls. Debug builds report who does that with the first two.
//!
//! **Return predictor.** `resume` and `suspend` pair a `call` with a `ret`, and the first entry jumps, so the
//! processor's return stack stays in step. `switch` has no pair to offer: its `ret` would be predicted only when
//! both sides stopped at the same place. It jumps instead, through the indirect predictor, which learns the
//! pattern of places, and it is inlined so that each place has a jump of its own. Measured in the inlined form, one pinned core of
//! a shared virtual machine, best of eleven: a yield between two tasks 4.5 ns, with a `ret` 17.5; park and unpark there and back,
//! at unequal places, 15.7 and 32.
//!
//! Nothing unwinds through a switch: `raw` and `sched` catch at the root of each stack, and the roots are functions
//! through which a panic cannot pass.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "switchmark-runtime runs on Linux only: its stacks, guards and wake-ups are Linux system calls"
);

#[cfg(not(target_arch = "x86_64"))]
compile_error!(
    "switchmark-runtime has no switch for this architecture yet: add runtime/src/arch/<arch>.rs and name it here"
);

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "switchmark-runtime needs 64-bit pointers: its switches push and pop them as words of 8 bytes, and its stacks take terabytes of \
     address space (x86_64 with 32-bit pointers, x32, has neither)"
);

#[cfg(target_feature = "apxf")]
compile_error!(
    "switchmark-runtime cannot switch with target feature apxf: r16 to r31 are not in the clobber list of its asm! blocks"
);

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::*;

#[cfg(test)]
#[allow(unsafe_code, reason = "looks at registers")]
mod canary;
