//! What a switch must not change in the processor, seen from below: callee-saved registers, control words, alignment, flags.
//!
//! Here and not beside the other tests because it takes assembly to look, which lives in this folder alone.

use std::arch::asm;
use std::hint::black_box;

use crate::raw::{Coroutine, Stack, State, Yielder};
use crate::{Builder, spawn, yield_now};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Processor {
    mxcsr: u32,
    x87: u16,
    misalignment: usize,
    direction: u64,
}

#[inline(never)]
fn look() -> Processor {
    #[repr(align(16))]
    struct Aligned(u8);
    let ((mxcsr, x87), mut flags) = (super::control_words(), 0_u64);
    // SAFETY: reads the flags by way of the stack.
    unsafe { asm!("pushfq", "pop {}", inout(reg) flags) };
    let local = black_box(Aligned(0));
    let misalignment = (&raw const local).addr() % 16 + usize::from(local.0);
    // Of the flags, direction alone.
    Processor { mxcsr, x87, misalignment, direction: flags & (1 << 10) }
}

#[test]
fn control_words_alignment_and_direction_are_the_same_after_switches() {
    let before = look();
    let turns = || {
        let body = |yielder: &Yielder<(), Processor>, ()| {
            loop {
                yielder.suspend(look());
            }
        };
        // SAFETY: the body touches no thread-local.
        let mut raw: Coroutine<(), Processor, ()> = unsafe { Coroutine::new(Stack::new(1).unwrap(), body) };
        let mut all = vec![look()];
        for _ in 0..100 {
            yield_now();
            let State::Yielded(inside) = raw.resume(()) else { unreachable!() };
            all.extend([look(), inside]);
        }
        all
    };
    let both = move || [spawn(turns), spawn(turns)].map(|handle| handle.join().unwrap()).concat();
    // SAFETY: nothing here suspends in a thread-local's initialiser or under a scoped thread-local.
    let seen = unsafe { Builder::new().run_local(both) }.unwrap();
    assert_eq!(seen.len(), 2 * 201);
    assert!(seen.into_iter().all(|processor| processor == before));
}

#[test]
fn callee_saved_registers_survive_a_resume_of_a_coroutine_that_overwrites_them() {
    extern "C" fn resume(coroutine: &mut Coroutine<(), (), ()>) {
        coroutine.resume(());
    }
    let body = |yielder: &Yielder<(), ()>, ()| {
        loop {
            // SAFETY: overwrites registers that it declares lost.
            unsafe {
                asm!(
                    "mov r12, -1", "mov r13, -1", "mov r14, -1", "mov r15, -1",
                    out("r12") _, out("r13") _, out("r14") _, out("r15") _,
                );
            }
            yielder.suspend(());
        }
    };
    // SAFETY: the body touches no thread-local.
    let mut coroutine: Coroutine<(), (), ()> = unsafe { Coroutine::new(Stack::new(1).unwrap(), body) };
    for _ in 0..100_000 {
        let (rbx, r12, r13, r14, r15): (u64, u64, u64, u64, u64);
        // SAFETY: calls a function of the C convention, with known values in the registers that it must preserve; rbx, which the
        // compiler keeps for itself, is restored by hand.
        unsafe {
            asm!(
                "push rbx", "push rbx",
                "mov rbx, 11", "mov r12, 12", "mov r13, 13", "mov r14, 14", "mov r15, 15",
                "call {resume}",
                "mov rax, rbx",
                "pop rbx", "pop rbx",
                resume = sym resume,
                in("rdi") &raw mut coroutine,
                out("rax") rbx,
                lateout("r12") r12, lateout("r13") r13, lateout("r14") r14, lateout("r15") r15,
                clobber_abi("C"),
            );
        }
        assert_eq!((rbx, r12, r13, r14, r15), (11, 12, 13, 14, 15));
    }
}
