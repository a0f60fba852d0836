"""Lists the coroutines of a live process and shows what each is doing, in gdb.

    (gdb) source scripts/gdb_coroutines.py
    (gdb) coroutines                    every coroutine that has a stack: id, name, what it waits for and where
    (gdb) coroutine 7 bt                any command of gdb, as if coroutine 7 were the selected thread
    (gdb) coroutine 7 info locals

One that has not started has no stack yet and is not listed. Nor is a raw coroutine (`raw::Coroutine`), which is a guest of who
resumed it: if that is a thread or a coroutine that runs just now, a plain `bt` of the thread walks through both.

A suspended coroutine's registers are put into the selected thread for the time of the command, so this is for live processes, not for core
files. All that is read begins at `switchmark_runtime::debugger::MAP` (runtime/src/debugger.rs), which says where the rest lies: symbols are
enough, debug information is needed for lines only.
"""

import re
import struct

import gdb

MAGIC = b"switchmk"
VERSION = 1
# As runtime/src/arch/mod.rs has it: the address at which a context goes on, rbx, rbp; above them the stack as it was.
CONTEXT = struct.Struct("<QQQ")
RAW = 1


def read(address, count):
    return bytes(gdb.selected_inferior().read_memory(address, count))


def words(address, count):
    return struct.unpack(f"<{count}Q", read(address, 8 * count))


def word(address):
    return words(address, 1)[0]


def text(address):
    """A `&str` at an address: pointer and length."""
    at, length = words(address, 2)
    return read(at, length).decode("utf-8", "replace") if length else ""


class Runtime:
    """One copy of the runtime in the process; a program may have linked two versions."""

    def __init__(self, at):
        magic, (version,) = read(at, 8), words(at + 8, 1)
        if magic != MAGIC:
            raise gdb.GdbError(f"no runtime's map at {at:#x}: it is not in memory; is the process running?")
        if version != VERSION:
            raise gdb.GdbError(f"the runtime has map version {version}, this script reads {VERSION}: take the script of its version")
        base, limit, table, used, self.granule, classes = words(at + 16, 6)
        rest = words(at + 64, 2 * classes + 6)
        self.base, self.limit, self.table = word(base), word(limit), word(table)
        self.granules, self.usable = rest[:classes], rest[classes : 2 * classes]
        self.sp, self.id, self.name, self.kind, self.site, self.kinds = rest[2 * classes :]
        self.used = struct.unpack(f"<{classes}I", read(used, 4 * classes))

    def occupants(self):
        """Address of record for each slot that has a scheduled coroutine."""
        if not self.limit:
            return
        per_class = self.limit // self.granule // len(self.used)
        for index, (used, granules) in enumerate(zip(self.used, self.granules)):
            if not used:
                continue
            # The uppermost granule of a slot has its word in every class.
            range_words = words(self.table + 8 * index * per_class, used * granules)
            for occupant in range_words[granules - 1 :: granules]:
                if occupant and not occupant & RAW:
                    yield occupant

    def coroutines(self):
        return [Coroutine(self, record) for record in self.occupants()]

    def record_at(self, stack_pointer):
        """The record of whoever runs at a stack address: raw coroutines answer with the one that resumed them."""
        while 0 <= stack_pointer - self.base < self.limit:
            occupant = word(self.table + 8 * ((stack_pointer - self.base) // self.granule))
            if not occupant & RAW:
                return occupant
            stack_pointer = word(occupant & ~RAW)  # The link: its resumer's stack pointer.
        return 0

    def running(self):
        """Thread by record, for the coroutines that threads run just now."""
        found, before = {}, gdb.selected_thread()
        try:
            for thread in gdb.selected_inferior().threads():
                thread.switch()
                stack_pointer = int(gdb.newest_frame().read_register("rsp"))
                record = self.record_at(stack_pointer)
                if record:
                    found[record] = thread
        finally:
            if before:
                before.switch()
        return found


class Coroutine:
    def __init__(self, runtime, record):
        self.runtime, self.record = runtime, record
        self.context = word(record + runtime.sp)
        self.id = word(record + runtime.id)
        name = word(record + runtime.name)
        self.name = text(name) if name else None
        self.kind = read(record + runtime.kind, 1)[0]

    def waits(self):
        """What it waits for and where, or None if it does not."""
        if not self.kind:
            return None
        what = text(self.runtime.kinds + 16 * self.kind)
        site = word(self.record + self.runtime.site)
        if not site:
            return what
        line, column = struct.unpack("<II", read(site + 16, 8))
        return f"{what}, at {text(site)}:{line}:{column}"

    def describe(self, thread):
        name = f" '{self.name}'" if self.name else ""
        if thread:
            state = f"runs on thread {thread.num}"
        else:
            waits = self.waits()
            state = f"waits: {waits}" if waits else "is ready"
        return f"{self.id}{name} {state}"

    def run_command(self, command, thread):
        """Runs a command of gdb with this coroutine's frames as the selected thread's."""
        before = gdb.selected_thread()
        if thread:
            thread.switch()
            try:
                gdb.execute(command)
            finally:
                before.switch()
            return
        going_on, rbx, rbp = CONTEXT.unpack(read(self.context, CONTEXT.size))
        # What the switch pushed is popped, as if it had just come back.
        registers = {"rbx": rbx, "rbp": rbp, "rsp": self.context + CONTEXT.size, "rip": going_on}
        gdb.newest_frame().select()
        saved = {register: int(gdb.newest_frame().read_register(register)) & (2**64 - 1) for register in registers}
        try:
            for register, value in registers.items():
                gdb.execute(f"set ${register} = {value:#x}", to_string=True)
            gdb.newest_frame().select()
            gdb.execute(command)
        finally:
            gdb.newest_frame().select()
            # The stack pointer first: registers of a frame are looked up through it.
            for register in ("rsp", "rip", "rbp", "rbx"):
                gdb.execute(f"set ${register} = {saved[register]:#x}", to_string=True)


def runtimes():
    if not gdb.selected_thread():
        raise gdb.GdbError("no process: attach to one, or run it")
    listed = gdb.execute("info variables switchmark_runtime.*debugger.*MAP", to_string=True)
    found = {int(at, 16) for at in re.findall(r"^(0x[0-9a-f]+)", listed, re.M)}
    # With debug information gdb lists names without addresses.
    for name in re.findall(r"static ([\w:]*debugger::MAP):", listed):
        found.add(int(gdb.parse_and_eval(f"&{name}").cast(gdb.lookup_type("long"))))
    if not found:
        raise gdb.GdbError("no runtime in this process: its symbols may be stripped")
    return [Runtime(at) for at in sorted(found)]


class ListCoroutines(gdb.Command):
    """List all coroutines: id, name, what each waits for and where."""

    def __init__(self):
        super().__init__("coroutines", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        total = 0
        for runtime in runtimes():
            running = runtime.running()
            for coroutine in sorted(runtime.coroutines(), key=lambda each: each.id):
                print(coroutine.describe(running.get(coroutine.record)))
                total += 1
        print(f"{total} coroutines")


class InCoroutine(gdb.Command):
    """Run a command in a coroutine: coroutine ID COMMAND, for example coroutine 7 bt."""

    def __init__(self):
        super().__init__("coroutine", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        match = re.fullmatch(r"\s*(\d+)\s+(.+)", argument)
        if not match:
            raise gdb.GdbError("usage: coroutine ID COMMAND, for example: coroutine 7 bt")
        for runtime in runtimes():
            for coroutine in runtime.coroutines():
                if coroutine.id == int(match[1]):
                    coroutine.run_command(match[2], runtime.running().get(coroutine.record))
                    return
        raise gdb.GdbError(f"no coroutine {match[1]} has a stack: it has ended or has not started; see: coroutines")


ListCoroutines()
InCoroutine()
