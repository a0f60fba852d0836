#![allow(unsafe_code, reason = "the switch is inline assembly")]
//! The switch on x86-64, System V.
//!
//! A fresh raw context, and the same after its first resume:
//!
//! ```text
//!   link + 8   (caller's data: the closure lies above)
//!   link       saved stack pointer of whoever resumed  <- root's CFA is computed from here
//!   link - 8   entry function          | return address into the trampoline, which never returns
//!   link - 16  trampoline  <- sp       |
//! ```
//!
//! A fresh scheduled context is the same, with the argument of `entry` where raw keeps its link.
//!
//! **Backtraces.** The raw trampoline tells the unwinder that its caller's frame is wherever the link points, plus the
//! three saved words, so a backtrace goes on into the resumer. The scheduled trampoline has no caller: its return
//! address is declared undefined and every walk ends there. Both are marked as signal frames, since gdb accepts a
//! jump to another stack only across one; the price is that unwinders then look up the return address itself, not
//! the byte before it, hence the `int3` behind each label.
//!
//! Tried: a `ret` instead of `pop` and `jmp` in `switch`. See the head of `arch/mod.rs` for why it lost.

use core::arch::{asm, global_asm};
use core::mem::MaybeUninit;

/// A register's worth of a value that may be smaller than the register.
pub(crate) type Word = MaybeUninit<usize>;

/// Stack alignment that the ABI asks for at a call.
pub(crate) const STACK_ALIGN: usize = 16;

/// Symbols of the trampolines carry the names of package and version: a program may link two of them.
macro_rules! tagged {
    ($name:literal) => {
        concat!(
            env!("CARGO_CRATE_NAME"),
            "_",
            env!("CARGO_PKG_VERSION_MAJOR"),
            "_",
            env!("CARGO_PKG_VERSION_MINOR"),
            "_",
            $name
        )
    };
}

global_asm!(
    ".pushsection .text.switchmark_runtime_roots,\"ax\",@progbits",
    ".balign 16",
    concat!(".hidden ", tagged!("raw_root")),
    concat!(".globl ", tagged!("raw_root")),
    concat!(".type ", tagged!("raw_root"), ",@function"),
    concat!(tagged!("raw_root"), ":"),
    ".cfi_startproc",
    ".cfi_signal_frame",
    // DW_CFA_def_cfa_expression, 5 bytes: DW_OP_breg7 (rsp) + 0, DW_OP_deref, DW_OP_plus_uconst 24. At the return address
    // rsp is the link, the link holds the resumer's stack pointer, and three saved words lie there.
    ".cfi_escape 0x0f, 5, 0x77, 0x00, 0x06, 0x23, 0x18",
    ".cfi_offset rip, -24",
    ".cfi_offset rbx, -16",
    ".cfi_offset rbp, -8",
    // Entered by the `call` of `resume`: rdi is the argument, rsi the flag, rdx this context, rcx the link.
    "mov [rcx], rsp",
    "mov rcx, [rdx + 8]",
    "lea rsp, [rdx + 16]",
    "mov rdx, rsi",
    "mov rsi, rsp",
    "lea rax, [rip + 2f]",
    "push rax",
    "jmp rcx",
    "2:",
    "int3",
    ".cfi_endproc",
    concat!(".size ", tagged!("raw_root"), ", . - ", tagged!("raw_root")),
    ".balign 16",
    concat!(".hidden ", tagged!("task_root")),
    concat!(".globl ", tagged!("task_root")),
    concat!(".type ", tagged!("task_root"), ",@function"),
    concat!(tagged!("task_root"), ":"),
    ".cfi_startproc",
    ".cfi_signal_frame",
    ".cfi_undefined rip",
    // Entered by the `jmp` of `switch` or `leave`, which popped our address: rsp points at the entry function.
    "pop rcx",
    "mov rdi, [rsp]",
    "xor ebp, ebp",
    "lea rax, [rip + 2f]",
    "push rax",
    "jmp rcx",
    "2:",
    "int3",
    ".cfi_endproc",
    concat!(".size ", tagged!("task_root"), ", . - ", tagged!("task_root")),
    ".popsection",
);

unsafe extern "sysv64" {
    #[link_name = tagged!("raw_root")]
    safe fn raw_root();
    #[link_name = tagged!("task_root")]
    safe fn task_root();
}

/// Entry of a raw context: the first value, the link, and the flag of the first resume.
pub(crate) type RawEntry = unsafe extern "sysv64" fn(Word, *mut *mut u8, usize) -> !;

/// Entry of a scheduled context.
pub(crate) type TaskEntry = unsafe extern "sysv64" fn(*const ()) -> !;

/// Lays a context below `link` that enters `entry` at its first [`resume`].
///
/// # Safety
/// `link` is aligned to [`STACK_ALIGN`] and lies in a stack that nobody uses from two words below it downwards.
pub(crate) unsafe fn prepare_raw(link: *mut *mut u8, entry: RawEntry) -> *mut u8 {
    // SAFETY: the caller vouches for the two words below the link.
    unsafe { prepare(link.cast(), entry as usize, raw_root as *const () as usize) }
}

/// Where [`prepare_raw`] leaves a context: above any that [`suspend`] leaves in the same stack.
pub(crate) fn first_context(link: *mut *mut u8) -> *mut u8 {
    link.wrapping_sub(2).cast()
}

/// Lays a context below `at` that enters `entry(argument)` at its first [`switch`].
///
/// # Safety
/// `at` is aligned to [`STACK_ALIGN`] and it, and everything below it, lies in a stack that nobody uses.
pub(crate) unsafe fn prepare_task(at: *mut usize, entry: TaskEntry, argument: *const ()) -> *mut u8 {
    // SAFETY: the caller vouches for this word.
    unsafe { at.write(argument.expose_provenance()) };
    // SAFETY: and for those below it.
    unsafe { prepare(at, entry as usize, task_root as *const () as usize) }
}

unsafe fn prepare(at: *mut usize, entry: usize, root: usize) -> *mut u8 {
    debug_assert!(at.addr().is_multiple_of(STACK_ALIGN), "the root of a stack is aligned for a call");
    let entry_word = at.wrapping_sub(1);
    let root_word = at.wrapping_sub(2);
    // SAFETY: the callers' contract covers both words.
    unsafe { entry_word.write(entry) };
    // SAFETY: as above.
    unsafe { root_word.write(root) };
    root_word.cast()
}

/// Goes into `context`, which keeps the way back in `link`; returns the value that comes out and the context that was left, null
/// when it finished.
///
/// # Safety
/// `context` was made by [`prepare_raw`] with this `link` or left by [`suspend`] through it, and is entered once.
#[inline(always)]
pub(crate) unsafe fn resume(
    value: Word,
    flag: usize,
    context: *mut u8,
    link: *mut *mut u8,
) -> (Word, *mut u8) {
    let out: Word;
    let left: *mut u8;
    // SAFETY: the block saves what the compiler cannot declare lost and declares the rest; the stack pointer comes back as it
    // was, as only `suspend` and `finish` return here, by the address that `call` left and the stack pointer that the other side stored.
    unsafe {
        asm!(
            "push rbp",
            "push rbx",
            // The other side stores the stack pointer in the link first of all. Storing it here, before the call, was tried: with
            // 1024 coroutines in turn that is 6.9 ns a switch instead of 5.9, the store being in the way of what the call loads.
            "call [rdx]",
            "pop rbx",
            "pop rbp",
            inlateout("rdi") value => out,
            inlateout("rsi") flag => left,
            inlateout("rdx") context => _,
            inlateout("rcx") link => _,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
    (out, left)
}

/// Goes back to whom `link` names; returns the value and flag of the next [`resume`], and the link as that passes it:
/// the caller need not keep it over the switch, which leaves it a register.
///
/// # Safety
/// Runs on the stack whose link this is, while it is resumed.
#[inline(always)]
pub(crate) unsafe fn suspend(value: Word, link: *mut *mut u8) -> (Word, usize, *mut *mut u8) {
    let input: Word;
    let flag: usize;
    let link_again: *mut *mut u8;
    // SAFETY: as in `resume`; rdx is where this block left the stack pointer, handed back by `resume`.
    unsafe {
        asm!(
            // Saved and restored by moves and not by `push` and `pop`: where the stack pointer has itself just been loaded, each of
            // those waits for it. With 1024 in turn, over fresh processes, that was 2.3 to 6.4 ns a switch and is 1.9 to 4.3. The
            // way back is loaded first: loading it behind the stores cost 5.8 ns in the suite instead of 4.8. So the words are
            // written while the stack pointer is on the other stack, which takes nothing from anybody: this one is ours until
            // somebody resumes it, no signal frame can come to lie on it meanwhile, and a fault is told by its address.
            "lea rsi, [rsp - 24]",
            "lea rax, [rip + 2f]",
            "mov rsp, [rcx]",
            "mov [rsi + 16], rbp",
            "mov [rsi + 8], rbx",
            "mov [rsi], rax",
            "ret",
            // Where a context goes on is aligned; the padding lies behind a jump and is never run. Where it fell as it
            // liked, 64 coroutines in turn took 2.4 or 3.3 ns a switch, by build.
            ".p2align 4",
            "2:",
            "mov [rcx], rsp",
            "mov rbx, [rdx + 8]",
            "mov rbp, [rdx + 16]",
            "lea rsp, [rdx + 24]",
            inlateout("rdi") value => input,
            lateout("rsi") flag,
            lateout("rdx") _,
            inlateout("rcx") link => link_again,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
    (input, flag, link_again)
}

/// Goes back to whom `link` names, for good.
///
/// # Safety
/// As for [`suspend`]; and nothing on this stack is needed any more but what `value` names.
#[inline(always)]
pub(crate) unsafe fn finish(value: Word, link: *mut *mut u8) -> ! {
    // SAFETY: the link holds the stack pointer that `resume` left, with its return address on top.
    unsafe {
        asm!(
            "mov rsp, [rcx]",
            "xor esi, esi",
            "ret",
            in("rdi") value,
            in("rcx") link,
            options(noreturn),
        );
    }
}

/// Saves the running context in `save` and goes to `to`; returns when somebody switches back.
///
/// # Safety
/// `to` was made by [`prepare_task`] or saved by this function, and is entered once. `save` stays valid until then.
#[inline(always)]
pub(crate) unsafe fn switch(save: *mut *mut u8, to: *mut u8) {
    // SAFETY: as in `resume`: rbx and rbp are saved, everything else is declared lost, and whoever switches back does so by the
    // stack pointer left in `save`.
    unsafe {
        asm!(
            "push rbp",
            "push rbx",
            "lea rax, [rip + 2f]",
            "push rax",
            "mov [rdi], rsp",
            "mov rsp, rsi",
            "pop rax",
            "jmp rax",
            ".p2align 4",
            "2:",
            "pop rbx",
            "pop rbp",
            inlateout("rdi") save => _,
            inlateout("rsi") to => _,
            lateout("r12") _, lateout("r13") _, lateout("r14") _, lateout("r15") _,
            clobber_abi("sysv64"),
        );
    }
}

/// Goes to `to` and never comes back.
///
/// # Safety
/// As for [`switch`]; and nothing on this stack is needed any more.
#[inline(always)]
pub(crate) unsafe fn leave(to: *mut u8) -> ! {
    // SAFETY: `to` is a context, with the address at which it goes on on top.
    unsafe {
        asm!(
            "mov rsp, {to}",
            "pop rax",
            "jmp rax",
            to = in(reg) to,
            options(noreturn),
        );
    }
}

/// What a switch does not save: how vectors and the x87 unit round and what they trap on. Without the flags that calculations leave there.
#[cfg(any(test, debug_assertions))]
pub(crate) fn control_words() -> (u32, u16) {
    let (mut mxcsr, mut x87) = (0_u32, 0_u16);
    // SAFETY: stores both where it is told to.
    unsafe {
        asm!("stmxcsr [{}]", "fnstcw [{}]", in(reg) &raw mut mxcsr, in(reg) &raw mut x87, options(nostack, preserves_flags));
    }
    (mxcsr & !0x3f, x87)
}

/// The stack pointer here. Not `pure`: after a switch by migrating code the answer would differ.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let sp: usize;
    // SAFETY: reads a register.
    unsafe {
        asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags));
    }
    sp
}

/// The same pointer, of which the compiler knows nothing.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block, reason = "the block does not look where the pointer points")]
pub(crate) fn hide<T>(mut pointer: *mut T) -> *const T {
    // SAFETY: no instruction at all.
    unsafe {
        asm!("/* {} */", inlateout(reg) pointer, options(pure, nomem, nostack, preserves_flags));
    }
    pointer
}

/// Has the lines from `pointer` on fetched while this thread does something else. A hint, for which any address will do.
#[inline(always)]
pub(crate) fn prefetch<T>(pointer: *const T, bytes: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    const LINE: usize = 64;
    for at in (0..bytes).step_by(LINE) {
        // SAFETY: it reads nothing that a program could see, and faults nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(pointer.cast::<i8>().wrapping_add(at)) };
    }
}
